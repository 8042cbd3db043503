//! The kernel, by probes.

pub mod btf;
pub mod goroutine;
pub mod loader;
pub mod object;
