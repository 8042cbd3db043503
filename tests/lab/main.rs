//! End to end: real `kubectl exec` through a real API server, kubelet and container runtime, traced by the real tracer.
//!
//! Run `cargo xtask test --only lab`, or, with a lab that is up, as root, `cargo test --test lab -- --test-threads=1`. The tests compare the tracer's output with `ss`, `ps` and the runtime's own files.
//! `EXECPATH_SOAK=1` runs everything longer.

mod cleanup;
mod cluster;
mod consistency;
mod container;
mod endings;
mod env;
mod failures;
mod faults;
mod healthy;
mod kinds;
mod kubectl;
mod latency;
mod merged;
mod noise;
mod options;
mod oracle;
mod privileges;
mod recording;
mod relay;
mod reported;
mod run;
mod sessions;
mod show;
mod tracer;
mod tracers;
mod truth;
mod users;
mod watch;
