//! F10: the container is frozen.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F10",
    name: "the container is frozen",
    short: "frozen",
    severity: Severity::Fault,
    step: Step::Process,
    kinds: Kinds::Any,
    means: "The container's cgroup is frozen: no process in it runs, including the one that this session starts. A new \
            exec stays `runc:[2:INIT]` indefinitely.",
    why: "The container was paused (docker pause, ctr task pause, a checkpoint) and not resumed, or runc froze it to \
          change a limit and ended before it thawed the cgroup.",
    needs: "Two samples of cgroup.events (v2) or freezer.state (v1), because runc itself freezes a container for a \
            moment.",
    apart: &[
        Apart { code: "F22", by: "the cgroup is frozen; with cgroup v1 this looks like state D" },
        Apart { code: "F11", by: "no CPU time is used" },
        Apart { code: "F23", by: "a frozen process does not wait for a byte" },
    ],
    next: &[
        "Thaw the container with the tool that froze it (docker unpause, ctr task resume; crictl has no such command), \
         or by hand as below.",
    ],
    manual: &[
        "cat /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/{pid}/cgroup)/cgroup.events",
        "cat /sys/fs/cgroup/freezer$(sed -n 's/.*:freezer://p' /proc/{pid}/cgroup)/freezer.state   # cgroup v1",
        "echo 0 > /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/{pid}/cgroup)/cgroup.freeze   # thaws it",
    ],
    sources: &[
        "opencontainers/runc#2753",
        "opencontainers/runc#3663",
        "opencontainers/runc#4481",
        "cloudfoundry/garden-runc-release#121",
    ],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let frozen = |one: &ProcessMeasure| one.cgroup.is_some_and(|cgroup| cgroup.frozen == Some(true));
    let inside = ctx.inside().into_iter();
    let (task, series) = inside.filter(|_| ctx.is_open()).find(|(_, series)| twice(series, frozen))?;
    let about = About { pid: Some(task.tgid), ..About::default() };
    let since = series.before.as_ref().map(|(at, _)| *at);
    let hop = ctx.session.hops.len().checked_sub(1);
    Some(
        RuleMatch { hop, about, since, ..RuleMatch::default() }
            .with(word(format!("cgroup of pid {}", task.tgid), "frozen"))
            .with(word(format!("state of pid {}", task.tgid), series.last.state.to_string().as_str())),
    )
}

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, PROCESS, RUNC, sleeping},
    model::CgroupMeasure,
};

/// runc has begun, and the command has not.
#[cfg(test)]
pub(super) fn beginning(about: &'static str, named: &'static [&'static str]) -> Fixture {
    let mut fixture = Fixture::new(about, named);
    fixture.ends_after(6);
    fixture.session(|session| session.hops[5].exit = None);
    fixture.gap(GapCode::ProcessUnknown);
    fixture.each(|sample, _| {
        sample.processes.insert(RUNC, sleeping("epoll_pwait", None));
        let mut init = sleeping("read", Some(3));
        init.parent = Some(RUNC);
        init.cgroup = Some(CgroupMeasure { frozen: Some(false), ..CgroupMeasure::default() });
        sample.processes.insert(595, init);
    });
    fixture
}

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let freeze = |process: &mut ProcessMeasure, frozen| {
        process.cgroup = Some(CgroupMeasure { frozen: Some(frozen), ..CgroupMeasure::default() });
    };
    let mut start = beginning("runc's init is frozen", &["F10"]);
    start.process(595, |process, _| freeze(process, true));
    let mut paused = Fixture::new("the container was paused", &["F10"]);
    paused.process(PROCESS, |process, _| freeze(process, true));
    paused.waits(PROCESS, "read", Some(0));
    let mut v1 = Fixture::new("cgroup v1: a frozen process looks like one in D", &["F10"]);
    v1.process(PROCESS, |process, _| {
        freeze(process, true);
        process.state = 'D';
        process.threads[0].state = 'D';
    });
    let mut moment = Fixture::new("runc changes a limit", &[]);
    moment.process(PROCESS, |process, number| freeze(process, number == 1));
    vec![start, paused, v1, moment]
}
