//! The kernel, by probes.

pub mod btf;
