//! Measurements: numbers of sockets, files and processes at one moment, as the kernel reports them. A number that a
//! source does not know is `None`, never 0.

use serde::{Deserialize, Serialize};

use super::{RawText, TcpInfo, TcpState, Timer};

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
    /// CPU time per period, in microseconds: `cpu.max`, `cpu.cfs_quota_us`. Of the group and its ancestors, the one with
    /// the smallest share of CPU time counts, also for the next three; `None` without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_quota_us: Option<u64>,
    /// Length of a period in microseconds: `cpu.max`, `cpu.cfs_period_us`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_period_us: Option<u64>,
    /// Periods in which the group had something to run: `nr_periods` of `cpu.stat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_periods: Option<u64>,
    /// Periods at whose end the group was stopped for the limit: `nr_throttled` of `cpu.stat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_throttled: Option<u64>,
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
