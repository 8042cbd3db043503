//! The kernel, by probes.

pub mod btf;
pub(crate) mod goroutine;
pub(crate) mod iterator;
pub mod loader;
pub mod object;
