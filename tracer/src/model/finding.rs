//! Results that follow from observations.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    BootTime, Diagnosis, Isn, Measures, RawText, Role, Session, SessionId, SocketId, SocketInfo, TaskKey, Tuple,
    WatchAs,
};

/// A change of the result. Each change is reported once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Core time at which the change became known.
    pub at: BootTime,
    /// The change itself.
    pub change: Change,
}

/// Kind of change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A session appeared.
    Opened(Arc<Session>),
    /// More became known about a session.
    Changed(Arc<Session>),
    /// A session ended.
    Closed(Arc<Session>),
    /// Observations were lost.
    Loss {
        /// Name of the loss counter.
        what: String,
        /// Number of losses.
        count: u64,
    },
}

/// Complete result at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Core time of the report.
    pub at: BootTime,
    /// Sessions, ordered by time of opening.
    pub sessions: Vec<Session>,
    /// Ends of connections of processes on the path that no link of a session names, ordered by process and socket.
    pub unattributed: Vec<UnattributedEnd>,
    /// Running daemons of the path, with or without sessions.
    pub daemons: Vec<Daemon>,
    /// Persistent unix connections between those daemons.
    pub daemon_connections: Vec<DaemonConnection>,
    /// Latest two values of each measurement.
    pub measures: Measures,
    /// Result of the diagnosis. Empty unless a diagnosis was requested.
    pub diagnosis: Diagnosis,
    /// Totals over the run.
    pub totals: Totals,
}

impl Report {
    /// Latest time known: measurements may be newer than the facts behind the sessions.
    #[must_use]
    pub fn now(&self) -> BootTime {
        self.measures.at().map_or(self.at, |at| at.max(self.at))
    }
}

/// A running daemon of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Daemon {
    /// The daemon's process.
    pub task: TaskKey,
    /// Role of the daemon.
    pub role: Role,
    /// Inode number of its network namespace.
    pub netns: Option<u32>,
}

/// A persistent unix connection between two daemons, shared by all sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaemonConnection {
    /// Path of the listening socket.
    pub path: RawText,
    /// Connecting process and its end.
    pub near: (TaskKey, SocketId),
    /// Accepting process and its end.
    pub far: (TaskKey, SocketId),
}

/// An end of a connection that no link of a session names. It belongs to another request, is pooled, is a leftover of a
/// session, or is the outermost end of a session, with its other end beyond this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnattributedEnd {
    /// Process that holds the end.
    pub task: TaskKey,
    /// Role of that process on this connection.
    pub role: Role,
    /// The end.
    pub socket: SocketInfo,
    /// Process that holds the other end, if known.
    pub peer: Option<TaskKey>,
    /// Session that this end is the outermost end of.
    pub session: Option<SessionId>,
    /// True if the other end's address is on this host but no process has that socket.
    pub peer_missing: bool,
}

/// Totals over a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Observations processed.
    pub observations: u64,
    /// Observations that arrived after the reordering window had passed.
    pub late: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Sessions closed.
    pub closed: u64,
    /// Losses by counter.
    pub lost: std::collections::BTreeMap<String, u64>,
}

/// A question of the correlator to its environment. Replay drops questions: their answers are in the recording.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Want {
    /// Watch this process from now on.
    Watch(TaskKey, WatchAs),
    /// Describe this process.
    Process(TaskKey),
    /// List the ancestors of this process.
    Ancestry(TaskKey),
    /// Find the current process of this pid, and its listening sockets.
    Pid(u32),
    /// Verify the listening unix sockets of the process with this pid.
    Listeners(u32),
    /// Find the process at the other end of this connection.
    Peer {
        /// Addresses of the known end.
        tuple: Tuple,
        /// Network namespace of the known end.
        netns: Option<u32>,
        /// Initial sequence numbers of the known end.
        isn: Option<Isn>,
    },
    /// Find the names of this container.
    Container {
        /// Container id.
        id: String,
        /// A path inside the container's bundle or the runtime's state, if known.
        bundle: Option<RawText>,
    },
    /// Read this pid file.
    PidFile(RawText),
    /// List the FIFOs of execs and containers that this process has open.
    Fifos(TaskKey),
}
