//! F27: the container is gone, its exec is not.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F27",
    name: "the container is gone, its exec is not",
    short: "container gone",
    severity: Severity::Fault,
    step: Step::Ends,
    means: "The container's own process has ended, or the pod was deleted, and the command of this session lives on: the \
            terminal looks frozen or goes on as if nothing had happened, and the pod stays Terminating.",
    why: "The end of a container's first process takes everything with it only where that process is the first of its pid \
          namespace: not with shareProcessNamespace, nor with hostPID.",
    needs: "Two samples: that the process named by the runtime's init.pid does not live, and that the command does.",
    apart: &[
        Apart { code: "F26", by: "the client is there; it is the container that is not" },
        Apart { code: "F10", by: "nothing is frozen" },
    ],
    next: &["End the command (kill {pid}): runtime and kubelet then finish what they began."],
    manual: &[
        "readlink /proc/{pid}/ns/pid /proc/{shim}/ns/pid   # the same: hostPID",
        "cat /proc/{pid}/cgroup   # the container that it belongs to",
        "crictl ps -a --state exited",
    ],
    sources: &["kubernetes/kubernetes#89233", "kubernetes/kubernetes#129144", "moby/moby#45120"],
    made: Made::Scenario(
        "nothing of it lasts on the lab: containerd 1.6 ends what the container left, or takes its session down",
    ),
    rule: Rule::Session(rule),
    #[cfg(test)]
    scenes,
};

fn rule(case: &Case<'_>) -> Option<Found> {
    let (at, hop, series) = case.command().filter(|_| case.is_open())?;
    if !twice(series, |one| one.first_lives == Some(false)) {
        return None;
    }
    let about = About { pid: Some(hop.task.tgid), ..About::default() };
    let since = series.before.as_ref().map(|(at, _)| *at);
    let mut found = Found { hop: Some(at), about, since, ..Found::default() }
        .with(word("first process of its container", "ended"))
        .with(word(format!("the command (pid {})", hop.task.tgid), series.last.state.to_string().as_str()));
    if let Some(pidns) = series.last.pidns {
        found = found.with(number("pid namespace that it lives in", pidns.into(), ""));
    }
    Some(found)
}

#[cfg(test)]
use crate::diagnose::scene::{PROCESS, Scene};

#[cfg(test)]
fn scenes() -> Vec<Scene> {
    let of = |about, named: &'static [&'static str], lives: [Option<bool>; 2]| {
        let mut scene = Scene::new(about, named);
        scene.waits(PROCESS, "read", Some(0));
        scene.process(PROCESS, |process, number| process.first_lives = lives[usize::try_from(number).unwrap()]);
        scene
    };
    vec![
        of("the pod shares a pid namespace, and its container ended", &["F27"], [Some(false); 2]),
        of("the container is just ending", &["F23"], [Some(true), Some(false)]),
        of("whether it lives is not known", &["F23"], [None; 2]),
    ]
}
