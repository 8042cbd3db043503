//! F16: the client does not read.

use super::prelude::*;
use crate::model::Reading;

pub(super) const FAULT: Fault = Fault {
    code: "F16",
    name: "the client does not read",
    short: "slow reader",
    severity: Severity::Fault,
    step: Step::Queues,
    kinds: Kinds::Any,
    means: "Output is blocked: one program on the path has stopped reading, and everything behind it waits, down to \
            the command, which blocks in write(2) and cannot end.",
    why: "kubectl writes to a pipe or a terminal without a reader: a pager, a stopped program, a paused terminal \
          (Ctrl-S), or kubectl itself stopped by job control (Ctrl-Z). Further inwards the cause is a stopped or stuck \
          daemon.",
    needs: "Two samples of the queues and counters at both ends of the legs. For a client on another host, the zero \
            window at this host's end is the evidence.",
    apart: &[
        Apart { code: "F17", by: "the other end exists; it does not read" },
        Apart { code: "F18", by: "the other end answers: its window is zero, and no retransmission is unanswered" },
        Apart { code: "F21", by: "the full queue is nearer to the client than the FIFO" },
        Apart { code: "F40", by: "no connection that kubectl forwards waits for its reader" },
        Apart { code: "F22", by: "bytes wait in a queue that another program has to drain" },
    ],
    next: &[
        "Check the program named above: its state, and the destination of its output.",
        "Continue a stopped kubectl with `fg` or `kill -CONT`, a paused terminal with Ctrl-Q, a pager by reading on or \
         quitting.",
        "To abandon the session, end kubectl: the command then gets an error or SIGPIPE at its next write.",
    ],
    manual: &[
        "ss -tnpi 'src {local} and dst {remote}'   # Recv-Q here, Send-Q and the timer `persist` at the other end",
        "ss -tnpi 'src {remote} and dst {local}'",
        "grep State /proc/{pid}/status   # T: stopped",
        "ls -l /proc/{pid}/fd/1   # where its output goes",
    ],
    sources: &["cri-o/cri-o#6699", "kubernetes/kubernetes#96339", "kubernetes/kubernetes#35846"],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// Advice for a daemon or a proxy that does not read.
const DAEMON: Advice = Advice {
    next: &[
        "Check the process named above: its state, its load, its log. State T means that a signal stopped it: find \
         the cause, then continue it with `kill -CONT {pid}`.",
        "Every session through this process is blocked. Restarting the process ends these sessions.",
        "To abandon this session, end kubectl.",
    ],
    manual: &[
        "ss -tnpi 'src {local} and dst {remote}'   # Recv-Q: bytes that the process has not read",
        "ss -tnpi 'src {remote} and dst {local}'   # Send-Q, and the timer `persist`",
        "grep -e State -e Threads /proc/{pid}/status   # T: stopped",
        "top -b -n 1 -H -p {pid} | head -20",
    ],
};

/// Advice for a reader on another host.
const ELSEWHERE: Advice = Advice {
    next: &[
        "Run `execpath diagnose` on the host at the other end of the connection. Look for a stopped kubectl, a pager, \
         or a daemon that does not read.",
        "To abandon this session, end kubectl: the command then gets an error or SIGPIPE at its next write.",
    ],
    manual: &[
        "ss -tnpi 'src {remote} and dst {local}'   # here: Send-Q, and the timer `persist`",
        "ss -tnpi 'src {local} and dst {remote}'   # on the other host: Recv-Q",
    ],
};

/// Advice for a proxy that waits for one of several connections.
const SEVERAL: Advice = Advice {
    next: &[
        "List the connections of the process named above that wait for their reader (below). Check the client of each: \
         stopped, a pager, a paused terminal.",
        "To abandon this session, end its kubectl.",
    ],
    manual: &["ss -tnpo | grep -e persist | grep pid={pid},   # the reader at the other end takes nothing"],
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    if !ctx.is_open() {
        return None;
    }
    if let Some(stuck) = queues::output(ctx) {
        let reader = stuck.leg.near_side();
        return Some(outer_reader(ctx, &reader).unwrap_or_else(|| {
            let role = role(ctx, reader.hop);
            found(ctx, &stuck, &reader, names(role), advice(role))
        }));
    }
    // A command may ignore its input. A fault is only a command that waits for input while the input waits elsewhere.
    ctx.reads_stdin()?;
    let stuck = queues::input(ctx)?;
    let reader = stuck.leg.far_side();
    Some(found(ctx, &stuck, &reader, Some("input is not passed on"), advice(role(ctx, reader.hop))))
}

fn role(ctx: &SessionCtx<'_>, hop: Option<usize>) -> Option<Role> {
    hop.and_then(|at| ctx.session.hops.get(at)).map(|hop| hop.role)
}

fn names(role: Option<Role>) -> Option<&'static str> {
    match role {
        Some(Role::ApiServer) => Some("the API server does not read"),
        Some(Role::Kubelet) => Some("the kubelet does not read"),
        Some(Role::Runtime) => Some("the runtime does not read"),
        Some(Role::Proxy) => Some("a proxy on the path does not read"),
        None | Some(Role::Client | Role::Etcd | Role::Shim | Role::Runc | Role::Process) => None,
    }
}

fn advice(role: Option<Role>) -> Option<Advice> {
    match role {
        Some(Role::ApiServer | Role::Kubelet | Role::Runtime | Role::Proxy) => Some(DAEMON),
        None => Some(ELSEWHERE),
        // The advice of the fault itself is for kubectl.
        Some(Role::Client | Role::Etcd | Role::Shim | Role::Runc | Role::Process) => None,
    }
}

fn found(
    ctx: &SessionCtx<'_>,
    stuck: &queues::Stuck<'_>,
    reader: &Side<'_>,
    name: Option<&'static str>,
    advice: Option<Advice>,
) -> RuleMatch {
    let mut found = RuleMatch { name, advice, ..ctx.found_at(reader) };
    let who = ctx.called(reader.hop);
    if let Some(unread) = stuck.unread {
        found = found.with(unread_by(&who, unread));
    }
    if let Some(refused) = stuck.refused {
        found = found.with(refused_by(&who, refused));
    }
    let hop = reader.hop.and_then(|at| ctx.session.hops.get(at));
    with_state(ctx, found, &who, hop.map(|hop| hop.task))
}

fn unread_by(who: &str, bytes: u32) -> Reading {
    number(format!("recv_q of {who}, unread between the samples"), bytes.into(), "bytes")
}

fn refused_by(who: &str, bytes: u32) -> Reading {
    number(format!("send_q towards {who}, whose window is zero"), bytes.into(), "bytes")
}

fn with_state(ctx: &SessionCtx<'_>, found: RuleMatch, who: &str, task: Option<TaskKey>) -> RuleMatch {
    match task.and_then(|task| ctx.process(task)) {
        Some(series) => found.with(word(format!("state of {who}"), series.last.state.to_string().as_str())),
        None => found,
    }
}

/// The reader that a proxy waits for, if the proxy's inbound connection is not known. A proxy that cannot write does
/// not read. So the only accepted connection with an unread queue at its peer is followed outwards, from proxy to
/// proxy.
fn outer_reader(ctx: &SessionCtx<'_>, reader: &Side<'_>) -> Option<RuleMatch> {
    let host = ctx.host;
    let first = ctx.session.hops.get(reader.hop?).filter(|_| reader.hop == Some(0))?;
    let passes_on = matches!(first.role, Role::Proxy | Role::ApiServer | Role::Kubelet);
    if !passes_on || host.is_stopped(first.task) {
        return None;
    }
    let (mut found, mut role, mut followed) = (RuleMatch::default(), first.role, vec![first.task]);
    while let Some(&task) = followed.last() {
        let who = format!("{} (pid {})", role.token(), task.tgid);
        let refused = host.refused_by_peer(task);
        let (own, bytes) = match refused[..] {
            [] => return (followed.len() > 1).then(|| with_state(ctx, found, &who, Some(task))),
            [one] => one,
            [..] => {
                // More than one candidate: the right one is not known.
                let name = Some("one of several clients does not read");
                let found = RuleMatch { name, advice: Some(SEVERAL), ..ctx.found_at(reader) };
                let count =
                    number(format!("connections of {who} whose other end does not read"), refused.len() as u64, "");
                return Some(found.with(count));
            }
        };
        let tuple = own.socket.tuple?;
        let about = About { local: Some(tuple.remote), remote: Some(tuple.local), ..About::default() };
        let Some(peer) = host.peer_of(own) else {
            let name = Some("the other end of the connection does not read");
            let found = RuleMatch { name, advice: advice(None), about, ..found };
            return Some(found.with(refused_by("the other end", bytes)));
        };
        let end = host.end(peer.socket.id);
        let waiting = unread_at(end).filter(|_| !followed.contains(&peer.task))?;
        let next = format!("{} (pid {})", peer.role.token(), peer.task.tgid);
        let about = About { pid: Some(peer.task.tgid), inode: peer.socket.id.inode, ..about };
        let (name, advice) = (names(Some(peer.role)), advice(Some(peer.role)));
        found = RuleMatch { name, advice, about, since: SessionCtx::at_least_since(end), ..found }
            .with(number(format!("send_q of {who} towards {next}, whose window is zero"), bytes.into(), "bytes"))
            .with(unread_by(&next, waiting));
        role = peer.role;
        followed.push(peer.task);
    }
    None
}

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, KUBECTL, KUBELET, On, PROCESS, info},
    model::Timer,
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let mut client = Fixture::new("kubectl is stopped", &["F16"]);
    backed_up(&mut client, On::Client);
    client.process(KUBECTL, |process, _| process.state = 'T');

    let mut deep = Fixture::new("everything is full, down to the process", &["F16"]);
    for leg in [On::Client, On::Kubelet, On::Stream] {
        backed_up(&mut deep, leg);
    }
    deep.full(FileKind::Fifo, 71);
    deep.full(FileKind::Pipe, 61);
    deep.waits(PROCESS, "write", Some(1));

    let mut kubelet = Fixture::new("the kubelet is the first who does not read", &["F16"]);
    backed_up(&mut kubelet, On::Stream);

    let mut beyond = Fixture::new("the client on another host does not read", &["F16"]);
    beyond.session(|session| {
        session.hops.remove(0);
        session.links.remove(0);
        for link in &mut session.links {
            (link.from, link.to) = (link.from - 1, link.to - 1);
        }
        session.beyond.push(("client", "10.0.0.7:51233".parse().unwrap()));
    });
    backed_up(&mut beyond, On::Client);

    let mut input = Fixture::new("the process asks for input that the kubelet does not take", &["F16"]);
    input.waits(PROCESS, "read", Some(0));
    input.far(On::Kubelet, |tcp, _| tcp.recv_q = 3_000);

    let mut slow = Fixture::new("a slow reader reads", &[]);
    backed_up(&mut slow, On::Client);
    slow.near(On::Client, |tcp, number| info(tcp).bytes_received += 100 * number);

    let mut deaf = Fixture::new("a command that does not read its input", &[]);
    deaf.waits(PROCESS, "clock_nanosleep", None);
    deaf.far(On::Stream, |tcp, _| tcp.recv_q = 3_000);
    let mut crio = Fixture::crio("kubectl is stopped, everything is full down to the process of CRI-O", &["F16"]);
    for leg in [On::Client, On::Kubelet, On::Stream] {
        backed_up(&mut crio, leg);
    }
    crio.process(KUBECTL, |process, _| process.state = 'T');
    crio.full(FileKind::Pipe, 71);
    crio.full(FileKind::Pipe, 61);
    crio.waits(PROCESS, "write", Some(1));
    vec![client, deep, kubelet, beyond, input, slow, deaf, unjoined(1), unjoined(2), crio]
}

/// The kubelet's inbound connection is not known, and the peers of `refused` accepted connections do not read.
#[cfg(test)]
fn unjoined(refused: u64) -> Fixture {
    let mut fixture = Fixture::new("the kubelet writes to a kubectl that does not read", &["F16"]);
    fixture.session(|session| {
        session.hops.drain(..2);
        session.links.drain(..4);
        for link in &mut session.links {
            (link.from, link.to) = (link.from - 2, link.to - 2);
        }
    });
    fixture.gap(GapCode::Unjoined);
    backed_up(&mut fixture, On::Stream);
    for number in 0..refused {
        let inode = 200 + 10 * number;
        let (near, far) = (format!("192.168.205.10:5535{number}"), "192.168.205.11:10250");
        fixture.stray_from(KUBELET, Role::Kubelet, inode, far, &near, |_| TcpMeasure {
            send_q: 2_000_000,
            timer: Some(Timer { kind: TimerKind::Probe, expires_ms: 800, retries: 4 }),
            ..crate::diagnose::fixture::idle()
        });
        fixture.loose.last_mut().unwrap().socket.role = Some(SocketRole::Accepted);
        fixture.loose.last_mut().unwrap().peer = Some(crate::diagnose::fixture::task(KUBECTL));
        let unread = |_| TcpMeasure { recv_q: 90_000, ..crate::diagnose::fixture::idle() };
        fixture.stray_from(KUBECTL, Role::Client, inode + 1, &near, far, unread);
    }
    fixture
}

#[cfg(test)]
fn backed_up(fixture: &mut Fixture, leg: On) {
    fixture.near(leg, |tcp, _| {
        tcp.recv_q = 100_000;
        info(tcp).bytes_received = 1_000_000;
    });
    fixture.far(leg, |tcp, _| {
        tcp.send_q = 2_000_000;
        tcp.timer = Some(Timer { kind: TimerKind::Probe, expires_ms: 800, retries: 4 });
        info(tcp).send_window = Some(0);
    });
}
