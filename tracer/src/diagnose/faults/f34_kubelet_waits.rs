//! F34: the kubelet waits for the API server.

use std::collections::BTreeMap;

use super::prelude::*;
use crate::model::UnattributedEnd;

pub(super) const FAULT: Fault = Fault {
    code: "F34",
    name: "the kubelet waits for the API server",
    short: "kubelet waits",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::Any,
    means: "The kubelet has accepted the request, and the API server does not answer the kubelet's own connections. Before \
            an exec the kubelet asks the API server whether the caller may do this (authorization mode Webhook), and \
            waits for the answer. kubectl hangs; the node becomes NotReady.",
    why: "A firewall or a network fault in the direction from the node to the API server, or a load balancer without a \
          live API server behind it.",
    needs: "Two samples of the kubelet's connections on a host with the kubelet. All of them must be unanswered since the \
            request came.",
    apart: &[
        Apart { code: "F33", by: "the kubelet runs" },
        Apart { code: "F01", by: "the kubelet has accepted the connection" },
        Apart { code: "F18", by: "the silent connections are the kubelet's own, not the session's" },
        Apart { code: "F08", by: "the runtime reads its requests" },
        Apart { code: "F37", by: "the kubelet has not answered" },
    ],
    next: &[
        "Check the way from the node to the API server, in this direction: firewall, route, load balancer.",
        "kubectl get nodes: the node is NotReady after 40 seconds.",
    ],
    manual: &[
        "ss -tnpo 'dst {remote}' | grep pid={pid},   # Send-Q, and a timer `on` or `persist` with retries",
        "curl -sk --max-time 3 https://{remote}/livez || echo 'no answer'   # on the node",
    ],
    sources: &["kubernetes/kubernetes#117542"],
    made: Made::Lab,
    rule: Rule::Daemon(of_session, of_host),
    #[cfg(test)]
    fixtures,
};

/// A kubelet that gets its answer passes the request on within milliseconds.
const LONG: Span = Span::from_secs(2);

/// A session whose path ends at a kubelet that waits.
fn of_session(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let waits = ctx.is_open() && ctx.age() >= LONG && ctx.last_role() == Some(Role::Kubelet);
    let (at, kubelet) = ctx.hop(Role::Kubelet).filter(|_| waits)?;
    // A connection that no process has accepted leaves the kubelet without a request.
    ctx.leg_to(Role::Kubelet).and_then(|leg| leg.far)?;
    Some(RuleMatch { hop: Some(at), ..waits_since(ctx.host, kubelet.task, ctx.age())? })
}

/// Kubelets with a request that belongs to no known session, and that they have not answered.
fn of_host(host: &Host<'_>) -> Vec<RuleMatch> {
    let requests = host.loose().filter(|one| one.socket.role == Some(SocketRole::Accepted));
    let requests = requests.filter(|one| host.is(one.task, Role::Kubelet));
    let mut waiting: BTreeMap<TaskKey, Span> = BTreeMap::new();
    for (task, since) in requests.filter_map(|one| Some((one.task, unanswered_for(host, one)?))) {
        let known = waiting.entry(task).or_insert(since);
        *known = (*known).max(since);
    }
    waiting.into_iter().filter_map(|(task, since)| waits_since(host, task, since)).collect()
}

/// Time since the request on this accepted connection, if there was no answer.
fn unanswered_for(host: &Host<'_>, one: &UnattributedEnd) -> Option<Span> {
    let tuple = one.socket.tuple.filter(|tuple| host.is_kubelet_port(tuple.local.port()))?;
    let (last, before) = both(host.report.measures.tcp(one.socket.id)?)?;
    let (now, then) = (last.info?, before.info?);
    let is_still = now.bytes_received == then.bytes_received && now.bytes_acked == then.bytes_acked;
    // The end of a TLS handshake and the request behind it may have the same time.
    let is_unanswered = now.last_sent_ms >= now.last_received_ms;
    let since = Span::from_millis(now.last_received_ms.into());
    let waits = is_still && is_unanswered && last.state == TcpState::Established && tuple.remote.port() != 0;
    (waits && since >= LONG).then_some(since)
}

/// A match for a kubelet whose connections to the API server are all unanswered since its request.
fn waits_since(host: &Host<'_>, kubelet: TaskKey, request: Span) -> Option<RuleMatch> {
    if host.is_stopped(kubelet) {
        return None;
    }
    let endpoints = Endpoints::default();
    let own = host.dialled_by(Role::Kubelet).filter(|one| one.task == kubelet);
    let own = own.filter_map(|one| {
        let tuple = one.socket.tuple.filter(|tuple| endpoints.is_apiserver_port(tuple.remote.port()))?;
        Some((one.socket.id, tuple, host.report.measures.tcp(one.socket.id)?))
    });
    let own: Vec<_> = own.collect();
    // An answer on any connection shows that the API server is reached. Only silence since the request counts.
    let since = u32::try_from(request.as_millis()).unwrap_or(u32::MAX);
    let has_answered = |tcp: &TcpMeasure| tcp.info.is_some_and(|info| info.last_received_ms < since);
    if own.iter().any(|(.., series)| has_answered(&series.last) && series.last.state == TcpState::Established) {
        return None;
    }
    let unanswered: Vec<_> = own.iter().filter(|(.., series)| twice(series, is_unanswered)).collect();
    let (socket, tuple, series) = unanswered.first()?;
    let about = About {
        pid: Some(kubelet.tgid),
        inode: socket.inode,
        local: Some(tuple.local),
        remote: Some(tuple.remote),
        fd: None,
    };
    let since = SessionCtx::at_least_since(host.end(*socket));
    let found = RuleMatch { task: Some(kubelet), about, since, ..RuleMatch::default() }
        .with(number("since the kubelet got the request", request.as_millis(), "ms"))
        .with(number("its connections to the API server without an answer", unanswered.len() as u64, ""))
        .with(number("send_q of one of them", series.last.send_q.into(), "bytes"));
    Some(match series.last.timer {
        Some(timer) => found.with(number("retries", timer.retries.into(), "")),
        None => found,
    })
}

/// True if the kernel has tried several times to send, in vain. A packet filter on this host leaves the bytes unsent: the
/// timer is then the one for probes of a zero window, although the window is open (net/ipv4/tcp_output.c:
/// tcp_send_probe0).
fn is_unanswered(tcp: &TcpMeasure) -> bool {
    const OFTEN: u8 = 3;
    let has_window = |info: &TcpInfo| info.send_window.is_some_and(|window| window > 0) && info.not_sent > 0;
    let is_held_back = tcp.timer.is_some_and(|timer| timer.kind == TimerKind::Probe && timer.retries >= OFTEN)
        && tcp.info.as_ref().is_some_and(has_window);
    tcp.send_q > 0 && (retransmits(tcp) || is_held_back)
}

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, KUBELET, idle, info},
    model::Timer,
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    const SERVER: &str = "192.168.205.10:6443";
    let silent = |kind: TimerKind, not_sent: u32| {
        move |number: u64| {
            let mut tcp = idle();
            (tcp.send_q, tcp.timer) = (605, Some(Timer { kind, expires_ms: 2_000, retries: 4 }));
            let info = info(&mut tcp);
            (info.unacked, info.retransmits, info.not_sent) = (u32::from(not_sent == 0), 4, not_sent);
            info.last_received_ms = 61_000 + 3_000 * u32::try_from(number).unwrap();
            tcp
        }
    };
    let of = |about, named: &'static [&'static str], hops: usize| {
        let mut fixture = Fixture::new(about, named);
        fixture.ends_after(hops);
        fixture
    };
    let mut dropped = of("the network drops what the kubelet sends", &["F34"], 3);
    dropped.stray(KUBELET, Role::Kubelet, 200, SERVER, silent(TimerKind::Retransmit, 0));
    let mut filtered = of("a packet filter of the node drops it", &["F34"], 3);
    filtered.stray(KUBELET, Role::Kubelet, 200, SERVER, silent(TimerKind::Probe, 605));
    let mut other = filtered.clone();
    (other.about, other.named) = ("another connection to the API server is answered", &[]);
    other.stray(KUBELET, Role::Kubelet, 202, SERVER, |_| idle());
    let mut elsewhere = of("the silent connection leads to a pod", &[], 3);
    elsewhere.stray(KUBELET, Role::Kubelet, 200, "10.244.0.9:8080", silent(TimerKind::Retransmit, 0));
    let mut further = of("the kubelet has asked the runtime", &[], 4);
    further.stray(KUBELET, Role::Kubelet, 200, SERVER, silent(TimerKind::Retransmit, 0));
    let mut stopped = dropped.clone();
    (stopped.about, stopped.named) = ("the kubelet is stopped", &["F33"]);
    stopped.process(KUBELET, |process, _| process.state = 'T');
    let mut found = of("a snapshot does not join the request with its client", &["F34"], 2);
    found.daemons.push((KUBELET, Role::Kubelet));
    found.stray_from(KUBELET, Role::Kubelet, 204, "192.168.205.11:10250", "192.168.205.10:55352", |number| {
        let mut tcp = idle();
        let ago = 9_000 - 3_000 * u32::try_from(1 - number).unwrap();
        (info(&mut tcp).last_received_ms, info(&mut tcp).last_sent_ms) = (ago, ago + 10);
        tcp
    });
    found.loose[0].socket.role = Some(SocketRole::Accepted);
    let mut pooled = found.clone();
    (pooled.about, pooled.named) = ("the kubelet has answered the request", &[]);
    pooled.each(|sample, _| info(sample.tcp.get_mut(&204).unwrap()).last_sent_ms = 3_000);
    for fixture in [&mut found, &mut pooled] {
        fixture.stray(KUBELET, Role::Kubelet, 200, SERVER, silent(TimerKind::Retransmit, 0));
    }
    vec![
        found,
        pooled,
        dropped,
        filtered,
        other,
        elsewhere,
        further,
        stopped,
        of("the kubelet has no such connection", &[], 3),
    ]
}
