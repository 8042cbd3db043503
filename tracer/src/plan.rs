//! Plans the probes for a host, from facts about the host. Pure: [`plan`] does no I/O.
//!
//! A probe is one row of [`PROBES`]. An ability needs all of its required probes. If one is missing, the others of that ability are left
//! out as well.
//!
//! Sends and receives can be seen by several sets of probes, the rows of [`ROADS`]. The loader takes the first road whose probes all
//! attach: kernels refuse some of them only then.

use crate::model::{Ability, Degraded, HostFacts};

/// Attach point of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A tracepoint with typed arguments (`tp_btf`).
    BtfTracepoint(&'static str),
    /// Entry or exit of a system call, in tracefs: `events/syscalls/NAME`.
    Syscall(&'static str),
    /// Return of a kernel function (`fexit`).
    Return(&'static str),
}

impl Attach {
    /// Name of the tracepoint or function.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BtfTracepoint(name) | Self::Syscall(name) | Self::Return(name) => name,
        }
    }
}

/// One program of the object, and its attach point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// Name of the program in the object, equal to that of its tracepoint or function.
    pub program: &'static str,
    /// Attach point.
    pub attach: Attach,
    /// Ability to which the probe belongs.
    pub ability: Ability,
    /// Set if the ability is lost without this probe. Other probes are left out silently on kernels and machines without the call.
    pub required: bool,
    /// Set if the probe is attached only on request, because it slows down every process of the host.
    pub on_demand: bool,
}

const fn btf(name: &'static str, ability: Ability) -> ProbeSpec {
    ProbeSpec { program: name, attach: Attach::BtfTracepoint(name), ability, required: true, on_demand: false }
}

const fn syscall(name: &'static str, ability: Ability) -> ProbeSpec {
    ProbeSpec { program: name, attach: Attach::Syscall(name), ability, required: true, on_demand: false }
}

const fn on_return(name: &'static str) -> ProbeSpec {
    ProbeSpec { program: name, attach: Attach::Return(name), ability: Ability::Relay, required: true, on_demand: false }
}

const fn optional(spec: ProbeSpec) -> ProbeSpec {
    ProbeSpec { required: false, ..spec }
}

const fn on_demand(spec: ProbeSpec) -> ProbeSpec {
    ProbeSpec { on_demand: true, ..spec }
}

/// Name of the probe that runs at every read(2) of the host.
pub const READ: &str = "sys_enter_read";

/// Every probe, in the order of attaching. Processes go first, so that no later record is about an unknown process.
pub const PROBES: &[ProbeSpec] = &[
    btf("sched_process_fork", Ability::Processes),
    btf("sched_process_exec", Ability::Processes),
    btf("sched_process_exit", Ability::Processes),
    optional(syscall("sys_exit_execve", Ability::Processes)),
    // Without them, the sender of a fatal signal is not known.
    optional(btf("signal_generate", Ability::Processes)),
    optional(btf("mark_victim", Ability::Processes)),
    btf("inet_sock_set_state", Ability::Tcp),
    // Go and all supported runtimes call accept4. Other proxies may call accept.
    optional(syscall("sys_exit_accept", Ability::Accept)),
    syscall("sys_exit_accept4", Ability::Accept),
    syscall("sys_enter_connect", Ability::Unix),
    syscall("sys_exit_connect", Ability::Unix),
    syscall("sys_enter_splice", Ability::Splice),
    syscall("sys_exit_splice", Ability::Splice),
    syscall("sys_enter_mknodat", Ability::Fifo),
    // arm64 has no such call.
    optional(syscall("sys_enter_mknod", Ability::Fifo)),
    optional(on_demand(syscall(READ, Ability::Fifo))),
];

/// A way to see every send and receive of a process, with its socket and its result. All roads feed the same rules, and splice(2)
/// has probes of its own on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Road {
    /// Tracepoints of every send and receive (Linux 6.3).
    Length,
    /// Returns of the functions that send and receive on TCP and unix stream sockets. Needs trampolines: x86-64, arm64 since 6.4.
    Fexit,
    /// Exits of the system calls that read and write. Every such call of the host runs a probe.
    Syscalls,
}

impl Road {
    /// Stable token, also the value of `--road`.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Fexit => "fexit",
            Self::Syscalls => "syscalls",
        }
    }

    /// Wording for people.
    #[must_use]
    pub const fn prose(self) -> &'static str {
        match self {
            Self::Length => "tracepoints of every send and receive",
            Self::Fexit => "returns of the kernel's send and receive functions",
            Self::Syscalls => "exits of the system calls that read and write",
        }
    }

    /// The road with this token.
    #[must_use]
    pub fn from_token(token: &str) -> Option<Self> {
        ROADS.iter().map(|spec| spec.road).find(|road| road.token() == token)
    }

    /// Its probes, in the order of attaching.
    #[must_use]
    pub fn probes(self) -> &'static [ProbeSpec] {
        ROADS.iter().find(|spec| spec.road == self).map_or(&[], |spec| spec.probes)
    }
}

/// A road and its probes.
#[derive(Clone, Copy, Debug)]
pub struct RoadSpec {
    /// The road.
    pub road: Road,
    /// Probes, in the order of attaching.
    pub probes: &'static [ProbeSpec],
}

/// Every road, the cheapest first.
pub const ROADS: &[RoadSpec] = &[
    RoadSpec {
        road: Road::Length,
        probes: &[btf("sock_recv_length", Ability::Relay), btf("sock_send_length", Ability::Relay)],
    },
    RoadSpec {
        road: Road::Fexit,
        probes: &[
            on_return("inet_recvmsg"),
            on_return("inet_sendmsg"),
            // Absent if IPv6 is not compiled in.
            optional(on_return("inet6_recvmsg")),
            optional(on_return("inet6_sendmsg")),
            on_return("unix_stream_recvmsg"),
            on_return("unix_stream_sendmsg"),
        ],
    },
    RoadSpec {
        road: Road::Syscalls,
        probes: &[
            syscall("sys_exit_read", Ability::Relay),
            syscall("sys_exit_write", Ability::Relay),
            syscall("sys_exit_readv", Ability::Relay),
            syscall("sys_exit_writev", Ability::Relay),
            syscall("sys_exit_preadv2", Ability::Relay),
            syscall("sys_exit_pwritev2", Ability::Relay),
            syscall("sys_exit_recvfrom", Ability::Relay),
            syscall("sys_exit_sendto", Ability::Relay),
            syscall("sys_exit_recvmsg", Ability::Relay),
            syscall("sys_exit_sendmsg", Ability::Relay),
            syscall("sys_exit_recvmmsg", Ability::Relay),
            syscall("sys_exit_sendmmsg", Ability::Relay),
        ],
    },
];

/// Every probe of the object: those of every host and those of each road.
pub fn all_probes() -> impl Iterator<Item = &'static ProbeSpec> {
    PROBES.iter().chain(ROADS.iter().flat_map(|spec| spec.probes))
}

/// Probes to attach on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbePlan {
    /// In the order of attaching, without those of a road.
    pub probes: Vec<&'static ProbeSpec>,
    /// Mount point of tracefs, which numbers the tracepoints of system calls.
    pub tracefs: Option<String>,
    /// Roads to try, in this order.
    pub roads: Vec<Road>,
    /// Roads that are not tried, or that the kernel refused, with the reason.
    pub refused: Vec<(Road, String)>,
    /// Road whose probes are attached; `None` before attaching, and if every road was refused.
    pub road: Option<Road>,
    /// Set by `doctor`: true if the probes matched two connections that it relayed.
    pub relay_matched: Option<bool>,
}

impl ProbePlan {
    /// All abilities of the plan.
    #[must_use]
    pub fn abilities(&self) -> Vec<Ability> {
        Ability::ALL.into_iter().filter(|ability| self.gives(*ability)).collect()
    }

    /// True if the plan includes this ability.
    #[must_use]
    pub fn gives(&self, ability: Ability) -> bool {
        match ability {
            Ability::Relay => !self.roads.is_empty(),
            Ability::Processes | Ability::Tcp | Ability::Accept | Ability::Unix | Ability::Splice | Ability::Fifo => {
                self.probes.iter().any(|spec| spec.ability == ability)
            }
        }
    }

    /// All probes of an ability. Those of a road only once it is chosen.
    pub fn probes_of(&self, ability: Ability) -> impl Iterator<Item = &'static ProbeSpec> {
        let road = self.road.map_or(&[][..], Road::probes);
        self.probes.iter().copied().chain(road).filter(move |spec| spec.ability == ability)
    }

    /// Enters the outcome of attaching: the road in use, and the roads that the kernel refused before it. Returns the degradation if
    /// every road was refused.
    pub fn choose(&mut self, road: Option<Road>, refused: Vec<(Road, String)>) -> Option<Degraded> {
        self.road = road;
        self.roads = road.into_iter().collect();
        self.refused.extend(refused);
        if road.is_some() || self.refused.is_empty() {
            return None;
        }
        let reasons: Vec<String> =
            self.refused.iter().map(|(road, reason)| format!("{}: {reason}", road.token())).collect();
        Some(degraded(
            NO_RELAY,
            false,
            format!("no road sees sends and receives here ({}): {RELAY_LOST}", reasons.join("; ")),
            "`execpath -v trace` shows the kernel's messages; report them with the version of this kernel",
        ))
    }
}

/// Code and consequence of the degradation without pairs inside a proxy.
const NO_RELAY: &str = "no-relay";
const RELAY_LOST: &str = "inbound and outbound connections of a proxy cannot be matched: its hops stay apart";

/// Name and number of a capability (include/uapi/linux/capability.h).
#[derive(Clone, Copy)]
struct Capability(&'static str, u32);

const DAC_READ_SEARCH: Capability = Capability("CAP_DAC_READ_SEARCH", 2);
const SYS_PTRACE: Capability = Capability("CAP_SYS_PTRACE", 19);
const SYS_ADMIN: Capability = Capability("CAP_SYS_ADMIN", 21);
const PERFMON: Capability = Capability("CAP_PERFMON", 38);
const BPF: Capability = Capability("CAP_BPF", 39);

/// Plans the probes, and lists the degradations. The plan is empty if one of them is fatal.
#[must_use]
pub fn plan(host: &HostFacts) -> (ProbePlan, Vec<Degraded>) {
    let mut missing = Vec::new();
    privileges(host, &mut missing);
    reach(host, &mut missing);
    kernel(host, &mut missing);

    let (mut roads, mut refused) = (Vec::new(), Vec::new());
    for RoadSpec { road, probes } in ROADS {
        let absent: Vec<&str> =
            probes.iter().filter(|spec| spec.required && !exists(host, spec)).map(|spec| spec.program).collect();
        if absent.is_empty() {
            roads.push(*road);
        } else {
            refused.push((*road, format!("this kernel has no {}", tracepoints(&absent))));
        }
    }
    let lost: Vec<Ability> = Ability::ALL
        .into_iter()
        .filter(|ability| PROBES.iter().any(|spec| spec.ability == *ability && spec.required && !exists(host, spec)))
        .collect();
    // A missing kind of probe is listed already. Listing each probe of that kind would hide the cause.
    let is_listed = |spec: &ProbeSpec| match spec.attach {
        Attach::BtfTracepoint(_) | Attach::Return(_) => !host.btf,
        Attach::Syscall(_) => host.tracefs.is_none() || host.syscall_tracepoints.is_empty(),
    };
    for ability in &lost {
        let absent = PROBES.iter().filter(|spec| spec.ability == *ability && spec.required && !exists(host, spec));
        let names: Vec<&str> = absent.filter(|spec| !is_listed(spec)).map(|spec| spec.program).collect();
        if !names.is_empty() {
            missing.push(without(*ability, &names));
        }
    }
    // The object is loaded as a whole: a fatal degradation leaves no probe.
    if missing.iter().any(|one| one.fatal) {
        return (ProbePlan::default(), missing);
    }
    let probes = PROBES.iter().filter(|spec| !lost.contains(&spec.ability) && exists(host, spec)).collect();
    let tracefs = host.tracefs.clone();
    (ProbePlan { probes, tracefs, roads, refused, road: None, relay_matched: None }, missing)
}

/// True if this kernel has the probe's attach point.
fn exists(host: &HostFacts, spec: &ProbeSpec) -> bool {
    let (names, name) = match spec.attach {
        Attach::BtfTracepoint(name) => (&host.btf_tracepoints, name),
        Attach::Syscall(name) => (&host.syscall_tracepoints, name),
        // Only the attempt shows whether the kernel lets programs run there.
        Attach::Return(_) => return host.btf,
    };
    names.iter().any(|have| have == name)
}

fn degraded(code: &str, fatal: bool, text: impl Into<String>, hint: impl Into<String>) -> Degraded {
    Degraded { code: code.to_owned(), text: text.into(), hint: hint.into(), fatal }
}

/// Lists missing capabilities.
fn privileges(host: &HostFacts, missing: &mut Vec<Degraded>) {
    let has = |wanted: Capability| host.capabilities & (1 << wanted.1) != 0;
    let lacks: Vec<&str> =
        [BPF, PERFMON].into_iter().filter(|wanted| !has(*wanted) && !has(SYS_ADMIN)).map(|wanted| wanted.0).collect();
    if !lacks.is_empty() {
        missing.push(degraded(
            Degraded::NO_PRIVILEGE,
            true,
            format!(
                "{} {} missing: this process may not load or attach probes",
                lacks.join(" and "),
                if lacks.len() == 1 { "is" } else { "are" }
            ),
            "run as root, with sudo, or grant CAP_BPF and CAP_PERFMON (before Linux 5.8: CAP_SYS_ADMIN)",
        ));
    }
    if !has(SYS_PTRACE) {
        let text =
            "files and programs of other users' processes are hidden: sessions older than the tracer stay unknown";
        missing.push(without_capability(SYS_PTRACE, "no-ptrace", text));
    }
}

/// True if processes with these capabilities have to look for hidden parts of the host before they plan.
#[must_use]
pub const fn may_hide(capabilities: u64) -> bool {
    let needed = 1 << SYS_ADMIN.1 | 1 << DAC_READ_SEARCH.1;
    capabilities & needed != needed
}

/// Lists the parts of the host that missing capabilities or a refused iterator hide. Where they were looked for, only those that
/// exist here.
fn reach(host: &HostFacts, missing: &mut Vec<Degraded>) {
    let has = |wanted: Capability| host.capabilities & (1 << wanted.1) != 0;
    let found = host.reach.as_ref();
    let refused = found.and_then(|reach| reach.iterator_refused.as_deref());
    if !has(SYS_ADMIN) {
        // The iterator lists sockets of all namespaces, but neither counters nor files of unix sockets.
        let text = match (found.map(|reach| reach.other_namespaces), refused) {
            (Some(false), _) => None,
            (Some(true), None) => Some(
                "in other network namespaces, runtimes that are older than the tracer are not recognized, and connections have no \
                 counters",
            ),
            (Some(true), Some(_)) | (None, _) => Some(
                "the tracer may not enter other network namespaces: connections there that are older than the tracer stay unknown",
            ),
        };
        missing.extend(text.map(|text| without_capability(SYS_ADMIN, "no-netns", text)));
        let stacks = "the kernel function in which a process is blocked is not shown";
        missing.extend(found.map(|_| without_capability(SYS_ADMIN, "no-stacks", stacks)));
    }
    if !has(DAC_READ_SEARCH) {
        let names = "the tracer may not read the runtime's files: pods and containers have ids, but no names";
        let (folders, processes) = found.map_or((true, 0), |reach| {
            // Without CAP_SYS_PTRACE these processes are hidden whatever their files' rights are.
            (!reach.hidden_folders.is_empty(), if has(SYS_PTRACE) { reach.hidden_processes } else { 0 })
        });
        if folders {
            missing.push(without_capability(DAC_READ_SEARCH, "no-files", names));
        }
        if processes > 0 {
            let text = format!(
                "the open files of {processes} {} of other users are hidden: their connections that are older than the tracer stay \
                 unknown",
                if processes == 1 { "process" } else { "processes" }
            );
            missing.push(without_capability(DAC_READ_SEARCH, "no-descriptors", &text));
        }
    }
    let may_load = has(SYS_ADMIN) || (has(BPF) && has(PERFMON));
    if let Some(reason) = refused.filter(|_| may_load) {
        missing.push(degraded(
            "no-iterator",
            false,
            format!(
                "the iterator over open files cannot be used ({reason}): snapshots walk /proc, which takes longer with more than 5,000 \
                 open files, and do not tell equal addresses of two network namespaces apart"
            ),
            "use Linux 5.11 or later, and run execpath in the host's pid namespace",
        ));
    }
}

/// Degradation for a missing capability.
fn without_capability(Capability(name, _): Capability, code: &str, text: &str) -> Degraded {
    degraded(code, false, format!("{name} is missing: {text}"), format!("run as root, or grant {name}"))
}

/// Lists missing features of the kernel.
fn kernel(host: &HostFacts, missing: &mut Vec<Degraded>) {
    if host.lockdown.as_deref() == Some("confidentiality") {
        missing.push(degraded(
            "lockdown",
            true,
            "the kernel is locked down (confidentiality): probes may not read its memory",
            "boot with lockdown=integrity, or disable the lockdown by Secure Boot",
        ));
    }
    if !host.btf {
        missing.push(degraded(
            "no-btf",
            true,
            "the kernel's types (/sys/kernel/btf/vmlinux) cannot be read: fields of its structures cannot be located",
            "use a kernel built with CONFIG_DEBUG_INFO_BTF, which distributions enable since about 2020; in a container, name the \
             file by --sys or --btf",
        ));
    } else if !host.missing_fields.is_empty() {
        missing.push(degraded(
            "no-fields",
            true,
            format!("this kernel lacks fields that the probes read: {}", host.missing_fields.join(", ")),
            "use another kernel, and report the version of this one",
        ));
    }
    if host.btf && !host.missing_helpers.is_empty() {
        missing.push(degraded(
            "no-helpers",
            true,
            format!("this kernel lacks BPF functions that the probes call: {}", host.missing_helpers.join(", ")),
            "use Linux 5.8 or later",
        ));
    }
    if host.tracefs.is_none() {
        missing.push(degraded(
            "no-tracefs",
            true,
            "tracefs is not mounted, and mounting it failed: accepted and closed connections cannot be traced",
            "mount -t tracefs tracefs /sys/kernel/tracing",
        ));
    } else if host.syscall_tracepoints.is_empty() {
        missing.push(degraded(
            "no-syscalls",
            true,
            "tracefs has no tracepoints of system calls: accepted and closed connections cannot be traced",
            "run as root, or grant CAP_DAC_READ_SEARCH; the kernel needs CONFIG_FTRACE_SYSCALLS",
        ));
    }
}

/// Degradation for a lost ability, with the missing probes.
fn without(ability: Ability, names: &[&str]) -> Degraded {
    let (code, fatal, follows, hint) = match ability {
        Ability::Processes => {
            ("no-processes", true, "starts and exits of processes cannot be traced", "use Linux 5.8 or later")
        }
        Ability::Tcp => ("no-tcp", true, "TCP connections cannot be traced", "use Linux 5.8 or later"),
        Ability::Accept => (
            "no-accept",
            true,
            "accepted and closed connections cannot be traced",
            "the kernel needs CONFIG_FTRACE_SYSCALLS",
        ),
        Ability::Unix => (
            "no-unix",
            false,
            "new unix connections cannot be traced: the server of an exec through dockerd stays unknown",
            "the kernel needs CONFIG_FTRACE_SYSCALLS",
        ),
        Ability::Relay => (NO_RELAY, false, RELAY_LOST, "use Linux 5.8 or later with CONFIG_FTRACE_SYSCALLS"),
        Ability::Splice => (
            "no-splice",
            false,
            "connections of relays that splice, such as docker-proxy, cannot be matched",
            "the kernel needs CONFIG_FTRACE_SYSCALLS",
        ),
        Ability::Fifo => (
            "no-fifo",
            false,
            "an exec's FIFOs cannot be traced: they do not match the exec to its connection",
            "the kernel needs CONFIG_FTRACE_SYSCALLS",
        ),
    };
    degraded(code, fatal, format!("this kernel has no {}: {follows}", tracepoints(names)), hint)
}

/// Tracepoints by name.
fn tracepoints(names: &[&str]) -> String {
    format!("{} {}", if names.len() == 1 { "tracepoint" } else { "tracepoints" }, names.join(", "))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, path::PathBuf};

    use super::*;
    use crate::model::Reach;

    fn folder() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/hosts")
    }

    pub(crate) fn host(name: &str) -> HostFacts {
        serde_json::from_str(&fs::read_to_string(folder().join(format!("{name}.json"))).unwrap()).unwrap()
    }

    /// Codes of the degradations, marked if fatal, and the abilities of the plan.
    fn outcome(name: &str) -> (Vec<String>, Vec<&'static str>) {
        let (plan, missing) = plan(&host(name));
        let codes = missing.iter().map(|one| format!("{}{}", one.code, if one.fatal { " (fatal)" } else { "" }));
        let abilities = Ability::ALL.into_iter().filter(|ability| plan.gives(*ability)).map(Ability::token);
        (codes.collect(), abilities.collect())
    }

    const ALL: [&str; 7] = ["processes", "tcp", "accept", "unix", "relay", "splice", "fifo"];

    #[test]
    fn complete_host_gets_every_probe() {
        let (plan, missing) = plan(&host("debian-12-linux-6.18"));
        assert_eq!(missing, []);
        assert_eq!(plan.probes, PROBES.iter().collect::<Vec<_>>());
    }

    #[test]
    fn degradation_is_listed_once_by_its_cause() {
        for (name, codes, abilities) in [
            ("no-btf", &["no-btf (fatal)"][..], &[][..]),
            ("no-tracefs", &["no-tracefs (fatal)"], &[]),
            ("linux-6.1", &[], &ALL),
            (
                "no-privilege",
                &["no-privilege (fatal)", "no-ptrace", "no-netns", "no-files", "no-syscalls (fatal)"],
                &[],
            ),
            ("arm64", &[], &ALL),
            ("locked-down", &["lockdown (fatal)", "no-fields (fatal)"], &[]),
        ] {
            let (have_codes, have_abilities) = outcome(name);
            assert_eq!(
                (have_codes, have_abilities),
                (codes.iter().map(|code| (*code).to_owned()).collect(), abilities.to_vec()),
                "{name}"
            );
        }
    }

    #[test]
    fn roads_depend_on_tracepoints_and_btf() {
        let every = [Road::Length, Road::Fexit, Road::Syscalls];
        for (name, roads) in [("debian-12-linux-6.18", &every[..]), ("linux-6.1", &every[1..]), ("no-btf", &[])] {
            let (plan, _) = plan(&host(name));
            assert_eq!(plan.roads, roads, "{name}");
        }
        let (plan, _) = plan(&host("linux-6.1"));
        assert_eq!(
            plan.refused,
            [(Road::Length, "this kernel has no tracepoints sock_recv_length, sock_send_length".to_owned())]
        );
        assert!(ROADS.iter().all(|spec| Road::from_token(spec.road.token()) == Some(spec.road)));
        assert_eq!(Road::from_token("kprobe"), None);
    }

    #[test]
    fn refusal_of_every_road_is_a_degradation() {
        let (mut plan, _) = plan(&host("linux-6.1"));
        assert_eq!(plan.choose(Some(Road::Syscalls), vec![(Road::Fexit, "not permitted".to_owned())]), None);
        assert!(plan.gives(Ability::Relay));
        let probes: Vec<_> = plan.probes_of(Ability::Relay).map(|spec| spec.program).collect();
        assert_eq!(probes.len(), Road::Syscalls.probes().len());
        let refused = vec![(Road::Syscalls, "no tracefs".to_owned())];
        let degraded = plan.choose(None, refused).unwrap();
        assert!(!plan.gives(Ability::Relay) && plan.probes_of(Ability::Relay).next().is_none());
        assert_eq!((degraded.code.as_str(), degraded.fatal), (NO_RELAY, false));
        assert!(degraded.text.contains("fexit: not permitted; syscalls: no tracefs"), "{}", degraded.text);
    }

    #[test]
    fn missing_capability_is_named() {
        let mut host = host("debian-12-linux-6.18");
        host.capabilities = (1 << BPF.1) | (1 << SYS_PTRACE.1) | (1 << DAC_READ_SEARCH.1);
        let (_, missing) = plan(&host);
        insta::assert_snapshot!(
            missing.iter().map(|one| format!("{}: {}\n  {}\n", one.code, one.text, one.hint)).collect::<String>()
        );
    }

    /// Codes of the degradations of a host with these capabilities and this reach.
    fn codes(capabilities: &[Capability], reach: Reach) -> Vec<String> {
        let capabilities = capabilities.iter().fold(0, |mask, one| mask | 1 << one.1);
        let host = HostFacts { capabilities, reach: Some(reach), ..host("debian-12-linux-6.18") };
        plan(&host).1.into_iter().map(|one| one.code).collect()
    }

    #[test]
    fn only_hidden_parts_of_host_are_listed() {
        let four = [BPF, PERFMON, SYS_PTRACE, DAC_READ_SEARCH];
        assert_eq!(codes(&four, Reach::default()), ["no-stacks"]);
        let others = Reach { other_namespaces: true, ..Reach::default() };
        assert_eq!(codes(&four, others.clone()), ["no-netns", "no-stacks"]);
        let refused = Reach { iterator_refused: Some("not permitted".to_owned()), ..others };
        assert_eq!(codes(&four, refused.clone()), ["no-netns", "no-stacks", "no-iterator"]);
        let every = [BPF, PERFMON, SYS_PTRACE, DAC_READ_SEARCH, SYS_ADMIN];
        assert_eq!(codes(&every, refused), ["no-iterator"]);
        assert_eq!(codes(&every, Reach::default()), Vec::<String>::new());
        let without_files = [BPF, PERFMON, SYS_PTRACE, SYS_ADMIN];
        assert_eq!(codes(&without_files, Reach::default()), Vec::<String>::new(), "the files are this user's");
        let hidden =
            Reach { hidden_folders: vec!["/run/containerd".to_owned()], hidden_processes: 2, ..Reach::default() };
        assert_eq!(codes(&without_files, hidden.clone()), ["no-files", "no-descriptors"]);
        assert_eq!(codes(&[BPF, PERFMON, SYS_ADMIN], hidden), ["no-ptrace", "no-files"]);
        assert!(may_hide(0) && may_hide(1 << SYS_ADMIN.1) && !may_hide(1 << SYS_ADMIN.1 | 1 << DAC_READ_SEARCH.1));
    }

    #[test]
    fn text_names_what_iterator_covers() {
        let text = |refused: Option<&str>| {
            let reach =
                Reach { other_namespaces: true, iterator_refused: refused.map(str::to_owned), ..Reach::default() };
            let capabilities = 1 << BPF.1 | 1 << PERFMON.1 | 1 << SYS_PTRACE.1 | 1 << DAC_READ_SEARCH.1;
            let host = HostFacts { capabilities, reach: Some(reach), ..host("debian-12-linux-6.18") };
            let (_, missing) = plan(&host);
            missing.iter().map(|one| format!("{}: {}\n  {}\n", one.code, one.text, one.hint)).collect::<String>()
        };
        insta::assert_snapshot!(format!("{}\n{}", text(None), text(Some("not permitted"))));
    }

    /// Files of tests/hosts, by name.
    fn names() -> Vec<String> {
        let files = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<String> = files.map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn every_host_has_its_plan() {
        for name in names() {
            let (plan, missing) = plan(&host(&name));
            let tokens = |roads: &[Road]| roads.iter().map(|road| road.token()).collect::<Vec<_>>().join(", ");
            let mut text = format!("roads: {}\n", tokens(&plan.roads));
            for (road, reason) in &plan.refused {
                text += &format!("not {}: {reason}\n", road.token());
            }
            let left_out = PROBES.iter().filter(|spec| !plan.probes.contains(spec)).map(|spec| spec.program);
            text += &format!("left out: {}\n", left_out.collect::<Vec<_>>().join(", "));
            for one in missing {
                let word = if one.fatal { "missing" } else { "reduced" };
                text += &format!("{word}[{}]: {}\n", one.code, one.text);
            }
            insta::assert_snapshot!(format!("plan.{name}"), text);
        }
    }

    #[test]
    fn programs_have_unique_names_of_tracepoints() {
        let mut names: Vec<_> = all_probes().map(|spec| spec.program).collect();
        assert!(all_probes().all(|spec| spec.program == spec.attach.name()));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all_probes().count());
    }
}
