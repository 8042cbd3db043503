//! F12: the container's process limit is reached.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F12",
    name: "the container's process limit is reached",
    short: "pids limit",
    severity: Severity::Fault,
    step: Step::Process,
    kinds: Kinds::Command,
    means: "The container has as many processes and threads as its cgroup allows. A new exec fails at its start, and \
            in a running one every fork fails with `Resource temporarily unavailable`.",
    why: "A program leaks processes or threads, zombies are not reaped, or the limit is too small (podPidsLimit). The \
          kernel lets a process move into a full cgroup, so the count may exceed the limit.",
    needs: "Two samples of pids.current, pids.max and pids.events of a process in the container. For a failed exec: \
            its failure, and one sample of another session in the same container.",
    apart: &[
        Apart { code: "F11", by: "the exceeded limit is the process limit" },
        Apart { code: "F15", by: "descriptors are available" },
        Apart { code: "F32", by: "the container is not filled by children of its shim" },
    ],
    next: &["List the processes of the container. End the surplus ones, or raise the kubelet's podPidsLimit."],
    manual: &[
        "grep . /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/{pid}/cgroup)/pids.*",
        "cat /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/{pid}/cgroup)/cgroup.threads | wc -l",
    ],
    sources: &["opencontainers/runc#4083", "opencontainers/runc#4413"],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    if ctx.is_open() { refused(ctx) } else { failed(ctx) }
}

/// Forks were refused between the samples.
fn refused(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    ctx.inside().into_iter().find_map(|(task, series)| {
        let (last, before) = both(series)?;
        let (now, then) = (last.cgroup?, before.cgroup?);
        let refused = now.pids_refused?.checked_sub(then.pids_refused?).filter(|refused| *refused > 0)?;
        let found = found(ctx, task, now.pids?, now.pids_max?);
        Some(found.with(number("forks refused between the samples", refused, "")))
    })
}

/// The command could not be started, and the container is full.
fn failed(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    ctx.session.exit.filter(|exit| exit.reason == ExitReason::StartFailed)?;
    let container = ctx.session.target.container_id.as_ref()?;
    ctx.host.open().filter(|other| other.target.container_id.as_ref() == Some(container)).find_map(|other| {
        let (task, series) = SessionCtx::new(ctx.host, other).inside().into_iter().next()?;
        let cgroup = series.last.cgroup?;
        let (pids, most) = (cgroup.pids?, cgroup.pids_max?);
        (pids >= most).then(|| found(ctx, task, pids, most).with(word("start of the command", "failed")))
    })
}

fn found(ctx: &SessionCtx<'_>, task: TaskKey, pids: u64, most: u64) -> RuleMatch {
    let about = About { pid: Some(task.tgid), ..About::default() };
    RuleMatch { hop: ctx.session.hops.len().checked_sub(1), about, ..RuleMatch::default() }
        .with(number("processes and threads in the container", pids, ""))
        .with(number("limit", most, ""))
}

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, PROCESS},
    model::{CgroupMeasure, SessionExit, State},
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], refused: u64| {
        let mut fixture = Fixture::new(about, named);
        fixture.process(PROCESS, |process, number| {
            let refused = Some(5 + number * refused);
            let (pids, pids_max) = (Some(100), Some(100));
            process.cgroup = Some(CgroupMeasure {
                frozen: Some(false),
                pids,
                pids_max,
                pids_refused: refused,
                ..CgroupMeasure::default()
            });
        });
        fixture
    };
    let second = |mut fixture: Fixture, reason| {
        let mut other = fixture.sessions[0].clone();
        other.id.0 = "s-failed".into();
        other.hops.truncate(6);
        other.links.retain(|link| link.to < 6);
        (other.state, other.closed_at) = (State::Closed, Some(other.opened_at));
        other.exit = Some(SessionExit { code: Some(1), signal: None, reason });
        fixture.sessions.push(other);
        fixture
    };
    vec![
        of("forks are refused", &["F12"], 3),
        of("full, and nobody forks", &[], 0),
        second(of("an exec could not be started in a full container", &["F12"], 0), ExitReason::StartFailed),
        second(of("an exec ended with 1 in a full container", &[], 0), ExitReason::Exited),
    ]
}
