//! What a host allows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asked once, at the start; data from then on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// Effective capabilities, the mask of `/proc/self/status`; 0 in a user namespace other than the initial one.
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
    /// Clock ticks that were added to the times at which its processes started, to set its clock by another host's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ticks_added: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Number of a host in a recording of several: ids of one kernel mean something else on another. The first is 0, and so is the only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostNo(pub u16);

impl HostNo {
    /// Whether it is the first, of which recordings do not speak.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.0 == 0
    }

    /// Distinguishes a name that is made of ids of this host's kernel: the first one's as they are.
    #[must_use]
    pub fn name(self, text: String) -> String {
        if self.is_first() { text } else { format!("{text}{NAME_OF}{}", self.0) }
    }

    /// The host of such a name, and the name without it.
    #[must_use]
    pub fn of_name(text: &str) -> Option<(Self, &str)> {
        let (name, number) = text.rsplit_once(NAME_OF)?;
        Some((Self(number.parse().ok()?), name))
    }
}

/// Stands in no id that a runtime gives ([`super::parse_fifo_path`]).
const NAME_OF: char = '@';

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

impl Degraded {
    /// Code of a missing privilege without which nothing can be looked at: exit code 3.
    pub const NO_PRIVILEGE: &str = "no-privilege";
}
