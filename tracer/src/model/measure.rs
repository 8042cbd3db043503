//! Measurements: numbers of sockets, files and processes at one moment, as the kernel reports them. A number that a
//! source does not know is `None`, never 0.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Activity, BootTime, Fact, FileId, HostNo, Observation, RawText, SocketId, Span, TaskKey, Tuple, parse_fifo_path,
};

/// State of a TCP socket (include/net/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
pub enum TcpState {
    /// Both sides send and receive.
    Established,
    /// SYN sent, no answer yet.
    SynSent,
    /// SYN received, the last step of the handshake is missing.
    SynRecv,
    /// This end closed; its FIN is not acknowledged.
    #[serde(rename = "FIN-WAIT-1")]
    FinWait1,
    /// This end closed, the other end did not.
    #[serde(rename = "FIN-WAIT-2")]
    FinWait2,
    /// Both closed; the socket waits for late segments.
    TimeWait,
    /// No connection any more. The process may still hold the descriptor.
    Close,
    /// The other end closed, this end did not.
    CloseWait,
    /// Both closed; this end's FIN is not acknowledged.
    LastAck,
    /// The socket waits for connections.
    Listen,
    /// Both closed at the same time.
    Closing,
}

impl TcpState {
    /// State of a kernel state number; `None` for an unknown number.
    #[must_use]
    pub const fn from_kernel(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            // 12 is TCP_NEW_SYN_RECV: a connection request without a full socket yet.
            3 | 12 => Self::SynRecv,
            4 => Self::FinWait1,
            5 => Self::FinWait2,
            6 => Self::TimeWait,
            7 => Self::Close,
            8 => Self::CloseWait,
            9 => Self::LastAck,
            10 => Self::Listen,
            11 => Self::Closing,
            _ => return None,
        })
    }

    /// Stable token: the names of RFC 9293.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN-SENT",
            Self::SynRecv => "SYN-RECV",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::TimeWait => "TIME-WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
        }
    }
}

/// Kind of a running TCP timer (net/ipv4/inet_diag.c: `inet_diag_msg_attrs_fill`, `idiag_timer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimerKind {
    /// Unacknowledged data will be sent again.
    Retransmit,
    /// The connection has been silent for long; the kernel will probe the other end.
    KeepAlive,
    /// TIME-WAIT will end.
    TimeWait,
    /// The other end's window is closed; the kernel will probe it (persist timer).
    Probe,
}

impl TimerKind {
    /// Stable token for JSON.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Retransmit => "retransmit",
            Self::KeepAlive => "keepalive",
            Self::TimeWait => "time-wait",
            Self::Probe => "probe",
        }
    }
}

/// A running timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Kind of the timer.
    pub kind: TimerKind,
    /// Milliseconds until the timer fires.
    pub expires_ms: u64,
    /// Number of times the timer has fired in vain.
    pub retries: u8,
}

/// Counters of a connection (include/uapi/linux/tcp.h: `struct tcp_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpInfo {
    /// Smoothed round trip time in microseconds.
    pub rtt_us: u64,
    /// Retransmission timeout in microseconds.
    pub rto_us: u64,
    /// Number of times the timeout was doubled.
    pub backoff: u8,
    /// Retransmissions of the oldest unacknowledged segment.
    pub retransmits: u8,
    /// Unanswered window probes.
    pub probes: u8,
    /// Total of retransmissions.
    pub total_retransmits: u32,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Segments considered lost.
    pub lost: u32,
    /// Bytes accepted from the process and not sent yet.
    pub not_sent: u32,
    /// Bytes that the other end allows in flight; `None` before Linux 5.4, which does not report them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_window: Option<u32>,
    /// Largest segment size for sending, in bytes.
    pub send_mss: u32,
    /// Path MTU in bytes.
    pub path_mtu: u32,
    /// Milliseconds since data was last sent.
    pub last_sent_ms: u32,
    /// Milliseconds since data was last received.
    pub last_received_ms: u32,
    /// Milliseconds since an acknowledgement was last received.
    pub last_ack_ms: u32,
    /// Bytes sent and acknowledged.
    pub bytes_acked: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Data segments sent, retransmissions included.
    pub data_segments_out: u32,
    /// Data segments received.
    pub data_segments_in: u32,
}

/// Measured state of one end of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpMeasure {
    /// TCP state.
    pub state: TcpState,
    /// Bytes received and not read by the process. For a listener: connections waiting to be accepted.
    pub recv_q: u32,
    /// Bytes written by the process and not acknowledged by the other end. For a listener: maximum of waiting
    /// connections.
    pub send_q: u32,
    /// Running timer, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
    /// Counters; `None` in states without counters (TIME-WAIT) or from a source without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<TcpInfo>,
}

/// Measured state of one end of a unix connection (net/unix/diag.c: `sk_diag_show_rqlen`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixMeasure {
    /// Bytes received and not read by the process. For a listener: connections waiting to be accepted.
    pub recv_q: u32,
    /// Memory of data sent and not read by the peer, in bytes. For a listener: maximum of waiting connections.
    pub send_q: u32,
}

/// Measured state of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMeasure {
    /// State letter of its first thread, from `/proc/PID/stat`.
    pub state: char,
    /// Pid of its current parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
    /// `/proc/PID/exe`. Distinguishes shims: their names are truncated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<RawText>,
    /// Clock ticks in user mode, sum of all threads.
    pub user_ticks: u64,
    /// Clock ticks in the kernel, sum of all threads.
    pub system_ticks: u64,
    /// Resident memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident: Option<u64>,
    /// Number of open descriptors; `None` without permission to count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptors: Option<u64>,
    /// Limit of open descriptors (RLIMIT_NOFILE, soft).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptors_max: Option<u64>,
    /// Number of open terminal masters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminals: Option<u64>,
    /// Measured threads, the first thread first.
    pub threads: Vec<ThreadMeasure>,
    /// Number of threads, including those not measured.
    pub thread_count: u32,
    /// Foreground process group of its terminal, in the initial pid namespace; `None` without a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreground: Option<u32>,
    /// Process group of the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// Inode number of its pid namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pidns: Option<u32>,
    /// True if the first process of its container is alive. That process is named by `init.pid` of the runtime's state,
    /// or by `State.Pid` of dockerd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_lives: Option<bool>,
    /// Measured state of its cgroup; `None` if the cgroup's files cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupMeasure>,
}

/// Measured state of a thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadMeasure {
    /// Thread id.
    pub tid: u32,
    /// State letter of the thread.
    pub state: char,
    /// Current system call; `None` if the thread runs or the call may not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// Number of voluntary context switches: `voluntary_ctxt_switches` of `/proc/PID/task/TID/status`. Two equal
    /// samples show that the thread did not wake in between, for any reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switches: Option<u64>,
    /// Functions on its kernel stack, innermost first; empty without permission. Names change between kernels: never
    /// decide on them alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<RawText>,
}

/// System call of a waiting thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Name in the kernel's table: `read`, `ppoll`.
    pub name: String,
    /// First argument, if the call takes a descriptor there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd: Option<u32>,
}

/// Measured state of a cgroup (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupMeasure {
    /// True if the group or one of its ancestors is frozen: `cgroup.events`, or `freezer.state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<bool>,
    /// `pids.current`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// `pids.max`; `None` for the value `max`, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u64>,
    /// Number of refused forks: `max` of `pids.events`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_refused: Option<u64>,
    /// Bytes in use: `memory.current`, `memory.usage_in_bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Hard limit in bytes: `memory.max`, `memory.limit_in_bytes`; `None` without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// Number of times the group was throttled over `memory.high`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_high_events: Option<u64>,
    /// Number of times the limit was hit: `max` of `memory.events`, `memory.failcnt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_hits: Option<u64>,
    /// Number of processes killed for memory: `oom_kill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_kills: Option<u64>,
}

/// Kind of a file behind a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A named pipe.
    Fifo,
    /// An unnamed pipe.
    Pipe,
    /// A terminal. Both ends have the same [`FileId`], made of file system and terminal index.
    Pty,
    /// A socket, identified by its inode in sockfs.
    Socket,
    /// Any other file or device.
    Other,
}

impl FileKind {
    /// Stable token for JSON.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Pipe => "pipe",
            Self::Pty => "pty",
            Self::Socket => "socket",
            Self::Other => "other",
        }
    }
}

/// Access mode of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// read(2) only.
    Read,
    /// write(2) only.
    Write,
    /// read(2) and write(2).
    Both,
}

impl Access {
    /// True if the descriptor can be read.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Both)
    }

    /// True if the descriptor can be written to.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Both)
    }
}

/// An open descriptor of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Descriptor number.
    pub fd: u32,
    /// Open file.
    pub file: FileId,
    /// Kind of the file.
    pub kind: FileKind,
    /// Access mode.
    pub access: Access,
    /// Set if the file is the master of a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub master: bool,
    /// Path, as the kernel knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RawText>,
}

/// Fill level of a pipe, FIFO or terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeasure {
    /// Readable bytes; for a terminal, readable at its master.
    pub queued: u32,
    /// Capacity in bytes (F_GETPIPE_SZ); `None` for terminals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
}

/// Latest value of a measurement, and the value before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series<T> {
    /// Time of the latest value.
    pub at: BootTime,
    /// Latest value.
    pub last: T,
    /// Previous value and its time.
    pub before: Option<(BootTime, T)>,
}

impl<T> Series<T> {
    fn take(series: Option<Self>, at: BootTime, value: T) -> Self {
        match series {
            // Measured again at the same moment: replace the value, keep the previous one.
            Some(old) if old.at >= at => Self { at: old.at, last: value, before: old.before },
            Some(old) => Self { at, last: value, before: Some((old.at, old.last)) },
            None => Self { at, last: value, before: None },
        }
    }

    /// Previous value, and the time between both values.
    #[must_use]
    pub fn earlier(&self) -> Option<(&T, Span)> {
        self.before.as_ref().map(|(at, value)| (value, self.at.since(*at)))
    }
}

/// A TCP socket that a process holds and no table of the kernel lists: its connection was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unlisted {
    /// Process that holds the socket.
    pub task: TaskKey,
    /// Descriptor number in that process.
    pub fd: u32,
    /// Inode number in sockfs.
    pub inode: u64,
}

/// First and last sighting of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenSpan {
    /// Time of the first sighting.
    pub first: BootTime,
    /// Time of the last sighting.
    pub last: BootTime,
}

/// Last write to a FIFO (`last`), and the time of its latest measurement (`at`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Used {
    at: BootTime,
    last: BootTime,
}

/// Latest two values of each measurement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    tcp: BTreeMap<SocketKey, (Option<Tuple>, Series<TcpMeasure>)>,
    activity: BTreeMap<SocketKey, Activity>,
    /// Last writes to FIFOs, by host, container and exec.
    fifos: BTreeMap<(HostNo, String, String), Used>,
    peers: BTreeMap<SocketKey, Series<Option<TcpState>>>,
    unix: BTreeMap<SocketKey, (Option<RawText>, Series<UnixMeasure>)>,
    processes: BTreeMap<TaskKey, Series<ProcessMeasure>>,
    files: BTreeMap<(FileKind, FileId), Series<FileMeasure>>,
    descriptors: BTreeMap<TaskKey, (BootTime, Vec<Descriptor>)>,
    unlisted: BTreeMap<Unlisted, SeenSpan>,
    gone: BTreeMap<SocketKey, BootTime>,
    /// Time of the latest measurement.
    at: Option<BootTime>,
}

/// Identity of a socket common to both sources: sock_diag reports the inode of every socket that a process holds.
type SocketKey = (HostNo, u64);

fn key(socket: SocketId) -> Option<SocketKey> {
    Some((socket.host, socket.inode?))
}

/// Maximum of entries per table: enough for 10,000 sessions with room to spare. Further entries are not kept.
const MAX: usize = 200_000;

impl Measures {
    /// Stores a measurement. Other facts are ignored.
    pub fn take(&mut self, seen: &Observation) {
        let at = seen.at;
        match (&seen.fact, seen.task) {
            (Fact::TcpMeasured { socket, tuple, measure }, _) => {
                let Some(key) = key(*socket) else { return };
                self.gone.remove(&key);
                if self.tcp.len() < MAX || self.tcp.contains_key(&key) {
                    let old = self.tcp.remove(&key).map(|(_, series)| series);
                    self.tcp.insert(key, (*tuple, Series::take(old, at, *measure)));
                    if let Some(info) = &measure.info {
                        let known = self.activity.get(&key).copied();
                        self.activity.insert(key, Activity::take(known, at, info));
                    }
                }
            }
            (Fact::PeerMeasured { socket, state }, _) => {
                let Some(key) = key(*socket) else { return };
                put(&mut self.peers, key, at, *state);
            }
            (Fact::UnixMeasured { socket, path, measure }, _) => {
                let Some(key) = key(*socket) else { return };
                self.gone.remove(&key);
                if self.unix.len() < MAX || self.unix.contains_key(&key) {
                    let old = self.unix.remove(&key).map(|(_, series)| series);
                    self.unix.insert(key, (path.clone(), Series::take(old, at, *measure)));
                }
            }
            (Fact::SocketGone { socket }, _) => {
                let Some(key) = key(*socket) else { return };
                if self.gone.len() < MAX {
                    self.gone.insert(key, at);
                }
            }
            (Fact::ProcessMeasured(measure), Some(task)) => put(&mut self.processes, task, at, (**measure).clone()),
            (Fact::FifoUsed { path, file, ago_ms }, _) => {
                self.fifo_used(Used { at, last: at.minus(Span::from_millis(*ago_ms)) }, path, *file)
            }
            (Fact::FileMeasured { kind, file, measure }, _) => put(&mut self.files, (*kind, *file), at, *measure),
            (Fact::Descriptors { descriptors }, Some(task)) => {
                if self.descriptors.len() < MAX {
                    self.descriptors.insert(task, (at, descriptors.clone()));
                }
            }
            (Fact::SocketUnlisted { fd, inode }, Some(task)) => {
                let one = Unlisted { task, fd: *fd, inode: *inode };
                if self.unlisted.len() < MAX || self.unlisted.contains_key(&one) {
                    self.unlisted.entry(one).or_insert(SeenSpan { first: at, last: at }).last = at;
                }
            }
            _ => return,
        }
        self.at = self.at.max(Some(at));
    }

    fn fifo_used(&mut self, used: Used, path: &RawText, file: FileId) {
        let Some(fifo) = path.as_str().and_then(parse_fifo_path) else { return };
        let key = (file.host, fifo.container, fifo.exec);
        if self.fifos.len() < MAX || self.fifos.contains_key(&key) {
            let known = self.fifos.entry(key).or_insert(used);
            *known = Used { at: used.at.max(known.at), last: used.last.max(known.last) };
        }
    }

    /// Payload activity of that end of a TCP connection.
    #[must_use]
    pub fn activity(&self, socket: SocketId) -> Option<&Activity> {
        self.activity.get(&key(socket)?)
    }

    /// Time of the last write to a FIFO of that exec.
    #[must_use]
    pub fn exec_used(&self, host: HostNo, container: &str, exec: &str) -> Option<BootTime> {
        self.fifos.get(&(host, container.to_owned(), exec.to_owned())).map(|used| used.last)
    }

    /// Time of the latest measurement; `None` before the first.
    #[must_use]
    pub fn at(&self) -> Option<BootTime> {
        self.at
    }

    /// State of one end of a TCP connection.
    #[must_use]
    pub fn tcp(&self, socket: SocketId) -> Option<&Series<TcpMeasure>> {
        self.tcp.get(&key(socket)?).map(|(_, series)| series)
    }

    /// Addresses of that end, if they were measured with its state.
    #[must_use]
    pub fn tuple(&self, socket: SocketId) -> Option<Tuple> {
        self.tcp.get(&key(socket)?).and_then(|(tuple, _)| *tuple)
    }

    /// State of the orphaned other end, whose address is on this host without a process; the inner `None` means that no
    /// table of the kernel lists it.
    #[must_use]
    pub fn peer(&self, socket: SocketId) -> Option<&Series<Option<TcpState>>> {
        self.peers.get(&key(socket)?)
    }

    /// State of one end of a unix connection.
    #[must_use]
    pub fn unix(&self, socket: SocketId) -> Option<&Series<UnixMeasure>> {
        self.unix.get(&key(socket)?).map(|(_, series)| series)
    }

    /// All measured ends of unix connections, by host and inode number, with the path of the listener.
    pub fn unixes(&self) -> impl Iterator<Item = ((HostNo, u64), Option<&RawText>, &Series<UnixMeasure>)> {
        self.unix.iter().map(|(key, (path, series))| (*key, path.as_ref(), series))
    }

    /// Measured ends of unix connections held by this process, by inode number.
    pub fn unixes_of(&self, task: TaskKey) -> impl Iterator<Item = (u64, Option<&RawText>, &Series<UnixMeasure>)> {
        let own = self.descriptors(task).iter().filter(|one| one.kind == FileKind::Socket);
        let own: BTreeSet<SocketKey> = own.map(|one| (one.file.host, one.file.inode)).collect();
        let unixes = self.unixes().filter(move |(key, ..)| own.contains(key));
        unixes.map(|((_, inode), path, series)| (inode, path, series))
    }

    /// Time at which the kernel no longer listed that socket.
    #[must_use]
    pub fn gone(&self, socket: SocketId) -> Option<BootTime> {
        self.gone.get(&key(socket)?).copied()
    }

    /// State of a process.
    #[must_use]
    pub fn process(&self, task: TaskKey) -> Option<&Series<ProcessMeasure>> {
        self.processes.get(&task)
    }

    /// All measured processes.
    pub fn processes(&self) -> impl Iterator<Item = (TaskKey, &Series<ProcessMeasure>)> {
        self.processes.iter().map(|(task, series)| (*task, series))
    }

    /// Fill level of a pipe, FIFO or terminal.
    #[must_use]
    pub fn file(&self, kind: FileKind, file: FileId) -> Option<&Series<FileMeasure>> {
        self.files.get(&(kind, file))
    }

    /// Measured descriptors of a process.
    #[must_use]
    pub fn descriptors(&self, task: TaskKey) -> &[Descriptor] {
        self.descriptors.get(&task).map_or(&[], |(_, descriptors)| descriptors)
    }

    /// Measured descriptors of every process.
    pub fn every_descriptor(&self) -> impl Iterator<Item = (TaskKey, &[Descriptor])> {
        self.descriptors.iter().map(|(task, (_, descriptors))| (*task, descriptors.as_slice()))
    }

    /// Drops all entries last measured before `at`.
    pub fn forget_before(&mut self, at: BootTime) {
        self.tcp.retain(|_, (_, series)| series.at >= at);
        let tcp = &self.tcp;
        self.fifos.retain(|_, used| used.at >= at);
        self.activity.retain(|key, _| tcp.contains_key(key));
        self.peers.retain(|_, series| series.at >= at);
        self.unix.retain(|_, (_, series)| series.at >= at);
        self.processes.retain(|_, series| series.at >= at);
        self.files.retain(|_, series| series.at >= at);
        self.descriptors.retain(|_, (taken, _)| *taken >= at);
        self.unlisted.retain(|_, told| told.last >= at);
        self.gone.retain(|_, taken| *taken >= at);
    }

    /// Processes that hold the file, with their descriptors.
    pub fn holders(&self, kind: FileKind, file: FileId) -> impl Iterator<Item = (TaskKey, &Descriptor)> {
        self.descriptors.iter().flat_map(move |(task, (_, descriptors))| {
            descriptors.iter().filter(move |one| one.kind == kind && one.file == file).map(|one| (*task, one))
        })
    }

    /// TCP sockets that a process holds and no table of the kernel lists. A single sighting may be a new socket that is
    /// not connected yet: no table lists those either.
    pub fn unlisted(&self) -> impl Iterator<Item = (Unlisted, SeenSpan)> + '_ {
        self.unlisted.iter().map(|(one, told)| (*one, *told))
    }
}

fn put<K: Ord, V>(into: &mut BTreeMap<K, Series<V>>, key: K, at: BootTime, value: V) {
    if into.len() < MAX || into.contains_key(&key) {
        let old = into.remove(&key);
        into.insert(key, Series::take(old, at, value));
    }
}
