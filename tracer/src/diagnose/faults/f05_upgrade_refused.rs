//! F05: the upgrade was refused, and tried again.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F05",
    name: "the upgrade was refused, and tried again",
    short: "second attempt",
    severity: Severity::Info,
    step: Step::Ends,
    means: "kubectl came twice for one command: its first attempt was hung up on before anything ran, the second one went \
            through. It costs a round trip; clients that have no second way fail here.",
    why: "Newer kubectl asks for WebSocket first and falls back to SPDY. API servers that do not know v5.channel.k8s.io, and \
          balancers or proxies that drop the Upgrade header, refuse the first.",
    needs: "A trace of both attempts: a session that ended within seconds without a process, and another of the same client \
            right behind it. Where both are refused before the API server has dialled a kubelet there is no session to see.",
    apart: &[
        Apart { code: "F02", by: "the same client came again, and got through" },
        Apart { code: "F07", by: "the runtime was not asked in the first attempt" },
    ],
    next: &[
        "Nothing, where kubectl is newer than the cluster. Else look for a proxy in between that drops `Upgrade: websocket`.",
        "KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false keeps kubectl from trying.",
    ],
    manual: &["kubectl exec -v=8 … 2>&1 | grep -i -e upgrade -e fallback   # what process {kubectl} would have said"],
    sources: &[
        "kubernetes/kubernetes#126231",
        "kubernetes/kubernetes#126134",
        "gravitational/teleport#55696",
        "cilium/cilium#38988",
    ],
    made: Made::Scenario("on the lab the attempt that is refused leaves no session to tell of"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    scenes,
};

/// A refused attempt takes a few round trips; kubectl tries again at once.
const QUICK: Span = Span::from_secs(5);

fn rule(case: &Case<'_>) -> Option<Found> {
    let session = case.session;
    let ran = session.hops.iter().any(|hop| matches!(hop.role, Role::Runtime | Role::Runc | Role::Process));
    let client = session.hops.first().filter(|hop| hop.role == Role::Client)?;
    let closed_at = session.closed_at.filter(|_| !ran && case.is_seen_whole() && case.age() < QUICK)?;
    let again = case.host.report.sessions.iter().find(|other| {
        let same = other.hops.first().is_some_and(|hop| hop.role == Role::Client && hop.task == client.task);
        let soon = other.opened_at >= session.opened_at && other.opened_at <= closed_at.plus(QUICK);
        let ran = other.hops.iter().any(|hop| hop.role == Role::Process);
        other.id != session.id && same && soon && ran
    })?;
    let about = About { pid: Some(client.task.tgid), ..About::default() };
    let lasted = number("the first attempt lasted", case.age().as_millis(), "ms");
    let second = word("the second attempt is session", &*again.id.0);
    Some(Found { hop: Some(0), about, since: Some(closed_at), ..Found::default() }.with(lasted).with(second))
}

#[cfg(test)]
use crate::diagnose::scene::Scene;

#[cfg(test)]
fn scenes() -> Vec<Scene> {
    let mut refused = Scene::new("WebSocket was refused, SPDY was not", &["F05"]);
    let mut second = refused.sessions[0].clone();
    second.id.0 = "s-second".into();
    let process = refused.samples.clone();
    refused.ends_after(3);
    refused.samples = process;
    refused.closes_after(40);
    refused.sessions.push(second.clone());

    let mut two = Scene::new("kubectl cp: two sessions of one client", &[]);
    two.closes_after(900);
    two.sessions.push(second);

    let mut alone = Scene::new("an attempt, and no other", &[]);
    alone.ends_after(3);
    alone.closes_after(40);
    vec![refused, two, alone]
}
