//! F27: the container is gone but its exec still runs.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F27",
    name: "the container is gone but its exec still runs",
    short: "container gone",
    severity: Severity::Fault,
    step: Step::Ends,
    kinds: Kinds::Any,
    means: "The container's first process has ended, or the pod was deleted, but the command of this session still \
            runs. The terminal appears frozen or works as before, and the pod stays Terminating.",
    why: "The end of a container's first process ends the others only if it is the first process of its pid namespace. \
          With shareProcessNamespace or hostPID it is not.",
    needs: "Two samples: the process named by the runtime's init.pid is dead, and the command is alive.",
    apart: &[
        Apart { code: "F26", by: "the client is connected; the container is gone" },
        Apart { code: "F10", by: "nothing is frozen" },
    ],
    next: &["End the command (kill {pid}): runtime and kubelet then complete the removal."],
    manual: &[
        "readlink /proc/{pid}/ns/pid /proc/{shim}/ns/pid   # the same: hostPID",
        "cat /proc/{pid}/cgroup   # the container that it belongs to",
        "crictl ps -a --state exited",
    ],
    sources: &["kubernetes/kubernetes#89233", "kubernetes/kubernetes#129144", "moby/moby#45120"],
    made: Made::Scenario(
        "not reproducible in the lab: containerd 1.6 ends the leftover processes, or closes the session",
    ),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let (at, hop, series) = ctx.command().filter(|_| ctx.is_open())?;
    if !twice(series, |one| one.first_lives == Some(false)) {
        return None;
    }
    let about = About { pid: Some(hop.task.tgid), ..About::default() };
    let since = series.before.as_ref().map(|(at, _)| *at);
    let mut found = RuleMatch { hop: Some(at), about, since, ..RuleMatch::default() }
        .with(word("first process of its container", "ended"))
        .with(word(format!("the command (pid {})", hop.task.tgid), series.last.state.to_string().as_str()));
    if let Some(pidns) = series.last.pidns {
        found = found.with(number("its pid namespace", pidns.into(), ""));
    }
    Some(found)
}

#[cfg(test)]
use crate::diagnose::fixture::{Fixture, PROCESS};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], lives: [Option<bool>; 2]| {
        let mut fixture = Fixture::new(about, named);
        fixture.waits(PROCESS, "read", Some(0));
        fixture.process(PROCESS, |process, number| process.first_lives = lives[usize::try_from(number).unwrap()]);
        fixture
    };
    vec![
        of("the pod shares a pid namespace, and its container ended", &["F27"], [Some(false); 2]),
        of("the container is just ending", &["F23"], [Some(true), Some(false)]),
        of("whether it lives is not known", &["F23"], [None; 2]),
    ]
}
