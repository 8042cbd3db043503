//! F17: one end of the connection is gone.

use super::{f18_black_hole::silent, prelude::*};

pub(super) const FAULT: Fault = Fault {
    code: "F17",
    name: "one end of the connection is gone",
    short: "half a leg",
    severity: Severity::Fault,
    step: Step::Silence,
    kinds: Kinds::Any,
    means: "One side has closed the connection or received a reset; the other side does not know and waits. Input goes \
            nowhere, and the command runs on unattended.",
    why: "A load balancer, NAT or firewall between both ends dropped the idle connection (after 20 seconds to 4 hours) \
          and reset only one side.",
    needs: "Two samples with both ends on this host: one end is established, and the kernel does not know the other. \
            If the other end was gone before the first scan, the remaining end must also have unanswered \
            retransmissions.",
    apart: &[
        Apart { code: "F18", by: "the other end no longer exists" },
        Apart { code: "F30", by: "the process at the other end is still running" },
        Apart { code: "F28", by: "the remaining end has received no notice that the connection is over" },
    ],
    next: &[
        "End kubectl: the session is lost. Look for the command that it left running.",
        "Raise the idle timeout of the device between the ends above the ping interval. kubectl pings every 5 s since \
         about 1.21; older versions and other clients send no pings.",
    ],
    manual: &[
        "ss -tnpoi 'src {local} and dst {remote}'   # stands",
        "ss -tnpoi 'src {remote} and dst {local}'   # in the other end's network namespace: nothing",
    ],
    sources: &[
        "kubernetes/kubernetes#66661",
        "kubernetes/kubernetes#94301",
        "kubernetes/kubeadm#1685",
        "gravitational/teleport#3765",
        "kubernetes-sigs/kind#740",
    ],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// True if `stands` was established in both samples and `gone` did not exist by then.
fn is_half(ctx: &SessionCtx<'_>, stands: End<'_>, gone: End<'_>) -> bool {
    let Some(series) = stands.series.filter(|series| twice(series, |tcp| tcp.state == TcpState::Established)) else {
        return false;
    };
    // An end with a measurement in the sample before existed at that time, and may have gone a moment ago.
    let earlier = series.before.as_ref().map(|(at, _)| *at);
    ctx.host.report.measures.gone(gone.socket).is_some()
        && gone.series.is_none_or(|series| earlier.is_some_and(|earlier| series.at < earlier))
}

/// The remaining end of a leg whose both ends were known once.
fn between_hops<'a>(ctx: &SessionCtx<'a>) -> Option<Side<'a>> {
    let sides = ctx.legs().into_iter().flat_map(Leg::sides);
    sides.into_iter().find(|side| side.end.zip(side.other).is_some_and(|(end, other)| is_half(ctx, end, other)))
}

/// The outermost end, whose other end was gone before the first scan. It sends without an answer, and no kernel table
/// lists its other end, although the address is this host's. The missing answer rules out that NAT hides the other end
/// under another address.
fn outermost<'a>(ctx: &SessionCtx<'a>) -> Option<Side<'a>> {
    ctx.outermost().find(|side| {
        let Some(end) = side.end else { return false };
        let other = ctx.host.report.measures.peer(end.socket);
        end.series.is_some_and(|series| silent(series).is_some()) && other.is_some_and(|it| twice(it, Option::is_none))
    })
}

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let side = between_hops(ctx).or_else(|| outermost(ctx))?;
    let gone = side
        .other_hop
        .map_or_else(|| "its other end, on this host".to_owned(), |_| format!("end of {}", ctx.called(side.other_hop)));
    let found = ctx
        .found_at(&side)
        .with(word(format!("end of {}", ctx.called(side.hop)), "ESTABLISHED"))
        .with(word(gone, "no longer known to the kernel"));
    let info = side.end.and_then(|end| end.series?.last.info);
    Some(match info {
        Some(info) => found.with(number("since the last byte was received", info.last_received_ms.into(), "ms")),
        None => found,
    })
}

#[cfg(test)]
use super::f18_black_hole::sends_again;
#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, KUBECTL, On, idle, info},
    model::Timer,
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let mut cut = Fixture::new("the server's end was reset", &["F17"]);
    cut.each(|sample, _| {
        sample.tcp.remove(&11);
        sample.gone.push(11);
    });
    cut.near(On::Client, |tcp, number| {
        // The client goes on pinging.
        tcp.timer = Some(Timer { kind: TimerKind::Retransmit, expires_ms: 900, retries: 4 });
        info(tcp).unacked = 1;
        info(tcp).last_received_ms = 20_000 + 3_000 * u32::try_from(number).unwrap();
        info(tcp).last_ack_ms = 20_000;
    });
    let mut closed = cut.clone();
    closed.about = "the session was closed by it";
    closed.closes_after(30_000);
    let mut ending = Fixture::new("it is being closed", &[]);
    let alone = |about, named: &'static [&'static str], other: Option<TcpState>, waits: bool| {
        let mut fixture = Fixture::new(about, named);
        fixture.ends_after(1);
        fixture.outermost(KUBECTL, Role::Client, 200, "192.168.205.10:6443", other, |_| {
            let mut tcp = idle();
            if waits {
                sends_again(&mut tcp);
                (info(&mut tcp).last_received_ms, info(&mut tcp).last_ack_ms) = (20_000, 20_000);
            }
            tcp
        });
        fixture
    };
    let gone = alone("its other end went before anybody looked", &["F17"], None, true);
    let pending = alone("the API server has not accepted it yet", &[], Some(TcpState::Established), true);
    let translated = alone("its other end has another address", &[], None, false);
    ending.samples[1].tcp.remove(&11);
    ending.samples[1].gone.push(11);
    vec![cut, closed, ending, gone, pending, translated]
}
