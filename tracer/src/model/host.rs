//! What a host allows.

use serde::{Deserialize, Serialize};

/// Asked once, at the start; data from then on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// `uname -n`
    pub hostname: String,
    /// `uname -r`
    pub kernel: String,
    /// `uname -m`
    pub arch: String,
    /// `/proc/sys/kernel/random/boot_id`
    pub boot_id: String,
    /// Whether the kernel has `/sys/kernel/btf/vmlinux`.
    pub btf: bool,
    /// Effective capabilities, the mask of `/proc/self/status`.
    pub capabilities: u64,
    /// Tracepoints that exist in BTF (`btf_trace_NAME`), of those that the plan may ask for.
    #[serde(default)]
    pub btf_tracepoints: Vec<String>,
    /// System calls whose tracepoints exist (`sys_enter_NAME`, `sys_exit_NAME`).
    #[serde(default)]
    pub syscall_tracepoints: Vec<String>,
    /// Where tracefs is mounted, if it is.
    #[serde(default)]
    pub tracefs: Option<String>,
    /// `/sys/kernel/security/lockdown` or what the kernel said; `None` where it cannot be read.
    #[serde(default)]
    pub lockdown: Option<String>,
    /// Kernel fields of the plan that this kernel's BTF does not have.
    #[serde(default)]
    pub missing_fields: Vec<String>,
}

/// Something that the tracer can do here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ability {
    /// See processes fork, execute and end.
    Processes,
    /// See TCP connections come up and go.
    Tcp,
    /// See who accepts and closes.
    Accept,
    /// See unix connections.
    Unix,
    /// See which goroutine moved bytes from which socket to which.
    Relay,
    /// The same for splice(2).
    Splice,
    /// See FIFOs made.
    Fifo,
}

impl Ability {
    /// Every one, in the order of the path.
    pub const ALL: [Self; 7] =
        [Self::Processes, Self::Tcp, Self::Accept, Self::Unix, Self::Relay, Self::Splice, Self::Fifo];

    /// Stable token.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Processes => "processes",
            Self::Tcp => "tcp",
            Self::Accept => "accept",
            Self::Unix => "unix",
            Self::Relay => "relay",
            Self::Splice => "splice",
            Self::Fifo => "fifo",
        }
    }

    /// For people.
    #[must_use]
    pub const fn prose(self) -> &'static str {
        match self {
            Self::Processes => "see processes fork, execute and end",
            Self::Tcp => "see TCP connections come up and go",
            Self::Accept => "see who accepts and closes connections",
            Self::Unix => "see unix-socket connections",
            Self::Relay => "see which goroutine moved bytes from which connection to which",
            Self::Splice => "the same for splice(2), as plain TCP relays use it",
            Self::Fifo => "see the runtime make an exec's FIFOs",
        }
    }
}

/// Something that the tracer cannot do here, why, and what would help.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Degraded {
    /// Stable token.
    pub code: String,
    /// What is missing and what follows from it.
    pub text: String,
    /// What to do.
    pub hint: String,
    /// Whether no session can be seen without it.
    pub fatal: bool,
}
