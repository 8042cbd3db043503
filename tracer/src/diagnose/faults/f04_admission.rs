//! F04.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F04",
    name: "the API server waits for a webhook",
    short: "webhook",
    severity: Severity::Fault,
    step: Step::Legs,
    means: "A request was read by the API server and is not answered: it has asked somebody else first, an admission or \
            authorization webhook, and that one has not answered. kubectl waits, and nothing has been dialled on the node.",
    why: "A webhook for CONNECT on pods/exec that is slow, overloaded or gone; it is waited for up to its timeoutSeconds (10 \
          by default, 30 at most). Others: an authorization webhook, an OIDC provider.",
    needs: "Two samples of the API server's connections. Named only while the wait is between 5 and 31 seconds old, and where \
            exactly one connection was written to right after the request came.",
    apart: &[
        Apart { code: "F01", by: "no dial to a kubelet is under way" },
        Apart { code: "F08", by: "the kubelet was not asked yet" },
    ],
    next: &[
        "Find the webhook behind that address, and see whether it answers; its latency is in the API server's metrics.",
        "A webhook that is not essential may have failurePolicy: Ignore and a short timeoutSeconds.",
    ],
    manual: &[
        "ss -tnpi 'dst {remote}'   # lastsnd as old as the request, lastrcv older",
        "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations -o yaml | grep -B9 -A3 CONNECT",
        "kubectl get --raw /metrics | grep apiserver_admission_webhook_admission_duration_seconds_sum",
    ],
    sources: &["kubernetes/kubernetes#59759", "kubernetes/kubernetes#60914", "kubernetes/kubernetes#133515"],
    made: Made::Scenario("needs an admission webhook that hangs: none is in the lab"),
    rule: Rule::Host(rule),
    #[cfg(test)]
    scenes,
};

/// Shorter waits are a webhook at work; longer than the longest timeout (30 s), and something else is waited for.
const WAIT: std::ops::RangeInclusive<u32> = 5_000..=31_000;
/// Between the request and the question to the webhook: authentication and decoding.
const RIGHT_AFTER: u32 = 500;
/// etcd, which API servers watch all the time (IANA: 2379 and 2380).
const ETCD: [u16; 2] = [2_379, 2_380];

/// How long ago it was spoken to, where nothing was said by `answers` since and nothing moved between the samples.
fn unanswered(series: &Series<TcpMeasure>, asked: fn(&TcpMeasure) -> Option<(u32, u32)>) -> Option<u32> {
    let (last, before) = both(series)?;
    let still =
        last.info?.bytes_received == before.info?.bytes_received && last.info?.bytes_acked == before.info?.bytes_acked;
    let (asked, answered) = asked(last)?;
    (still && last.state == TcpState::Established && answered > asked).then_some(asked)
}

fn rule(host: &Host<'_>) -> Vec<Found> {
    let measures = &host.report.measures;
    let is_server = |task: &TaskKey| host.is(*task, Role::ApiServer);
    let mut found = Vec::new();
    for request in host.report.loose.iter().filter(|one| one.socket.role == Some(SocketRole::Accepted)) {
        let heard = |tcp: &TcpMeasure| tcp.info.map(|info| (info.last_received_ms, info.last_sent_ms));
        let waits = measures.tcp(request.socket.id).and_then(|series| unanswered(series, heard));
        let Some(waits) = waits.filter(|waits| WAIT.contains(waits) && is_server(&request.task)) else { continue };
        let asked: Vec<_> = host
            .dialled_by(Role::ApiServer)
            .filter(|dial| dial.task == request.task && dial.peer != Some(request.task))
            .filter_map(|dial| {
                let tuple = dial.socket.tuple?;
                let port = tuple.remote.port();
                if host.is_kubelet_port(port) || Places::default().is_apiserver_port(port) || ETCD.contains(&port) {
                    return None;
                }
                let spoke = |tcp: &TcpMeasure| tcp.info.map(|info| (info.last_sent_ms, info.last_received_ms));
                let asked = unanswered(measures.tcp(dial.socket.id)?, spoke)?;
                (asked <= waits && waits - asked <= RIGHT_AFTER).then_some((tuple, asked))
            })
            .collect();
        if let [(tuple, asked)] = asked[..] {
            let pid = Some(request.task.tgid);
            let about = About { pid, local: Some(tuple.local), remote: Some(tuple.remote), ..About::default() };
            found.push(
                Found { about, ..Found::default() }
                    .with(number("since the request was read, without an answer", waits.into(), "ms"))
                    .with(number("since the API server asked there, without an answer", asked.into(), "ms")),
            );
        }
    }
    found
}

#[cfg(test)]
use crate::diagnose::scene::{APISERVER, Scene, idle, info};

#[cfg(test)]
fn scenes() -> Vec<Scene> {
    let of = |about, named: &'static [&'static str], remote: &str, waits: u32, asked: u32| {
        let mut scene = Scene::new(about, named);
        scene.stray(APISERVER, Role::ApiServer, 200, "192.168.205.1:51000", |number| {
            let mut tcp = idle();
            let ago = waits - 3_000 * u32::try_from(1 - number).unwrap();
            (info(&mut tcp).last_received_ms, info(&mut tcp).last_sent_ms) = (ago, ago + 20);
            tcp
        });
        scene.loose[0].socket.role = Some(SocketRole::Accepted);
        scene.stray(APISERVER, Role::ApiServer, 202, remote, |number| {
            let mut tcp = idle();
            let ago = asked - 3_000 * u32::try_from(1 - number).unwrap();
            (info(&mut tcp).last_sent_ms, info(&mut tcp).last_received_ms) = (ago, ago + 60_000);
            tcp
        });
        scene
    };
    vec![
        of("a webhook hangs", &["F04"], "10.96.0.40:443", 9_000, 8_990),
        of("something else was asked, later", &[], "10.96.0.40:443", 20_000, 9_000),
        of("a watch that has nothing to say for minutes", &[], "10.96.0.40:443", 300_000, 299_990),
        of("etcd was asked", &[], "127.0.0.1:2379", 9_000, 8_990),
    ]
}
