//! What follows from the observations.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    BootTime, Diagnosis, Isn, Measures, RawText, Role, Session, SessionId, SocketId, SocketInfo, TaskKey, Tuple,
    WatchAs,
};

/// A change, told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Core time at which it became known.
    pub at: BootTime,
    /// What.
    pub change: Change,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A session is there.
    Opened(Arc<Session>),
    /// More is known of it.
    Changed(Arc<Session>),
    /// It is over.
    Closed(Arc<Session>),
    /// Observations were lost.
    Loss {
        /// Which counter.
        what: String,
        /// How many.
        count: u64,
    },
}

/// Everything that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Core time.
    pub at: BootTime,
    /// Sessions, by time of opening.
    pub sessions: Vec<Session>,
    /// Ends of connections of processes on the path that no link of a session names, by process and socket.
    pub loose: Vec<Loose>,
    /// Daemons of the path that live, whether sessions go through them or not.
    pub daemons: Vec<Daemon>,
    /// Standing unix connections between them.
    pub standing: Vec<Standing>,
    /// What was measured, the last two times.
    pub measures: Measures,
    /// What is wrong, where that was asked.
    pub diagnosis: Diagnosis,
    /// Sums.
    pub totals: Totals,
}

impl Report {
    /// How late it is by what was told: what was measured last may be newer than what sessions rest on.
    #[must_use]
    pub fn now(&self) -> BootTime {
        self.measures.at().map_or(self.at, |at| at.max(self.at))
    }
}

/// A daemon of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Daemon {
    /// Which process.
    pub task: TaskKey,
    /// What it is.
    pub role: Role,
    /// Inode number of its network namespace.
    pub netns: Option<u32>,
}

/// A unix connection by which one daemon asks another, of all sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Path of the listener.
    pub path: RawText,
    /// Who connected, and its end.
    pub near: (TaskKey, SocketId),
    /// Who accepted, and its end.
    pub far: (TaskKey, SocketId),
}

/// An end of a connection that no link of a session names: another request's, a pooled one, what a session left behind, or the
/// outermost end of a session, whose other end nobody here has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loose {
    /// Who holds it.
    pub task: TaskKey,
    /// What that process is on this end of it.
    pub role: Role,
    /// The end.
    pub socket: SocketInfo,
    /// Who holds the other end, where that is known.
    pub peer: Option<TaskKey>,
    /// The session whose outermost end it is.
    pub session: Option<SessionId>,
    /// Whether the other end was on this host, going by its address, and no process has it.
    pub is_lonely: bool,
}

/// Sums over a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Observations taken in.
    pub observations: u64,
    /// Those that came after the reordering window had passed.
    pub late: u64,
    /// Sessions opened.
    pub opened: u64,
    /// Sessions closed.
    pub closed: u64,
    /// Losses by counter.
    pub lost: std::collections::BTreeMap<String, u64>,
}

/// A question to the surroundings. A replay drops it: the answer is in the recording.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Want {
    /// Watch this process from now on.
    Watch(TaskKey, WatchAs),
    /// Tell what this process is.
    Process(TaskKey),
    /// Tell where this process comes from.
    Ancestry(TaskKey),
    /// Tell what has this pid now, and where it listens.
    Pid(u32),
    /// Verify the unix sockets on which the process of this pid listens.
    Listeners(u32),
    /// Tell who has the other end of this connection.
    Peer {
        /// The end that is known.
        tuple: Tuple,
        /// Its network namespace.
        netns: Option<u32>,
        /// Its initial sequence numbers.
        isn: Option<Isn>,
    },
    /// Tell the names of this container.
    Container {
        /// Container id.
        id: String,
        /// A path inside its bundle or the runtime's state, where one is known.
        bundle: Option<RawText>,
    },
    /// Read this pid file.
    PidFile(RawText),
    /// Tell which FIFOs of execs and containers this process has open.
    Fifos(TaskKey),
}
