//! F36: the request was refused before the kubelet.

use super::prelude::*;
use crate::model::parse_kubectl;

pub(super) const FAULT: Fault = Fault {
    code: "F36",
    name: "the request was refused before the kubelet",
    short: "refused early",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::Any,
    means: "kubectl ended with an error after the API server's answer, and the API server asked no kubelet: nothing on \
            the node took part. kubectl printed the reason.",
    why: "The API server refused: the user may not `create pods/exec` (403) or is not authenticated (401), the pod or \
          container does not exist (404, 400), or admission refused the exec. An API server that reaches kubelets by name \
          could not resolve the node's name (500). Or kubectl itself refused after it had read the pod, because the pod is \
          over or not running.",
    needs: "A trace of the whole attempt on a host with kubectl and API server, and an API server that has reached a \
            kubelet itself during the trace. One that reaches kubelets through a tunnel (konnectivity) is not reported.",
    apart: &[
        Apart { code: "F37", by: "the API server dialled no kubelet for this request" },
        Apart { code: "F01", by: "the API server did not try to reach the kubelet" },
        Apart { code: "F04", by: "the API server has answered, and kubectl has ended" },
    ],
    next: &[
        "Read kubectl's message: it has the reason.",
        "Check the right: `kubectl auth can-i create pods/exec`; the pod and its containers: `kubectl get pod`.",
        "Where kubectl prints `lookup NAME`: have the API server's host resolve the node's name, or set \
         --kubelet-preferred-address-types=InternalIP.",
        "Look the request up in the API server's audit log: the status code is there.",
    ],
    manual: &[
        "kubectl auth can-i create pods/exec",
        "kubectl exec -v=8 … 2>&1 | grep -i 'response status'   # what process {kubectl} would have said",
    ],
    sources: &["cloudnative-pg/cloudnative-pg#10931", "kubernetes-client/python#690"],
    made: Made::LabWith("diagnosed from a recorded trace"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// The most that a client sends in a handshake that it gives up, if its version of Go is unknown.
const HANDSHAKE: u64 = 1_750;

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let code = refused(ctx, Rung::KubeletDialled)?;
    let client = ctx.session.hops.first()?;
    // `kubectl run` and `debug` first wait for a container that may never start.
    let asks = |word: &str| matches!(word, "exec" | "cp" | "attach" | "port-forward");
    if !parse_kubectl(&client.process.argv).is_some_and(|call| asks(call.word)) {
        return None;
    }
    let leg = ctx.legs().into_iter().find(|leg| leg.near_hop == Some(0))?;
    let (sent, received) = ctx.bytes(&leg)?;
    // A client that does not trust the API server gives up during the handshake, and sends no request.
    let handshake = super::f02_kubelet_tls::given_up(client.process.program.as_ref()).unwrap_or(HANDSHAKE);
    if sent <= handshake || received <= CERTIFICATE {
        return None;
    }
    let about = About {
        pid: Some(client.task.tgid),
        local: leg.tuple.map(|tuple| tuple.local),
        remote: leg.tuple.map(|tuple| tuple.remote),
        ..About::default()
    };
    Some(
        RuleMatch { hop: Some(0), link: leg.link, about, since: ctx.session.closed_at, ..RuleMatch::default() }
            .with(number("sent by kubectl", sent, "bytes"))
            .with(number("received from the API server", received, "bytes"))
            .with(number("connections of the API server to a kubelet for it", 0, ""))
            .with(number("exit code of kubectl", code.into(), "")),
    )
}

/// Exit code of a kubectl whose attempt is over, was seen whole, and is known not to have begun this rung.
pub(super) fn refused(ctx: &SessionCtx<'_>, at: Rung) -> Option<u8> {
    let attempt = ctx.session.attempt.as_ref().filter(|_| !ctx.is_open() && ctx.is_seen_whole())?;
    let failed = attempt.failed().filter(|one| one.rung == at && one.state == RungState::Absent);
    match ctx.client_exit().filter(|_| failed.is_some())? {
        ExitStatus::Code(code @ 1..) => Some(code),
        ExitStatus::Code(0) | ExitStatus::Signal(_) => None,
    }
}

#[cfg(test)]
use std::sync::Arc;

#[cfg(test)]
use crate::diagnose::fixture::{Fixture, attempt};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], sent: u64, received: u64, state: RungState, exit: ExitStatus| {
        let mut fixture = Fixture::new(about, named);
        fixture.ends_after(2);
        fixture.closes_after(40);
        fixture.session(|session| {
            session.hops[0].exit = Some(exit);
            let client = Arc::make_mut(&mut session.hops[0].process);
            client.argv = ["kubectl", "exec", "web", "--", "sh"].map(RawText::from).to_vec();
            session.attempt = attempt(&[(Rung::ApiserverAccepted, RungState::Reached), (Rung::KubeletDialled, state)]);
            let leg = session.links[0].tcp.as_mut().unwrap();
            (leg.sent, leg.received) = (Some(sent), Some(received));
        });
        fixture
    };
    let code = ExitStatus::Code;
    let mut lost = of("records were lost", &[], 2_400, 3_100, RungState::Absent, code(1));
    lost.lost.insert("ring-full".to_owned(), 1);
    let mut debug = of("kubectl debug waited for a container in vain", &[], 2_400, 3_100, RungState::Absent, code(1));
    debug.session(|session| {
        Arc::make_mut(&mut session.hops[0].process).argv = ["kubectl", "debug", "web"].map(RawText::from).to_vec();
    });
    vec![
        debug,
        of("403, 404", &["F36"], 2_400, 3_100, RungState::Absent, code(1)),
        of("a kubelet was dialled", &[], 2_400, 3_100, RungState::Reached, code(1)),
        of("whether a kubelet was dialled is not known", &[], 2_400, 3_100, RungState::Unseen, code(1)),
        of("kubectl does not trust the API server", &[], 330, 2_100, RungState::Absent, code(1)),
        of("Ctrl-C", &[], 2_400, 3_100, RungState::Absent, ExitStatus::Signal(2)),
        of("kubectl ended with success", &[], 2_400, 3_100, RungState::Absent, code(0)),
        lost,
    ]
}
