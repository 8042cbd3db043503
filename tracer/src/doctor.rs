//! What `execpath doctor` says: a host and its plan, for people and for programs. Pure: I/O is the caller's.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;
use tabled::{
    builder::Builder,
    settings::{Padding, Style},
};

use crate::{
    model::{Ability, DaemonKind, Daemonlike, Degraded, HostFacts},
    plan::ProbePlan,
};

/// Whether a trace will show sessions.
#[must_use]
pub fn ready(degraded: &[Degraded]) -> bool {
    !degraded.iter().any(|one| one.fatal)
}

/// For people. Ends with one sentence that says whether `execpath trace` will work.
#[must_use]
pub fn render(host: &HostFacts, plan: &ProbePlan, degraded: &[Degraded], daemons: &[Daemonlike]) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _infallible = write_all(&mut out, host, plan, degraded, daemons);
    out
}

fn write_all(
    out: &mut String,
    host: &HostFacts,
    plan: &ProbePlan,
    degraded: &[Degraded],
    daemons: &[Daemonlike],
) -> Result<(), std::fmt::Error> {
    let clean = |text: &str| text.chars().filter(|letter| !letter.is_control()).collect::<String>();
    writeln!(out, "host      {}", clean(&host.hostname))?;
    writeln!(out, "kernel    Linux {} ({})", clean(&host.kernel), clean(&host.arch))?;
    writeln!(out, "execpath  {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "lockdown  {}", host.lockdown.as_deref().map_or_else(|| "not known".to_owned(), clean))?;
    writeln!(out, "tracefs   {}", host.tracefs.as_deref().map_or_else(|| "not mounted".to_owned(), clean))?;
    writeln!(out)?;
    let row = |ability: Ability| [if plan.gives(ability) { "yes" } else { "no" }, ability.token(), ability.prose()];
    let mut table = Builder::from_iter(Ability::ALL.map(row)).build();
    table.with(Style::empty()).with(Padding::new(0, 2, 0, 0));
    for line in table.to_string().lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    if !daemons.is_empty() {
        writeln!(out)?;
    }
    for one in daemons {
        let (kind, at) = (one.kind.token(), clean(&one.at.to_text()));
        writeln!(out, "{kind:<10}{at}  {} ({}){}", clean(&one.comm.to_text()), one.pid, note(one.kind))?;
    }
    for one in degraded {
        let word = if one.fatal { "missing" } else { "reduced" };
        writeln!(out, "\n{word}[{}]: {}\n  hint: {}", one.code, clean(&one.text), clean(&one.hint))?;
    }
    let verdict = match (ready(degraded), degraded.is_empty()) {
        (true, true) => "`execpath trace` will work here.",
        (true, false) => "`execpath trace` will work here, and will show less than it could.",
        (false, _) => "`execpath trace` will not work here until what is missing is put right.",
    };
    writeln!(out, "\n{verdict}")
}

/// What follows from what a daemon is.
const fn note(kind: DaemonKind) -> &'static str {
    match kind {
        DaemonKind::Runtime | DaemonKind::ApiServer | DaemonKind::Kubelet => "",
        DaemonKind::Refused => ": ignored, not root of the host or not the socket that clients reach",
        DaemonKind::Unknown => ": a kubelet is connected; if this is its runtime, add --runtime-socket PATH",
    }
}

/// A daemon of the path, or what looks like one.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Found {
    /// `runtime`, `apiserver`, `kubelet`; `refused`, which only looks like one; `unknown`: a kubelet is connected to it.
    kind: &'static str,
    /// Address or path.
    at: String,
    /// Process id.
    pid: u32,
    /// Name of the process.
    comm: String,
}

/// The same for programs.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Doctor")]
pub struct View<'a> {
    /// Version of everything here: grows when a field changes its meaning or goes.
    v: u32,
    /// What was looked at.
    host: &'a HostFacts,
    /// What the tracer can do here.
    abilities: Vec<Able>,
    /// What is missing.
    degraded: &'a [Degraded],
    /// Daemons of the path, and what looks like one.
    daemons: Vec<Found>,
    /// Whether a trace will show sessions.
    ready: bool,
}

/// Something that the tracer can do on some hosts.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Able {
    ability: &'static str,
    /// Whether it can here.
    available: bool,
    /// Programs of the kernel's that it takes.
    probes: Vec<&'static str>,
}

impl<'a> View<'a> {
    /// Of a host and its plan.
    #[must_use]
    pub fn new(host: &'a HostFacts, plan: &ProbePlan, degraded: &'a [Degraded], daemons: &[Daemonlike]) -> Self {
        let able = |ability: Ability| {
            let probes = plan.probes.iter().filter(|spec| spec.ability == ability).map(|spec| spec.program).collect();
            Able { ability: ability.token(), available: plan.gives(ability), probes }
        };
        let found = |one: &Daemonlike| Found {
            kind: one.kind.token(),
            at: one.at.to_text().into_owned(),
            pid: one.pid,
            comm: one.comm.to_text().into_owned(),
        };
        let daemons = daemons.iter().map(found).collect();
        Self { v: 1, host, abilities: Ability::ALL.map(able).into(), degraded, daemons, ready: ready(degraded) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{plan, tests::host};

    #[test]
    fn people_read_what_works_what_is_missing_and_one_verdict() {
        for name in ["debian-12-linux-6.18", "linux-6.1", "no-privilege", "no-btf", "no-tracefs"] {
            let host = host(name);
            let (plan, degraded) = plan(&host);
            insta::assert_snapshot!(name, render(&host, &plan, &degraded, &[]));
        }
    }

    fn daemons() -> Vec<Daemonlike> {
        let one = |kind, at: &str, pid, comm: &str| Daemonlike { kind, at: at.into(), pid, comm: comm.into() };
        vec![
            one(DaemonKind::Runtime, "/run/containerd/containerd.sock", 80, "containerd"),
            one(DaemonKind::ApiServer, "10.0.0.2:6443", 60, "kube-apiserver"),
            one(DaemonKind::Kubelet, "[::]:10250", 70, "kubelet"),
            one(DaemonKind::Refused, "/run/containerd/containerd.sock", 66, "contain\u{1b}[2Jd"),
            one(DaemonKind::Unknown, "/run/other.sock", 67, "other"),
        ]
    }

    #[test]
    fn daemons_are_named_with_what_follows() {
        let host = host("linux-6.1");
        let (plan, degraded) = plan(&host);
        let text = render(&host, &plan, &degraded, &daemons());
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(" (6") || line.contains("0)")).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn programs_read_the_same() {
        let host = host("linux-6.1");
        let (plan, degraded) = plan(&host);
        insta::assert_json_snapshot!(View::new(&host, &plan, &degraded, &daemons()));
    }

    #[test]
    fn control_characters_of_the_host_do_not_reach_the_terminal() {
        let host = HostFacts { hostname: "a\u{1b}[2Jb".to_owned(), ..host("linux-6.1") };
        let (plan, degraded) = plan(&host);
        assert!(!render(&host, &plan, &degraded, &[]).contains('\u{1b}'));
    }
}
