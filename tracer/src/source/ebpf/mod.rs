//! Probes in the kernel: loading the object, offsets of kernel fields, and the iterator over open files.

pub mod btf;
pub(crate) mod goroutine;
pub(crate) mod iterator;
pub mod loader;
pub mod object;
mod skipped_runs;
mod tracepoint;
