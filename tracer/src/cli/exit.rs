//! Exit codes: part of the contract.

use std::process::ExitCode;

/// Exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Success; also after Ctrl-C.
    Done = 0,
    /// Nothing matched an id or a filter.
    NothingMatched = 1,
    /// Invalid command line.
    Usage = 2,
    /// A privilege is missing.
    NeedPrivilege = 3,
    /// This host, or this build, does not support it.
    Unsupported = 4,
    /// A file cannot be read or written.
    BadInput = 5,
    /// `diagnose` found a fault.
    FaultFound = 10,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
