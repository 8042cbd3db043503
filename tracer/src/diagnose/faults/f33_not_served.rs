//! F33: a daemon does not serve.

use super::prelude::*;
use crate::model::{Hop, Reading};

pub(super) const FAULT: Fault = Fault {
    code: "F33",
    name: "a daemon does not serve",
    short: "not served",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::Any,
    means: "The API server or the kubelet is stopped: the kernel accepts connections on its behalf, and no request is \
            read. New sessions through it hang, and open ones pass no byte on.",
    why: "A debugger, a person or an agent stopped the process (SIGSTOP), or the host suspended it.",
    needs: "Two samples of the daemon's process in state T. A daemon that runs and does not answer, because of a lock or \
            without CPU time, is not reported.",
    apart: &[
        Apart { code: "F01", by: "the port accepts connections" },
        Apart { code: "F04", by: "the API server itself is stopped" },
        Apart { code: "F34", by: "the kubelet itself is stopped" },
        Apart { code: "F08", by: "the kubelet or the API server is stopped, not the runtime" },
        Apart { code: "F16", by: "the daemon is stopped, whatever waits in its queues" },
    ],
    next: &[
        "Find out who stopped the process: a debugger (TracerPid below), a shell's job control, an agent.",
        "Continue it with `kill -CONT {pid}`. Its connections stand, and the sessions go on.",
    ],
    manual: &[
        "grep -e State -e TracerPid /proc/{pid}/status   # T: stopped",
        "ss -tlnp | grep pid={pid},   # Recv-Q: connections that the process has not accepted",
        "ss -tnp | grep pid={pid},   # Recv-Q: bytes that the process has not read",
        "kill -CONT {pid}",
    ],
    sources: &["kubernetes/kubernetes#27884", "kubernetes/kubernetes#22259", "rancher/rancher#5518"],
    made: Made::Lab,
    rule: Rule::Daemon(of_session, of_host),
    #[cfg(test)]
    fixtures,
};

/// Daemons that serve requests over TCP. A stopped runtime is F08, a stopped shim F09.
const SERVERS: [Role; 2] = [Role::ApiServer, Role::Kubelet];

/// A session through a stopped daemon: whatever waits in the queues there, waits for the daemon.
fn of_session(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let is_stopped = |hop: &&Hop| SERVERS.contains(&hop.role) && ctx.is_stopped(hop.task);
    let stopped = ctx.session.hops.iter().find(|hop| ctx.is_open() && is_stopped(hop))?;
    // Without a client nothing is held up: the daemon keeps a connection that is over (F28).
    let is_over = |side: &Side<'_>| {
        side.end.and_then(|end| end.series).is_some_and(|series| series.last.state == TcpState::CloseWait)
    };
    if ctx.outermost().any(|side| is_over(&side)) {
        return None;
    }
    let at = ctx.place_of(stopped.task);
    let leg = ctx.legs().into_iter().rev().find(|leg| leg.far_hop == at);
    let found = found(stopped.role, stopped.task);
    let Some(leg) = leg else { return Some(RuleMatch { hop: at, ..found }) };
    let side = ctx.found_at(&leg.far_side());
    let about = About { pid: Some(stopped.task.tgid), ..side.about };
    let found = RuleMatch { hop: at, link: leg.link, about, since: side.since, ..found };
    Some(match unread_at(leg.far) {
        Some(bytes) => found.with(number("recv_q of its connection, unread", bytes.into(), "bytes")),
        None => found,
    })
}

/// Stopped daemons. Every session through one of them is held up.
fn of_host(host: &Host<'_>) -> Vec<RuleMatch> {
    let tasks = SERVERS.into_iter().flat_map(|role| host.all(role).map(move |task| (role, task)));
    tasks.filter(|(_, task)| host.is_stopped(*task)).map(|(role, task)| found(role, task)).collect()
}

fn found(role: Role, task: TaskKey) -> RuleMatch {
    let name = if role == Role::ApiServer { "the API server is stopped" } else { "the kubelet is stopped" };
    let about = About { pid: Some(task.tgid), ..About::default() };
    RuleMatch { name: Some(name), about, task: Some(task), ..RuleMatch::default() }.with(state(role, task))
}

fn state(role: Role, task: TaskKey) -> Reading {
    word(format!("state of the {} (pid {})", role.token(), task.tgid), "T")
}

#[cfg(test)]
use crate::diagnose::fixture::{APISERVER, Fixture, KUBECTL, KUBELET, On, PROCESS};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let stopped = |about, named: &'static [&'static str], pid: u32| {
        let mut fixture = Fixture::new(about, named);
        fixture.process(pid, |process, _| process.state = 'T');
        fixture
    };
    let mut new = stopped("a new session at a stopped kubelet", &["F33"], KUBELET);
    new.ends_after(3);
    new.far(On::Kubelet, |tcp, _| tcp.recv_q = 240);
    let mut server = stopped("a new session at a stopped API server", &["F33"], APISERVER);
    server.ends_after(2);
    let mut open = stopped("an idle shell through a stopped kubelet", &["F33"], KUBELET);
    open.waits(PROCESS, "read", Some(0));
    let mut pings = open.clone();
    pings.about = "kubectl's pings wait at the stopped kubelet";
    pings.far(On::Kubelet, |tcp, _| tcp.recv_q = 100);
    let mut two = open.clone();
    (two.about, two.named) = ("two shells through a stopped kubelet", &["F33", "F33"]);
    let mut second = two.sessions[0].clone();
    second.id.0 = "s-second".into();
    two.sessions.push(second);
    let mut nobodys = stopped("a kubelet is stopped that no session goes through", &["F33"], KUBELET);
    nobodys.daemons.push((KUBELET, Role::Kubelet));
    nobodys.closes_after(50_000);
    let mut moment = Fixture::new("the kubelet was stopped for a moment", &["F23"]);
    moment.process(KUBELET, |process, number| process.state = if number == 0 { 'T' } else { 'S' });
    moment.waits(PROCESS, "read", Some(0));
    let mut client = stopped("kubectl is stopped, its command waits for input", &[], KUBECTL);
    client.waits(PROCESS, "read", Some(0));
    vec![new, server, open, pings, two, nobodys, moment, client]
}
