//! Errors that keep a trace from starting, or end it early.

use std::io;

use crate::{
    model::Degraded,
    netns::NetNs,
    source::ebpf::{btf::BtfError, loader::LoadError},
};

/// Why a trace did not start, or ended early.
#[derive(Debug)]
pub enum LiveError {
    /// The host lacks something, or forbids tracing: the first fatal lack.
    Host(Degraded),
    /// The network namespace does not exist, or may not be looked at.
    NetNs(NetNs, io::Error),
    /// The kernel's types cannot be read.
    Btf(BtfError),
    /// The probes cannot be loaded.
    Load(LoadError),
    /// A sink or the recording cannot be written, or the async runtime cannot start.
    Io(io::Error),
}

impl From<io::Error> for LiveError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
