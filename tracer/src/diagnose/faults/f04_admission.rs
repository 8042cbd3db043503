//! F04: the API server waits for a webhook.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F04",
    name: "the API server waits for a webhook",
    short: "webhook",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::Any,
    means: "The API server has read a request and not answered it: it waits for an admission or authorization webhook \
            that does not answer. kubectl waits, and nothing has been dialled on the node.",
    why: "A webhook for CONNECT on pods/exec is slow, overloaded or gone. The API server waits up to timeoutSeconds \
          for it (10 by default, 30 at most). Other causes: an authorization webhook, an OIDC provider.",
    needs: "Two samples of the API server's connections. Reported only while the wait is 5 to 31 seconds old, and if \
            exactly one connection was written to right after the request arrived.",
    apart: &[
        Apart { code: "F01", by: "no dial to a kubelet is in progress" },
        Apart { code: "F08", by: "the kubelet has not been asked yet" },
    ],
    next: &[
        "Find the webhook behind that address and check that it answers. The API server's metrics have its latency.",
        "If the webhook is not essential, set failurePolicy: Ignore and a short timeoutSeconds.",
    ],
    manual: &[
        "ss -tnpi 'dst {remote}'   # lastsnd as old as the request, lastrcv older",
        "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations -o yaml | grep -B9 -A3 CONNECT",
        "kubectl get --raw /metrics | grep apiserver_admission_webhook_admission_duration_seconds_sum",
    ],
    sources: &["kubernetes/kubernetes#59759", "kubernetes/kubernetes#60914", "kubernetes/kubernetes#133515"],
    made: Made::Lab,
    rule: Rule::Both(of_session, of_host),
    #[cfg(test)]
    fixtures,
};

/// A shorter wait is a webhook at work. A longer one exceeds the longest timeout (30 s), so it has another cause.
const WAIT: std::ops::RangeInclusive<u32> = 5_000..=31_000;
/// Authentication and decoding take place between the request and the call of the webhook.
const RIGHT_AFTER: u32 = 500;
/// Ports of etcd, which API servers watch all the time (IANA: 2379 and 2380).
const ETCD: [u16; 2] = [2_379, 2_380];

/// Upper bound of segments for a TLS handshake and one request, in either direction.
const HANDSHAKE: u32 = 8;

/// Times of the last request and the last answer on a connection without progress between the samples.
struct Spoken {
    /// Milliseconds since the last request.
    asked: u32,
    /// Milliseconds since the last answer.
    answered: u32,
    /// Set if the connection may have carried only a handshake and this one request.
    is_new: bool,
}

impl Spoken {
    /// `times` picks the times of request and answer out of the counters.
    fn of(series: &Series<TcpMeasure>, times: fn(TcpInfo) -> (u32, u32)) -> Option<Self> {
        let (last, before) = both(series)?;
        let (info, before) = (last.info?, before.info?);
        let still = info.bytes_received == before.bytes_received && info.bytes_acked == before.bytes_acked;
        let (asked, answered) = times(info);
        let is_new = info.data_segments_in.max(info.data_segments_out) <= HANDSHAKE;
        (still && last.state == TcpState::Established).then_some(Self { asked, answered, is_new })
    }

    /// True if the request has no answer. Times have the resolution of kernel ticks, so two events may have equal
    /// times: the end of a handshake and the request behind it, or a request and its answer. The former is assumed if a
    /// client is `sure` to wait.
    const fn waits(&self, sure: bool) -> bool {
        self.answered > self.asked || (sure && self.is_new && self.answered == self.asked)
    }
}

/// Milliseconds since the request was read, if its wait fits a webhook's timeout.
fn waits(series: &Series<TcpMeasure>, sure: bool) -> Option<u32> {
    let request = Spoken::of(series, |info| (info.last_received_ms, info.last_sent_ms))?;
    (request.waits(sure) && WAIT.contains(&request.asked)).then_some(request.asked)
}

/// The one connection that this API server has waited for since it read a request, `waits` milliseconds ago. Set `sure`
/// if a client is known to wait for the answer.
fn asked(host: &Host<'_>, server: TaskKey, waits: u32, sure: bool) -> Option<RuleMatch> {
    let dials = host.dialled_by(Role::ApiServer).filter(|dial| dial.task == server && dial.peer != Some(server));
    let asked: Vec<_> = dials
        .filter_map(|dial| {
            let (tuple, series) = (dial.socket.tuple?, host.report.measures.tcp(dial.socket.id)?);
            if host.is_kubelet_port(tuple.remote.port()) && series.last.state == TcpState::SynSent {
                return Some((tuple, 0));
            }
            let question = Spoken::of(series, |info| (info.last_sent_ms, info.last_received_ms))?;
            let ago = question.asked;
            (question.waits(sure) && ago <= waits && waits - ago <= RIGHT_AFTER).then_some((tuple, ago))
        })
        .filter(|(tuple, _)| !is_of_cluster(tuple.remote.port()))
        .collect();
    // A kubelet that was asked at that moment and does not answer is the cause of the wait: admission is over by then.
    let [(tuple, asked)] = asked[..] else { return None };
    if host.is_kubelet_port(tuple.remote.port()) {
        return None;
    }
    let (pid, local, remote) = (Some(server.tgid), Some(tuple.local), Some(tuple.remote));
    let about = About { pid, local, remote, ..About::default() };
    Some(
        RuleMatch { about, ..RuleMatch::default() }
            .with(number("since the request was read, without an answer", waits.into(), "ms"))
            .with(number("since the API server called the webhook, without an answer", asked.into(), "ms")),
    )
}

/// True for etcd and other API servers, which are not asked on behalf of one request.
fn is_of_cluster(port: u16) -> bool {
    Endpoints::default().is_apiserver_port(port) || ETCD.contains(&port)
}

/// A session of a kubectl whose request was read, and nothing else happened.
fn of_session(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let (at, server) = ctx.hop(Role::ApiServer).filter(|_| ctx.last_role() == Some(Role::ApiServer))?;
    // Before it asks for the exec, kubectl asks for the pod on another connection.
    let mut legs = ctx.legs().into_iter().filter(|leg| leg.far_hop == Some(at));
    legs.find_map(|leg| {
        let found = asked(ctx.host, server.task, waits(leg.far?.series?, true)?, true)?;
        Some(RuleMatch { hop: Some(at), link: leg.link, ..found })
    })
}

/// Requests from clients on another host.
fn of_host(host: &Host<'_>) -> Vec<RuleMatch> {
    let requests = host.loose().filter(|one| one.socket.role == Some(SocketRole::Accepted));
    let requests = requests.filter(|one| host.is(one.task, Role::ApiServer));
    let waiting = requests.filter_map(|one| Some((one.task, waits(host.report.measures.tcp(one.socket.id)?, false)?)));
    waiting.filter_map(|(server, waits)| asked(host, server, waits, false)).collect()
}

#[cfg(test)]
use crate::diagnose::fixture::{APISERVER, Fixture, On, idle, info, socket};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], remote: &str, waits: u32, asked: u32| {
        let mut fixture = Fixture::new(about, named);
        fixture.stray(APISERVER, Role::ApiServer, 200, "192.168.205.1:51000", |number| {
            let mut tcp = idle();
            let ago = waits - 3_000 * u32::try_from(1 - number).unwrap();
            (info(&mut tcp).last_received_ms, info(&mut tcp).last_sent_ms) = (ago, ago + 20);
            tcp
        });
        fixture.loose[0].socket.role = Some(SocketRole::Accepted);
        fixture.stray(APISERVER, Role::ApiServer, 202, remote, |number| {
            let mut tcp = idle();
            let ago = asked - 3_000 * u32::try_from(1 - number).unwrap();
            (info(&mut tcp).last_sent_ms, info(&mut tcp).last_received_ms) = (ago, ago + 60_000);
            tcp
        });
        fixture
    };
    let mut session = of("a webhook hangs, and kubectl is here", &["F04"], "10.96.0.40:443", 9_000, 8_990);
    session.loose.remove(0);
    session.ends_after(2);
    session.far(On::Client, |tcp, number| {
        let ago = 9_000 - 3_000 * u32::try_from(1 - number).unwrap();
        (info(tcp).last_received_ms, info(tcp).last_sent_ms) = (ago, ago + 20);
    });
    session.session(|session| {
        // The connection of the answered request for the pod.
        let mut idle = session.links[0].clone();
        idle.tcp.as_mut().unwrap().far = Some(socket(19));
        session.links.insert(1, idle);
    });
    session.each(|sample, _| {
        sample.tcp.insert(19, idle());
    });
    let mut fresh = session.clone();
    fresh.about = "its connection is new: the handshake ended when it was asked";
    fresh.each(|sample, _| {
        let info = info(sample.tcp.get_mut(&202).unwrap());
        info.last_received_ms = info.last_sent_ms;
        (info.data_segments_in, info.data_segments_out) = (3, 3);
    });
    let mut all_fresh = fresh.clone();
    all_fresh.about = "its connection is new, and so is kubectl's";
    all_fresh.far(On::Client, |tcp, _| {
        let info = info(tcp);
        info.last_sent_ms = info.last_received_ms;
        (info.data_segments_in, info.data_segments_out) = (4, 1);
    });
    let mut pooled = fresh.clone();
    (pooled.about, pooled.named) = ("another connection was asked and answered within a tick", &[]);
    pooled.each(|sample, _| info(sample.tcp.get_mut(&202).unwrap()).data_segments_in = 40);
    let mut kubelet = session.clone();
    (kubelet.about, kubelet.named) = ("the webhook has answered, the kubelet does not", &[]);
    kubelet.stray(APISERVER, Role::ApiServer, 204, "192.168.205.11:10250", |number| {
        let mut tcp = idle();
        let ago = 8_900 - 3_000 * u32::try_from(1 - number).unwrap();
        (info(&mut tcp).last_sent_ms, info(&mut tcp).last_received_ms) = (ago, ago + 5);
        tcp
    });
    vec![
        session,
        fresh,
        all_fresh,
        pooled,
        kubelet,
        of("a webhook hangs", &["F04"], "10.96.0.40:443", 9_000, 8_990),
        of("something else was asked, later", &[], "10.96.0.40:443", 20_000, 9_000),
        of("a watch that has nothing to say for minutes", &[], "10.96.0.40:443", 300_000, 299_990),
        of("etcd was asked", &[], "127.0.0.1:2379", 9_000, 8_990),
    ]
}
