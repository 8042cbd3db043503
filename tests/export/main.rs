//! Metrics and traces, as their readers receive them: over the network, from sessions of recordings.

#![expect(clippy::panic, reason = "a test that fails panics; helpers of tests are not `#[test]` themselves")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one sort of value among all of them")]

mod feed;
mod metrics;
mod monitoring;
mod otlp;
mod scrape;
