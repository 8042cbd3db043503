//! Scenarios through the correlator, and laws that hold for all of them.

#![expect(clippy::panic, reason = "a test that fails panics; helpers of tests are not `#[test]` themselves")]

mod generated;
mod laws;
mod run;
