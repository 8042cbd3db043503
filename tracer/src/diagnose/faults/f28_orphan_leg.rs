//! F28: a daemon leaks closed connections.

use std::collections::{BTreeMap, BTreeSet};

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F28",
    name: "a daemon leaks closed connections",
    short: "orphan legs",
    severity: Severity::Fault,
    step: Step::Ends,
    kinds: Kinds::Any,
    means: "A daemon on the path has not closed its end of connections whose other end is gone. Each costs a \
            descriptor and memory; after tens of thousands the daemon fails for all users.",
    why: "A proxy keeps the outbound connection when the inbound one ends, or an error path does not close it, such as \
          an exec into a crash-looping container.",
    needs: "Two samples: idle sockets in CLOSE-WAIT that belong to no session or are the first of one whose client is \
            gone; or descriptors of TCP sockets that no kernel table lists.",
    apart: &[
        Apart { code: "F17", by: "the remaining end has been notified that the connection is over" },
        Apart { code: "F29", by: "the leftovers are connections of a proxy, not FIFOs of a runtime" },
        Apart { code: "F15", by: "descriptors are available" },
    ],
    next: &[
        "Count them over time (below). A number that grows with every exec is a leak; report it with the daemon's \
         version.",
        "Restart the daemon to close them. A restart of the kubelet or the API server ends the execs through it.",
    ],
    manual: &[
        "ss -tnp state close-wait | grep -c pid={pid},",
        "ls -l /proc/{pid}/fd/{fd}; grep -w {inode} /proc/{pid}/net/tcp /proc/{pid}/net/tcp6 || echo 'in no table'",
        "ls -l /proc/{pid}/fd | grep -c socket:",
    ],
    sources: &[
        "kubernetes/kubernetes#67659",
        "kubernetes/kubernetes#67913",
        "kubernetes/kubernetes#57992",
        "kubernetes/kubernetes#135245",
        "kubernetes/kubernetes#135257",
    ],
    made: Made::Lab,
    rule: Rule::Both(of_session, of_host),
    #[cfg(test)]
    fixtures,
};

/// Roles that pass connections on for others. Connections of clients come and go.
const PROXIES: [Role; 4] = [Role::ApiServer, Role::Kubelet, Role::Runtime, Role::Proxy];

#[derive(Default)]
struct Left {
    half_closed: u64,
    unlisted: u64,
    about: Option<About>,
}

/// The first connection of a session whose client is gone, if the daemon that passes its bytes on keeps it. A runtime
/// that keeps its end until the command has ended is F26.
fn of_session(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let passes_on = |side: &Side<'_>| {
        let role = side.hop.and_then(|at| ctx.session.hops.get(at)).map(|hop| hop.role);
        matches!(role, Some(Role::ApiServer | Role::Kubelet | Role::Proxy))
    };
    let has_left = |side: &Side<'_>| side.end.and_then(|end| end.series).is_some_and(is_left);
    let side = ctx.outermost().find(|side| passes_on(side) && has_left(side))?;
    let (hop, state) = (side.hop.and_then(|at| ctx.session.hops.get(at))?, word("state of its end", "CLOSE-WAIT"));
    let found = ctx.found_at(&side).with(state);
    Some(match ctx.process(hop.task) {
        Some(series) => {
            let state = series.last.state.to_string();
            found.with(word(format!("state of {}", ctx.called(side.hop)), state.as_str()))
        }
        None => found,
    })
}

fn of_host(host: &Host<'_>) -> Vec<RuleMatch> {
    let is_proxy = |task: TaskKey| PROXIES.iter().any(|role| host.is(task, *role));
    let mut left: BTreeMap<TaskKey, Left> = BTreeMap::new();
    let explained = of_orphans(host);
    let unexplained = |inode: Option<u64>| inode.is_none_or(|inode| !explained.contains(&inode));
    let loose = host.loose().filter(|loose| is_proxy(loose.task) && unexplained(loose.socket.id.inode));
    for loose in loose {
        if host.report.measures.tcp(loose.socket.id).is_some_and(is_left) {
            let tuple = loose.socket.tuple;
            let about = About {
                pid: Some(loose.task.tgid),
                inode: loose.socket.id.inode,
                local: tuple.map(|tuple| tuple.local),
                remote: tuple.map(|tuple| tuple.remote),
                fd: None,
            };
            let one = left.entry(loose.task).or_default();
            one.half_closed += 1;
            one.about.get_or_insert(about);
        }
    }
    for (one, told) in host.report.measures.unlisted() {
        // A socket under construction is in no table, either.
        if is_proxy(one.task) && told.last.since(told.first) >= APART {
            let (pid, fd, inode) = (Some(one.task.tgid), Some(one.fd), Some(one.inode));
            let left = left.entry(one.task).or_default();
            left.unlisted += 1;
            // A descriptor is the better example: `ls -l` shows it.
            left.about = Some(left.about.filter(|about| about.fd.is_some()).unwrap_or(About {
                pid,
                fd,
                inode,
                ..About::default()
            }));
        }
    }
    let more = |(task, left): &(TaskKey, Left)| left.half_closed + left.unlisted > commands_left(host, *task);
    let found = left.into_iter().filter(more).map(|(task, left)| {
        let found = RuleMatch { about: left.about.unwrap_or_default(), task: Some(task), ..RuleMatch::default() };
        let found = match left.half_closed {
            0 => found,
            count => found.with(number("idle connections in CLOSE-WAIT", count, "")),
        };
        match left.unlisted {
            0 => found,
            count => found.with(number("descriptors of TCP sockets that are in no kernel table", count, "")),
        }
    });
    found.collect()
}

/// Commands of that runtime that were found without a connection. A runtime keeps the connection of each until the
/// command ends (F26), and nothing pairs commands with connections.
fn commands_left(host: &Host<'_>, runtime: TaskKey) -> u64 {
    let is_left = |session: &&crate::model::Session| {
        session.hops.first().is_some_and(|hop| hop.task == runtime && hop.role == Role::Runtime)
    };
    host.open().filter(is_left).count() as u64
}

/// Sockets of sessions whose process runs on. The runtime keeps its end until the process has ended (F26).
fn of_orphans(host: &Host<'_>) -> BTreeSet<u64> {
    let runs_on =
        |session: &&crate::model::Session| session.gaps.iter().any(|gap| gap.code == GapCode::ProcessLeftRunning);
    let links = host.report.sessions.iter().filter(runs_on).flat_map(|session| &session.links);
    let ends = links.filter_map(|link| link.tcp).flat_map(|ends| [ends.near, ends.far]);
    ends.filter_map(|socket| socket?.inode).collect()
}

/// True if the other end closed, this one did not, and no byte moves.
fn is_left(series: &Series<TcpMeasure>) -> bool {
    let same = both(series).is_some_and(|(last, before)| {
        last.recv_q == before.recv_q
            && last.send_q == before.send_q
            && last.info.zip(before.info).is_none_or(|(now, then)| now.bytes_acked == then.bytes_acked)
    });
    same && twice(series, |tcp| tcp.state == TcpState::CloseWait)
}

#[cfg(test)]
use crate::diagnose::fixture::{Fixture, KUBECTL, KUBELET, On, RUNTIME, idle, info};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let half = |about, named: &'static [&'static str], pid: u32, role: Role, moves: u64| {
        let mut fixture = Fixture::new(about, named);
        fixture.stray(pid, role, 200, "127.0.0.1:42367", |number| {
            let mut tcp = TcpMeasure { state: TcpState::CloseWait, ..idle() };
            info(&mut tcp).bytes_acked += number * moves;
            tcp
        });
        fixture
    };
    let mut unlisted = Fixture::new("sockets that were reset, and are kept", &["F28"]);
    unlisted.each(|sample, _| sample.unlisted = vec![(KUBELET, 50, 300), (KUBELET, 51, 301)]);
    let mut making = Fixture::new("a socket that is being made", &[]);
    making.samples[1].unlisted = vec![(KUBELET, 50, 300)];
    let mut closing = half("it is being closed", &[], KUBELET, Role::Kubelet, 0);
    closing.samples[0].tcp.insert(200, idle());
    let mut runs_on = half("the runtime keeps its end while the command runs on", &["F26"], RUNTIME, Role::Runtime, 0);
    runs_on.loose[0].socket.id = crate::diagnose::fixture::socket(31);
    runs_on.near(On::Stream, |tcp, _| tcp.state = TcpState::FinWait2);
    runs_on.far(On::Stream, |tcp, _| tcp.state = TcpState::CloseWait);
    runs_on.closes_after(20_000);
    runs_on.gap(GapCode::ProcessLeftRunning);
    let abandoned = |about, named: &'static [&'static str], pid: u32, role: Role, before: usize| {
        let mut fixture = Fixture::new(about, named);
        fixture.session(|session| {
            session.hops.drain(..before);
            session.links.retain(|link| link.from >= before);
            for link in &mut session.links {
                (link.from, link.to) = (link.from - before, link.to - before);
            }
        });
        let left = |_| TcpMeasure { state: TcpState::CloseWait, recv_q: 1, ..idle() };
        fixture.outermost(pid, role, 200, "192.168.205.10:55352", Some(TcpState::FinWait2), left);
        fixture
    };
    let mut kept =
        half("the runtime keeps the connection of a command that was found", &["F26"], RUNTIME, Role::Runtime, 0);
    kept.loose[0].socket.role = Some(SocketRole::Accepted);
    kept.session(|session| {
        session.preexisting = true;
        session.hops.drain(..3);
        session.links.clear();
    });
    kept.gap(GapCode::Unjoined);
    vec![
        kept,
        abandoned("the client is gone, and the kubelet has not noticed", &["F28"], KUBELET, Role::Kubelet, 2),
        abandoned("the runtime waits for the command", &[], RUNTIME, Role::Runtime, 3),
        runs_on,
        half("the kubelet keeps its end", &["F28"], KUBELET, Role::Kubelet, 0),
        unlisted,
        half("the kubelet still sends", &[], KUBELET, Role::Kubelet, 900),
        half("a client's own affair", &[], KUBECTL, Role::Client, 0),
        making,
        closing,
    ]
}
