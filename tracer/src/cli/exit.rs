//! Exit codes: part of the contract.

use std::process::ExitCode;

/// Exit code of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success; also after Ctrl-C.
    Done,
    /// Nothing matched an id or a filter.
    NothingMatched,
    /// Invalid command line.
    Usage,
    /// A privilege is missing.
    NeedPrivilege,
    /// This host, or this build, does not support it.
    Unsupported,
    /// A file cannot be read or written.
    BadInput,
    /// `diagnose` found a fault.
    FaultFound,
    /// `run --fail-on-lie`: success was reported for an unfinished command.
    Lie,
    /// Exit code of the command that `run` ran.
    Command(u8),
}

/// The meaning of each fixed exit code, for manual pages.
pub(super) const STATUS: &[(Exit, &str)] = &[
    (Exit::Done, "Success; also after Ctrl-C."),
    (Exit::NothingMatched, "Nothing matched an id or a filter."),
    (Exit::Usage, "The command line is invalid."),
    (Exit::NeedPrivilege, "A privilege is missing."),
    (Exit::Unsupported, "This host, or this build, does not support it."),
    (Exit::BadInput, "A file cannot be read or written."),
    (Exit::FaultFound, "diagnose found a fault."),
    (Exit::Lie, "run \\-\\-fail\\-on\\-lie: success was reported for an unfinished command."),
];

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NothingMatched => 1,
            Self::Usage => 2,
            Self::NeedPrivilege => 3,
            Self::Unsupported => 4,
            Self::BadInput => 5,
            Self::FaultFound => 10,
            Self::Lie => 125,
            Self::Command(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
