//! Processes.

use serde::{Deserialize, Serialize};

use super::{FileKind, HostNo, RawText};

/// Identity of a process, distinct from earlier and later processes of the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// Start time in clock ticks since boot: the unit of the coarsest source, `/proc/PID/stat`.
    pub start_ticks: u64,
    /// Host of the process.
    #[serde(default, skip_serializing_if = "HostNo::is_first")]
    pub host: HostNo,
}

impl TaskKey {
    /// `/proc/PID/stat` counts 1/100 s (USER_HZ, include/asm-generic/param.h). Nanoseconds are converted like in the
    /// kernel, rounding down (`nsec_to_clock_t`).
    pub(super) const NS_PER_TICK: u64 = 10_000_000;

    /// Key of the start time in nanoseconds, as BPF reads it.
    #[must_use]
    pub const fn from_ns(tgid: u32, start_ns: u64) -> Self {
        Self::from_ticks(tgid, start_ns / Self::NS_PER_TICK)
    }

    /// Key of the start time in clock ticks: field 22 of `/proc/PID/stat`.
    #[must_use]
    pub const fn from_ticks(tgid: u32, start_ticks: u64) -> Self {
        Self { tgid, start_ticks, host: HostNo(0) }
    }

    /// Start time in nanoseconds since boot, with the resolution of a tick.
    #[must_use]
    pub const fn start_ns(self) -> u64 {
        self.start_ticks.saturating_mul(Self::NS_PER_TICK)
    }
}

/// Properties of a process at one moment. A property unknown to the source is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// `comm`
    pub comm: RawText,
    /// Arguments, possibly truncated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<RawText>,
    /// Set if the process had more arguments than `argv` holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub argv_truncated: bool,
    /// `/proc/PID/exe`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<RawText>,
    /// Parent process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskKey>,
    /// User id in the initial user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Login user id of the audit system; `None` without a login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// Controlling terminal, in the form of `ps`: `pts/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<String>,
    /// Inode number of the network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// Inode number of the mount namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mntns: Option<u32>,
    /// Inode number of the user namespace. Set by snapshots only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userns: Option<u32>,
    /// Path of its cgroup, in any hierarchy that names the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<RawText>,
    /// Language and version of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Program>,
    /// Kind of descriptor 0, if inspected: a command with input has a pipe or a terminal, a probe has neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<FileKind>,
    /// Watch mode of the process in the kernel, if the kernel reported it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched: Option<WatchAs>,
}

/// Inode number of the initial user namespace (include/linux/proc_ns.h: PROC_USER_INIT_INO).
pub const INITIAL_USERNS: u32 = 0xeffffffd;

impl ProcessInfo {
    /// True if the process is known to be in another user namespace than the initial one. The creator of a user
    /// namespace decides the meaning of its user ids.
    #[must_use]
    pub fn is_in_own_userns(&self) -> bool {
        self.userns.is_some_and(|userns| userns != INITIAL_USERNS)
    }

    /// Approximate memory use in bytes.
    pub(super) fn weight(&self) -> usize {
        let argv = self.argv.iter().map(|word| size_of_val(word) + word.as_bytes().len());
        let texts = [Some(&self.comm), self.exe.as_ref(), self.cgroup.as_ref()].into_iter().flatten();
        let texts = texts.map(|text| text.as_bytes().len());
        size_of_val(self) + argv.chain(texts).chain(self.tty.as_ref().map(String::len)).sum::<usize>()
    }
}

/// Language of a program. In a Go program threads prove nothing; other programs have no goroutines.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// Go, with the version (`go1.19.8`); empty if the file does not contain the version.
    Go(String),
    /// Any other language.
    Other,
}

/// Watch mode of a process in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchAs {
    /// The process's sockets.
    Endpoint,
    /// Sockets, FIFOs and descendants: a runtime or a shim.
    Daemon,
    /// A process forked by a daemon, not in a container yet.
    #[serde(rename = "below")]
    RuntimeChild,
    /// A process that ran execve(2) inside a container.
    #[serde(rename = "contained")]
    InContainer,
}

/// A signal that was sent to a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Number of the signal.
    pub number: u8,
    /// Origin of the signal.
    pub by: SentBy,
    /// Process that ran when the signal was sent: the sender, or the one on whose behalf the kernel sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<TaskKey>,
    /// Name of that process (`comm`).
    pub comm: RawText,
    /// User id of that process, in the initial user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// Origin of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SentBy {
    /// A process called kill(2) or a relative of it.
    Process,
    /// The kernel. SIGKILL: the first process of the pid namespace has ended (kernel/pid_namespace.c:
    /// zap_pid_ns_processes).
    Kernel,
    /// The kernel chose the process as a victim: memory ran out, on the host or in the cgroup (mm/oom_kill.c).
    OutOfMemory,
}

impl SentBy {
    /// Stable token for JSON.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Kernel => "kernel",
            Self::OutOfMemory => "out-of-memory",
        }
    }
}

/// Result of a process, from its wait status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// exit(2) with this code.
    Code(u8),
    /// Ended by the signal with this number.
    Signal(u8),
}

impl ExitStatus {
    /// Exit status of a wait(2) status word.
    #[must_use]
    pub const fn from_wait(status: u32) -> Self {
        let [low, high, ..] = status.to_le_bytes();
        match low & 0x7f {
            0 => Self::Code(high),
            signal => Self::Signal(signal),
        }
    }
}
