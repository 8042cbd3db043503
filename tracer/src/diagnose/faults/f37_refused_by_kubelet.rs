//! F37: the kubelet refused the request.

use super::{f36_refused_early::refused, prelude::*};

pub(super) const FAULT: Fault = Fault {
    code: "F37",
    name: "the kubelet refused the request",
    short: "kubelet refused",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::Any,
    means: "The API server passed the request on to the kubelet. The kubelet answered with an error and connected to no \
            stream of the runtime: no process was started. kubectl printed the reason and exited.",
    why: "The API server's user may not use `nodes/proxy` (403: kubelet authorisation), the kubelet does not accept its \
          client certificate (401), or the runtime has no such running container.",
    needs: "A trace of the whole attempt on a host with API server and kubelet, the bytes of the closed leg, and the Go \
            version of the API server, which gives the size of a handshake.",
    apart: &[
        Apart { code: "F36", by: "the API server asked the kubelet" },
        Apart { code: "F02", by: "more than a TLS handshake went over the leg" },
        Apart { code: "F38", by: "the kubelet did not try to reach a stream of the runtime" },
        Apart { code: "F08", by: "the kubelet has answered" },
    ],
    next: &[
        "Read kubectl's message: it has the kubelet's reason.",
        "Forbidden: give the API server's user (kubelet-client certificate) the role system:kubelet-api-admin.",
        "Otherwise read the kubelet's log, and check that the container runs.",
    ],
    manual: &[
        "kubectl auth can-i create nodes/proxy --as kube-apiserver-kubelet-client",
        "journalctl _PID={kubelet} | grep -i -e forbidden -e unauthorized -e 'container not found'",
    ],
    sources: &["kubernetes/kubernetes#65939"],
    made: Made::LabWith("diagnosed from a recorded trace"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let code = refused(ctx, Rung::StreamDialled)?;
    let is_answered = ctx.session.attempt.as_ref()?.is(Rung::KubeletAnswered, RungState::Reached);
    let (at, kubelet) = ctx.hop(Role::Kubelet).filter(|_| is_answered)?;
    let leg = ctx.leg_to(Role::Kubelet)?;
    let (sent, received) = ctx.bytes(&leg)?;
    let about = About {
        pid: Some(kubelet.task.tgid),
        local: leg.tuple.map(|tuple| tuple.local),
        remote: leg.tuple.map(|tuple| tuple.remote),
        ..About::default()
    };
    Some(
        RuleMatch { hop: Some(at), link: leg.link, about, since: ctx.session.closed_at, ..RuleMatch::default() }
            .with(number("sent to the kubelet", sent, "bytes"))
            .with(number("its answer", received, "bytes"))
            .with(number("connections of the kubelet to a stream of the runtime for it", 0, ""))
            .with(number("exit code of kubectl", code.into(), "")),
    )
}

#[cfg(test)]
use crate::diagnose::fixture::{Fixture, attempt};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], answered: RungState, dialled: RungState, exit: ExitStatus| {
        let mut fixture = Fixture::new(about, named);
        fixture.ends_after(3);
        fixture.closes_after(40);
        fixture.session(|session| {
            session.hops[0].exit = Some(exit);
            session.attempt = attempt(&[(Rung::KubeletAnswered, answered), (Rung::StreamDialled, dialled)]);
            let leg = session.links[2].tcp.as_mut().unwrap();
            (leg.sent, leg.received) = (Some(2_300), Some(2_600));
        });
        fixture
    };
    let (reached, absent, code) = (RungState::Reached, RungState::Absent, ExitStatus::Code);
    vec![
        of("403", &["F37"], reached, absent, code(1)),
        of("whether the kubelet answered is not known", &[], RungState::Unseen, absent, code(1)),
        of("the kubelet dialled the runtime", &[], reached, reached, code(1)),
        of("Ctrl-C", &[], reached, absent, ExitStatus::Signal(2)),
    ]
}
