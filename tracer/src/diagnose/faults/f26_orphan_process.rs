//! F26: the command runs on without its client.

use std::collections::BTreeSet;

use super::prelude::*;
use crate::model::{HostNo, Link, LinkKind, Reading, Session, SocketId, is_kubelet_fifo};

pub(super) const FAULT: Fault = Fault {
    code: "F26",
    name: "the command runs on without its client",
    short: "orphan process",
    severity: Severity::Fault,
    step: Step::Ends,
    kinds: Kinds::Command,
    means: "The client is gone but the command still runs: it stays in the container with its memory, locks and open \
            files until it ends by itself. Over time hundreds can accumulate.",
    why: "By design, runtimes wait for a command to end: a closed stream does not end it. Without a terminal the \
          command gets end of file at most, and no signal; with one, the shim keeps the terminal open.",
    needs: "A trace in which the connections closed, and a later sample of the process. For a session found after its \
            start: the exec's FIFOs are open only in the shim; or it takes input, which probes do not, and the runtime \
            has no stream left that could serve it. A command without input and output looks like a probe and is not \
            reported.",
    apart: &[
        Apart { code: "F25", by: "the command itself still runs" },
        Apart { code: "F27", by: "its container still exists" },
        Apart { code: "F32", by: "it is no probe: it had a connection, or takes input" },
    ],
    next: &[
        "End the command if it is not needed: `kill -HUP {pid}` on the node. A closed terminal sends SIGHUP, too; an \
         interactive shell passes it on to its jobs and ends.",
        "Use `kill -KILL {pid}` if the process ignores SIGHUP (nohup). SIGTERM is not enough: an interactive shell \
         ignores it.",
        "Start commands that may hang under `timeout`; set TMOUT for interactive shells.",
    ],
    manual: &[
        "ps -o pid,ppid,lstart,etime,args -p {pid}",
        "ls -l /proc/{shim}/fd | grep -c -e stdout -e stderr   # FIFOs of execs that run",
        "kill -HUP {pid}   # an interactive shell ignores SIGTERM",
        "kill -KILL {pid}   # if it is still there",
    ],
    sources: &[
        "kubernetes/kubernetes#89031",
        "kubernetes/kubectl#1076",
        "k3s-io/k3s#13749",
        "opencontainers/runc#3359",
        "containerd/containerd#8856",
    ],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// A command that reads or writes notices the end by itself; a shell needs a moment to clean up.
const GRACE: Span = Span::from_secs(5);

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let (at, hop, series) = ctx.command()?;
    let why = match ctx.session.closed_at {
        Some(closed) => {
            let left = ctx.has_gap(&[GapCode::ProcessLeftRunning]) && series.at >= closed.plus(GRACE);
            let ago = series.at.since(closed).as_millis();
            left.then(|| number("since its connections closed", ago, "ms"))?
        }
        None => without_stream(ctx)?,
    };
    let about = About { pid: Some(hop.task.tgid), ..About::default() };
    let state = word(format!("state of the process (pid {})", hop.task.tgid), series.last.state.to_string().as_str());
    Some(RuleMatch { hop: Some(at), about, since: ctx.session.closed_at, ..RuleMatch::default() }.with(why).with(state))
}

/// Evidence that a session found after its start has no connection and can have none.
fn without_stream(ctx: &SessionCtx<'_>) -> Option<Reading> {
    let session = ctx.session;
    let is_known = session.exec_id.is_some() || ctx.foreground_runc().is_some();
    let is_exec = matches!(session.kind, Kind::Exec | Kind::Cp) && session.preexisting && is_known;
    // Clients of dockerd have unix connections of their own.
    let own = |link: &Link| matches!(link.kind, LinkKind::Tcp | LinkKind::Unix) && !link.persistent;
    let is_served = !ctx.legs().is_empty() || session.links.iter().any(own);
    if !is_exec || is_served || !ctx.host.report.totals.lost.is_empty() {
        return None;
    }
    if let Some(gone) = half_a_stream(ctx) {
        return Some(gone);
    }
    if session.gaps.is_empty() {
        // A session that began between two scans may have a connection that neither scan found.
        let none = || number("connections of the runtime that may serve it", 0, "");
        return (ctx.age() >= GRACE).then(none);
    }
    let (_, runtime) = ctx.hop(Role::Runtime)?;
    let none_left = |left: usize| {
        let interactive = session.stdin == Some(true) || session.tty == Some(true);
        (interactive && left == 0).then(|| number("unattributed streams of the runtime", 0, ""))
    };
    // A runtime starts a foreground runc only for a stream.
    if ctx.foreground_runc().is_some() {
        return none_left(streams_left(ctx, runtime.task)).filter(|_| ctx.host.was_looked_at(runtime.task));
    }
    // Execs of dockerd and `ctr` have other clients.
    let is_cri = |held: &Held<'_>| held.descriptor.path.as_ref().is_some_and(|path| is_kubelet_fifo(&path.to_text()));
    let shim = ctx.shim()?;
    let by = |task: TaskKey| ctx.fifos().iter().any(|held| held.task == task && is_cri(held));
    if !by(shim) || !ctx.host.was_looked_at(runtime.task) {
        return None;
    }
    if !by(runtime.task) {
        return Some(number("holders of its FIFOs besides the shim", 0, ""));
    }
    none_left(streams_left(ctx, runtime.task))
}

/// The session's own connection without its other end: the runtime keeps its end until the command has ended.
fn half_a_stream(ctx: &SessionCtx<'_>) -> Option<Reading> {
    let at_runtime =
        |hop: Option<usize>| hop.and_then(|at| ctx.session.hops.get(at)).is_some_and(|hop| hop.role == Role::Runtime);
    let mut ends = ctx.outermost().filter(|side| at_runtime(side.hop)).filter_map(|side| side.end?.series);
    let is_over = ends.any(|series| series.last.state == TcpState::CloseWait);
    (is_over && ctx.age() >= GRACE).then(|| word("the runtime's end of its connection", "CLOSE-WAIT"))
}

/// Number of connections to the runtime's streaming server that may belong to this session: those of sessions without
/// an exec, those without a session, and otherwise unknown sockets of the runtime.
fn streams_left(ctx: &SessionCtx<'_>, runtime: TaskKey) -> usize {
    let measures = &ctx.host.report.measures;
    let through = |other: &&Session| other.hops.iter().any(|hop| hop.task == runtime);
    // An exec of a runtime without exec ids has its `runc exec`.
    let is_exec = |other: &&Session| other.exec_id.is_some() || other.hops.iter().any(|hop| hop.role == Role::Runc);
    let (claimed, unclaimed): (Vec<_>, Vec<_>) = ctx.host.open().filter(through).partition(is_exec);
    let unclaimed = unclaimed.iter().filter(|other| !is_over(&SessionCtx::new(ctx.host, other))).count();
    let loose = ctx.host.loose().filter(|loose| {
        let is_over = measures.tcp(loose.socket.id).is_some_and(|series| series.last.state == TcpState::CloseWait);
        loose.task == runtime && loose.socket.role != Some(SocketRole::Connected) && !is_over
    });
    let taken: BTreeSet<(HostNo, u64)> = claimed
        .iter()
        .flat_map(|other| &other.links)
        .filter_map(|link| link.tcp)
        .flat_map(|ends| [ends.near, ends.far])
        .filter_map(|socket| Some((socket?.host, socket?.inode?)))
        .collect();
    let held = measures.descriptors(runtime).iter().filter(|one| {
        let socket = SocketId { cookie: None, inode: Some(one.file.inode), host: one.file.host };
        let stands = || measures.tcp(socket).is_some_and(|series| series.last.state == TcpState::Established);
        one.kind == FileKind::Socket && !taken.contains(&(one.file.host, one.file.inode)) && stands()
    });
    unclaimed + loose.count() + held.count()
}

/// True if the client of a stream is gone and the runtime's kernel was notified.
fn is_over(stream: &SessionCtx<'_>) -> bool {
    let far = stream.leg_to(Role::Runtime).and_then(|leg| leg.far?.series);
    far.is_some_and(|series| series.last.state == TcpState::CloseWait)
}

#[cfg(test)]
use crate::diagnose::fixture::{Fixture, PROCESS, RUNTIME};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let left = |about, named: &'static [&'static str], millis: u64| {
        let mut fixture = Fixture::new(about, named);
        fixture.closes_after(millis);
        fixture.gap(GapCode::ProcessLeftRunning);
        fixture
    };
    let found = |about, named: &'static [&'static str]| without_client(Fixture::new(about, named));
    let mut ended = left("it ended after its client", &[], 20_000);
    ended.each(|sample, _| {
        sample.processes.remove(&PROCESS);
    });
    let mut alone = found("its FIFOs are open in the shim alone", &["F26"]);
    alone.each(|sample, _| {
        let held = sample.descriptors.get_mut(&RUNTIME).unwrap();
        held.retain(|one| one.kind == FileKind::Fifo);
        for one in held {
            one.file.inode += 100;
            one.path = Some("/run/other".into());
        }
    });
    let mut probe = found("an old ExecSync: it takes no input", &[]);
    probe.session(|session| session.stdin = Some(false));
    let mut streams = found("a stream is left that may be its own", &[]);
    streams.stray(RUNTIME, Role::Runtime, 200, "127.0.0.1:48000", |_| crate::diagnose::fixture::idle());
    streams.loose[0].socket.role = Some(SocketRole::Accepted);
    let mut over = streams.clone();
    (over.about, over.named) = ("the stream that is left is over", &["F26"]);
    over.each(|sample, _| sample.tcp.get_mut(&200).unwrap().state = TcpState::CloseWait);
    over.samples[0].tcp.get_mut(&200).unwrap().state = TcpState::Established;
    let mut nobody = found("nothing that it lacks is to be found", &["F26"]);
    nobody.session(|session| session.gaps.clear());
    let mut young = nobody.clone();
    (young.about, young.named) = ("it has just begun", &[]);
    young.session(|session| session.opened_at = session.opened_at.plus(Span::from_secs(58)));
    let mut half = nobody.clone();
    half.about = "the other end of its connection is gone";
    half.gap(GapCode::PeerUnknown);
    half.outermost(RUNTIME, Role::Runtime, 200, "127.0.0.1:48000", None, |_| TcpMeasure {
        state: TcpState::CloseWait,
        ..crate::diagnose::fixture::idle()
    });
    let mut fixtures = vec![
        over,
        half,
        nobody,
        young,
        left("kubectl was killed", &["F26"], 20_000),
        left("kubectl was killed a moment ago", &[], 58_000),
        ended,
        found("no stream can be its own", &["F26"]),
        alone,
        probe,
        streams,
    ];
    fixtures.extend(crio_fixtures());
    fixtures
}

/// Turns a fixture into a session older than the tracer, without the hops of its client.
#[cfg(test)]
fn without_client(mut fixture: Fixture) -> Fixture {
    fixture.session(|session| {
        session.preexisting = true;
        session.hops.drain(..3);
        session.links.clear();
    });
    fixture.gap(GapCode::Unjoined);
    fixture
}

#[cfg(test)]
fn crio_fixtures() -> Vec<Fixture> {
    let of_crio = |about, named: &'static [&'static str]| without_client(Fixture::crio(about, named));
    let crio_found = of_crio("no stream of crio can be its own", &["F26"]);
    let mut crio_stream = of_crio("a stream of crio is left that may be its own", &[]);
    crio_stream.stray(RUNTIME, Role::Runtime, 200, "127.0.0.1:48000", |_| crate::diagnose::fixture::idle());
    crio_stream.loose[0].socket.role = Some(SocketRole::Accepted);
    let mut crio_left = Fixture::crio("kubectl was killed, crio lets the command run on", &["F26"]);
    crio_left.closes_after(20_000);
    crio_left.gap(GapCode::ProcessLeftRunning);
    vec![crio_found, crio_stream, crio_left]
}
