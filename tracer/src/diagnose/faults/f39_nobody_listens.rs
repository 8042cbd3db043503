//! F39: nobody listens in the pod.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F39",
    name: "no program listens at the forwarded port",
    short: "no listener",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::PortForward,
    means: "The port-forward is whole down to the pod, and the pod's own network refused the connection: no process \
            there listens at this port of the loopback address. Recent versions of kubectl then end.",
    why: "A wrong port number (the container's port counts, not the service's), a server that has not started or has \
          ended, or a server that listens at the pod's address alone.",
    needs: "A trace of the refused connection on the node, containerd or CRI-O, a pod with a network of its own, and no \
            other open port-forward or attach of this runtime: the refusal does not say which of them it belongs to.",
    apart: &[
        Apart { code: "F38", by: "the runtime's stream port was reached" },
        Apart { code: "F37", by: "the kubelet passed the request on to the runtime" },
        Apart { code: "F40", by: "the connection in the pod was not established" },
    ],
    next: &[
        "List the ports at which the pod's processes listen (below), and forward one of them.",
        "Have the server listen at 127.0.0.1 as well, or at all addresses.",
    ],
    manual: &[
        "kubectl exec POD -- ss -tln   # port {port} is not there, or not at 127.0.0.1, ::1 or all addresses",
        "nsenter -t PID -n ss -tln   # the same on the node, with a process of the pod",
    ],
    sources: &["kubernetes/kubectl#1169", "containers/podman#13482"],
    made: Made::LabWith("diagnosed from a recorded trace"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// Error number of a port without a listener.
const REFUSED: u32 = 111;

/// A runtime that was refused at 127.0.0.1 tries ::1 at once.
const TRIES_WITHIN: Span = Span::from_millis(100);

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let is_forward = ctx.session.kind == Kind::PortForward && ctx.host.report.totals.lost.is_empty();
    let (at, runtime) = ctx.hop(Role::Runtime).filter(|_| is_forward)?;
    let attempt = ctx.session.attempt.as_ref()?;
    let failed = attempt.forward_failed.filter(|failed| failed.errno == Some(REFUSED))?;
    if ctx.is_open() && ctx.host.report.now().since(failed.at) < TRIES_WITHIN {
        return None;
    }
    let about = About { pid: Some(runtime.task.tgid), remote: Some(failed.address), ..About::default() };
    Some(
        RuleMatch { hop: Some(at), about, since: Some(failed.at), ..RuleMatch::default() }
            .with(word("error of the runtime's connect in the pod", "ECONNREFUSED"))
            .with(word("address in the pod", failed.address.to_string().as_str())),
    )
}

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, NOW, attempt},
    model::ForwardFailed,
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], errno: Option<u32>, ago: Span| {
        let mut fixture = Fixture::new(about, named);
        fixture.ends_after(4);
        fixture.session(|session| {
            session.kind = Kind::PortForward;
            session.exec_id = None;
            let mut seen = attempt(&[(Rung::StreamDialled, RungState::Reached)]);
            let address = "127.0.0.1:81".parse().unwrap();
            seen.as_mut().unwrap().forward_failed =
                errno.map(|errno| ForwardFailed { at: NOW.minus(ago), address, errno: Some(errno) });
            session.attempt = seen;
        });
        fixture
    };
    let (refused, ago) = (Some(REFUSED), Span::from_secs(5));
    let mut over = of("kubectl has ended", &["F39"], refused, ago);
    over.closes_after(1_100);
    let mut lost = of("records were lost", &[], refused, ago);
    lost.lost.insert("ring-full".to_owned(), 1);
    let mut stream = of("the kubelet was refused, not the runtime", &["F38"], None, ago);
    stream.ends_after(3);
    stream.session(|session| {
        let one = session.attempt.as_mut().unwrap().rungs.last_mut().unwrap();
        (one.state, one.errno, one.at) = (RungState::Failed, refused, Some(NOW.minus(ago)));
        one.address = Some("127.0.0.1:42367".parse().unwrap());
    });
    vec![
        of("refused in the pod", &["F39"], refused, ago),
        over,
        of("no connection was refused", &[], None, ago),
        of("refused at 127.0.0.1, and ::1 is tried", &[], refused, Span::from_millis(20)),
        of("no route in the pod", &[], Some(113), ago),
        lost,
        stream,
    ]
}
