//! F30: the session was cut by the end of a daemon.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F30",
    name: "the session was cut by the end of a daemon",
    short: "daemon ended",
    severity: Severity::Fault,
    step: Step::Ends,
    kinds: Kinds::Any,
    means: "A daemon in the middle of the path ended, restarted or was upgraded, and every session through it ended at \
            that moment. kubectl may even report success. The command may still run in the container.",
    why: "A graceful shutdown does not cover upgraded connections: API server, kubelet and runtime drop them when they \
          stop.",
    needs: "A trace in which the daemon ended while the session was open.",
    apart: &[
        Apart { code: "F17", by: "the process at the other end is gone, not only its connection" },
        Apart { code: "F26", by: "the client did not leave on its own" },
        Apart { code: "F31", by: "the command had not ended" },
    ],
    next: &[
        "Find the reason for the daemon's end: its unit's log, an upgrade, the OOM killer.",
        "Look for commands left running in containers. Run long work in a Job, or under tmux.",
    ],
    manual: &[
        "journalctl _PID={pid} -n 50   # its last words",
        "journalctl -k | grep -i -e oom -e 'killed process {pid}'",
        "ps -eo pid,lstart,args | grep -e kube-apiserver -e kubelet -e containerd   # younger than the sessions",
    ],
    sources: &[
        "kubernetes/kubectl#1726",
        "kubernetes/kubernetes#72970",
        "cri-o/cri-o#7826",
        "containerd/containerd#8856",
    ],
    made: Made::LabWith("diagnosed from a recorded trace"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let session = ctx.session;
    let closed_at = session.closed_at?;
    // A daemon that ended after the command has no exit here. A command may end because its input is cut, as a shell does.
    let ended = |hop: &crate::model::Hop| hop.role.is_daemon() && hop.exit.is_some();
    let (at, hop) = session.hops.iter().enumerate().find(|(_, hop)| ended(hop))?;
    let together = ctx.host.report.sessions.iter().filter(|other| {
        let through = other.hops.iter().any(|one| one.task == hop.task);
        through && other.closed_at.is_some_and(|other| other.apart(closed_at) < Span::from_secs(2))
    });
    let about = About { pid: Some(hop.task.tgid), ..About::default() };
    let how = match hop.exit {
        Some(ExitStatus::Code(code)) => number(format!("{} exited with code", ctx.called(Some(at))), code.into(), ""),
        Some(ExitStatus::Signal(signal)) => {
            number(format!("{} was ended by signal", ctx.called(Some(at))), signal.into(), "")
        }
        None => return None,
    };
    let together = number("sessions through it that closed together", together.count() as u64, "");
    Some(RuleMatch { hop: Some(at), about, since: Some(closed_at), ..RuleMatch::default() }.with(how).with(together))
}

#[cfg(test)]
use crate::{diagnose::fixture::Fixture, model::SessionExit};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], hop: usize, reason: ExitReason| {
        let mut fixture = Fixture::new(about, named);
        fixture.closes_after(50_000);
        fixture.exits(SessionExit { code: None, signal: None, reason });
        fixture.session(|session| session.hops[hop].exit = Some(ExitStatus::Signal(15)));
        fixture
    };
    let mut left = of("the kubelet was restarted, and the command runs on", &["F30"], 2, ExitReason::Unknown);
    left.gap(GapCode::ProcessLeftRunning);
    vec![
        of("the API server was restarted", &["F30"], 1, ExitReason::Unknown),
        left,
        of("the kubelet was restarted, and the shell ended with its input", &["F30"], 2, ExitReason::Exited),
        of("the shim ended with its pod", &[], 4, ExitReason::Unknown),
        of("kubectl was ended", &[], 0, ExitReason::Unknown),
    ]
}
