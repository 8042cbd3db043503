//! Processes.

use serde::{Deserialize, Serialize};

use super::{FileKind, HostNo, RawText};

/// A process, told apart from earlier and later ones of the same pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskKey {
    /// Process id in the initial pid namespace.
    pub tgid: u32,
    /// When it started, in clock ticks since boot: the unit of the coarsest source, `/proc/PID/stat`.
    pub start_ticks: u64,
    /// On which host.
    #[serde(default, skip_serializing_if = "HostNo::is_first")]
    pub host: HostNo,
}

impl TaskKey {
    /// `/proc/PID/stat` counts 1/100 s (USER_HZ, include/asm-generic/param.h); nanoseconds are cut down to them as the
    /// kernel does it, rounding down (`nsec_to_clock_t`).
    pub(super) const NS_PER_TICK: u64 = 10_000_000;

    /// From the nanoseconds that BPF reads.
    #[must_use]
    pub const fn from_ns(tgid: u32, start_ns: u64) -> Self {
        Self::from_ticks(tgid, start_ns / Self::NS_PER_TICK)
    }

    /// From field 22 of `/proc/PID/stat`.
    #[must_use]
    pub const fn from_ticks(tgid: u32, start_ticks: u64) -> Self {
        Self { tgid, start_ticks, host: HostNo(0) }
    }

    /// When it started, in nanoseconds since boot; as coarse as a tick.
    #[must_use]
    pub const fn start_ns(self) -> u64 {
        self.start_ticks.saturating_mul(Self::NS_PER_TICK)
    }
}

/// What is known of a process at one moment. What a source cannot know is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// `comm`
    pub comm: RawText,
    /// Arguments, possibly cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<RawText>,
    /// Whether there were more arguments than `argv` holds.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub argv_truncated: bool,
    /// `/proc/PID/exe`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<RawText>,
    /// The parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskKey>,
    /// User id in the initial user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Login user id of the audit system; `None` where nobody logged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// Its terminal, as `ps` names it: `pts/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<String>,
    /// Inode number of the network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// Inode number of the mount namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mntns: Option<u32>,
    /// Inode number of the user namespace. Only snapshots have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub userns: Option<u32>,
    /// Path of its cgroup (any hierarchy that names the container).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<RawText>,
    /// What it was built with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Program>,
    /// What its descriptor 0 is, where that was looked at: a command that takes input has a pipe or a terminal, a probe has neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<FileKind>,
    /// What the kernel watches it for, where the kernel said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watched: Option<WatchAs>,
}

/// Inode number of the initial user namespace (include/linux/proc_ns.h: PROC_USER_INIT_INO).
pub const INITIAL_USERNS: u32 = 0xeffffffd;

impl ProcessInfo {
    /// Whether the process is known to be in a user namespace of its own: whoever made the namespace decides what its users are.
    #[must_use]
    pub fn is_in_own_userns(&self) -> bool {
        self.userns.is_some_and(|userns| userns != INITIAL_USERNS)
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn weight(&self) -> usize {
        let argv = self.argv.iter().map(|word| size_of_val(word) + word.as_bytes().len());
        let texts = [Some(&self.comm), self.exe.as_ref(), self.cgroup.as_ref()].into_iter().flatten();
        let texts = texts.map(|text| text.as_bytes().len());
        size_of_val(self) + argv.chain(texts).chain(self.tty.as_ref().map(String::len)).sum::<usize>()
    }
}

/// What a program was built with: in a Go program threads prove nothing, in others goroutines do not exist.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Program {
    /// Go, of this version (`go1.19.8`); empty where the version is not in the file.
    Go(String),
    /// Anything else.
    Other,
}

/// What a process is watched for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchAs {
    /// Its sockets.
    Endpoint,
    /// Its sockets, FIFOs and descendants: a runtime or a shim.
    Daemon,
    /// Forked by a daemon and not in a container yet.
    Below,
    /// Ran execve inside a container.
    Contained,
}

/// How a process ended, from its wait status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// exit(2) with this code.
    Code(u8),
    /// A signal of this number.
    Signal(u8),
}

impl ExitStatus {
    /// From a wait(2) status word.
    #[must_use]
    pub const fn from_wait(status: u32) -> Self {
        let [low, high, ..] = status.to_le_bytes();
        match low & 0x7f {
            0 => Self::Code(high),
            signal => Self::Signal(signal),
        }
    }
}
