//! The kernel, by probes.

pub mod btf;
pub(crate) mod goroutine;
pub mod loader;
pub mod object;
