//! What can be traced on a host, decided from facts about it. Pure: [`plan`] asks nobody.
//!
//! A probe is one row of [`PROBES`]. An ability is there when all its required probes are; half an ability is none, so its
//! probes are left out.

use std::fmt::Write;

use crate::model::{Ability, Degraded, HostFacts};

/// What a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A tracepoint with typed arguments (`tp_btf`).
    BtfTracepoint(&'static str),
    /// Entry or exit of a system call, by tracefs: `events/syscalls/NAME`.
    Syscall(&'static str),
}

/// One program of the object and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// Name of the program in the object: the tracepoint's.
    pub program: &'static str,
    /// What it is attached to.
    pub attach: Attach,
    /// What it is for.
    pub ability: Ability,
    /// Whether the ability is lost without it. Others are left out quietly where a kernel or a machine has no such call.
    pub required: bool,
    /// Whether it is attached only while it is asked for, because strangers pay for it, too.
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

/// The probe of every read(2) of the host.
pub const READ: &str = "sys_enter_read";

/// Every probe, in the order in which they are attached: processes first, so that no later record is of an unknown one.
pub const PROBES: &[ProbeSpec] = &[
    btf("sched_process_fork", Ability::Processes),
    btf("sched_process_exec", Ability::Processes),
    btf("sched_process_exit", Ability::Processes),
    btf("inet_sock_set_state", Ability::Tcp),
    // Go and every runtime here call accept4; accept is for others' proxies.
    optional(syscall("sys_exit_accept", Ability::Accept)),
    syscall("sys_exit_accept4", Ability::Accept),
    syscall("sys_enter_connect", Ability::Unix),
    syscall("sys_exit_connect", Ability::Unix),
    btf("sock_recv_length", Ability::Relay),
    btf("sock_send_length", Ability::Relay),
    syscall("sys_enter_splice", Ability::Splice),
    syscall("sys_exit_splice", Ability::Splice),
    syscall("sys_enter_mknodat", Ability::Fifo),
    // arm64 never had it.
    optional(syscall("sys_enter_mknod", Ability::Fifo)),
    optional(on_demand(syscall(READ, Ability::Fifo))),
];

/// What is to be attached here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbePlan {
    /// In the order in which they are to be attached.
    pub probes: Vec<&'static ProbeSpec>,
}

impl ProbePlan {
    /// What the plan gives.
    #[must_use]
    pub fn abilities(&self) -> Vec<Ability> {
        Ability::ALL.into_iter().filter(|ability| self.gives(*ability)).collect()
    }

    /// Whether the plan gives that ability.
    #[must_use]
    pub fn gives(&self, ability: Ability) -> bool {
        self.probes.iter().any(|spec| spec.ability == ability)
    }
}

/// A capability by its number in include/uapi/linux/capability.h.
#[derive(Clone, Copy)]
struct Capability(&'static str, u32);

const DAC_READ_SEARCH: Capability = Capability("CAP_DAC_READ_SEARCH", 2);
const SYS_PTRACE: Capability = Capability("CAP_SYS_PTRACE", 19);
const SYS_ADMIN: Capability = Capability("CAP_SYS_ADMIN", 21);
const PERFMON: Capability = Capability("CAP_PERFMON", 38);
const BPF: Capability = Capability("CAP_BPF", 39);

/// Plans the probes, and says what is missing. Where one of the latter is fatal nothing is attached.
#[must_use]
pub fn plan(host: &HostFacts) -> (ProbePlan, Vec<Degraded>) {
    let mut missing = Vec::new();
    privileges(host, &mut missing);
    kernel(host, &mut missing);

    let lost: Vec<Ability> = Ability::ALL
        .into_iter()
        .filter(|ability| PROBES.iter().any(|spec| spec.ability == *ability && spec.required && !exists(host, spec)))
        .collect();
    // Where a whole kind of probe is missing, that has been said; a list of what follows would hide it.
    let said = |spec: &ProbeSpec| match spec.attach {
        Attach::BtfTracepoint(_) => !host.btf,
        Attach::Syscall(_) => host.tracefs.is_none() || host.syscall_tracepoints.is_empty(),
    };
    for ability in &lost {
        let absent = PROBES.iter().filter(|spec| spec.ability == *ability && spec.required && !exists(host, spec));
        let names: Vec<&str> = absent.filter(|spec| !said(spec)).map(|spec| spec.program).collect();
        if !names.is_empty() {
            missing.push(without(*ability, &names));
        }
    }
    // The object is loaded as a whole or not at all.
    if missing.iter().any(|one| one.fatal) {
        return (ProbePlan::default(), missing);
    }
    let probes = PROBES.iter().filter(|spec| !lost.contains(&spec.ability) && exists(host, spec)).collect();
    (ProbePlan { probes }, missing)
}

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

fn privileges(host: &HostFacts, missing: &mut Vec<Degraded>) {
    let has = |wanted: Capability| host.capabilities & (1 << wanted.1) != 0;
    let lacks: Vec<&str> =
        [BPF, PERFMON].into_iter().filter(|wanted| !has(*wanted) && !has(SYS_ADMIN)).map(|wanted| wanted.0).collect();
    if !lacks.is_empty() {
        missing.push(degraded(
            Degraded::NO_PRIVILEGE,
            true,
            format!(
                "{} {} missing: the kernel lets this process load and attach no probes",
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
            "other users' processes show neither files nor program: what is older than the tracer stays unknown",
        ),
        (
            SYS_ADMIN,
            "no-netns",
            "other network namespaces may not be entered: connections in them, older than the tracer, are unknown",
        ),
        (
            DAC_READ_SEARCH,
            "no-files",
            "the runtime's files may not be read: pods and containers have ids, but no names",
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

fn kernel(host: &HostFacts, missing: &mut Vec<Degraded>) {
    if host.lockdown.as_deref() == Some("confidentiality") {
        missing.push(degraded(
            "lockdown",
            true,
            "the kernel is locked down to confidentiality: probes may not read its memory",
            "boot with lockdown=integrity, or without Secure Boot's lockdown",
        ));
    }
    if !host.btf {
        missing.push(degraded(
            "no-btf",
            true,
            "the kernel does not show its types (/sys/kernel/btf/vmlinux): its fields cannot be located",
            "use a kernel built with CONFIG_DEBUG_INFO_BTF, as distributions' kernels are since about 2020",
        ));
    } else if !host.missing_fields.is_empty() {
        missing.push(degraded(
            "no-fields",
            true,
            format!("this kernel has no {}: the probes cannot read what they need", host.missing_fields.join(", ")),
            "use another kernel, and report this one's version",
        ));
    }
    if host.tracefs.is_none() {
        missing.push(degraded(
            "no-tracefs",
            true,
            "tracefs is not mounted and could not be: system calls cannot be traced, so nobody is seen to accept or close",
            "mount -t tracefs tracefs /sys/kernel/tracing",
        ));
    } else if host.syscall_tracepoints.is_empty() {
        missing.push(degraded(
            "no-syscalls",
            true,
            "tracefs shows no tracepoints of system calls: nobody is seen to accept or close",
            "run as root; the kernel needs CONFIG_FTRACE_SYSCALLS",
        ));
    }
}

/// What is lost with an ability.
fn without(ability: Ability, names: &[&str]) -> Degraded {
    let (code, fatal, follows, hint) = match ability {
        Ability::Processes => ("no-processes", true, "processes are not seen to come and go", "use Linux 5.8 or later"),
        Ability::Tcp => ("no-tcp", true, "connections are not seen", "use Linux 5.8 or later"),
        Ability::Accept => {
            ("no-accept", true, "nobody is seen to accept or close", "the kernel needs CONFIG_FTRACE_SYSCALLS")
        }
        Ability::Unix => (
            "no-unix",
            false,
            "unix connections made from now on are not seen: who serves an exec through dockerd stays unknown",
            "the kernel needs CONFIG_FTRACE_SYSCALLS",
        ),
        Ability::Relay => (
            "no-relay",
            false,
            "which inbound connection of a proxy belongs to which outbound one is not proved: its hops stay apart",
            "use Linux 6.3 or later",
        ),
        Ability::Splice => (
            "no-splice",
            false,
            "relays that splice, such as docker-proxy, are not joined",
            "the kernel needs CONFIG_FTRACE_SYSCALLS",
        ),
        Ability::Fifo => (
            "no-fifo",
            false,
            "the runtime is not seen to make an exec's FIFOs: its stream is not joined to the exec by them",
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

    /// `code (fatal)` of what is missing, and what the plan gives.
    fn outcome(name: &str) -> (Vec<String>, Vec<&'static str>) {
        let (plan, missing) = plan(&host(name));
        let codes = missing.iter().map(|one| format!("{}{}", one.code, if one.fatal { " (fatal)" } else { "" }));
        let abilities = Ability::ALL.into_iter().filter(|ability| plan.gives(*ability)).map(Ability::token);
        (codes.collect(), abilities.collect())
    }

    const ALL: [&str; 7] = ["processes", "tcp", "accept", "unix", "relay", "splice", "fifo"];

    #[test]
    fn a_host_that_has_everything_gets_every_probe() {
        let (plan, missing) = plan(&host("debian-12-linux-6.18"));
        assert_eq!(missing, []);
        assert_eq!(plan.probes, PROBES.iter().collect::<Vec<_>>());
    }

    #[test]
    fn what_is_missing_is_said_once_and_by_its_cause() {
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
    fn the_capability_that_is_missing_is_named() {
        let mut host = host("debian-12-linux-6.18");
        host.capabilities = (1 << BPF.1) | (1 << SYS_PTRACE.1) | (1 << DAC_READ_SEARCH.1);
        let (_, missing) = plan(&host);
        insta::assert_snapshot!(
            missing.iter().map(|one| format!("{}: {}\n  {}\n", one.code, one.text, one.hint)).collect::<String>()
        );
    }

    #[test]
    fn a_program_has_the_name_of_its_tracepoint_and_no_name_comes_twice() {
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
