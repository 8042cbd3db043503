//! Report of `execpath doctor`: a host and its plan, as text and as JSON. Pure: the caller does the I/O.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;
use tabled::{
    builder::Builder,
    settings::{Padding, Style},
};

use crate::{
    model::{Ability, DaemonCandidate, DaemonKind, Degraded, HostFacts},
    plan::{ProbePlan, Road},
};

/// True if a trace can run here: no degradation is fatal.
#[must_use]
pub fn ready(degraded: &[Degraded]) -> bool {
    !degraded.iter().any(|one| one.fatal)
}

/// The report as text. The last sentence states whether `execpath trace` will work.
#[must_use]
pub fn render(host: &HostFacts, plan: &ProbePlan, degraded: &[Degraded], daemons: &[DaemonCandidate]) -> String {
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
    daemons: &[DaemonCandidate],
) -> Result<(), std::fmt::Error> {
    let clean = |text: &str| text.chars().filter(|letter| !letter.is_control()).collect::<String>();
    writeln!(out, "host      {}", clean(&host.hostname))?;
    writeln!(out, "kernel    Linux {} ({})", clean(&host.kernel), clean(&host.arch))?;
    writeln!(out, "execpath  {}", env!("CARGO_PKG_VERSION"))?;
    writeln!(out, "lockdown  {}", host.lockdown.as_deref().map_or_else(|| "not known".to_owned(), clean))?;
    writeln!(out, "tracefs   {}", host.tracefs.as_deref().map_or_else(|| "not mounted".to_owned(), clean))?;
    write_roads(out, plan)?;
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
        (true, false) => "`execpath trace` will work here, with the reductions above.",
        (false, _) => "`execpath trace` will not work here until the missing parts above are fixed.",
    };
    writeln!(out, "\n{verdict}")
}

/// Writes the road in use with its proof, and the reason for each road that is not used.
fn write_roads(out: &mut String, plan: &ProbePlan) -> Result<(), std::fmt::Error> {
    let clean = |text: &str| text.chars().filter(|letter| !letter.is_control()).collect::<String>();
    match plan.road {
        Some(road) => {
            let proof = match plan.relay_matched {
                Some(true) => "; a relay through this process was matched exactly",
                Some(false) => "; a relay through this process was not matched",
                None => "",
            };
            writeln!(out, "road      {}: {}{proof}", road.token(), road.prose())?;
        }
        None if plan.roads.is_empty() => writeln!(out, "road      none")?,
        None => {
            let roads: Vec<&str> = plan.roads.iter().map(|road| road.token()).collect();
            writeln!(out, "road      not chosen yet: {}", roads.join(", "))?;
        }
    }
    for (road, reason) in &plan.refused {
        writeln!(out, "          not {}: {}", road.token(), clean(reason))?;
    }
    Ok(())
}

/// Consequence of a daemon's kind, for the text.
const fn note(kind: DaemonKind) -> &'static str {
    match kind {
        DaemonKind::Runtime | DaemonKind::ApiServer | DaemonKind::Kubelet => "",
        DaemonKind::Refused => ": ignored, because it is not root on the host or clients reach another socket",
        DaemonKind::Unknown => ": a kubelet is connected; if this is its runtime, use --runtime-socket PATH",
    }
}

/// A daemon of the path, or a process that looks like one.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Found")]
pub struct DaemonRow {
    /// `runtime`, `apiserver`, `kubelet`; `refused`: only looks like one of these; `unknown`: a kubelet is connected to it.
    kind: &'static str,
    /// Address or path.
    at: String,
    /// Process id.
    pid: u32,
    /// Name of the process.
    comm: String,
}

/// The report as JSON.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Doctor")]
pub struct View<'a> {
    /// Version of the report. Grows when a field changes its meaning or is removed.
    v: u32,
    /// Facts about the host.
    host: &'a HostFacts,
    /// Abilities of the tracer, with their state on this host.
    abilities: Vec<Able>,
    /// Road by which sends and receives are seen: `length`, `fexit` or `syscalls`; null if none is attached.
    road: Option<&'static str>,
    /// True if a relay through this process was matched exactly; null if it was not tried.
    relay_matched: Option<bool>,
    /// Roads that are not used, with the reason.
    refused_roads: Vec<RefusedRoad>,
    /// Degradations: missing parts, and their consequences.
    degraded: &'a [Degraded],
    /// Daemons of the path, and processes that look like one.
    daemons: Vec<DaemonRow>,
    /// True if a trace can run here.
    ready: bool,
}

/// A road that is not used.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RefusedRoad {
    road: &'static str,
    /// What the kernel lacks, or its answer.
    reason: String,
}

/// One ability of the tracer.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Able {
    ability: &'static str,
    /// True if the host allows it.
    available: bool,
    /// BPF programs that the ability needs.
    probes: Vec<&'static str>,
}

impl<'a> View<'a> {
    /// The report of a host and its plan.
    #[must_use]
    pub fn new(host: &'a HostFacts, plan: &ProbePlan, degraded: &'a [Degraded], daemons: &[DaemonCandidate]) -> Self {
        let able = |ability: Ability| {
            let probes = plan.probes_of(ability).map(|spec| spec.program).collect();
            Able { ability: ability.token(), available: plan.gives(ability), probes }
        };
        let found = |one: &DaemonCandidate| DaemonRow {
            kind: one.kind.token(),
            at: one.at.to_text().into_owned(),
            pid: one.pid,
            comm: one.comm.to_text().into_owned(),
        };
        let daemons = daemons.iter().map(found).collect();
        let refused = |(road, reason): &(Road, String)| RefusedRoad { road: road.token(), reason: reason.clone() };
        Self {
            v: 1,
            host,
            abilities: Ability::ALL.map(able).into(),
            road: plan.road.map(Road::token),
            relay_matched: plan.relay_matched,
            refused_roads: plan.refused.iter().map(refused).collect(),
            degraded,
            daemons,
            ready: ready(degraded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{plan, tests::host};

    #[test]
    fn text_report_ends_with_one_verdict() {
        for name in ["debian-12-linux-6.18", "linux-6.1", "no-privilege", "no-btf", "no-tracefs"] {
            let host = host(name);
            let (plan, degraded) = plan(&host);
            insta::assert_snapshot!(name, render(&host, &plan, &degraded, &[]));
        }
    }

    #[test]
    fn report_names_road_with_its_proof() {
        let host = host("linux-6.1");
        let (mut plan, _) = plan(&host);
        assert_eq!(
            plan.choose(Some(Road::Syscalls), vec![(Road::Fexit, "inet_recvmsg: refused\u{1b}".to_owned())]),
            None
        );
        for (matched, words) in [(None, ""), (Some(true), "was matched exactly"), (Some(false), "was not matched")] {
            plan.relay_matched = matched;
            let text = render(&host, &plan, &[], &[]);
            let road = text.lines().find(|line| line.starts_with("road ")).unwrap();
            assert!(road.contains("syscalls: ") && road.ends_with(words), "{road}");
            assert!(text.contains("\n          not fexit: inet_recvmsg: refused\n"), "{text}");
        }
    }

    fn daemons() -> Vec<DaemonCandidate> {
        let one = |kind, at: &str, pid, comm: &str| DaemonCandidate { kind, at: at.into(), pid, comm: comm.into() };
        vec![
            one(DaemonKind::Runtime, "/run/containerd/containerd.sock", 80, "containerd"),
            one(DaemonKind::ApiServer, "10.0.0.2:6443", 60, "kube-apiserver"),
            one(DaemonKind::Kubelet, "[::]:10250", 70, "kubelet"),
            one(DaemonKind::Refused, "/run/containerd/containerd.sock", 66, "contain\u{1b}[2Jd"),
            one(DaemonKind::Unknown, "/run/other.sock", 67, "other"),
        ]
    }

    #[test]
    fn daemons_are_named_with_consequences() {
        let host = host("linux-6.1");
        let (plan, degraded) = plan(&host);
        let text = render(&host, &plan, &degraded, &daemons());
        let lines: Vec<&str> = text.lines().filter(|line| line.contains(" (6") || line.contains("0)")).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn json_report_equals_the_text() {
        let host = host("linux-6.1");
        let (plan, degraded) = plan(&host);
        insta::assert_json_snapshot!(View::new(&host, &plan, &degraded, &daemons()));
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let host = HostFacts { hostname: "a\u{1b}[2Jb".to_owned(), ..host("linux-6.1") };
        let (plan, degraded) = plan(&host);
        assert!(!render(&host, &plan, &degraded, &[]).contains('\u{1b}'));
    }
}
