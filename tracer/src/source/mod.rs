//! Sources of observations: probes, snapshots, the audit log. Edge code: it does I/O and names `model`, never `correlate` or a sink.

pub mod audit;
pub mod ebpf;
pub mod snapshot;
