//! How things stand at one moment: numbers of sockets, files and processes, as the kernel gives them. What a source cannot
//! know is `None`, never 0.

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
    /// SYN sent, nothing came back.
    SynSent,
    /// SYN received, the last step of the handshake is missing.
    SynRecv,
    /// This end closed; the FIN is not acknowledged.
    #[serde(rename = "FIN-WAIT-1")]
    FinWait1,
    /// This end closed, the other did not.
    #[serde(rename = "FIN-WAIT-2")]
    FinWait2,
    /// Both closed; late segments are awaited.
    TimeWait,
    /// No connection any more. The process may still hold the descriptor.
    Close,
    /// The other end closed, this one did not.
    CloseWait,
    /// Both closed; this end's FIN is not acknowledged.
    LastAck,
    /// Waits for connections.
    Listen,
    /// Both closed at the same time.
    Closing,
}

impl TcpState {
    /// From the kernel's number.
    #[must_use]
    pub const fn from_kernel(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Established,
            2 => Self::SynSent,
            // 12 is TCP_NEW_SYN_RECV: a request that no socket stands for yet.
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

/// Which timer of a TCP socket runs (net/ipv4/inet_diag.c: `inet_diag_msg_attrs_fill`, `idiag_timer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimerKind {
    /// Something is not acknowledged and will be sent again.
    Retransmit,
    /// Nothing was heard for long; the other end will be asked.
    KeepAlive,
    /// TIME-WAIT will end.
    TimeWait,
    /// The other end's window is shut, and it will be asked again: the persist timer.
    Probe,
}

impl TimerKind {
    /// Stable token.
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

/// A timer that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Which.
    pub kind: TimerKind,
    /// Milliseconds until it fires.
    pub expires_ms: u64,
    /// How often it has fired in vain.
    pub retries: u8,
}

/// Counters of a connection (include/uapi/linux/tcp.h: `struct tcp_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpInfo {
    /// Smoothed round trip time.
    pub rtt_us: u64,
    /// When the next retransmission would be due.
    pub rto_us: u64,
    /// How often the time-out was doubled.
    pub backoff: u8,
    /// Retransmissions of the segment that waits now.
    pub retransmits: u8,
    /// Window probes that were not answered.
    pub probes: u8,
    /// Retransmissions in all.
    pub total_retransmits: u32,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Segments taken for lost.
    pub lost: u32,
    /// Bytes accepted from the process and not sent yet.
    pub not_sent: u32,
    /// Bytes that the other end allows to be on their way; `None` before Linux 5.4, which does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_window: Option<u32>,
    /// Largest segment sent.
    pub send_mss: u32,
    /// Path MTU.
    pub path_mtu: u32,
    /// Since data was sent last.
    pub last_sent_ms: u32,
    /// Since data was received last.
    pub last_received_ms: u32,
    /// Since an acknowledgement was received last.
    pub last_ack_ms: u32,
    /// Bytes sent and acknowledged.
    pub bytes_acked: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Segments with data that were sent, those sent again included.
    pub data_segments_out: u32,
    /// Segments with data that were received.
    pub data_segments_in: u32,
}

/// One end of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpMeasure {
    /// Its state.
    pub state: TcpState,
    /// Bytes received that the process has not read. Of a listener: connections that wait to be accepted.
    pub recv_q: u32,
    /// Bytes that the process has written and the other end has not acknowledged. Of a listener: the most that may wait.
    pub send_q: u32,
    /// The timer that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timer: Option<Timer>,
    /// Counters; `None` where a state has none (TIME-WAIT), or the source does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub info: Option<TcpInfo>,
}

/// One end of a unix connection (net/unix/diag.c: `sk_diag_show_rqlen`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnixMeasure {
    /// Bytes received that the process has not read. Of a listener: connections that wait to be accepted.
    pub recv_q: u32,
    /// Memory of what was sent and not read by the peer. Of a listener: the most that may wait.
    pub send_q: u32,
}

/// A process, besides what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMeasure {
    /// The letter of `/proc/PID/stat`: of its first thread.
    pub state: char,
    /// Its parent now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<u32>,
    /// `/proc/PID/exe`: which shim it is, where its name is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<RawText>,
    /// Clock ticks in user mode, of all threads.
    pub user_ticks: u64,
    /// Clock ticks in the kernel, of all threads.
    pub system_ticks: u64,
    /// Resident memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident: Option<u64>,
    /// Open descriptors; `None` where they may not be counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptors: Option<u64>,
    /// Most descriptors that it may have (RLIMIT_NOFILE, the soft one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub descriptors_max: Option<u64>,
    /// How many of them are masters of terminals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminals: Option<u64>,
    /// Its threads, the first one first, as many as were looked at.
    pub threads: Vec<ThreadMeasure>,
    /// How many threads it has.
    pub thread_count: u32,
    /// Foreground process group of its terminal, in the initial pid namespace; `None` without a terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreground: Option<u32>,
    /// Its own process group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// Inode number of its pid namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pidns: Option<u32>,
    /// Whether the first process of its container lives: the one that `init.pid` of the runtime's state names, or `State.Pid`
    /// of dockerd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_lives: Option<bool>,
    /// What its cgroup says; `None` where that cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupMeasure>,
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadMeasure {
    /// Thread id.
    pub tid: u32,
    /// The letter of its state.
    pub state: char,
    /// The system call that it is in; `None` where it runs, or may not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<Call>,
    /// How often it gave up the processor by itself: `voluntary_ctxt_switches` of `/proc/PID/task/TID/status`. The same number
    /// twice: it did not wake in between, whatever it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switches: Option<u64>,
    /// Functions of its kernel stack, innermost first; empty where it may not be read. Names change from kernel to kernel:
    /// never to be decided on alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stack: Vec<RawText>,
}

/// A system call that a thread is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Its name, as in the kernel's table: `read`, `ppoll`.
    pub name: String,
    /// The descriptor it is about, where its first argument is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd: Option<u32>,
}

/// What is known of a cgroup (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupMeasure {
    /// Whether it is frozen, by itself or by one above: `cgroup.events`, or `freezer.state`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<bool>,
    /// `pids.current`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// `pids.max`; `None` for `max`, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u64>,
    /// How often a fork was refused: `max` of `pids.events`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids_refused: Option<u64>,
    /// Bytes in use: `memory.current`, `memory.usage_in_bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// The hard limit in bytes: `memory.max`, `memory.limit_in_bytes`; `None` without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<u64>,
    /// How often the group was throttled over `memory.high`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_high_events: Option<u64>,
    /// How often the limit was hit: `max` of `memory.events`, `memory.failcnt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_hits: Option<u64>,
    /// Processes killed for memory: `oom_kill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_kills: Option<u64>,
}

/// What a file is through which bytes pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A pipe with a name.
    Fifo,
    /// A pipe without.
    Pipe,
    /// A terminal: both ends have the same [`FileId`], made of its file system and its index.
    Pty,
    /// A socket; the inode is sockfs's.
    Socket,
    /// Anything else: a file, a device.
    Other,
}

impl FileKind {
    /// Stable token.
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

/// What a descriptor may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// read(2) alone.
    Read,
    /// write(2) alone.
    Write,
    /// Both.
    Both,
}

impl Access {
    /// Whether it may be read.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Both)
    }

    /// Whether it may be written to.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Both)
    }
}

/// A descriptor of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Its number.
    pub fd: u32,
    /// The file.
    pub file: FileId,
    /// What that is.
    pub kind: FileKind,
    /// What it may be used for.
    pub access: Access,
    /// Whether it is the master of a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub master: bool,
    /// Path, as the kernel knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RawText>,
}

/// What waits in a pipe, a FIFO or a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMeasure {
    /// Bytes that can be read: of a terminal, at its master.
    pub queued: u32,
    /// Bytes that fit (F_GETPIPE_SZ); `None` of terminals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<u32>,
}

/// A value and the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series<T> {
    /// When the last was taken.
    pub at: BootTime,
    /// The last.
    pub last: T,
    /// The one before, and when.
    pub before: Option<(BootTime, T)>,
}

impl<T> Series<T> {
    fn take(series: Option<Self>, at: BootTime, value: T) -> Self {
        match series {
            // Taken again at the same moment: the later word counts.
            Some(old) if old.at >= at => Self { at: old.at, last: value, before: old.before },
            Some(old) => Self { at, last: value, before: Some((old.at, old.last)) },
            None => Self { at, last: value, before: None },
        }
    }

    /// The one before, and the time between both.
    #[must_use]
    pub fn earlier(&self) -> Option<(&T, Span)> {
        self.before.as_ref().map(|(at, value)| (value, self.at.since(*at)))
    }
}

/// A TCP socket that a process holds and no table of the kernel lists: its connection was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unlisted {
    /// Who holds it.
    pub task: TaskKey,
    /// By which descriptor.
    pub fd: u32,
    /// Its inode number in sockfs.
    pub inode: u64,
}

/// When something was told of first and last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// First.
    pub first: BootTime,
    /// Last.
    pub last: BootTime,
}

/// When a file was used last, and when that was found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Used {
    at: BootTime,
    last: BootTime,
}

/// Everything that was measured, the last two times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    tcp: BTreeMap<SocketKey, (Option<Tuple>, Series<TcpMeasure>)>,
    activity: BTreeMap<SocketKey, Activity>,
    /// When FIFOs were written to last, by host, container and exec.
    fifos: BTreeMap<(HostNo, String, String), Used>,
    peers: BTreeMap<SocketKey, Series<Option<TcpState>>>,
    unix: BTreeMap<SocketKey, (Option<RawText>, Series<UnixMeasure>)>,
    processes: BTreeMap<TaskKey, Series<ProcessMeasure>>,
    files: BTreeMap<(FileKind, FileId), Series<FileMeasure>>,
    descriptors: BTreeMap<TaskKey, (BootTime, Vec<Descriptor>)>,
    unlisted: BTreeMap<Unlisted, Told>,
    gone: BTreeMap<SocketKey, BootTime>,
    /// When something was measured last.
    at: Option<BootTime>,
}

/// A socket by what both sources know: sock_diag always tells the inode of a socket that a process holds.
type SocketKey = (HostNo, u64);

fn key(socket: SocketId) -> Option<SocketKey> {
    Some((socket.host, socket.inode?))
}

/// Things of one sort that are kept: of 10,000 sessions, with room. What is beyond is not measured.
const MAX: usize = 200_000;

impl Measures {
    /// Takes in what was measured; everything else passes by.
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
                    self.unlisted.entry(one).or_insert(Told { first: at, last: at }).last = at;
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

    /// When payload passed through that end of a TCP connection.
    #[must_use]
    pub fn activity(&self, socket: SocketId) -> Option<&Activity> {
        self.activity.get(&key(socket)?)
    }

    /// When a FIFO of that exec was written to last.
    #[must_use]
    pub fn exec_used(&self, host: HostNo, container: &str, exec: &str) -> Option<BootTime> {
        self.fifos.get(&(host, container.to_owned(), exec.to_owned())).map(|used| used.last)
    }

    /// When something was measured last; `None` where nothing ever was.
    #[must_use]
    pub fn at(&self) -> Option<BootTime> {
        self.at
    }

    /// One end of a TCP connection.
    #[must_use]
    pub fn tcp(&self, socket: SocketId) -> Option<&Series<TcpMeasure>> {
        self.tcp.get(&key(socket)?).map(|(_, series)| series)
    }

    /// Addresses of that end, where they were told with its numbers.
    #[must_use]
    pub fn tuple(&self, socket: SocketId) -> Option<Tuple> {
        self.tcp.get(&key(socket)?).and_then(|(tuple, _)| *tuple)
    }

    /// How the other end of that one stands, which no process of this host has although it has its address; `None` inside where
    /// no table of the kernel has it.
    #[must_use]
    pub fn peer(&self, socket: SocketId) -> Option<&Series<Option<TcpState>>> {
        self.peers.get(&key(socket)?)
    }

    /// One end of a unix connection.
    #[must_use]
    pub fn unix(&self, socket: SocketId) -> Option<&Series<UnixMeasure>> {
        self.unix.get(&key(socket)?).map(|(_, series)| series)
    }

    /// Every end of a unix connection that was measured, by host and inode number, with the path of the listener.
    pub fn unixes(&self) -> impl Iterator<Item = ((HostNo, u64), Option<&RawText>, &Series<UnixMeasure>)> {
        self.unix.iter().map(|(key, (path, series))| (*key, path.as_ref(), series))
    }

    /// Those that this process holds, by their inode numbers.
    pub fn unixes_of(&self, task: TaskKey) -> impl Iterator<Item = (u64, Option<&RawText>, &Series<UnixMeasure>)> {
        let own = self.descriptors(task).iter().filter(|one| one.kind == FileKind::Socket);
        let own: BTreeSet<SocketKey> = own.map(|one| (one.file.host, one.file.inode)).collect();
        let unixes = self.unixes().filter(move |(key, ..)| own.contains(key));
        unixes.map(|((_, inode), path, series)| (inode, path, series))
    }

    /// When it was asked for and the kernel did not know it any more.
    #[must_use]
    pub fn gone(&self, socket: SocketId) -> Option<BootTime> {
        self.gone.get(&key(socket)?).copied()
    }

    /// A process.
    #[must_use]
    pub fn process(&self, task: TaskKey) -> Option<&Series<ProcessMeasure>> {
        self.processes.get(&task)
    }

    /// Every process that was measured.
    pub fn processes(&self) -> impl Iterator<Item = (TaskKey, &Series<ProcessMeasure>)> {
        self.processes.iter().map(|(task, series)| (*task, series))
    }

    /// What waits in a pipe, a FIFO or a terminal.
    #[must_use]
    pub fn file(&self, kind: FileKind, file: FileId) -> Option<&Series<FileMeasure>> {
        self.files.get(&(kind, file))
    }

    /// Descriptors of a process, those that were looked for.
    #[must_use]
    pub fn descriptors(&self, task: TaskKey) -> &[Descriptor] {
        self.descriptors.get(&task).map_or(&[], |(_, descriptors)| descriptors)
    }

    /// Descriptors of every process that was looked at.
    pub fn every_descriptor(&self) -> impl Iterator<Item = (TaskKey, &[Descriptor])> {
        self.descriptors.iter().map(|(task, (_, descriptors))| (*task, descriptors.as_slice()))
    }

    /// Forgets what was not measured since then.
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

    /// Who holds that file, and how.
    pub fn holders(&self, kind: FileKind, file: FileId) -> impl Iterator<Item = (TaskKey, &Descriptor)> {
        self.descriptors.iter().flat_map(move |(task, (_, descriptors))| {
            descriptors.iter().filter(move |one| one.kind == kind && one.file == file).map(|one| (*task, one))
        })
    }

    /// TCP sockets that a process holds and no table of the kernel lists. Told of once it may be one that was made and not
    /// connected yet: neither are those in a table.
    pub fn unlisted(&self) -> impl Iterator<Item = (Unlisted, Told)> + '_ {
        self.unlisted.iter().map(|(one, told)| (*one, *told))
    }
}

fn put<K: Ord, V>(into: &mut BTreeMap<K, Series<V>>, key: K, at: BootTime, value: V) {
    if into.len() < MAX || into.contains_key(&key) {
        let old = into.remove(&key);
        into.insert(key, Series::take(old, at, value));
    }
}
