//! F32: exec probes pile up.

use std::collections::BTreeMap;

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F32",
    name: "exec probes pile up",
    short: "probes pile up",
    severity: Severity::Fault,
    step: Step::Ends,
    kinds: Kinds::Any,
    means: "Probes of one container do not end before the next one starts, or end without being reaped. Each occupies \
            a process of the container; eventually none can be started, and execs of users fail, too.",
    why: "A probe takes longer than its period, its timeout does not end the process it started, or a shim does not \
          reap its children.",
    needs: "Open probes of one container at one moment. For zombies: two samples with the shim as their parent.",
    apart: &[
        Apart { code: "F26", by: "no user started these: they come from the kubelet, without a connection" },
        Apart { code: "F12", by: "the limit is not reached yet" },
    ],
    next: &[
        "Run the probe's command by hand and measure its duration; set timeoutSeconds shorter than periodSeconds.",
        "Kill leftover probes on the node. Replace the pod of a shim that keeps zombies.",
    ],
    manual: &[
        "pgrep -alP {pid}",
        "ps --ppid {pid} -o pid,stat,etime,args",
        "crictl inspect CONTAINER | grep -A9 -i probe",
    ],
    sources: &["kubernetes/kubernetes#81042", "Mirantis/cri-dockerd#124", "containerd/containerd#4255"],
    made: Made::Lab,
    rule: Rule::Host(rule),
    #[cfg(test)]
    fixtures,
};

/// Liveness, readiness and startup probes of one container may run at the same time, each once.
const AT_ONCE: usize = 4;
/// timeoutSeconds is 1 by default, and rarely above 10.
const LONG: Span = Span::from_secs(10);
/// A shim reaps its children at once; a child that has just ended may show up as a zombie.
const ZOMBIES: usize = 3;

fn rule(host: &Host<'_>) -> Vec<RuleMatch> {
    let mut probes: BTreeMap<&str, Vec<SessionCtx<'_>>> = BTreeMap::new();
    for session in host.open().filter(|session| session.kind == Kind::Probe) {
        let ctx = SessionCtx::new(host, session);
        if let Some(container) = session.target.container_id.as_deref().filter(|_| ctx.age() >= LONG) {
            probes.entry(container).or_default().push(ctx);
        }
    }
    let open = probes.into_values().filter(|probes| probes.len() >= AT_ONCE).map(|probes| {
        let oldest = probes.iter().map(|ctx| ctx.age().as_millis()).max().unwrap_or(0);
        let parent = probes.iter().find_map(SessionCtx::shim).or_else(|| {
            let hops = probes.iter().flat_map(|ctx| &ctx.session.hops);
            hops.map(|hop| hop.task).next()
        });
        let about = About { pid: parent.map(|task| task.tgid), ..About::default() };
        RuleMatch { about, task: parent, ..RuleMatch::default() }
            .with(number("running probes of one container", probes.len() as u64, ""))
            .with(number("the oldest has run for", oldest, "ms"))
    });
    let shims: Vec<TaskKey> = host.all(Role::Shim).collect();
    let zombies = shims.into_iter().filter_map(|shim| {
        let is_left =
            |series: &&Series<ProcessMeasure>| twice(series, |one| one.state == 'Z' && one.parent == Some(shim.tgid));
        let count = host.report.measures.processes().filter(|(_, series)| is_left(series)).count();
        let about = About { pid: Some(shim.tgid), ..About::default() };
        let reading = number("children of the shim that ended and were not reaped", count as u64, "");
        (count >= ZOMBIES).then(|| RuleMatch { about, task: Some(shim), ..RuleMatch::default() }.with(reading))
    });
    open.chain(zombies).collect()
}

#[cfg(test)]
use crate::diagnose::fixture::{Fixture, PROCESS, SHIM, sleeping};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], count: usize, seconds: u64| {
        let mut fixture = Fixture::new(about, named);
        let mut probe = fixture.sessions[0].clone();
        probe.kind = Kind::Probe;
        (probe.stdin, probe.hops) = (Some(false), probe.hops.split_off(3));
        probe.links.clear();
        probe.opened_at = fixture.report().at.minus(Span::from_secs(seconds));
        for number in 0..count {
            probe.id.0 = format!("s-probe{number}").into();
            fixture.sessions.push(probe.clone());
        }
        fixture
    };
    let zombies = |about, named: &'static [&'static str], parent: u32| {
        let mut fixture = Fixture::new(about, named);
        fixture.each(|sample, _| {
            for pid in 700..705 {
                let mut zombie = sleeping("exit_group", None);
                (zombie.state, zombie.parent, zombie.threads) = ('Z', Some(parent), Vec::new());
                sample.processes.insert(pid, zombie);
            }
        });
        fixture
    };
    vec![
        of("five probes hang", &["F32"], 5, 40),
        of("three kinds of probes at work", &[], 3, 40),
        of("probes that have just begun", &[], 5, 1),
        zombies("a shim that waits for nobody", &["F32"], SHIM),
        zombies("a program that waits for nobody", &[], PROCESS),
    ]
}
