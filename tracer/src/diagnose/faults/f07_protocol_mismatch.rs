//! F07: the runtime refuses the protocol.

use super::{
    f06_streams_missing::{at_runtime, idle_stream},
    prelude::*,
};

pub(super) const FAULT: Fault = Fault {
    code: "F07",
    name: "the runtime refuses the protocol",
    short: "protocol refused",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::Any,
    means: "The kubelet connected to the runtime's streaming server, sent its request, and was refused at once. \
            Nothing was started.",
    why: "The server speaks only WebSocket (conmon-rs) and the kubelet asks for SPDY, or the server does not support \
          the requested protocol version. Another cause is a token that was used before or is older than a minute.",
    needs: "A session traced to its end, with the bytes of its closed legs, and a kubectl on this host that ended with \
            an error.",
    apart: &[
        Apart { code: "F06", by: "the runtime closed the connection at once, not after 30 seconds" },
        Apart { code: "F02", by: "the kubelet got the request and went on to the runtime" },
    ],
    next: &[
        "Read the runtime's answer in the kubelet's log, and compare the protocols that both support.",
        "CRI-O: stream_websockets needs a kubelet that speaks WebSocket to the runtime.",
    ],
    manual: &[
        "tcpdump -nAi lo port {port}   # while it is tried again: request and answer are plain text",
        "journalctl _PID={kubelet} | grep -i -e upgrade -e 'bad handshake'",
    ],
    sources: &["kubernetes/kubernetes#133448", "cri-o/cri-o#9289", "KEP-4006, non-goal 2"],
    made: Made::Scenario("needs a runtime that refuses: conmon-rs is not in the lab"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// Size of an HTTP answer that refuses, with its headers and a line of text. A larger answer would contain streams.
const ANSWER: std::ops::RangeInclusive<u64> = 1..=2_000;
/// The request and its refusal take a round trip on loopback.
const QUICK: Span = Span::from_secs(1);

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let leg = idle_stream(ctx).filter(|_| ctx.age() < QUICK)?;
    let (sent, received) = ctx.bytes(&leg)?;
    // A signal that ends kubectl also ends the session.
    let failed = matches!(ctx.client_exit(), Some(ExitStatus::Code(1..)));
    if sent == 0 || !ANSWER.contains(&received) || !failed {
        return None;
    }
    Some(
        at_runtime(ctx, &leg)
            .with(number("sent to the runtime", sent, "bytes"))
            .with(number("its answer", received, "bytes"))
            .with(number("the session lasted", ctx.age().as_millis(), "ms")),
    )
}

#[cfg(test)]
use super::f06_streams_missing::ended;
#[cfg(test)]
use crate::diagnose::fixture::Fixture;

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], received: u64, exit: ExitStatus| {
        let mut fixture = ended(about, named, 30);
        fixture.session(|session| {
            let leg = session.links[4].tcp.as_mut().unwrap();
            (leg.sent, leg.received) = (Some(410), Some(received));
            session.hops[0].exit = Some(exit);
        });
        fixture
    };
    vec![
        of("a 4xx answer", &["F07"], 190, ExitStatus::Code(1)),
        of("Ctrl-C right after the start", &[], 190, ExitStatus::Signal(2)),
        of("streams were opened", &[], 9_000, ExitStatus::Code(1)),
    ]
}
