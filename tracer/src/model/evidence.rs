//! Evidence of links, and gaps.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// Certainty of a link. Ordered weakest first: `min` over a chain is the strength of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Confidence {
    /// Supported only by the order in time.
    Weak,
    /// Supported by independent signs that agree, with no other candidate.
    Strong,
    /// Proved by an identity.
    Exact,
}

impl Confidence {
    /// Stable token for JSON.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Weak => "weak",
            Self::Strong => "strong",
            Self::Exact => "exact",
        }
    }
}

/// Proof of a link. Tokens are stable. No rule produces `ByteFlow`, `Pty`, `Token` and `Time` at present; the JSON
/// contract names their tokens, so readers may expect them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// Both ends of one TCP connection: each end's addresses mirror the other's.
    SocketPair,
    /// Both ends of one TCP connection: the initial sequence numbers agree in both directions.
    Isn,
    /// Both ends of one unix connection: each end names the other's inode.
    UnixPeer,
    /// One goroutine used both sockets.
    Goroutine,
    /// Goroutines of one creator used both sockets, and no other socket.
    Creator,
    /// Goroutines that wait for both sockets lead to each other by pointers in the process's memory.
    Memory,
    /// One thread used both sockets.
    Thread,
    /// Equal numbers of bytes passed through both.
    ByteFlow,
    /// Both processes name one exec id.
    ExecId,
    /// Arguments of runc name the process or container.
    RuncArgs,
    /// The runtime's pid file names the process.
    PidFile,
    /// The cgroup names the container.
    Cgroup,
    /// One process forked the other.
    Fork,
    /// Both processes have one FIFO open.
    Fifo,
    /// Both processes have one terminal open.
    Pty,
    /// Both requests name one streaming token.
    Token,
    /// The process listens at this address and serves connections there. It has not accepted this connection.
    Listener,
    /// Only the order in time.
    Time,
}

impl Evidence {
    /// Stable token for JSON.
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

    /// Wording for people; may change.
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

/// Evidence of one link, strongest first. Rarely more than three entries.
pub type Proofs = SmallVec<[Evidence; 8]>;

/// Unknown part of the path, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Stable code of the reason.
    pub code: GapCode,
    /// Indexes of the hops around the gap; one hop twice if the gap lies inside that hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between: Option<(usize, usize)>,
    /// Wording for people; may change.
    pub text: String,
}

/// Reason for a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GapCode {
    /// Records were lost while the session was open.
    LostEvents,
    /// No observed act of a proxy joins its inbound connection to an outbound connection yet.
    Unjoined,
    /// Several candidates match, so none is named.
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
    /// The session is over, but its process still runs.
    ProcessLeftRunning,
    /// The kind of the session cannot be determined on this host.
    KindUnknown,
    /// A process claims to be part of the path without proof.
    Unverified,
}

impl GapCode {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::LostEvents,
        Self::Unjoined,
        Self::Ambiguous,
        Self::PeerUnknown,
        Self::ShimUnknown,
        Self::RuncUnknown,
        Self::ProcessUnknown,
        Self::NamesUnknown,
        Self::ProcessLeftRunning,
        Self::KindUnknown,
        Self::Unverified,
    ];

    /// Stable token for JSON.
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
