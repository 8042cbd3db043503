//! F08: the runtime does not answer the kubelet.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F08",
    name: "the runtime does not answer the kubelet",
    short: "runtime silent",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::Any,
    means: "The kubelet has the request and asks the runtime over the CRI, but the runtime does not read its socket. \
            Nothing is dialled or started, and kubectl hangs. Other pods of the node are affected, too: PLEG becomes \
            unhealthy.",
    why: "The runtime is stopped, out of threads, or holds a lock while it waits for a shim or for the disk.",
    needs: "A trace of the session's arrival at the kubelet, and two samples: the runtime's process, or the queue of \
            its socket. A runtime that reads its socket and then waits for a lock looks busy from outside and is not \
            reported.",
    apart: &[
        Apart { code: "F09", by: "the runtime has not even answered with the URL of a stream" },
        Apart { code: "F01", by: "the kubelet was reached" },
        Apart { code: "F04", by: "the API server has asked the kubelet" },
    ],
    next: &[
        "Check the runtime's state and its goroutines (SIGUSR1 makes containerd and dockerd dump their stacks).",
        "Restart the runtime if it does not recover. With containerd, containers keep running and running execs lose \
         their output.",
    ],
    manual: &[
        "grep State /proc/{pid}/status",
        "timeout 5 crictl version || echo 'no answer'",
        "ss -xlp | grep -e containerd.sock -e crio.sock   # Recv-Q: connections that no process accepts",
        "kill -USR1 {pid}   # containerd: stacks of its goroutines, to its log",
    ],
    sources: &["containerd/containerd#2438", "containerd/containerd#13814", "containerd/containerd#3440"],
    made: Made::Lab,
    rule: Rule::Daemon(of_session, of_host),
    #[cfg(test)]
    fixtures,
};

/// The CRI's Exec only creates a token, within milliseconds.
const LONG: Span = Span::from_secs(10);

fn of_session(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let asked = ctx.is_open() && ctx.is_seen_whole() && ctx.age() >= LONG;
    let (at, _) = ctx.hop(Role::Kubelet).filter(|_| asked && ctx.last_role() == Some(Role::Kubelet))?;
    let stopped = ctx.host.all(Role::Runtime).find(|task| ctx.is_stopped(*task));
    let unread = unread_requests(ctx.host);
    if stopped.is_none() && unread.is_none() {
        return None;
    }
    let runtime = stopped.or_else(|| ctx.host.all(Role::Runtime).next());
    let inode = unread.map(|(inode, _)| inode);
    let about = About { pid: runtime.map(|task| task.tgid), inode, ..About::default() };
    let mut found = RuleMatch { hop: Some(at), about, task: stopped, ..RuleMatch::default() }.with(number(
        "since the kubelet got the request, without a connection to the runtime",
        ctx.age().as_millis(),
        "ms",
    ));
    if let Some(task) = stopped {
        found = found.with(word(format!("state of the runtime (pid {})", task.tgid), "T"));
    }
    if let Some((_, bytes)) = unread {
        found = found.with(number("recv_q of the runtime's CRI socket, unread", bytes.into(), ""));
    }
    Some(found)
}

/// Stopped runtimes: a stopped runtime answers no request and passes no byte on.
fn of_host(host: &Host<'_>) -> Vec<RuleMatch> {
    let stopped = host.all(Role::Runtime).filter(|task| host.is_stopped(*task));
    let found = |task: TaskKey| {
        let about = About { pid: Some(task.tgid), ..About::default() };
        let state = word(format!("state of the runtime (pid {})", task.tgid), "T");
        RuleMatch { about, task: Some(task), ..RuleMatch::default() }.with(state)
    };
    stopped.map(found).collect()
}

/// The unread queue of a runtime's socket, if it has not shrunk between the samples: bytes, or connections of a
/// listener.
fn unread_requests(host: &Host<'_>) -> Option<(u64, u32)> {
    let endpoints = Endpoints::default();
    host.report.measures.unixes().find_map(|((_, inode), path, series)| {
        let (last, before) = both(series).filter(|_| path.is_some_and(|path| endpoints.is_runtime_socket(path)))?;
        (before.recv_q > 0 && last.recv_q >= before.recv_q).then_some((inode, last.recv_q))
    })
}

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, RUNTIME},
    model::{State, UnixMeasure},
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let waiting = |about, named: &'static [&'static str]| {
        let mut fixture = Fixture::new(about, named);
        // Another session makes the runtime known.
        let mut other = fixture.sessions[0].clone();
        other.id.0 = "s-other".into();
        other.state = State::Closed;
        other.closed_at = Some(other.opened_at);
        fixture.ends_after(3);
        fixture.sessions.push(other);
        fixture
    };
    let mut stopped = waiting("containerd is stopped", &["F08"]);
    stopped.process(RUNTIME, |process, _| process.state = 'T');
    let socket = |fixture: &mut Fixture, queues: [u32; 2]| {
        fixture.each(|sample, number| {
            let recv_q = queues[usize::try_from(number).unwrap()];
            let measure = UnixMeasure { recv_q, send_q: 0 };
            sample.unix.insert(90, ("/run/containerd/containerd.sock".into(), measure));
        });
    };
    let mut unread = waiting("nobody reads the CRI socket", &["F08"]);
    socket(&mut unread, [300, 700]);
    let mut busy = waiting("the CRI socket is read", &[]);
    socket(&mut busy, [700, 0]);
    let mut through = Fixture::new("a stopped runtime holds up the session that goes through it", &["F08"]);
    through.process(RUNTIME, |process, _| process.state = 'T');
    through.waits(crate::diagnose::fixture::PROCESS, "read", Some(0));
    let mut two = through.clone();
    (two.about, two.named) = ("it holds up each of them", &["F08", "F08"]);
    let mut second = two.sessions[0].clone();
    second.id.0 = "s-second".into();
    two.sessions.push(second);
    let mut moment = Fixture::new("the runtime was stopped for a moment", &["F23"]);
    moment.process(RUNTIME, |process, number| process.state = if number == 0 { 'T' } else { 'S' });
    moment.waits(crate::diagnose::fixture::PROCESS, "read", Some(0));
    let mut nobodys = Fixture::new("a runtime is stopped that no session goes through", &["F08"]);
    nobodys.process(RUNTIME, |process, _| process.state = 'T');
    nobodys.daemons.push((RUNTIME, Role::Runtime));
    nobodys.closes_after(50_000);
    let mut logs = waiting("a kubelet that answers itself, and a runtime that is well", &[]);
    socket(&mut logs, [0, 0]);
    let mut crio = Fixture::crio("crio is stopped", &["F08"]);
    let mut earlier = crio.sessions[0].clone();
    earlier.id.0 = "s-other".into();
    (earlier.state, earlier.closed_at) = (State::Closed, Some(earlier.opened_at));
    crio.ends_after(3);
    crio.sessions.push(earlier);
    crio.process(RUNTIME, |process, _| process.state = 'T');
    crio.each(|sample, number| {
        let measure = UnixMeasure { recv_q: 300 + u32::try_from(number).unwrap(), send_q: 0 };
        sample.unix.insert(90, ("/run/crio/crio.sock".into(), measure));
    });
    vec![stopped, unread, busy, logs, through, two, moment, nobodys, crio]
}
