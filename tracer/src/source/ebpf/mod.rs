//! The kernel, by probes.

pub mod btf;
pub mod loader;
pub mod object;
