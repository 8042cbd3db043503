//! F03: the tunnel to the nodes is stuck.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F03",
    name: "the tunnel to the nodes is stuck",
    short: "tunnel stuck",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::Any,
    means: "The API server reaches its nodes through a tunnel (konnectivity, remotedialer). The tunnel accepts \
            requests and does not process them, so exec, logs and port-forward hang for every node behind it.",
    why: "The proxy server waits for an agent that is gone or does not read. One stream of a shared connection can \
          fill its window and block the others; dials pile up.",
    needs: "Two samples. For piled-up dials: the API server's TCP connections to konnectivity's server (ports 8090, \
            8131); its unix socket is not inspected. For a session: the queues on both sides of the proxy.",
    apart: &[
        Apart { code: "F01", by: "the proxy accepted the connection" },
        Apart { code: "F16", by: "the first reader that stopped is the proxy behind the API server" },
    ],
    next: &[
        "Check that the agents are connected: their logs, and \
         konnectivity_network_proxy_server_ready_backend_connections.",
        "Restart the node's agent first, then the proxy server. A restart ends every session through it.",
    ],
    manual: &[
        "ss -tnpi dst {remote} | grep -c ESTAB   # dials that pile up",
        "ss -tnpi dst {remote}   # lastsnd, lastrcv: nothing came since the request",
        "curl -s localhost:8133/metrics | grep -e pending -e ready   # konnectivity's admin port",
    ],
    sources: &[
        "kubernetes-sigs/apiserver-network-proxy#855",
        "kubernetes-sigs/apiserver-network-proxy#152",
        "kubernetes-sigs/apiserver-network-proxy#261",
        "k3s-io/k3s#7332",
        "k3s-io/k3s#6216",
    ],
    made: Made::Lab,
    rule: Rule::Both(of_session, of_host),
    #[cfg(test)]
    fixtures,
};

/// Ports at which konnectivity's server takes dials of the API server: its default, and the one of its examples.
const PORTS: [u16; 2] = [8_090, 8_131];
/// A single dial may wait for its node; API servers give one up after 30 s (apiserver, pkg/server/egressselector).
const MANY: usize = 3;
/// Longer than a usual dial within a cluster, shorter than the longest one.
const LONG: u32 = 10_000;

fn of_session(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let stuck = queues::output(ctx).filter(|_| ctx.is_open())?;
    let (server, _) = ctx.hop(Role::ApiServer)?;
    let at = stuck.leg.near_hop.filter(|at| *at > server)?;
    let hop = ctx.session.hops.get(at).filter(|hop| hop.role == Role::Proxy)?;
    let about = About {
        pid: Some(hop.task.tgid),
        local: stuck.leg.tuple.map(|tuple| tuple.local),
        remote: stuck.leg.tuple.map(|tuple| tuple.remote),
        ..About::default()
    };
    let since = SessionCtx::at_least_since(stuck.leg.near);
    let unread = stuck.unread.unwrap_or(0).into();
    let found = RuleMatch { hop: Some(at), link: stuck.leg.link, about, since, ..RuleMatch::default() };
    Some(found.with(number(format!("recv_q of {}, unread", ctx.called(Some(at))), unread, "bytes")))
}

/// True if the last request is long ago and has no answer yet.
fn is_unanswered(series: &Series<TcpMeasure>) -> bool {
    twice(series, |tcp| {
        let asked = |info: TcpInfo| {
            info.bytes_acked > 0 && info.last_sent_ms >= LONG && info.last_received_ms >= info.last_sent_ms
        };
        tcp.state == TcpState::Established && tcp.info.is_some_and(asked)
    })
}

fn of_host(host: &Host<'_>) -> Vec<RuleMatch> {
    let mut waiting: std::collections::BTreeMap<_, Vec<_>> = std::collections::BTreeMap::new();
    for loose in host.dialled_by(Role::ApiServer) {
        let Some(tuple) = loose.socket.tuple.filter(|tuple| PORTS.contains(&tuple.remote.port())) else { continue };
        if host.report.measures.tcp(loose.socket.id).is_some_and(is_unanswered) {
            waiting.entry((loose.task, tuple.remote)).or_default().push(tuple);
        }
    }
    let many = waiting.into_iter().filter(|(_, dials)| dials.len() >= MANY);
    many.map(|((task, remote), dials)| {
        let about = About { pid: Some(task.tgid), remote: Some(remote), ..About::default() };
        let count = dials.len() as u64;
        RuleMatch { about, ..RuleMatch::default() }.with(number("unanswered dials into the tunnel", count, ""))
    })
    .collect()
}

#[cfg(test)]
use crate::diagnose::fixture::{APISERVER, Fixture, On, idle, info};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let dials = |about, named: &'static [&'static str], remote: &str, count: u64, answered: bool| {
        let mut fixture = Fixture::new(about, named);
        for number in 0..count {
            fixture.stray(APISERVER, Role::ApiServer, 200 + 2 * number, remote, |_| {
                let mut tcp = idle();
                (info(&mut tcp).last_sent_ms, info(&mut tcp).last_received_ms) = (20_000, 20_500);
                if answered {
                    info(&mut tcp).last_received_ms = 10;
                }
                tcp
            });
        }
        fixture
    };
    let mut proxy = Fixture::new("the proxy behind the API server does not read", &["F03"]);
    proxy.session(|session| session.hops[2].role = Role::Proxy);
    proxy.near(On::Stream, |tcp, _| tcp.recv_q = 4_000);
    vec![
        dials("dials pile up at the tunnel", &["F03"], "10.0.0.5:8131", 4, false),
        proxy,
        dials("two dials wait", &[], "10.0.0.5:8131", 2, false),
        dials("the tunnel answers", &[], "10.0.0.5:8131", 4, true),
        dials("etcd has nothing to say", &[], "10.0.0.5:2379", 4, false),
    ]
}
