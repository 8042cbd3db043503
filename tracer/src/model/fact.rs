//! What was observed.

use serde::{Deserialize, Serialize};

use super::{
    Ancestry, AuditEvent, BootTime, ContainerInfo, Descriptor, ExitStatus, FileKind, FileMeasure, HostNo, ProcessInfo,
    ProcessMeasure, RawText, SocketId, SocketInfo, TaskKey, TcpMeasure, TcpState, Tuple, UnixMeasure,
};

/// One fact, when it was so, and who said it. Recordings are sequences of these, in order of arrival.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// When, since boot.
    pub at: BootTime,
    /// Who said it.
    #[serde(default)]
    pub source: Source,
    /// CPU and number within that CPU, of records of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<(u32, u64)>,
    /// The process it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskKey>,
    /// The thread that did it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// What.
    pub fact: Fact,
}

impl Observation {
    /// A fact that no process did.
    #[must_use]
    pub fn new(at: BootTime, source: Source, fact: Fact) -> Self {
        Self { at, source, seq: None, task: None, tid: None, fact }
    }

    /// A fact about a process.
    #[must_use]
    pub fn of(at: BootTime, source: Source, task: TaskKey, fact: Fact) -> Self {
        Self { task: Some(task), ..Self::new(at, source, fact) }
    }

    /// Bytes of memory that it takes, about: its own, and those of texts and lists in it.
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.fact.heap()
    }
}

/// Who said it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A probe, as it happened.
    #[default]
    Ebpf,
    /// procfs, sock_diag or a file, when asked.
    Snapshot,
    /// The tracer itself: the passing of time, losses.
    Engine,
}

/// Who did it inside a process: a goroutine, or else the observation's thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Actor {
    /// Address of the goroutine's `g`; `None` where the process is not Go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub g: Option<u64>,
    /// Goroutine id, where its offset is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goid: Option<u64>,
    /// Id of the goroutine that started it (Go ≥ 1.21), where its offset is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_goid: Option<u64>,
}

impl Actor {
    /// Whether it names nobody: a thread, or not told.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Names a file that is no socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId {
    /// Its file system, as the kernel numbers devices (include/linux/kdev_t.h: major << 20 | minor).
    pub device: u32,
    /// Its inode number there.
    pub inode: u64,
    /// On which host.
    #[serde(default, skip_serializing_if = "HostNo::is_first")]
    pub host: HostNo,
}

impl FileId {
    /// By the kernel's number of the device, and the inode number.
    #[must_use]
    pub const fn new(device: u32, inode: u64) -> Self {
        Self { device, inode, host: HostNo(0) }
    }

    /// From what stat(2) says: there a device is 64 bits wide, with the minor number around the major one
    /// (include/linux/kdev_t.h: `new_encode_dev`; the C library's `makedev` is the same for these 32 bits).
    /// Both agree on tmpfs, where runtimes keep FIFOs; btrfs and overlayfs may show another device than the kernel has.
    #[must_use]
    pub const fn from_stat(device: u64, inode: u64) -> Self {
        // 12 bits and 20 bits: the kernel has no more.
        let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
        #[expect(clippy::cast_possible_truncation, reason = "12 and 20 bits")]
        let device = ((major << 20) | minor) as u32;
        Self::new(device, inode)
    }
}

/// What the snapshot verified of a process that listens on a unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Whether the process is root in the initial user namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub root: bool,
    /// Path at which clients reach this socket now: the file there is the socket's. `None` where no path of a runtime or shim
    /// leads to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<RawText>,
}

impl Listener {
    /// The path at which a daemon serves its clients; `None` where the process does not count as a daemon.
    #[must_use]
    pub fn serves_at(&self) -> Option<&RawText> {
        self.at.as_ref().filter(|_| self.root)
    }
}

/// What can be observed. The observation names the process and time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// It forked.
    Fork {
        /// The new process.
        child: TaskKey,
        /// Who called fork, where a daemon of the path did.
        #[serde(default, skip_serializing_if = "Actor::is_none")]
        actor: Actor,
        /// The accepted socket on which the same actor received last: CRI-O starts the OCI runtime in the goroutine that
        /// serves the stream.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inbound: Option<SocketId>,
    },
    /// It ran execve.
    Exec(Box<ProcessInfo>),
    /// It came onto the path and is watched from now on.
    Enrolled(Box<ProcessInfo>),
    /// A daemon that is older than the tracer is watched from here on, and what it has open is about to be looked at.
    Watched,
    /// What it had open was looked at. Of what it had begun with before it was watched, the first half was seen by nobody where it was
    /// over by then.
    Looked,
    /// It exists; a snapshot or the answer to [`super::Want::Process`].
    ProcessSeen(Box<ProcessInfo>),
    /// It comes from there; the answer to [`super::Want::Ancestry`].
    Ancestry(Box<Ancestry>),
    /// It does not exist (any more).
    ProcessGone,
    /// It ended.
    Exit {
        /// How.
        status: ExitStatus,
    },
    /// It listens on a TCP port.
    Listening {
        /// The listener.
        socket: SocketInfo,
    },
    /// It listens on a unix socket.
    ListeningUnix {
        /// Name that the socket was bound with. A later rename of the socket's file does not change it.
        path: RawText,
        /// Its name.
        socket: SocketId,
        /// What the snapshot verified of the listener. `None` in recordings of formats 1 to 3, which trust the name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listener: Option<Listener>,
    },
    /// It connected by TCP.
    Connected {
        /// The connecting end.
        socket: SocketInfo,
        /// Who called connect(2).
        #[serde(default)]
        actor: Actor,
        /// The accepted socket on which the same actor received last before it called connect(2).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inbound: Option<SocketId>,
    },
    /// It accepted a TCP connection.
    Accepted {
        /// The accepted end.
        socket: SocketInfo,
    },
    /// One end of a TCP connection reached CLOSE.
    Closed {
        /// Which.
        socket: SocketId,
        /// Bytes received in all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        received: Option<u64>,
        /// Bytes sent and acknowledged in all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        acked: Option<u64>,
    },
    /// It has this TCP socket; a snapshot or the answer to [`super::Want::Peer`].
    SocketSeen {
        /// The socket.
        socket: SocketInfo,
    },
    /// No process of this host has the other end.
    PeerAbsent {
        /// The end that is known.
        tuple: Tuple,
        /// Its network namespace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        netns: Option<u32>,
        /// That host.
        #[serde(default, skip_serializing_if = "HostNo::is_first")]
        host: HostNo,
    },
    /// How the other end of a connection stands, which no process of this host has although it has its address.
    PeerMeasured {
        /// The end that a process has.
        socket: SocketId,
        /// State of the other one; `None` where no table of the kernel has it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<TcpState>,
    },
    /// It connected to a unix socket.
    UnixConnected {
        /// The connecting end.
        socket: SocketId,
        /// Process that listens, in the initial pid namespace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        listener: Option<u32>,
        /// Path of the listener.
        path: RawText,
        /// Whether `path` is only the name that the listening socket was bound with, which proves nothing: its process counts as a
        /// daemon once a [`Fact::ListeningUnix`] verifies it. Not set in recordings of formats 1 to 3, which trust the name.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        bound: bool,
    },
    /// It accepted on a unix socket.
    UnixAccepted {
        /// The accepted end.
        socket: SocketId,
        /// The connecting end.
        peer: SocketId,
        /// Process that connected, in the initial pid namespace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connector: Option<u32>,
        /// Path of the listener.
        path: RawText,
        /// Whether `path` is only the name that the listening socket was bound with, which proves nothing: its process counts as a
        /// daemon once a [`Fact::ListeningUnix`] verifies it. Not set in recordings of formats 1 to 3, which trust the name.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        bound: bool,
    },
    /// One of its actors received from one socket and then sent to another.
    Relayed {
        /// Who.
        actor: Actor,
        /// Received from.
        from: SocketInfo,
        /// Sent to.
        to: SocketInfo,
        /// How often this direction was seen, with this one.
        sightings: u32,
        /// Whether splice(2) moved the bytes.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        splice: bool,
    },
    /// It made a FIFO.
    FifoMade {
        /// Who.
        actor: Actor,
        /// The socket on which the same actor received last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inbound: Option<SocketId>,
        /// What that is: where the record of its beginning was lost, nothing else tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<SocketInfo>,
        /// Path as given.
        path: RawText,
    },
    /// A goroutine moved bytes on a TCP socket; told of the first two goroutines of each creator (`actor.parent_goid`) and
    /// socket, in programs that keep the id of a goroutine's creator (Go ≥ 1.21).
    Touched {
        /// Who.
        actor: Actor,
        /// On which.
        socket: SocketInfo,
    },
    /// It has this FIFO open; a snapshot.
    FifoHeld {
        /// Path as the kernel knows it. A pipe has the name that /proc gives it: `pipe:[4711]`.
        path: RawText,
        /// The file.
        file: FileId,
        /// Descriptor, of a pipe: 0, 1 or 2 of a `runc exec` that stays as long as its process does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fd: Option<u32>,
    },
    /// One of its goroutines called read(2) on a FIFO and then sent to a socket.
    FifoRelayed {
        /// Who.
        actor: Actor,
        /// Read from.
        fifo: FileId,
        /// Sent to.
        to: SocketInfo,
    },
    /// The goroutine that waits to read from this FIFO leads, by pointers in the process's own memory, to that connection
    /// and to no other; a snapshot.
    FifoAwaited {
        /// Path of the FIFO.
        path: RawText,
        /// The connection.
        socket: SocketId,
        /// Whether the arguments of the copy itself name both.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        copied: bool,
    },
    /// The goroutine that waits to read from the one connection, or to write to the other, copies between them, by pointers in
    /// the process's own memory (Go: io/io.go, `Copy`); a snapshot.
    RelayAwaited {
        /// Read from.
        from: SocketId,
        /// Written to.
        to: SocketId,
        /// Whether the arguments of the copy itself name both. Else goroutines that one creator started, and no other, wait for
        /// both, and those of that creator for nothing else.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        copied: bool,
    },
    /// A container exists; the answer to [`super::Want::Container`].
    ContainerSeen(Box<ContainerInfo>),
    /// Nothing is known of that container id.
    ContainerUnknown {
        /// Container id.
        id: String,
    },
    /// A pid file was read; a snapshot, with the shim whose state it is, or the answer to [`super::Want::PidFile`].
    PidFile {
        /// Path.
        path: RawText,
        /// What it holds; `None` where it could not be read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
    },
    /// How one end of a TCP connection stands.
    TcpMeasured {
        /// Which.
        socket: SocketId,
        /// Its addresses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tuple: Option<Tuple>,
        /// How.
        measure: TcpMeasure,
    },
    /// How one end of a unix connection stands.
    UnixMeasured {
        /// Which.
        socket: SocketId,
        /// Path of the listener, at either end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<RawText>,
        /// How.
        measure: UnixMeasure,
    },
    /// The kernel was asked for this socket, and lists it no more.
    SocketGone {
        /// Which.
        socket: SocketId,
    },
    /// It holds a TCP socket that no table of the kernel lists: closed by a reset, not by the process.
    SocketUnlisted {
        /// By which descriptor.
        fd: u32,
        /// Its inode number in sockfs.
        inode: u64,
    },
    /// How the process stands.
    ProcessMeasured(Box<ProcessMeasure>),
    /// Its descriptors through which a session's bytes may pass, all that were found.
    Descriptors {
        /// By number.
        descriptors: Vec<Descriptor>,
    },
    /// What waits in a pipe, a FIFO or a terminal.
    FileMeasured {
        /// What it is.
        kind: FileKind,
        /// Which.
        file: FileId,
        /// What waits.
        measure: FileMeasure,
    },
    /// A FIFO through which an exec's bytes pass was written to. The kernel notes that for each file; heartbeats of connections do not
    /// pass through it.
    FifoUsed {
        /// Its path, which names container and exec.
        path: RawText,
        /// The file.
        file: FileId,
        /// How long ago the last write was, in milliseconds.
        ago_ms: u64,
    },
    /// The API server's audit log is followed from here on; what it had for sessions that may be open was told before.
    AuditFollowed,
    /// A line of the audit log.
    Audited(Box<AuditEvent>),
    /// Lines of the audit log that may have told of a session could not be read.
    AuditSkipped {
        /// How many since the last such fact.
        count: u64,
    },
    /// Observations were lost.
    Lost {
        /// Which counter.
        what: String,
        /// How many since the last such fact.
        count: u64,
    },
    /// Time passed.
    Tick,
    /// The file ends here, and the recording goes on in another.
    Continued,
    /// The recording ends here, cleanly.
    Stopped,
}

impl Fact {
    /// Bytes of texts and lists that it holds, about.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others hold neither text nor list")]
    fn heap(&self) -> usize {
        match self {
            Self::Exec(process) | Self::Enrolled(process) | Self::ProcessSeen(process) => process.weight(),
            Self::Ancestry(ancestry) => {
                let parents = ancestry.parents.iter().map(|parent| size_of_val(parent) + parent.comm.as_bytes().len());
                let names = ancestry.names.values().map(|name| size_of::<(u32, String)>() + name.len());
                parents.chain(names).sum()
            }
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

    /// A command that it tells, and whether it was cut, to be looked at or changed: where no process is.
    pub fn request_mut(&mut self) -> Option<(&mut Vec<RawText>, &mut bool)> {
        if let Self::Audited(event) = self {
            return Some((&mut event.request.command, &mut event.request.command_truncated));
        }
        None
    }

    /// Whether it is a number that was taken, and says nothing of what belongs to what.
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

    /// What it says of a process, to be looked at or changed: where arguments stand.
    pub fn process_mut(&mut self) -> Option<&mut ProcessInfo> {
        match self {
            Self::Exec(process) | Self::Enrolled(process) | Self::ProcessSeen(process) => Some(process),
            Self::Fork { .. }
            | Self::Ancestry(_)
            | Self::ProcessGone
            | Self::Watched
            | Self::Looked
            | Self::Exit { .. }
            | Self::Listening { .. }
            | Self::ListeningUnix { .. }
            | Self::Connected { .. }
            | Self::Accepted { .. }
            | Self::Closed { .. }
            | Self::SocketSeen { .. }
            | Self::PeerAbsent { .. }
            | Self::PeerMeasured { .. }
            | Self::UnixConnected { .. }
            | Self::UnixAccepted { .. }
            | Self::Relayed { .. }
            | Self::FifoMade { .. }
            | Self::Touched { .. }
            | Self::FifoHeld { .. }
            | Self::FifoRelayed { .. }
            | Self::FifoAwaited { .. }
            | Self::RelayAwaited { .. }
            | Self::ContainerSeen(_)
            | Self::ContainerUnknown { .. }
            | Self::PidFile { .. }
            | Self::TcpMeasured { .. }
            | Self::UnixMeasured { .. }
            | Self::SocketGone { .. }
            | Self::SocketUnlisted { .. }
            | Self::ProcessMeasured(_)
            | Self::Descriptors { .. }
            | Self::FileMeasured { .. }
            | Self::FifoUsed { .. }
            | Self::AuditFollowed
            | Self::Audited(_)
            | Self::AuditSkipped { .. }
            | Self::Lost { .. }
            | Self::Tick
            | Self::Continued
            | Self::Stopped => None,
        }
    }
}
