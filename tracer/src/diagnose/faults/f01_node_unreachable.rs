//! F01: the kubelet's port cannot be reached.

use super::{dials::fruitless, prelude::*};

pub(super) const FAULT: Fault = Fault {
    code: "F01",
    name: "the kubelet's port cannot be reached",
    short: "node unreachable",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::Any,
    means: "The API server dials the kubelet and gets no answer, or an error. kubectl prints nothing until the dial times out, \
            then `dial tcp …:10250: i/o timeout`; or at once `connect: connection refused` or `no route to host`.",
    why: "A firewall or security group drops port 10250, the API server has no route to the node's address, or the \
          node is down. If the port refuses at once, the kubelet does not run.",
    needs: "One sample of the dial: state SYN-SENT, and the number of retransmissions. Or a trace of the attempt.",
    apart: &[
        Apart { code: "F02", by: "no connection was established, so TLS did not begin" },
        Apart { code: "F03", by: "the dial goes to the kubelet itself, not into a tunnel" },
        Apart { code: "F18", by: "the connection was never established" },
    ],
    next: &[
        "From the API server's host, check that this address and port can be reached.",
        "Compare the address with the node's InternalIP, and check --kubelet-preferred-address-types of the API \
         server.",
        "Look for firewall rules that drop the port on both hosts and between them.",
    ],
    manual: &[
        "ss -tnpo state syn-sent dst {remote}   # timer:(on,…,N): N times sent again",
        "curl -k -m 5 https://{remote}/healthz",
        "kubectl get nodes -o wide   # is {host} the node's address?",
    ],
    sources: &["kubernetes/kubernetes#107186", "kubernetes/kubernetes#62511", "rancher/rke2#3481"],
    made: Made::Lab,
    rule: Rule::Both(of_session, of_host),
    #[cfg(test)]
    fixtures,
};

/// The first SYN is retransmitted after one second, then after two and four (RFC 6298): three seconds without an
/// answer.
const OFTEN: u8 = 2;

/// Retransmissions of a dial that is still waiting, if there are enough of them.
fn sent_again(tcp: &TcpMeasure) -> Option<u8> {
    let by_timer = tcp.timer.map_or(0, |timer| timer.retries);
    let times = by_timer.max(tcp.info.map_or(0, |info| info.retransmits));
    (tcp.state == TcpState::SynSent && times >= OFTEN).then_some(times)
}

fn of_session(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    of_sample(ctx).or_else(|| of_attempt(ctx))
}

/// A dial that failed, or waits, as a trace saw it.
fn of_attempt(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let (at, server) = ctx.hop(Role::ApiServer).filter(|_| ctx.last_role() == Some(Role::ApiServer))?;
    let (error, waited) = ("error of the API server's connect", "since the API server's SYN, without an answer");
    let (dial, reading) = fruitless(ctx, Rung::KubeletDialled, error, waited)?;
    let about = About { pid: Some(server.task.tgid), remote: dial.address, ..About::default() };
    Some(RuleMatch { hop: Some(at), about, since: dial.at, ..RuleMatch::default() }.with(reading))
}

fn of_sample(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    ctx.legs().into_iter().find_map(|leg| {
        let tuple = leg.tuple.filter(|tuple| ctx.host.is_kubelet_port(tuple.remote.port()))?;
        let times = sent_again(&leg.near?.series?.last)?;
        let pid = leg.near_hop.and_then(|at| ctx.session.hops.get(at)).map(|hop| hop.task.tgid);
        let about = About { pid, local: Some(tuple.local), remote: Some(tuple.remote), ..About::default() };
        Some(RuleMatch { hop: leg.near_hop, link: leg.link, about, ..RuleMatch::default() }.with(read_off(times)))
    })
}

fn of_host(host: &Host<'_>) -> Vec<RuleMatch> {
    let dials = host.loose().filter_map(|loose| {
        let tuple = loose.socket.tuple.filter(|tuple| host.is_kubelet_port(tuple.remote.port()))?;
        let times = sent_again(&host.report.measures.tcp(loose.socket.id)?.last)?;
        let pid = Some(loose.task.tgid);
        let about = About { pid, local: Some(tuple.local), remote: Some(tuple.remote), ..About::default() };
        Some(RuleMatch { about, ..RuleMatch::default() }.with(read_off(times)))
    });
    dials.collect()
}

fn read_off(times: u8) -> crate::model::Reading {
    number("SYN retransmissions without an answer", times.into(), "")
}

#[cfg(test)]
use crate::{
    diagnose::fixture::{APISERVER, Fixture, attempt, idle},
    model::Timer,
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let dial = |retries: u8| {
        move |_: u64| TcpMeasure {
            state: TcpState::SynSent,
            timer: Some(Timer { kind: TimerKind::Retransmit, expires_ms: 900, retries }),
            info: None,
            ..idle()
        }
    };
    let of = |about, named: &'static [&'static str], remote: &str, retries| {
        let mut fixture = Fixture::new(about, named);
        fixture.stray(APISERVER, Role::ApiServer, 200, remote, dial(retries));
        fixture
    };
    let attempted = |about, named: &'static [&'static str], state: RungState, errno: Option<u32>, exit: ExitStatus| {
        let mut fixture = Fixture::new(about, named);
        fixture.ends_after(2);
        fixture.closes_after(40);
        fixture.session(|session| {
            session.hops[0].exit = Some(exit);
            let mut seen = attempt(&[(Rung::ApiserverAccepted, RungState::Reached), (Rung::KubeletDialled, state)]);
            let one = seen.as_mut().unwrap().rungs.last_mut().unwrap();
            (one.errno, one.address) = (errno, Some("192.168.205.12:10250".parse().unwrap()));
            session.attempt = seen;
        });
        fixture
    };
    let (failed, code) = (RungState::Failed, ExitStatus::Code);
    vec![
        attempted("the kubelet does not run", &["F01"], failed, Some(111), code(1)),
        attempted("the API server gave up its dial", &["F01"], failed, None, code(1)),
        attempted("Ctrl-C before an answer", &[], failed, None, ExitStatus::Signal(2)),
        attempted("a kubelet was reached", &[], RungState::Reached, None, code(1)),
        of("the node drops what comes to its kubelet", &["F01"], "192.168.205.12:10250", 5),
        of("a dial has just begun", &[], "192.168.205.12:10250", 0),
        of("a webhook cannot be reached", &[], "192.168.205.12:443", 5),
    ]
}
