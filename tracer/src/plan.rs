//! Plans the probes for a host, from facts about the host. Pure: [`plan`] does no I/O.
//!
//! A probe is one row of [`PROBES`]. An ability needs all of its required probes. If one is missing, the others of that ability are left
//! out as well.

use std::fmt::Write;

use crate::model::{Ability, Degraded, HostFacts};

/// Attach point of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A tracepoint with typed arguments (`tp_btf`).
    BtfTracepoint(&'static str),
    /// Entry or exit of a system call, in tracefs: `events/syscalls/NAME`.
    Syscall(&'static str),
}

/// One program of the object, and its attach point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// Name of the program in the object, equal to the tracepoint's.
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
    btf("inet_sock_set_state", Ability::Tcp),
    // Go and all supported runtimes call accept4. Other proxies may call accept.
    optional(syscall("sys_exit_accept", Ability::Accept)),
    syscall("sys_exit_accept4", Ability::Accept),
    syscall("sys_enter_connect", Ability::Unix),
    syscall("sys_exit_connect", Ability::Unix),
    btf("sock_recv_length", Ability::Relay),
    btf("sock_send_length", Ability::Relay),
    syscall("sys_enter_splice", Ability::Splice),
    syscall("sys_exit_splice", Ability::Splice),
    syscall("sys_enter_mknodat", Ability::Fifo),
    // arm64 has no such call.
    optional(syscall("sys_enter_mknod", Ability::Fifo)),
    optional(on_demand(syscall(READ, Ability::Fifo))),
];

/// Probes to attach on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbePlan {
    /// In the order of attaching.
    pub probes: Vec<&'static ProbeSpec>,
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
        self.probes.iter().any(|spec| spec.ability == ability)
    }
}

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
    kernel(host, &mut missing);

    let lost: Vec<Ability> = Ability::ALL
        .into_iter()
        .filter(|ability| PROBES.iter().any(|spec| spec.ability == *ability && spec.required && !exists(host, spec)))
        .collect();
    // A missing kind of probe is listed already. Listing each probe of that kind would hide the cause.
    let is_listed = |spec: &ProbeSpec| match spec.attach {
        Attach::BtfTracepoint(_) => !host.btf,
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
    (ProbePlan { probes }, missing)
}

/// True if this kernel has the probe's attach point.
fn exists(host: &HostFacts, spec: &ProbeSpec) -> bool {
    let (names, name) = match spec.attach {
        Attach::BtfTracepoint(name) => (&host.btf_tracepoints, name),
        Attach::Syscall(name) => (&host.syscall_tracepoints, name),
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
    for (wanted, code, text) in [
        (
            SYS_PTRACE,
            "no-ptrace",
            "files and programs of other users' processes are hidden: sessions older than the tracer stay unknown",
        ),
        (
            SYS_ADMIN,
            "no-netns",
            "the tracer may not enter other network namespaces: connections there that are older than the tracer stay unknown",
        ),
        (
            DAC_READ_SEARCH,
            "no-files",
            "the tracer may not read the runtime's files: pods and containers have ids, but no names",
        ),
    ] {
        if !has(wanted) {
            let Capability(name, _) = wanted;
            missing.push(degraded(
                code,
                false,
                format!("{name} is missing: {text}"),
                format!("run as root, or grant {name}"),
            ));
        }
    }
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
            "the kernel exports no BTF (/sys/kernel/btf/vmlinux): fields of its structures cannot be located",
            "use a kernel built with CONFIG_DEBUG_INFO_BTF, which distributions enable since about 2020",
        ));
    } else if !host.missing_fields.is_empty() {
        missing.push(degraded(
            "no-fields",
            true,
            format!("this kernel lacks fields that the probes read: {}", host.missing_fields.join(", ")),
            "use another kernel, and report the version of this one",
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
            "run as root; the kernel needs CONFIG_FTRACE_SYSCALLS",
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
        Ability::Relay => (
            "no-relay",
            false,
            "inbound and outbound connections of a proxy cannot be matched: its hops stay apart",
            "use Linux 6.3 or later",
        ),
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
    let mut text = String::from("this kernel has no ");
    let plural = if names.len() == 1 { "tracepoint" } else { "tracepoints" };
    // Writing to a String cannot fail.
    let _infallible = write!(text, "{plural} {}: {follows}", names.join(", "));
    degraded(code, fatal, text, hint)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

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
            ("linux-6.1", &["no-relay"], &["processes", "tcp", "accept", "unix", "splice", "fifo"]),
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
    fn missing_capability_is_named() {
        let mut host = host("debian-12-linux-6.18");
        host.capabilities = (1 << BPF.1) | (1 << SYS_PTRACE.1) | (1 << DAC_READ_SEARCH.1);
        let (_, missing) = plan(&host);
        insta::assert_snapshot!(
            missing.iter().map(|one| format!("{}: {}\n  {}\n", one.code, one.text, one.hint)).collect::<String>()
        );
    }

    #[test]
    fn programs_have_unique_names_of_tracepoints() {
        let mut names: Vec<_> = PROBES.iter().map(|spec| spec.program).collect();
        for spec in PROBES {
            let (Attach::BtfTracepoint(name) | Attach::Syscall(name)) = spec.attach;
            assert_eq!(spec.program, name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROBES.len());
    }
}
