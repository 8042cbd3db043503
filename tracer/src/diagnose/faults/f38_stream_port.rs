//! F38: the runtime's stream port cannot be reached.

use super::{dials::fruitless, prelude::*};

pub(super) const FAULT: Fault = Fault {
    code: "F38",
    name: "the runtime's stream port cannot be reached",
    short: "stream port",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::Any,
    means: "The runtime gave the kubelet the address of a stream, and the kubelet cannot connect to it: refused, or no \
            answer to its SYN. exec, attach and port-forward fail on this node; pods and logs work.",
    why: "A packet filter on the loopback interface, a runtime that serves streams at another address \
          (stream_server_address), or a proxy that takes the connection.",
    needs: "A trace of the attempt on the node: the kubelet's call of connect(2), and its error or no answer for three \
            seconds.",
    apart: &[
        Apart { code: "F37", by: "the kubelet tried to reach the runtime's stream" },
        Apart { code: "F07", by: "the connection was not established" },
        Apart { code: "F01", by: "the kubelet itself was reached" },
        Apart { code: "F39", by: "the runtime was not reached, and connected to no port in the pod" },
    ],
    next: &[
        "Look at the packet filter of the loopback interface: the port changes with each start of the runtime.",
        "Check the runtime's stream_server_address and stream_server_port.",
    ],
    manual: &[
        "curl -sv --max-time 3 http://{remote}/ 2>&1 | grep -i -e connected -e refused -e timed",
        "iptables -S | grep -e '-i lo' -e '-o lo' -e {port}",
        "ss -tlnp sport = :{port}",
    ],
    sources: &["kelseyhightower/kubernetes-the-hard-way#301"],
    made: Made::LabWith("diagnosed from a recorded trace"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let (at, kubelet) = ctx.hop(Role::Kubelet).filter(|_| ctx.last_role() == Some(Role::Kubelet))?;
    let (error, waited) = ("error of the kubelet's connect", "since the kubelet's SYN, without an answer");
    let (one, reading) = fruitless(ctx, Rung::StreamDialled, error, waited)?;
    let about = About { pid: Some(kubelet.task.tgid), remote: one.address, ..About::default() };
    let address = one.address.map(|address| word("address of the stream", address.to_string().as_str()));
    let found = RuleMatch { hop: Some(at), about, since: one.at, ..RuleMatch::default() }.with(reading);
    Some(match address {
        Some(address) => found.with(address),
        None => found,
    })
}

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, NOW, attempt},
    model::BootTime,
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], state: RungState, errno: Option<u32>, at: BootTime| {
        let mut fixture = Fixture::new(about, named);
        fixture.ends_after(3);
        fixture.session(|session| {
            let mut seen = attempt(&[(Rung::KubeletAccepted, RungState::Reached), (Rung::StreamDialled, state)]);
            let one = seen.as_mut().unwrap().rungs.last_mut().unwrap();
            (one.errno, one.at, one.address) = (errno, Some(at), Some("127.0.0.1:42367".parse().unwrap()));
            session.attempt = seen;
        });
        fixture
    };
    let (refused, dropped) = (RungState::Failed, RungState::Waiting);
    let ago = |millis: u64| NOW.minus(Span::from_millis(millis));
    let mut over = of("it was refused, and kubectl has ended", &["F38"], refused, Some(111), ago(59_000));
    over.closes_after(1_100);
    let mut given_up = of("the filter refused at once, or the kubelet gave up", &["F38"], refused, None, ago(59_000));
    given_up.closes_after(1_100);
    given_up.session(|session| session.hops[0].exit = Some(ExitStatus::Code(1)));
    let mut interrupted = of("Ctrl-C before an answer", &[], refused, None, ago(59_000));
    interrupted.closes_after(1_100);
    interrupted.session(|session| session.hops[0].exit = Some(ExitStatus::Signal(2)));
    let mut through = of("a second try was served", &["F23"], refused, Some(111), ago(59_000));
    let whole = Fixture::new("", &[]);
    (through.sessions[0].hops, through.sessions[0].links) =
        (whole.sessions[0].hops.clone(), whole.sessions[0].links.clone());
    through.samples = whole.samples.clone();
    through.waits(crate::diagnose::fixture::PROCESS, "read", Some(0));
    vec![
        of("refused", &["F38"], refused, Some(111), ago(10)),
        over,
        of("no answer", &["F38"], dropped, None, ago(5_000)),
        of("no answer yet", &[], dropped, None, ago(900)),
        of("the kubelet gave up", &[], refused, None, ago(10)),
        of("the stream was dialled", &[], RungState::Reached, None, ago(10)),
        given_up,
        interrupted,
        through,
    ]
}
