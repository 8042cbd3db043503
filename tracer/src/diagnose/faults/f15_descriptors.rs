//! F15: a daemon is out of file descriptors.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F15",
    name: "a daemon is out of file descriptors",
    short: "no descriptors",
    severity: Severity::Fault,
    step: Step::Process,
    kinds: Kinds::Any,
    means: "A daemon on the path has reached its limit of open files. The next session through it fails at its start \
            with `too many open files`; running sessions are not affected.",
    why: "Terminals or FIFOs of ended sessions, or sockets, leak. Or the limit is too small for the load of the node.",
    needs: "Two samples of the daemon's descriptor count and limit. The host's terminal limit (kernel.pty.max) is not \
            checked; the evidence shows the number of terminal masters the daemon holds.",
    apart: &[
        Apart { code: "F12", by: "processes can still be created" },
        Apart { code: "F29", by: "the limit is reached, whatever has filled it" },
        Apart { code: "F28", by: "the limit is reached, whatever has filled it" },
    ],
    next: &[
        "List the descriptors (below): a kind with thousands of entries is the leak.",
        "Until the leak is fixed, raise the limit with prlimit, or restart the daemon.",
    ],
    manual: &[
        "ls -l /proc/{pid}/fd | sed 's/.*-> //; s/[0-9]\\+/N/g' | sort | uniq -c | sort -rn | head",
        "grep 'open files' /proc/{pid}/limits",
        "prlimit --pid {pid} --nofile=1048576",
    ],
    sources: &["docker/for-linux#374", "kata-containers/agent#762", "containerd/containerd#11205", "moby/moby#30063"],
    made: Made::Lab,
    rule: Rule::Host(rule),
    #[cfg(test)]
    fixtures,
};

/// A session takes about ten descriptors of a shim: three FIFOs twice and three pipes, or one and a terminal.
const SESSION: u64 = 10;
/// Daemons that carry sessions.
const DAEMONS: [Role; 5] = [Role::ApiServer, Role::Kubelet, Role::Runtime, Role::Shim, Role::Proxy];

fn rule(host: &Host<'_>) -> Vec<RuleMatch> {
    let is_daemon = |task: TaskKey| DAEMONS.iter().any(|role| host.is(task, *role));
    let full = |one: &ProcessMeasure| {
        one.descriptors.zip(one.descriptors_max).is_some_and(|(count, most)| count + SESSION > most)
    };
    let found = host.report.measures.processes().filter(|(task, series)| is_daemon(*task) && twice(series, full));
    found
        .map(|(task, series)| {
            let about = About { pid: Some(task.tgid), ..About::default() };
            let one = &series.last;
            let mut found = RuleMatch { about, task: Some(task), ..RuleMatch::default() }
                .with(number("descriptors", one.descriptors.unwrap_or(0), ""))
                .with(number("limit", one.descriptors_max.unwrap_or(0), ""));
            if let Some(terminals) = one.terminals.filter(|terminals| *terminals > 0) {
                found = found.with(number("terminal masters among them", terminals, ""));
            }
            found
        })
        .collect()
}

#[cfg(test)]
use crate::diagnose::fixture::{Fixture, KUBECTL, SHIM};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], pid: u32, count: u64| {
        let mut fixture = Fixture::new(about, named);
        fixture.process(pid, |process, _| {
            (process.descriptors, process.descriptors_max, process.terminals) = (Some(count), Some(1_024), Some(900));
        });
        fixture
    };
    vec![
        of("a shim that leaks terminals", &["F15"], SHIM, 1_020),
        of("a shim with many sessions", &[], SHIM, 900),
        of("a client is no daemon", &[], KUBECTL, 1_020),
    ]
}
