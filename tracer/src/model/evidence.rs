//! How a link is known, and what is not.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// How sure a link is. Ordered weakest first, so that `min` over a chain is the strength of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Only the order in time suggests it.
    Weak,
    /// Independent signs agree and nothing else fits.
    Strong,
    /// An identity proves it.
    Exact,
}

impl Confidence {
    /// Stable token.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Weak => "weak",
            Self::Strong => "strong",
            Self::Exact => "exact",
        }
    }
}

/// What a link rests on. Tokens are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// Both ends of one TCP connection: the addresses mirror each other.
    SocketPair,
    /// Both ends of one TCP connection: the initial sequence numbers of both directions agree.
    Isn,
    /// Both ends of one unix connection: each names the other's inode.
    UnixPeer,
    /// One goroutine touched both.
    Goroutine,
    /// Goroutines of one creator touched both, and nothing else.
    Creator,
    /// Goroutines that wait for both lead to each other by pointers in the process's memory.
    Memory,
    /// One thread touched both.
    Thread,
    /// The same numbers of bytes went through both.
    ByteFlow,
    /// Both name the same exec id.
    ExecId,
    /// The arguments of runc name it.
    RuncArgs,
    /// The runtime's pid file names it.
    PidFile,
    /// The cgroup names it.
    Cgroup,
    /// One forked the other.
    Fork,
    /// Both have the same FIFO.
    Fifo,
    /// Both have the same terminal.
    Pty,
    /// Both name the same streaming token.
    Token,
    /// The process listens at this address and serves connections there; it has not accepted this one.
    Listener,
    /// Only order in time.
    Time,
}

impl Evidence {
    /// Stable token.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::SocketPair => "socket-pair",
            Self::Isn => "isn",
            Self::UnixPeer => "unix-peer",
            Self::Goroutine => "goroutine",
            Self::Creator => "creator",
            Self::Memory => "memory",
            Self::Thread => "thread",
            Self::ByteFlow => "byte-flow",
            Self::ExecId => "exec-id",
            Self::RuncArgs => "runc-args",
            Self::PidFile => "pid-file",
            Self::Cgroup => "cgroup",
            Self::Fork => "fork",
            Self::Fifo => "fifo",
            Self::Pty => "pty",
            Self::Token => "token",
            Self::Listener => "listener",
            Self::Time => "time",
        }
    }

    /// For people; may change.
    #[must_use]
    pub const fn prose(self) -> &'static str {
        match self {
            Self::SocketPair => "both ends of one connection",
            Self::Isn => "same initial sequence numbers",
            Self::UnixPeer => "both ends of one connection",
            Self::Goroutine => "same goroutine",
            Self::Creator => "goroutines of one creator",
            Self::Memory => "pointers of the waiting goroutine",
            Self::Thread => "same thread",
            Self::ByteFlow => "same bytes",
            Self::ExecId => "same exec id",
            Self::RuncArgs => "runc's arguments",
            Self::PidFile => "pid file",
            Self::Cgroup => "cgroup",
            Self::Fork => "forked",
            Self::Fifo => "same FIFO",
            Self::Pty => "same terminal",
            Self::Token => "same token",
            Self::Listener => "listens at this address",
            Self::Time => "only order in time",
        }
    }
}

/// What one link rests on, in order of strength: seldom more than three.
pub type Proofs = SmallVec<[Evidence; 8]>;

/// Something on the path that is not known, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Stable code.
    pub code: GapCode,
    /// The hops it lies between; one hop twice where it lies inside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<(usize, usize)>,
    /// For people; may change.
    pub text: String,
}

/// Why something is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapCode {
    /// Records were lost while the session was open.
    LostEvents,
    /// No act of a proxy joins its inbound connection to an outbound one yet.
    Unjoined,
    /// More than one candidate fits, so none is named.
    Ambiguous,
    /// The other end of a connection was not found on this host.
    PeerUnknown,
    /// The shim was not seen.
    ShimUnknown,
    /// The runtime's `exec` was not seen.
    RuncUnknown,
    /// The process in the container was not seen.
    ProcessUnknown,
    /// Names of pod and container were not found.
    NamesUnknown,
    /// The session is over, its process is not.
    ProcessLeftRunning,
    /// What kind of session it is cannot be seen on this host.
    KindUnknown,
    /// A process claims to be a part of the path, and what it claims is not proved.
    Unverified,
}

impl GapCode {
    /// Stable token.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::LostEvents => "lost-events",
            Self::Unjoined => "unjoined",
            Self::Ambiguous => "ambiguous",
            Self::PeerUnknown => "peer-unknown",
            Self::ShimUnknown => "shim-unknown",
            Self::RuncUnknown => "runc-unknown",
            Self::ProcessUnknown => "process-unknown",
            Self::NamesUnknown => "names-unknown",
            Self::ProcessLeftRunning => "process-left-running",
            Self::KindUnknown => "kind-unknown",
            Self::Unverified => "unverified",
        }
    }
}
