//! F19.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F19",
    name: "large segments are lost",
    short: "MTU",
    severity: Severity::Fault,
    step: Step::Silence,
    means: "Small segments pass and full ones do not: prompts and short answers work, and the first command with much output \
            hangs.",
    why: "A tunnel (VXLAN, IPIP, WireGuard, a VPN) makes the path narrower than the hosts believe, and the ICMP message that \
          would say so is filtered.",
    needs: "Two samples of both ends of the leg on this host: the sender's queue and what it sends again, and that segments \
            still arrive at the other end.",
    apart: &[
        Apart { code: "F18", by: "segments still arrive" },
        Apart { code: "F16", by: "the reader's window is open" },
    ],
    next: &[
        "Find the largest size that passes (below), and set the MTU of the pods' network to it.",
        "Until then: net.ipv4.tcp_mtu_probing=1 on the sender's host, or clamp the MSS in the tunnel.",
    ],
    manual: &[
        "ss -tni 'src {local} and dst {remote}'   # mss, pmtu, backoff",
        "for s in 1472 1422 1372 1272; do ping -M do -c 1 -W 1 -s $s {host} >/dev/null && echo $s passes; done",
        "tracepath -n {host}",
    ],
    sources: &["kubernetes/kubernetes#11555", "projectcalico/calico#7651", "superedge/superedge#275"],
    made: Made::Scenario("no fault-maker yet"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    scenes,
};

/// A full segment is sent again and again, while others arrive: read at the sender, and at the receiver.
fn is_narrow(sender: End<'_>, receiver: End<'_>) -> Option<(u32, u32)> {
    let (last, before) = both(sender.series?)?;
    let (there, earlier) = both(receiver.series?)?;
    let (now, then) = (last.info?, before.info?);
    let (there, earlier) = (there.info?, earlier.info?);
    let stuck = retransmits(last) && retransmits(before) && now.bytes_acked == then.bytes_acked;
    let large = now.send_mss > 0 && last.send_q >= now.send_mss && before.send_q >= now.send_mss;
    // Bytes are counted once they are in order; segments, when they come.
    let arrive = there.data_segments_in.saturating_sub(earlier.data_segments_in);
    let in_order = there.bytes_received == earlier.bytes_received;
    (stuck && large && in_order && arrive > 0).then_some((last.send_q, arrive))
}

fn rule(case: &Case<'_>) -> Option<Found> {
    case.legs().into_iter().filter(|_| case.is_open()).find_map(|leg| {
        let (near, far, tuple) = (leg.near?, leg.far?, leg.tuple?);
        let (hop, end, tuple, (send_q, arrive)) = match (is_narrow(far, near), is_narrow(near, far)) {
            (Some(read), _) => (leg.far_hop, far, tuple.mirrored(), read),
            (None, Some(read)) => (leg.near_hop, near, tuple, read),
            (None, None) => return None,
        };
        let about = About {
            pid: hop.and_then(|at| case.session.hops.get(at)).map(|hop| hop.task.tgid),
            inode: end.socket.inode,
            local: Some(tuple.local),
            remote: Some(tuple.remote),
            fd: None,
        };
        let info = end.series?.last.info?;
        let since = Case::at_least_since(Some(end));
        Some(
            Found { hop, link: leg.link, about, since, ..Found::default() }
                .with(number(format!("send_q of {}", case.called(hop)), send_q.into(), "bytes"))
                .with(number("its largest segment", info.send_mss.into(), "bytes"))
                .with(number("sent again in vain", info.backoff.into(), ""))
                .with(number("segments that arrived meanwhile, none in order", arrive.into(), "")),
        )
    })
}

#[cfg(test)]
use super::f18_black_hole::sends_again;
#[cfg(test)]
use crate::diagnose::scene::{On, Scene, info};

#[cfg(test)]
fn scenes() -> Vec<Scene> {
    let of = |about, named: &'static [&'static str], send_q: u32, arrive: u32| {
        let mut scene = Scene::new(about, named);
        scene.far(On::Kubelet, |tcp, _| {
            sends_again(tcp);
            tcp.send_q = send_q;
            (info(tcp).last_received_ms, info(tcp).last_ack_ms) = (900, 900);
        });
        scene.near(On::Kubelet, |tcp, number| info(tcp).data_segments_in += arrive * u32::try_from(number).unwrap());
        scene
    };
    vec![
        of("pings pass, output does not", &["F19"], 90_000, 2),
        of("small segments are lost, too", &[], 90_000, 0),
        of("nothing large was sent", &[], 120, 2),
    ]
}
