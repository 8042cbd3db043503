//! F17.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F17",
    name: "one end of the connection is gone",
    short: "half a leg",
    severity: Severity::Fault,
    step: Step::Silence,
    means: "One side has closed the connection, or was told that it is closed; the other does not know and waits. What is \
            typed goes nowhere, and the command runs on without anybody who sees it.",
    why: "A balancer, a NAT or a firewall between both forgot the connection because it was idle (20 seconds to 4 hours), and \
          reset one side alone.",
    needs: "Two samples, both ends on this host: one stands, and the kernel was asked for the other and does not know it.",
    apart: &[
        Apart { code: "F18", by: "the other end does not exist any more" },
        Apart { code: "F30", by: "the process at the other end did not end" },
        Apart { code: "F28", by: "the end that stands does not know that it is over" },
    ],
    next: &[
        "End kubectl: the session is lost. Look for the command that it left running.",
        "Raise the idle timeout of what lies in between above the interval of pings: kubectl's every 5 s since about 1.21; \
         older ones and other clients send none.",
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
    made: Made::Scenario("no fault-maker yet"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    scenes,
};

/// Whether `stands` stood in both samples while `gone` was gone.
fn is_half(case: &Case<'_>, stands: End<'_>, gone: End<'_>) -> bool {
    let Some(series) = stands.series.filter(|series| twice(series, |tcp| tcp.state == TcpState::Established)) else {
        return false;
    };
    // What was measured in the sample before was there then, and may have gone a moment ago.
    let earlier = series.before.as_ref().map(|(at, _)| *at);
    case.host.report.measures.gone(gone.socket).is_some()
        && gone.series.is_none_or(|series| earlier.is_some_and(|earlier| series.at < earlier))
}

fn rule(case: &Case<'_>) -> Option<Found> {
    case.legs().into_iter().find_map(|leg| {
        let (near, far) = leg.near.zip(leg.far)?;
        let tuple = leg.tuple?;
        let (hop, lost, end, tuple) = if is_half(case, near, far) {
            (leg.near_hop, leg.far_hop, near, tuple)
        } else if is_half(case, far, near) {
            (leg.far_hop, leg.near_hop, far, tuple.mirrored())
        } else {
            return None;
        };
        let about = About {
            pid: hop.and_then(|at| case.session.hops.get(at)).map(|hop| hop.task.tgid),
            inode: end.socket.inode,
            local: Some(tuple.local),
            remote: Some(tuple.remote),
            fd: None,
        };
        let since = Case::at_least_since(Some(end));
        let mut found = Found { hop, link: leg.link, about, since, ..Found::default() }
            .with(word(format!("end of {}", case.called(hop)), "ESTABLISHED"))
            .with(word(format!("end of {}", case.called(lost)), "not known to the kernel any more"));
        if let Some(info) = end.series.and_then(|series| series.last.info) {
            found = found.with(number("since something was received", info.last_received_ms.into(), "ms"));
        }
        Some(found)
    })
}

#[cfg(test)]
use crate::{
    diagnose::scene::{On, Scene, info},
    model::Timer,
};

#[cfg(test)]
fn scenes() -> Vec<Scene> {
    let mut cut = Scene::new("the server's end was reset", &["F17"]);
    cut.each(|sample, _| {
        sample.tcp.remove(&11);
        sample.gone.push(11);
    });
    cut.near(On::Client, |tcp, number| {
        // It goes on pinging.
        tcp.timer = Some(Timer { kind: TimerKind::Retransmit, expires_ms: 900, retries: 4 });
        info(tcp).unacked = 1;
        info(tcp).last_received_ms = 20_000 + 3_000 * u32::try_from(number).unwrap();
        info(tcp).last_ack_ms = 20_000;
    });
    let mut closed = cut.clone();
    closed.about = "the session was closed by it";
    closed.closes_after(30_000);
    let mut ending = Scene::new("it is being closed", &[]);
    ending.samples[1].tcp.remove(&11);
    ending.samples[1].gone.push(11);
    vec![cut, closed, ending]
}
