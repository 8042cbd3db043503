//! F18: no answer from the other side.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F18",
    name: "no answer from the other side",
    short: "black hole",
    severity: Severity::Fault,
    step: Step::Silence,
    kinds: Kinds::Any,
    means: "Data from this side is not acknowledged, and nothing arrives: the path to the other side, or its host, is \
            down without notice. The connection looks established until the kernel gives up after about 15 minutes.",
    why: "A node lost power or its network, a route or firewall rule changed, or a NAT dropped its entry and discards \
          packets silently.",
    needs: "Two samples of one end: its retransmissions, and the time since anything arrived.",
    apart: &[
        Apart { code: "F19", by: "nothing arrives at all, small or large" },
        Apart { code: "F17", by: "the other end, if it is on this host, still exists" },
        Apart { code: "F16", by: "the other side's window is open; it does not answer" },
    ],
    next: &[
        "Check that this host can reach the other one. Look at the node, at routes, and at recent changes.",
        "To end the session at once, end kubectl, or close the socket with ss -K.",
    ],
    manual: &[
        "ss -tnpoi 'src {local} and dst {remote}'   # timer:(on,…,N), backoff, unacked, lastrcv",
        "ping -c 3 {host}; ip route get {host}",
        "tcpdump -ni any host {host} and port {port}",
    ],
    sources: &[
        "kubernetes/kubernetes#52176",
        "kubernetes/kubernetes#48670",
        "kubernetes/kubernetes#41185",
        "kubernetes/kubernetes#87615",
    ],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// The first retransmission timeouts of a connection, 0.2 to 1 s, add up to more than this after three of them.
const SILENT: u32 = 2_000;
/// Unanswered keepalive probes: Go sends them every 15 s.
const PROBES: u8 = 3;

/// Milliseconds since anything arrived, and the number of retries, of an end that waits for an answer.
pub(super) fn silent(series: &Series<TcpMeasure>) -> Option<(u32, u8)> {
    let (last, before) = both(series)?;
    let (now, then) = (last.info?, before.info?);
    let still = now.bytes_acked == then.bytes_acked && now.bytes_received == then.bytes_received;
    let waits = |tcp: &TcpMeasure| {
        let probes = tcp.timer.filter(|timer| timer.kind == TimerKind::KeepAlive).map_or(0, |timer| timer.retries);
        tcp.state == TcpState::Established && (retransmits(tcp) || probes >= PROBES)
    };
    let unheard = |info: TcpInfo| info.last_received_ms >= SILENT && info.last_ack_ms >= SILENT;
    let sure = still && waits(last) && waits(before) && unheard(now) && unheard(then);
    let times = last.timer.map_or(now.backoff, |timer| timer.retries);
    sure.then_some((now.last_received_ms.min(now.last_ack_ms), times))
}

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let sides = ctx.legs().into_iter().filter(|_| ctx.is_open()).flat_map(Leg::sides);
    sides.into_iter().find_map(|side| {
        let series = side.end?.series?;
        let (heard, times) = silent(series)?;
        let other = ctx.called(side.other_hop);
        Some(
            ctx.found_at(&side)
                .with(number(format!("unanswered retransmissions of {}", ctx.called(side.hop)), times.into(), ""))
                .with(number(format!("bytes not acknowledged by {other}"), series.last.send_q.into(), "bytes"))
                .with(number("since the last segment from it", heard.into(), "ms")),
        )
    })
}

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, On, info},
    model::Timer,
};

#[cfg(test)]
pub(super) fn sends_again(tcp: &mut TcpMeasure) {
    tcp.timer = Some(Timer { kind: TimerKind::Retransmit, expires_ms: 6_000, retries: 6 });
    tcp.send_q = 4_000;
    let info = info(tcp);
    (info.backoff, info.retransmits, info.unacked, info.total_retransmits) = (6, 6, 3, 6);
}

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], heard: u32| {
        let mut fixture = Fixture::new(about, named);
        fixture.near(On::Kubelet, |tcp, _| {
            sends_again(tcp);
            (info(tcp).last_received_ms, info(tcp).last_ack_ms) = (heard, heard);
        });
        fixture
    };
    let mut probes = Fixture::new("an idle leg whose probes nobody answers", &["F18"]);
    probes.far(On::Client, |tcp, _| {
        tcp.timer = Some(Timer { kind: TimerKind::KeepAlive, expires_ms: 9_000, retries: 4 });
        (info(tcp).last_received_ms, info(tcp).last_ack_ms) = (600_000, 600_000);
    });
    let mut lossy = of("a lossy network", &[], 40_000);
    lossy.near(On::Kubelet, |tcp, number| info(tcp).bytes_acked += number * 100);
    let mut one_way = of("acknowledgements are lost: what is sent again arrives, and had arrived", &["F18"], 40_000);
    one_way.near(On::Kubelet, |tcp, _| tcp.send_q = 90_000);
    one_way.far(On::Kubelet, |tcp, number| {
        info(tcp).bytes_received += 60_000;
        info(tcp).data_segments_in += 2 * u32::try_from(number).unwrap();
    });
    vec![of("the node is gone", &["F18"], 40_000), probes, of("answers come", &[], 100), lossy, one_way]
}
