//! F05: the upgrade was refused and retried.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F05",
    name: "the upgrade was refused and retried",
    short: "second attempt",
    severity: Severity::Info,
    step: Step::Ends,
    kinds: Kinds::Any,
    means: "kubectl made two attempts for one command. The first was refused before anything ran, the second \
            succeeded. This costs a round trip; clients without a fallback fail here.",
    why: "Newer kubectl tries WebSocket first and falls back to SPDY. API servers without v5.channel.k8s.io, and load \
          balancers or proxies that drop the Upgrade header, refuse the first attempt.",
    needs: "A trace of both attempts: a session that ended within seconds without a process, followed by another \
            session of the same client. If both are refused before the API server dials a kubelet, there is no session \
            to observe.",
    apart: &[
        Apart { code: "F02", by: "the same client retried and succeeded" },
        Apart { code: "F07", by: "the first attempt did not reach the runtime" },
    ],
    next: &[
        "Do nothing if kubectl is newer than the cluster. Otherwise look for a proxy on the way that drops `Upgrade: \
         websocket`.",
        "Set KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false to skip the WebSocket attempt.",
    ],
    manual: &["kubectl exec -v=8 … 2>&1 | grep -i -e upgrade -e fallback   # what process {kubectl} would have said"],
    sources: &[
        "kubernetes/kubernetes#126231",
        "kubernetes/kubernetes#126134",
        "gravitational/teleport#55696",
        "cilium/cilium#38988",
    ],
    made: Made::Scenario("in the lab the refused attempt leaves no session"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// A refused attempt takes a few round trips; kubectl tries again at once.
const QUICK: Span = Span::from_secs(5);

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let session = ctx.session;
    let ran = session.hops.iter().any(|hop| matches!(hop.role, Role::Runtime | Role::Runc | Role::Process));
    let client = session.hops.first().filter(|hop| hop.role == Role::Client)?;
    let closed_at = session.closed_at.filter(|_| !ran && ctx.is_seen_whole() && ctx.age() < QUICK)?;
    let again = ctx.host.report.sessions.iter().find(|other| {
        let same = other.hops.first().is_some_and(|hop| hop.role == Role::Client && hop.task == client.task);
        let soon = other.opened_at >= session.opened_at && other.opened_at <= closed_at.plus(QUICK);
        let ran = other.hops.iter().any(|hop| hop.role == Role::Process);
        other.id != session.id && same && soon && ran
    })?;
    let about = About { pid: Some(client.task.tgid), ..About::default() };
    let lasted = number("the first attempt lasted", ctx.age().as_millis(), "ms");
    let second = word("the second attempt is session", &*again.id.0);
    Some(RuleMatch { hop: Some(0), about, since: Some(closed_at), ..RuleMatch::default() }.with(lasted).with(second))
}

#[cfg(test)]
use crate::diagnose::fixture::Fixture;

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let mut refused = Fixture::new("WebSocket was refused, SPDY was not", &["F05"]);
    let mut second = refused.sessions[0].clone();
    second.id.0 = "s-second".into();
    let process = refused.samples.clone();
    refused.ends_after(3);
    refused.samples = process;
    refused.closes_after(40);
    refused.sessions.push(second.clone());

    let mut two = Fixture::new("kubectl cp: two sessions of one client", &[]);
    two.closes_after(900);
    two.sessions.push(second);

    let mut alone = Fixture::new("an attempt, and no other", &[]);
    alone.ends_after(3);
    alone.closes_after(40);
    vec![refused, two, alone]
}
