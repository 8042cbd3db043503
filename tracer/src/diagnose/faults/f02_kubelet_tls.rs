//! F02: TLS to the kubelet is refused.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F02",
    name: "TLS to the kubelet is refused",
    short: "kubelet TLS",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::Any,
    means: "The API server reached the kubelet and closed the connection during the TLS handshake, before it sent a \
            request. kubectl prints `remote error: tls: …` or `x509: …`.",
    why: "The kubelet's serving certificate is not signed yet (its CSR waits for approval), does not contain the \
          dialled address, or is signed by a CA that --kubelet-certificate-authority does not include.",
    needs: "A session traced to its end, with the bytes of the closed leg. The Go version of the API server gives the \
            size of a failed handshake.",
    apart: &[
        Apart { code: "F01", by: "the connection was established" },
        Apart { code: "F07", by: "the kubelet got no request, so it asked no runtime" },
    ],
    next: &[
        "Look for pending CSRs. Approve the kubelet-serving ones of nodes that you know.",
        "Check that the certificate contains the address that the API server dials.",
    ],
    manual: &[
        "openssl s_client -connect {remote} </dev/null 2>/dev/null | openssl x509 -noout -issuer -dates -ext subjectAltName",
        "kubectl get csr | grep -v Approved",
    ],
    sources: &["weaveworks/eksctl#1324", "kubernetes/kubeadm#591", "kelseyhightower/kubernetes-the-hard-way#146"],
    made: Made::Scenario("an attempt that is refused at once leaves no session"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// A handshake and an alert take a few round trips.
const QUICK: Span = Span::from_secs(1);
/// The most that a client sends in a handshake that it gives up.
pub(super) fn given_up(program: Option<&Program>) -> Option<u64> {
    let Some(Program::Go(version)) = program else { return None };
    handshake_given_up(version)
}

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let ended_by_itself = ctx.session.exit.is_some_and(|exit| exit.reason != ExitReason::Unknown);
    if ctx.is_open() || !ctx.is_seen_whole() || ctx.age() >= QUICK || ended_by_itself {
        return None;
    }
    let (at, server) = ctx.hop(Role::ApiServer)?;
    let below_kubelet = ctx.hop(Role::Runtime).is_some() || ctx.hop(Role::Process).is_some();
    let leg = ctx.legs().into_iter().find(|leg| leg.near_hop == Some(at)).filter(|_| !below_kubelet)?;
    let tuple = leg.tuple.filter(|tuple| ctx.host.is_kubelet_port(tuple.remote.port()))?;
    let (sent, received) = ctx.bytes(&leg)?;
    let most = given_up(server.process.program.as_ref())?;
    if sent == 0 || sent > most || received < CERTIFICATE {
        return None;
    }
    let about =
        About { pid: Some(server.task.tgid), local: Some(tuple.local), remote: Some(tuple.remote), ..About::default() };
    let found =
        RuleMatch { hop: Some(at), link: leg.link, about, since: ctx.session.closed_at, ..RuleMatch::default() };
    Some(
        found
            .with(number("sent by the API server (handshake only, no request)", sent, "bytes"))
            .with(number("received from the kubelet", received, "bytes"))
            .with(number("the session lasted", ctx.age().as_millis(), "ms")),
    )
}

#[cfg(test)]
use std::sync::Arc;

#[cfg(test)]
use crate::diagnose::fixture::Fixture;

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], go: &str, sent: u64, millis: u64| {
        let mut fixture = Fixture::new(about, named);
        fixture.ends_after(3);
        fixture.closes_after(millis);
        fixture.session(|session| {
            Arc::make_mut(&mut session.hops[1].process).program = Some(Program::Go(go.to_owned()));
            let leg = session.links[2].tcp.as_mut().unwrap();
            (leg.sent, leg.received) = (Some(sent), Some(1_900));
        });
        fixture
    };
    vec![
        of("a certificate that is not trusted", &["F02"], "go1.19.8", 330, 14),
        of("the same with a post-quantum key share", &["F02"], "go1.26.0", 1_580, 14),
        of("the kubelet was asked, and had no such container", &[], "go1.19.8", 1_900, 30),
        of("the same with a post-quantum key share", &[], "go1.24.1", 3_400, 30),
        of("no knowing how long a handshake is", &[], "", 330, 14),
        of("it lasted", &[], "go1.19.8", 330, 40_000),
    ]
}
