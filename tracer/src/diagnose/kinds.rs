//! Kinds of sessions that a fault belongs to.

use crate::model::Kind;

/// Kinds of sessions that can have a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    /// Every kind.
    Any,
    /// Kinds that lead to a process of a container: all but port-forward and logs.
    Command,
    /// port-forward alone.
    PortForward,
}

impl Kinds {
    /// True if sessions of this kind can have the fault.
    #[must_use]
    pub const fn has(self, kind: Kind) -> bool {
        match self {
            Self::Any => true,
            Self::Command => !matches!(kind, Kind::PortForward | Kind::Logs),
            Self::PortForward => matches!(kind, Kind::PortForward),
        }
    }
}
