//! Capabilities of a host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Properties of a host, read once at the start.
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
    /// True if the kernel's types can be read: `/sys/kernel/btf/vmlinux`.
    pub btf: bool,
    /// Effective capabilities, the mask of `/proc/self/status`; 0 in a user namespace other than the initial one.
    pub capabilities: u64,
    /// Existing BTF tracepoints (`btf_trace_NAME`), out of those that the plan may use.
    #[serde(default)]
    pub btf_tracepoints: Vec<String>,
    /// System calls whose tracepoints exist (`sys_enter_NAME`, `sys_exit_NAME`).
    #[serde(default)]
    pub syscall_tracepoints: Vec<String>,
    /// Mount point of tracefs, if mounted.
    #[serde(default)]
    pub tracefs: Option<String>,
    /// Content of `/sys/kernel/security/lockdown`, or the kernel's error; `None` if it cannot be read.
    #[serde(default)]
    pub lockdown: Option<String>,
    /// Kernel fields that the plan needs and this kernel's BTF does not have.
    #[serde(default)]
    pub missing_fields: Vec<String>,
    /// BPF helpers that every probe needs and this kernel's BTF does not have (kernels before Linux 5.8).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_helpers: Vec<String>,
    /// Parts of the host that are hidden from the tracer; `None` if they were not looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// Clock ticks that `merge` added to the start times of this host's processes, to align its clock with another
    /// host's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ticks_added: u64,
}

/// Parts of a host that were hidden from the tracer when it started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reach {
    /// Number of processes that hide their open files.
    pub hidden_processes: u64,
    /// Folders of runtimes that exist and may not be opened.
    pub hidden_folders: Vec<String>,
    /// True if processes live in other network namespaces than the tracer's, or such namespaces have names.
    pub other_namespaces: bool,
    /// Reason why the BPF iterator over open files cannot be used; `None` if it can.
    pub iterator_refused: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Number of a host in a merged recording. Ids of one kernel mean something else on another kernel. The first host, and
/// the host of an unmerged recording, is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostNo(pub u16);

impl HostNo {
    /// True for the first host, whose number recordings leave out.
    #[must_use]
    pub const fn is_first(&self) -> bool {
        self.0 == 0
    }

    /// Makes a name built from ids of this host's kernel unique among hosts. Names of the first host stay as they are.
    #[must_use]
    pub fn name(self, text: String) -> String {
        if self.is_first() { text } else { format!("{text}{NAME_OF}{}", self.0) }
    }

    /// Host of such a name, and the name without the host.
    #[must_use]
    pub fn of_name(text: &str) -> Option<(Self, &str)> {
        let (name, number) = text.rsplit_once(NAME_OF)?;
        Some((Self(number.parse().ok()?), name))
    }
}

/// Separator of name and host number. Ids of runtimes never contain it ([`super::parse_fifo_path`]).
const NAME_OF: char = '@';

/// An ability of the tracer on this host.
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
    /// See a goroutine move bytes from one socket to another.
    Relay,
    /// See splice(2) move bytes from one socket to another.
    Splice,
    /// See FIFOs being created.
    Fifo,
}

impl Ability {
    /// All abilities, in the order of the path.
    pub const ALL: [Self; 7] =
        [Self::Processes, Self::Tcp, Self::Accept, Self::Unix, Self::Relay, Self::Splice, Self::Fifo];

    /// Stable token for JSON.
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

    /// Wording for people.
    #[must_use]
    pub const fn prose(self) -> &'static str {
        match self {
            Self::Processes => "observe processes fork, execute and exit",
            Self::Tcp => "observe TCP connections open and close",
            Self::Accept => "observe processes accept and close connections",
            Self::Unix => "observe unix-socket connections",
            Self::Relay => "match connections by the goroutine that copies their bytes",
            Self::Splice => "match connections by splice(2), as in plain TCP relays",
            Self::Fifo => "observe the runtime create an exec's FIFOs",
        }
    }
}

/// A missing ability, its reason and its remedy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Degraded {
    /// Stable token.
    pub code: String,
    /// Missing ability and its consequence.
    pub text: String,
    /// Remedy.
    pub hint: String,
    /// True if no session can be seen without the ability.
    pub fatal: bool,
}

impl Degraded {
    /// Code of a missing privilege that prevents every observation: exit code 3.
    pub const NO_PRIVILEGE: &str = "no-privilege";
}
