//! The probes on this kernel: real processes and sockets, and the facts decoded from them.
//!
//! Needs root: `cargo test --test kernel -- --test-threads=1`. Each test loads the
//! object for itself, with ports of its own, so that other activity stays invisible. One thread only: tests watch their
//! own process.

#![expect(clippy::panic, reason = "a test that fails panics; helpers of tests are not `#[test]` themselves")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks for one sort of fact among all of them")]

mod agent;
mod cgroup;
mod client;
mod confined;
mod contained;
mod cost;
mod creator;
mod daemon;
mod fifo;
#[cfg(target_arch = "x86_64")]
mod forged_goroutines;
mod forged_runtimes;
mod full_maps;
mod go_program;
mod go_relay;
mod helper_process;
mod idle_execs;
mod idle_relays;
mod isn;
mod leaked_fifos;
mod live;
mod lost_records;
mod measure;
mod netns;
mod overload;
mod process;
mod published;
mod roads;
mod scan_methods;
mod snapshot_limits;
mod tcp;
mod thread_relay;
mod trace;
mod unix;
mod unload;
mod verifier;
mod wait;
