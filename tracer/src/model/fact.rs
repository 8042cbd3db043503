//! Observations: facts with time and source.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{
    Ancestry, AuditEvent, BootTime, ContainerInfo, Descriptor, ExitStatus, FileId, FileKind, FileMeasure, HostNo,
    ProcessInfo, ProcessMeasure, RawText, Signal, SocketId, SocketInfo, TaskKey, TcpMeasure, TcpState, Tuple,
    UnixMeasure,
};

/// One fact with its time and source. A recording is a sequence of observations, in order of arrival.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// Time of the fact, since boot.
    pub at: BootTime,
    /// Origin of the fact.
    #[serde(default)]
    pub source: Source,
    /// CPU and sequence number on that CPU. Set for records of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<(u32, u64)>,
    /// Process that the fact is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskKey>,
    /// Thread that acted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// The fact itself.
    pub fact: Fact,
}

impl Observation {
    /// A fact without a process.
    #[must_use]
    pub fn new(at: BootTime, source: Source, fact: Fact) -> Self {
        Self { at, source, seq: None, task: None, tid: None, fact }
    }

    /// A fact about a process.
    #[must_use]
    pub fn of(at: BootTime, source: Source, task: TaskKey, fact: Fact) -> Self {
        Self { task: Some(task), ..Self::new(at, source, fact) }
    }

    /// Approximate memory use in bytes, including owned texts and lists.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.fact.heap()
    }
}

/// Origin of a fact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A BPF probe, at the moment of the event.
    #[default]
    Ebpf,
    /// procfs, sock_diag or a file, read on demand.
    Snapshot,
    /// The tracer itself: passing time, losses.
    Engine,
}

/// Actor inside a process: a goroutine, otherwise the observation's thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Actor {
    /// Address of the goroutine's `g`; `None` if the process is not a Go program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub g: Option<u64>,
    /// Goroutine id, if its offset in `g` is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goid: Option<u64>,
    /// Id of the goroutine that created this one (Go ≥ 1.21), if its offset in `g` is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_goid: Option<u64>,
}

impl Actor {
    /// True if no goroutine is named: the actor is a thread, or unknown.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Failure of connect(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialError {
    /// Error number of the socket (`sk_err`): ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH …; `None` if the process
    /// closed the socket before an answer came, or if connect(2) itself returned the error (a packet filter on this host).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<u32>,
}

/// Verified properties of a process that listens on a unix socket, from a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Set if the process is root in the initial user namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub root: bool,
    /// Path at which clients reach this socket now: the file at this path belongs to the socket. `None` if no path of a
    /// runtime or shim leads to the socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<RawText>,
}

impl Listener {
    /// Path at which a daemon serves its clients; `None` if the process does not count as a daemon.
    #[must_use]
    pub fn serves_at(&self) -> Option<&RawText> {
        self.at.as_ref().filter(|_| self.root)
    }
}

/// Everything that can be observed. The [`Observation`] around a fact names the process ("the process" below) and the
/// time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// The process forked.
    Fork {
        /// The new process.
        child: TaskKey,
        /// Caller of fork(2). Set for daemons of the path.
        #[serde(default, skip_serializing_if = "Actor::is_none")]
        actor: Actor,
        /// Accepted socket on which the same actor received last. CRI-O starts the OCI runtime in the goroutine that
        /// serves the stream.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inbound: Option<SocketId>,
    },
    /// The process ran execve(2).
    Exec(Box<ProcessInfo>),
    /// The process came onto the path and is watched from now on.
    Enrolled(Box<ProcessInfo>),
    /// A daemon older than the tracer is attached from now on. The scan of its open files follows.
    Watched,
    /// The daemon's open files were scanned. Work that began before attach and has finished may have been missed.
    Looked,
    /// execve(2) failed in a process below a daemon: runc's last stage could not become the command.
    ExecFailed {
        /// ENOENT, EACCES, ENOEXEC …
        errno: u32,
        /// Mount namespace of the process: the container's, unless runc failed before it entered that one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mntns: Option<u32>,
    },
    /// A signal that ends the process, unless the process handles it, was sent to it.
    Signalled(Box<Signal>),
    /// The process exists; from a snapshot or in answer to [`super::Want::Process`].
    ProcessSeen(Box<ProcessInfo>),
    /// Ancestors of the process; in answer to [`super::Want::Ancestry`].
    Ancestry(Box<Ancestry>),
    /// The process does not exist, or no longer.
    ProcessGone,
    /// The process ended.
    Exit {
        /// Exit code or signal.
        status: ExitStatus,
    },
    /// The process listens on a TCP port.
    Listening {
        /// The listening socket.
        socket: SocketInfo,
    },
    /// The process listens on a unix socket.
    ListeningUnix {
        /// Name that the socket was bound with. A later rename of the socket's file does not change it.
        path: RawText,
        /// The listening socket.
        socket: SocketId,
        /// Properties of the listener that the snapshot verified. `None` in recordings of formats 1 to 3, which trust
        /// the name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listener: Option<Listener>,
    },
    /// The process connected by TCP.
    Connected {
        /// The connecting end.
        socket: SocketInfo,
        /// Caller of connect(2).
        #[serde(default)]
        actor: Actor,
        /// Accepted socket on which the same actor received last before it called connect(2).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inbound: Option<SocketId>,
    },
    /// The process began a TCP connection, or failed to. Reported for connections to a port of the path, for those on
    /// behalf of an accepted connection, and for errors of connections to 127.0.0.0/8. A connection that succeeds is
    /// also reported as [`Fact::Connected`].
    Dialled {
        /// The connecting end.
        socket: SocketId,
        /// Address that is dialled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remote: Option<SocketAddr>,
        /// Network namespace of the connecting end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        netns: Option<u32>,
        /// Caller of connect(2).
        #[serde(default, skip_serializing_if = "Actor::is_none")]
        actor: Actor,
        /// Accepted socket on which the same actor received last before it called connect(2).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inbound: Option<SocketId>,
        /// Set when the connection failed; `None` while its SYN is unanswered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failed: Option<DialError>,
    },
    /// The process accepted a TCP connection.
    Accepted {
        /// The accepted end.
        socket: SocketInfo,
    },
    /// One end of a TCP connection reached CLOSE.
    Closed {
        /// The closed end.
        socket: SocketId,
        /// Total of bytes received.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        received: Option<u64>,
        /// Total of bytes sent and acknowledged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        acked: Option<u64>,
    },
    /// The process has this TCP socket open; from a snapshot or in answer to [`super::Want::Peer`].
    SocketSeen {
        /// The open socket.
        socket: SocketInfo,
    },
    /// No process of this host has the other end of this connection.
    PeerAbsent {
        /// Addresses of the known end.
        tuple: Tuple,
        /// Network namespace of the known end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        netns: Option<u32>,
        /// The searched host.
        #[serde(default, skip_serializing_if = "HostNo::is_first")]
        host: HostNo,
    },
    /// Measured state of an orphaned end: its address is on this host, but no process has the socket.
    PeerMeasured {
        /// The opposite end, which a process has.
        socket: SocketId,
        /// State of the orphaned end; `None` if no table of the kernel lists it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<TcpState>,
    },
    /// The process connected to a unix socket.
    UnixConnected {
        /// The connecting end.
        socket: SocketId,
        /// Pid of the listening process, in the initial pid namespace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listener: Option<u32>,
        /// Path of the listening socket.
        path: RawText,
        /// Set if `path` is only the bind name of the listening socket, which proves nothing: its process counts as a
        /// daemon once a [`Fact::ListeningUnix`] verifies it. Not set in recordings of formats 1 to 3, which trust the
        /// name.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        bound: bool,
    },
    /// The process accepted a connection on a unix socket.
    UnixAccepted {
        /// The accepted end.
        socket: SocketId,
        /// The connecting end.
        peer: SocketId,
        /// Pid of the connecting process, in the initial pid namespace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connector: Option<u32>,
        /// Path of the listening socket.
        path: RawText,
        /// Set if `path` is only the bind name of the listening socket, which proves nothing: its process counts as a
        /// daemon once a [`Fact::ListeningUnix`] verifies it. Not set in recordings of formats 1 to 3, which trust the
        /// name.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        bound: bool,
    },
    /// One actor of the process received from one socket and then sent to another.
    Relayed {
        /// The relaying actor.
        actor: Actor,
        /// Socket that bytes were received from.
        from: SocketInfo,
        /// Socket that bytes were sent to.
        to: SocketInfo,
        /// Always 1: the probe reports a direction once. Part of the recording format.
        sightings: u32,
        /// Set if splice(2) moved the bytes.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        splice: bool,
    },
    /// The process created a FIFO.
    FifoMade {
        /// Actor that created it.
        actor: Actor,
        /// Socket on which the same actor received last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inbound: Option<SocketId>,
        /// Properties of `inbound`. Needed if the record of its beginning was lost: no other fact describes the socket.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<SocketInfo>,
        /// Path as the actor passed it to the kernel.
        path: RawText,
    },
    /// A goroutine moved bytes on a TCP socket. Reported for the first two goroutines of each creator
    /// (`actor.parent_goid`) and socket, in programs that keep the id of a goroutine's creator (Go ≥ 1.21).
    Touched {
        /// The goroutine.
        actor: Actor,
        /// The used socket.
        socket: SocketInfo,
    },
    /// The process has this FIFO or pipe open; from a snapshot.
    FifoHeld {
        /// Path as the kernel knows it. A pipe has its /proc name: `pipe:[4711]`.
        path: RawText,
        /// The FIFO or pipe.
        file: FileId,
        /// Descriptor number. Set for pipes: 0, 1 or 2 of a `runc exec` that stays as long as its process does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fd: Option<u32>,
    },
    /// A goroutine of the process called read(2) on a FIFO and then sent to a socket.
    FifoRelayed {
        /// The goroutine.
        actor: Actor,
        /// FIFO that was read.
        fifo: FileId,
        /// Socket that bytes were sent to.
        to: SocketInfo,
    },
    /// A goroutine waits to read from this FIFO. Pointers in the process's memory lead from it to this connection and
    /// to no other; from a snapshot.
    FifoAwaited {
        /// Path of the FIFO.
        path: RawText,
        /// The connection.
        socket: SocketId,
        /// Set if the arguments of the copy loop name both.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        copied: bool,
    },
    /// A goroutine that waits to read from one connection, or to write to the other, copies between them. Pointers in
    /// the process's memory show it (Go: io/io.go, `Copy`); from a snapshot.
    RelayAwaited {
        /// Connection that is read.
        from: SocketId,
        /// Connection that is written to.
        to: SocketId,
        /// Set if the arguments of the copy loop name both. Otherwise goroutines of one creator, and no other
        /// goroutines, wait for both, and the goroutines of that creator wait for nothing else.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        copied: bool,
    },
    /// Names of a container; in answer to [`super::Want::Container`].
    ContainerSeen(Box<ContainerInfo>),
    /// No file of this host describes the container.
    ContainerUnknown {
        /// Container id.
        id: String,
    },
    /// Content of a pid file; from a snapshot of the shim that keeps it, or in answer to [`super::Want::PidFile`].
    PidFile {
        /// Path of the pid file.
        path: RawText,
        /// Pid in the file; `None` if the file could not be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
    },
    /// Measured state of one end of a TCP connection.
    TcpMeasured {
        /// The measured end.
        socket: SocketId,
        /// Addresses of the measured end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tuple: Option<Tuple>,
        /// State, queues and counters.
        measure: TcpMeasure,
    },
    /// Measured state of one end of a unix connection.
    UnixMeasured {
        /// The measured end.
        socket: SocketId,
        /// Path of the listening socket, for either end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<RawText>,
        /// Queues.
        measure: UnixMeasure,
    },
    /// The kernel no longer lists this socket.
    SocketGone {
        /// The missing socket.
        socket: SocketId,
    },
    /// The process holds a TCP socket that no table of the kernel lists: a reset closed it, not the process.
    SocketUnlisted {
        /// Descriptor number in the process.
        fd: u32,
        /// Inode number in sockfs.
        inode: u64,
    },
    /// Measured state of the process.
    ProcessMeasured(Box<ProcessMeasure>),
    /// Descriptors of the process that may carry a session's bytes.
    Descriptors {
        /// Descriptors, ordered by number.
        descriptors: Vec<Descriptor>,
    },
    /// Fill level of a pipe, FIFO or terminal.
    FileMeasured {
        /// Kind of the file.
        kind: FileKind,
        /// The measured file.
        file: FileId,
        /// Queued bytes and capacity.
        measure: FileMeasure,
    },
    /// A FIFO that carries an exec's bytes was written to. The kernel keeps that time for each file; heartbeats of
    /// connections do not pass through FIFOs.
    FifoUsed {
        /// Path of the FIFO, which names container and exec.
        path: RawText,
        /// The FIFO.
        file: FileId,
        /// Milliseconds since the last write.
        ago_ms: u64,
    },
    /// The API server's audit log is followed from now on. Lines of sessions that may still be open have already been
    /// reported.
    AuditFollowed,
    /// A line of the audit log.
    Audited(Box<AuditEvent>),
    /// Lines of the audit log could not be read. They may have described a session.
    AuditSkipped {
        /// Number of lines since the last such fact.
        count: u64,
    },
    /// Observations were lost.
    Lost {
        /// Name of the loss counter.
        what: String,
        /// Number of losses since the last such fact.
        count: u64,
    },
    /// Time passed.
    Tick,
    /// The file ends here, and the recording continues in the next file.
    Continued,
    /// The recording ends here, cleanly.
    Stopped,
}

impl Fact {
    /// Approximate size of owned texts and lists, in bytes.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others hold neither text nor list")]
    fn heap(&self) -> usize {
        match self {
            Self::Exec(process) | Self::Enrolled(process) | Self::ProcessSeen(process) => process.weight(),
            Self::Ancestry(ancestry) => {
                let parents = ancestry.parents.iter().map(|parent| size_of_val(parent) + parent.comm.as_bytes().len());
                let names = ancestry.names.values().map(|name| size_of::<(u32, String)>() + name.len());
                parents.chain(names).sum()
            }
            Self::Signalled(signal) => size_of_val(&**signal) + signal.comm.as_bytes().len(),
            Self::Descriptors { descriptors } => descriptors
                .iter()
                .map(|one| size_of_val(one) + one.path.as_ref().map_or(0, |path| path.as_bytes().len()))
                .sum(),
            Self::ProcessMeasured(measure) => {
                let frames = |stack: &[RawText]| -> usize {
                    stack.iter().map(|frame| size_of_val(frame) + frame.as_bytes().len()).sum()
                };
                let threads = measure.threads.iter();
                size_of_val(&**measure) + threads.map(|one| size_of_val(one) + frames(&one.stack)).sum::<usize>()
            }
            Self::Audited(event) => {
                let words = event.request.command.iter().map(|word| size_of_val(word) + word.as_bytes().len());
                let groups = event.user.groups.iter().map(|group| size_of_val(group) + group.len());
                let names = [&event.user.name, &event.request.namespace, &event.request.pod].map(String::len);
                size_of_val(&**event) + words.chain(groups).chain(names).sum::<usize>()
            }
            Self::ContainerSeen(info) => info.weight(),
            Self::ListeningUnix { path, listener, .. } => {
                let at = listener.as_ref().and_then(|listener| listener.at.as_ref());
                path.as_bytes().len() + at.map_or(0, |at| at.as_bytes().len())
            }
            Self::UnixConnected { path, .. }
            | Self::UnixAccepted { path, .. }
            | Self::FifoMade { path, .. }
            | Self::FifoHeld { path, .. }
            | Self::FifoAwaited { path, .. }
            | Self::PidFile { path, .. } => path.as_bytes().len(),
            Self::UnixMeasured { path, .. } => path.as_ref().map_or(0, |path| path.as_bytes().len()),
            Self::ContainerUnknown { id: text } | Self::Lost { what: text, .. } => text.len(),
            _ => 0,
        }
    }

    /// Command line of a request, and its "truncated" flag, for reading or masking. `None` for facts without a request.
    pub fn request_mut(&mut self) -> Option<(&mut Vec<RawText>, &mut bool)> {
        if let Self::Audited(event) = self {
            return Some((&mut event.request.command, &mut event.request.command_truncated));
        }
        None
    }

    /// True for measurements: numbers that link nothing to anything.
    #[must_use]
    pub const fn is_measure(&self) -> bool {
        matches!(
            self,
            Self::TcpMeasured { .. }
                | Self::UnixMeasured { .. }
                | Self::SocketGone { .. }
                | Self::SocketUnlisted { .. }
                | Self::ProcessMeasured(_)
                | Self::Descriptors { .. }
                | Self::FileMeasured { .. }
                | Self::FifoUsed { .. }
                | Self::PeerMeasured { .. }
        )
    }

    /// Process description with arguments, for reading or masking. `None` for facts without one.
    pub fn process_mut(&mut self) -> Option<&mut ProcessInfo> {
        let (Self::Exec(process) | Self::Enrolled(process) | Self::ProcessSeen(process)) = self else { return None };
        Some(process)
    }
}
