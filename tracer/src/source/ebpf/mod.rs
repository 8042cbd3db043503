//! The kernel, by probes.

pub mod btf;
mod goroutine;
pub mod loader;
pub mod object;
