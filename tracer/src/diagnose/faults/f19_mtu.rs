//! F19: large segments are lost.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F19",
    name: "large segments are lost",
    short: "MTU",
    severity: Severity::Fault,
    step: Step::Silence,
    kinds: Kinds::Any,
    means: "Small segments pass and full-sized ones do not: prompts and short answers work, and the first command with \
            large output hangs.",
    why: "A tunnel (VXLAN, IPIP, WireGuard, a VPN) lowers the path MTU below the hosts' MTU, and the ICMP message that \
          reports it is filtered.",
    needs: "Two samples of both ends of the leg on this host: the sender's queue and retransmissions, and small \
            segments that passed meanwhile. Those are others from the sender, or acknowledgements of the other end's \
            data (kubectl's pings).",
    apart: &[
        Apart { code: "F18", by: "small segments still pass, both ways" },
        Apart { code: "F16", by: "the reader's window is open" },
    ],
    next: &[
        "Find the largest size that passes (below), and set the MTU of the pods' network to it.",
        "Until then, set net.ipv4.tcp_mtu_probing=1 on the sender's host, or clamp the MSS in the tunnel.",
    ],
    manual: &[
        "ss -tni 'src {local} and dst {remote}'   # mss, pmtu, backoff",
        "for s in 1472 1422 1372 1272; do ping -M do -c 1 -W 1 -s $s {host} >/dev/null && echo $s passes; done",
        "tracepath -n {host}",
    ],
    sources: &["kubernetes/kubernetes#11555", "projectcalico/calico#7651", "superedge/superedge#275"],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// Evidence that small segments pass while a full one is retransmitted repeatedly.
struct Narrow {
    send_q: u32,
    /// Segments from the sender that reached the receiver, all out of order.
    arrived: u32,
    /// Bytes from the receiver that the sender acknowledged meanwhile. Acknowledgements are small segments.
    answered: u64,
}

/// Compares the samples of the sender with those of the receiver.
fn is_narrow(sender: End<'_>, receiver: End<'_>) -> Option<Narrow> {
    let (last, before) = both(sender.series?)?;
    let (there, earlier) = both(receiver.series?)?;
    let (now, then) = (last.info?, before.info?);
    let (there, earlier) = (there.info?, earlier.info?);
    let stuck = retransmits(last) && retransmits(before) && now.bytes_acked == then.bytes_acked;
    let large = now.send_mss > 0 && last.send_q >= now.send_mss && before.send_q >= now.send_mss;
    // The receiver counts bytes once they are in order. If it has the retransmitted bytes already, only
    // acknowledgements are lost. (The SYN counts as a byte at one of the ends.)
    let missing = there.bytes_received == earlier.bytes_received && there.bytes_received <= now.bytes_acked + 1;
    let arrived = there.data_segments_in.saturating_sub(earlier.data_segments_in);
    let answered = there.bytes_acked.saturating_sub(earlier.bytes_acked);
    let narrow = Narrow { send_q: last.send_q, arrived, answered };
    (stuck && large && missing && (arrived > 0 || answered > 0)).then_some(narrow)
}

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    // Output first: it is the larger direction.
    let sides = ctx.legs().into_iter().filter(|_| ctx.is_open()).flat_map(|leg| [leg.far_side(), leg.near_side()]);
    sides.into_iter().find_map(|side| {
        let (end, other) = side.end.zip(side.other)?;
        let Narrow { send_q, arrived, answered } = is_narrow(end, other)?;
        let info = end.series?.last.info?;
        let other = ctx.called(side.other_hop);
        Some(
            ctx.found_at(&side)
                .with(number(format!("send_q of {}", ctx.called(side.hop)), send_q.into(), "bytes"))
                .with(number("its maximum segment size", info.send_mss.into(), "bytes"))
                .with(number("unanswered retransmissions", info.backoff.into(), ""))
                .with(number("segments that arrived meanwhile, all out of order", arrived.into(), ""))
                .with(number(format!("acknowledged meanwhile to {other}"), answered, "bytes")),
        )
    })
}

#[cfg(test)]
use super::f18_black_hole::sends_again;
#[cfg(test)]
use crate::diagnose::fixture::{Fixture, On, info};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], send_q: u32, arrive: u32| {
        let mut fixture = Fixture::new(about, named);
        fixture.far(On::Kubelet, |tcp, _| {
            sends_again(tcp);
            tcp.send_q = send_q;
            (info(tcp).last_received_ms, info(tcp).last_ack_ms) = (900, 900);
        });
        fixture.near(On::Kubelet, |tcp, number| info(tcp).data_segments_in += arrive * u32::try_from(number).unwrap());
        fixture
    };
    let mut answered = of("the client's pings are acknowledged meanwhile", &["F19"], 90_000, 0);
    answered.near(On::Kubelet, |tcp, number| info(tcp).bytes_acked += 24 * number);
    vec![
        answered,
        of("pings pass, output does not", &["F19"], 90_000, 2),
        of("small segments are lost, too", &[], 90_000, 0),
        of("nothing large was sent", &[], 120, 2),
    ]
}
