//! F40: one unread connection blocks a port-forward.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F40",
    name: "one unread connection blocks the port-forward",
    short: "forward blocked",
    severity: Severity::Fault,
    step: Step::Queues,
    kinds: Kinds::PortForward,
    means: "A program on kubectl's host does not read its forwarded connection. All connections of a port-forward share one \
            connection to the API server, and kubectl cannot read past the bytes that it cannot deliver: every other \
            connection of this port-forward stands still as well.",
    why: "A program that opened a connection to the forwarded port and stopped reading: a paused download, a stopped \
          client, a browser tab in the background, a connection pool that forgot one.",
    needs: "Two samples on kubectl's host: bytes that kubectl has not read from the API server, and a forwarded connection \
            whose reader accepts nothing more.",
    apart: &[
        Apart { code: "F16", by: "kubectl runs, and waits for a program that reads from it" },
        Apart { code: "F17", by: "the program's end of the connection exists; it does not read" },
        Apart { code: "F39", by: "the connection in the pod was established" },
        Apart { code: "F18", by: "the other end answers: its window is zero, and no retransmission is unanswered" },
    ],
    next: &[
        "End or continue the program that does not read (below): the other connections go on at once.",
        "Use one `kubectl port-forward` for each client that may stop reading.",
    ],
    manual: &[
        "ss -tnpo 'src {local} and dst {remote}'   # Send-Q, and the timer `persist`: kubectl cannot deliver",
        "ss -tnp 'src {remote} and dst {local}'   # the program, and its Recv-Q",
    ],
    sources: &["kubernetes/kubectl#1620", "kubernetes/kubectl#1368"],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// Name of a match with several candidates: the one that blocks the others is not known.
const SEVERAL: &str = "unread connections block the port-forward";

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let is_forward = ctx.is_open() && ctx.session.kind == Kind::PortForward;
    let (at, kubectl) = ctx.hop(Role::Client).filter(|(_, hop)| is_forward && !ctx.is_stopped(hop.task))?;
    let stuck = queues::output(ctx).filter(|stuck| stuck.leg.near_hop == Some(at))?;
    let unread = stuck.unread?;
    // Every connection that a kubectl accepts is a forwarded one: it serves nothing else.
    let blocked = ctx.host.refused_by_peer(kubectl.task);
    let (first, _) = blocked.first()?;
    let tuple = first.socket.tuple?;
    let accepted = ctx.host.report.unattributed.iter().filter(|one| one.task == kubectl.task);
    let accepted = accepted.filter(|one| one.socket.role == Some(SocketRole::Accepted)).count();
    let about = About {
        pid: first.peer.map(|peer| peer.tgid),
        local: Some(tuple.local),
        remote: Some(tuple.remote),
        inode: first.socket.id.inode,
        ..About::default()
    };
    let since = SessionCtx::at_least_since(ctx.host.end(first.socket.id));
    let name = (blocked.len() > 1).then_some(SEVERAL);
    let mut found = RuleMatch { name, hop: Some(at), link: stuck.leg.link, about, since, ..RuleMatch::default() }.with(
        number("recv_q of kubectl's connection to the API server, unread between the samples", unread.into(), "bytes"),
    );
    for (one, refused) in blocked.iter().take(MOST) {
        let to = one.socket.tuple.map_or_else(String::new, |tuple| format!(" {}", tuple.remote));
        let what = format!("send_q towards the program at{to}, whose window is zero");
        found = found.with(number(what, (*refused).into(), "bytes"));
    }
    let others = (accepted - blocked.len().min(accepted)) as u64;
    Some(found.with(number("other connections of this port-forward", others, "")))
}

/// Most unread connections that are listed.
const MOST: usize = 4;

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, KUBECTL, On, idle, info},
    model::Timer,
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let mut one = forward("one program does not read, another one starves", &["F40"]);
    unread(&mut one);
    local(&mut one, 0, Some(TimerKind::Probe));
    local(&mut one, 1, None);

    let mut two = forward("two programs do not read", &["F40"]);
    unread(&mut two);
    local(&mut two, 0, Some(TimerKind::Probe));
    local(&mut two, 1, Some(TimerKind::Probe));

    let mut stopped = forward("kubectl is stopped, and so a program cannot be served", &["F16"]);
    unread(&mut stopped);
    local(&mut stopped, 0, Some(TimerKind::Probe));
    stopped.process(KUBECTL, |process, _| process.state = 'T');

    let mut nobody = forward("kubectl does not read, and every program would", &["F16"]);
    unread(&mut nobody);
    local(&mut nobody, 0, None);

    let mut silent = forward("the host of a program does not answer", &["F16"]);
    unread(&mut silent);
    local(&mut silent, 0, Some(TimerKind::Retransmit));

    let mut slow = forward("a program does not read, and kubectl still reads for the others", &[]);
    unread(&mut slow);
    slow.near(On::Client, |tcp, number| info(tcp).bytes_received += 100 * number);
    local(&mut slow, 0, Some(TimerKind::Probe));

    let mut exec = Fixture::new("an exec's kubectl that does not read", &["F16"]);
    unread(&mut exec);
    local(&mut exec, 0, Some(TimerKind::Probe));
    vec![one, two, stopped, nobody, silent, slow, exec]
}

/// A port-forward that reaches the runtime.
#[cfg(test)]
fn forward(about: &'static str, named: &'static [&'static str]) -> Fixture {
    let mut fixture = Fixture::new(about, named);
    fixture.ends_after(4);
    fixture.session(|session| {
        session.kind = Kind::PortForward;
        session.exec_id = None;
    });
    fixture
}

/// kubectl has read nothing from the API server.
#[cfg(test)]
fn unread(fixture: &mut Fixture) {
    fixture.near(On::Client, |tcp, _| {
        tcp.recv_q = 100_000;
        info(tcp).bytes_received = 1_000_000;
    });
}

/// A connection to the forwarded port: bytes wait at kubectl, with this timer. Without a timer the program reads.
#[cfg(test)]
fn local(fixture: &mut Fixture, number: u64, timer: Option<TimerKind>) {
    let remote = format!("127.0.0.1:5134{number}");
    fixture.stray_from(KUBECTL, Role::Client, 200 + 10 * number, "127.0.0.1:18081", &remote, |_| {
        timer.map_or_else(idle, |kind| {
            let timer = Some(Timer { kind, expires_ms: 800, retries: 4 });
            TcpMeasure { send_q: 3_900_416, timer, ..idle() }
        })
    });
    fixture.loose.last_mut().unwrap().socket.role = Some(SocketRole::Accepted);
}
