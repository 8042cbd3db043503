//! F16.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F16",
    name: "the client does not read",
    short: "slow reader",
    severity: Severity::Fault,
    step: Step::Queues,
    means: "Output stands still: one program on the way has stopped taking it, and everything behind it waits, down to the \
            command, which blocks in write(2) and cannot end.",
    why: "kubectl writes to a pipe or a terminal that nobody reads: a pager, a program that was stopped, a paused terminal \
          (Ctrl-S), kubectl itself stopped by job control (Ctrl-Z). Further inwards it is a daemon that is stopped or stuck.",
    needs: "Two samples of the queues and counters of both ends of the legs. Of a client on another host the shut window of \
            this host's end tells.",
    apart: &[
        Apart { code: "F17", by: "the other end is there: it is what does not read" },
        Apart { code: "F18", by: "the other end answers: its window is shut, nothing is sent again in vain" },
        Apart { code: "F21", by: "what is full lies nearer to the client than the FIFO" },
        Apart { code: "F22", by: "bytes wait in a queue that somebody else has to empty" },
    ],
    next: &[
        "See what the program named above waits for: its state, and where its output goes.",
        "A stopped kubectl goes on with `fg` or `kill -CONT`; a paused terminal with Ctrl-Q; a pager by reading on or quitting it.",
        "To give the session up, end kubectl: the command then gets an error or SIGPIPE at its next write.",
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
    scenes,
};

fn rule(case: &Case<'_>) -> Option<Found> {
    let case_is_open = case.is_open();
    let output = queues::output(case).filter(|_| case_is_open);
    if let Some(stuck) = output {
        let reader = stuck.leg.from_near();
        return Some(found(case, &stuck, &reader, names(case, reader.hop)));
    }
    // That a command does not read its input is its own affair. That it asks for input, which waits elsewhere, is not.
    case.reads_stdin().filter(|_| case_is_open)?;
    let stuck = queues::input(case)?;
    Some(found(case, &stuck, &stuck.leg.from_far(), Some("what is typed is not passed on")))
}

fn names(case: &Case<'_>, reader: Option<usize>) -> Option<&'static str> {
    let role = reader.and_then(|at| case.session.hops.get(at)).map(|hop| hop.role);
    match role {
        Some(Role::ApiServer) => Some("the API server does not read"),
        Some(Role::Kubelet) => Some("the kubelet does not read"),
        Some(Role::Runtime) => Some("the runtime does not read"),
        Some(Role::Proxy) => Some("a proxy on the way does not read"),
        None | Some(Role::Client | Role::Etcd | Role::Shim | Role::Runc | Role::Process) => None,
    }
}

fn found(case: &Case<'_>, stuck: &queues::Stuck<'_>, reader: &Side<'_>, name: Option<&'static str>) -> Found {
    let mut found = Found { name, ..case.found_at(reader) };
    let who = case.called(reader.hop);
    if let Some(unread) = stuck.unread {
        found = found.with(number(
            format!("recv_q of {who}, nothing taken out between the samples"),
            unread.into(),
            "bytes",
        ));
    }
    if let Some(refused) = stuck.refused {
        found = found.with(number(format!("send_q towards {who}, its window is shut"), refused.into(), "bytes"));
    }
    let hop = reader.hop.and_then(|at| case.session.hops.get(at));
    if let Some(series) = hop.and_then(|hop| case.process(hop.task)) {
        found = found.with(word(format!("state of {who}"), series.last.state.to_string().as_str()));
    }
    found
}

#[cfg(test)]
use crate::{
    diagnose::scene::{KUBECTL, On, PROCESS, Scene, info},
    model::{FileKind, Timer, TimerKind},
};

#[cfg(test)]
fn scenes() -> Vec<Scene> {
    let mut client = Scene::new("kubectl is stopped", &["F16"]);
    backed_up(&mut client, On::Client);
    client.process(KUBECTL, |process, _| process.state = 'T');

    let mut deep = Scene::new("everything is full, down to the process", &["F16"]);
    for leg in [On::Client, On::Kubelet, On::Stream] {
        backed_up(&mut deep, leg);
    }
    deep.full(FileKind::Fifo, 71);
    deep.full(FileKind::Pipe, 61);
    deep.waits(PROCESS, "write", Some(1));

    let mut kubelet = Scene::new("the kubelet is the first who does not read", &["F16"]);
    backed_up(&mut kubelet, On::Stream);

    let mut beyond = Scene::new("the client on another host does not read", &["F16"]);
    beyond.session(|session| {
        session.hops.remove(0);
        session.links.remove(0);
        for link in &mut session.links {
            (link.from, link.to) = (link.from - 1, link.to - 1);
        }
        session.beyond.push(("client", "10.0.0.7:51233".parse().unwrap()));
    });
    backed_up(&mut beyond, On::Client);

    let mut input = Scene::new("the process asks for input that the kubelet does not take", &["F16"]);
    input.waits(PROCESS, "read", Some(0));
    input.far(On::Kubelet, |tcp, _| tcp.recv_q = 3_000);

    let mut slow = Scene::new("a slow reader reads", &[]);
    backed_up(&mut slow, On::Client);
    slow.near(On::Client, |tcp, number| info(tcp).bytes_received += 100 * number);

    let mut deaf = Scene::new("a command that does not read its input", &[]);
    deaf.waits(PROCESS, "clock_nanosleep", None);
    deaf.far(On::Stream, |tcp, _| tcp.recv_q = 3_000);
    vec![client, deep, kubelet, beyond, input, slow, deaf]
}

#[cfg(test)]
fn backed_up(scene: &mut Scene, leg: On) {
    scene.near(leg, |tcp, _| {
        tcp.recv_q = 100_000;
        info(tcp).bytes_received = 1_000_000;
    });
    scene.far(leg, |tcp, _| {
        tcp.send_q = 2_000_000;
        tcp.timer = Some(Timer { kind: TimerKind::Probe, expires_ms: 800, retries: 4 });
        info(tcp).send_window = Some(0);
    });
}
