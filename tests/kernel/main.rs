//! The probes on this kernel: real processes and sockets, and the facts decoded from them.
//!
//! Needs root: `cargo test -p execpath-tests --features kernel --test kernel -- --test-threads=1`. Each test loads the
//! object for itself, with ports of its own, so that other activity stays invisible. One thread only: tests watch their
//! own process.

#![expect(clippy::panic, reason = "a test that fails panics; helpers of tests are not `#[test]` themselves")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one sort of fact among all of them")]

mod awaited;
mod cleanliness;
mod cost;
mod creator;
mod daemon;
mod fifo;
mod forged;
mod full;
mod go;
mod gopher;
mod hostile;
mod isn;
mod leak;
#[cfg(target_arch = "x86_64")]
mod liar;
mod live;
mod loss;
mod measure;
mod netns;
mod process;
mod puppet;
mod relay;
mod roads;
mod starved;
mod tcp;
mod trace;
mod unix;
mod wait;
mod waiting;
mod who;
