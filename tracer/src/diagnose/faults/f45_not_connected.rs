//! F45: the client has not connected.

use super::{dials::UNANSWERED, f36_refused_early::refused, prelude::*};
use crate::model::{Hop, RungSeen, ThreadMeasure};

pub(super) const FAULT: Fault = Fault {
    code: "F45",
    name: "the client has not connected",
    short: "not connected",
    severity: Severity::Fault,
    step: Step::Legs,
    kinds: Kinds::Any,
    means: "kubectl has no connection to the API server: the cluster has not seen the request. Either kubectl waits for a \
            program that it started, or it ended before it dialled, or the API server's address refuses the connection or \
            does not answer.",
    why: "A credential plugin (`exec` in the kubeconfig) waits for a login in a browser, for a token service or for a \
          name server, or has failed. The API server's name is not resolved, or kubectl's arguments are wrong. Or the kubeconfig \
          has the address of a cluster that is gone, or of one behind a VPN or a firewall.",
    needs: "A trace on the client's host that began before kubectl. For a plugin, two samples of kubectl's threads; a \
            kubectl that waits for a name server or a proxy is not reported.",
    apart: &[
        Apart { code: "F01", by: "the API server itself was not reached" },
        Apart { code: "F33", by: "no connection to the API server exists" },
        Apart { code: "F36", by: "the API server got no request" },
    ],
    next: &[
        "If kubectl has ended: read its message.",
        "Look at the program that kubectl started (below), and at the section `exec` of the kubeconfig.",
        "Check the address in the kubeconfig: `kubectl config view --minify`. Is the VPN up?",
    ],
    manual: &[
        "ps -o pid,etime,args --ppid {pid}   # the program that kubectl waits for",
        "curl -skv --max-time 3 https://{remote}/livez 2>&1 | grep -i -e connected -e refused -e timed",
    ],
    sources: &["hashicorp/terraform-provider-kubernetes#2011"],
    made: Made::LabWith("diagnosed from a recorded trace"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let [client] = ctx.session.hops.as_slice() else { return None };
    if client.role != Role::Client || !ctx.session.links.is_empty() || ctx.session.preexisting {
        return None;
    }
    let attempt = ctx.session.attempt.as_ref()?;
    match attempt.rung(Rung::Connected) {
        Some(dial) if dial.state == RungState::Absent => ended_unconnected(ctx, client),
        Some(dial) if ctx.is_seen_whole() => not_reached(ctx, client, dial),
        Some(_) => None,
        None => waits_for_child(ctx, client),
    }
}

/// kubectl ended with an error before it dialled anything: it could not find the address, or get its credentials.
fn ended_unconnected(ctx: &SessionCtx<'_>, client: &Hop) -> Option<RuleMatch> {
    let code = refused(ctx, Rung::Connected)?;
    let about = About { pid: Some(client.task.tgid), ..About::default() };
    let name = Some("kubectl ended before it dialled the API server");
    Some(
        RuleMatch { name, hop: Some(0), about, since: ctx.session.closed_at, ..RuleMatch::default() }
            .with(number("connections of kubectl", 0, ""))
            .with(number("exit code of kubectl", code.into(), "")),
    )
}

/// The API server's address refused kubectl's connection, or does not answer its SYN.
fn not_reached(ctx: &SessionCtx<'_>, client: &Hop, dial: &RungSeen) -> Option<RuleMatch> {
    let (name, reading) = match dial.state {
        RungState::Failed => {
            let errno = dial.errno?;
            let error = errno_name(errno).map_or_else(|| errno.to_string(), str::to_owned);
            ("the API server cannot be reached", word("error of kubectl's connect", error.as_str()))
        }
        RungState::Waiting if ctx.is_open() => {
            let waited = ctx.host.report.now().since(dial.at?);
            let waited = Some(waited).filter(|waited| *waited >= UNANSWERED)?;
            (
                "the API server does not answer",
                number("since kubectl's SYN, without an answer", waited.as_millis(), "ms"),
            )
        }
        RungState::Waiting | RungState::Reached | RungState::Absent | RungState::Unseen => return None,
    };
    let address = dial.address?;
    let about = About { pid: Some(client.task.tgid), remote: Some(address), ..About::default() };
    Some(
        RuleMatch { name: Some(name), hop: Some(0), about, since: dial.at, ..RuleMatch::default() }
            .with(reading)
            .with(word("address of the API server", address.to_string().as_str())),
    )
}

/// kubectl waits for a program that it started. It starts none but credential plugins before it has a connection. A
/// wrapper in another language, or around another kubectl, waits for something else.
fn waits_for_child(ctx: &SessionCtx<'_>, client: &Hop) -> Option<RuleMatch> {
    let is_go = matches!(client.process.program, Some(Program::Go(_)));
    let has_connection = ctx.host.report.unattributed.iter().any(|end| end.task == client.task);
    let hops = || ctx.host.report.sessions.iter().flat_map(|session| &session.hops);
    let wraps_client = hops().any(|hop| hop.role == Role::Client && hop.process.parent == Some(client.task));
    // Records of a connection may be lost; its descriptor is there.
    let own = ctx.host.report.measures.descriptors(client.task);
    let has_no_socket = !own.is_empty() && own.iter().all(|one| one.kind != FileKind::Socket);
    let is_sure = ctx.is_seen_whole() || has_no_socket;
    if !ctx.is_open() || !is_go || has_connection || wraps_client || !is_sure {
        return None;
    }
    let waits = |thread: &ThreadMeasure| {
        thread.call.as_ref().is_some_and(|call| matches!(call.name.as_str(), "waitid" | "wait4"))
    };
    let series = ctx.process(client.task)?;
    let is_waiting = twice(series, |process| process.threads.iter().any(waits));
    let thread = series.last.threads.iter().find(|thread| is_waiting && waits(thread))?;
    let call = thread.call.as_ref().map(|call| call.name.clone()).unwrap_or_default();
    let about = About { pid: Some(client.task.tgid), ..About::default() };
    let (name, since) = (Some("kubectl waits for its credential plugin"), series.before.as_ref().map(|(at, _)| *at));
    Some(
        RuleMatch { name, hop: Some(0), about, since, ..RuleMatch::default() }
            .with(number("connections of kubectl", 0, ""))
            .with(word("a thread of kubectl waits for a child process, in the call", call.as_str()))
            .with(number("since the start of kubectl", ctx.age().as_millis(), "ms")),
    )
}

#[cfg(test)]
use std::sync::Arc;

#[cfg(test)]
use crate::diagnose::fixture::{APISERVER, Fixture, KUBECTL, NOW, attempt, idle, sleeping, task};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let alone = |about, named: &'static [&'static str]| {
        let mut fixture = Fixture::new(about, named);
        fixture.ends_after(1);
        fixture.session(|session| {
            session.attempt = attempt(&[(Rung::ClientStarted, RungState::Reached)]);
            Arc::make_mut(&mut session.hops[0].process).program = Some(Program::Go("go1.24.1".to_owned()));
        });
        fixture
    };
    let plugin = |about, named: &'static [&'static str], call: &str| {
        let mut fixture = alone(about, named);
        fixture.process(KUBECTL, |process, _| process.threads.push(sleeping(call, None).threads.remove(0)));
        fixture
    };
    let dial = |about, named: &'static [&'static str], state: RungState, errno: Option<u32>, ago: u64| {
        let mut fixture = alone(about, named);
        fixture.session(|session| {
            session.attempt = attempt(&[(Rung::ClientStarted, RungState::Reached), (Rung::Connected, state)]);
            let one = session.attempt.as_mut().unwrap().rungs.last_mut().unwrap();
            (one.errno, one.at) = (errno, Some(NOW.minus(Span::from_millis(ago))));
            one.address = Some("192.168.205.10:6443".parse().unwrap());
        });
        fixture
    };
    let mut lossy = plugin("records were lost, and kubectl has no socket open", &["F45"], "waitid");
    lossy.lost.insert("ring-full".to_owned(), 1);
    let mut doubtful = plugin("records were lost, and the open files are not known", &[], "waitid");
    doubtful.lost.insert("ring-full".to_owned(), 1);
    doubtful.each(|sample, _| {
        sample.descriptors.remove(&KUBECTL);
    });
    let mut script = plugin("a shell script around kubectl", &[], "wait4");
    script.session(|session| Arc::make_mut(&mut session.hops[0].process).program = Some(Program::Other));
    let mut wrapper = plugin("a program around kubectl", &[], "waitid");
    let mut inner = wrapper.sessions[0].clone();
    inner.id.0 = "s-inner".into();
    inner.hops[0].task = task(KUBECTL + 1);
    Arc::make_mut(&mut inner.hops[0].process).parent = Some(task(KUBECTL));
    wrapper.sessions.push(inner);
    let mut elsewhere = plugin("it has a connection to an unknown port", &[], "waitid");
    elsewhere.stray(KUBECTL, Role::Client, 200, "10.0.0.9:3128", |_| idle());
    let mut moment = plugin("the plugin has just ended", &[], "waitid");
    moment.samples[1].processes.get_mut(&KUBECTL).unwrap().threads.pop();
    let mut over = dial("refused, and kubectl has ended", &["F45"], RungState::Failed, Some(111), 59_000);
    over.closes_after(60);
    over.session(|session| session.hops[0].exit = Some(ExitStatus::Code(1)));
    let mut unresolved = dial("the name of the API server was not resolved", &["F45"], RungState::Absent, None, 60);
    unresolved.closes_after(60);
    unresolved.session(|session| session.hops[0].exit = Some(ExitStatus::Code(1)));
    let mut interrupted = dial("Ctrl-C while a credential plugin waited", &[], RungState::Absent, None, 60);
    interrupted.closes_after(60);
    interrupted.session(|session| session.hops[0].exit = Some(ExitStatus::Signal(2)));
    let mut stopped = dial("the API server has not accepted the connection", &["F33"], RungState::Reached, None, 9_000);
    let whole = Fixture::new("", &[]);
    (stopped.sessions[0].hops, stopped.sessions[0].links) =
        (whole.sessions[0].hops[..2].to_vec(), whole.sessions[0].links[..1].to_vec());
    stopped.process(APISERVER, |process, _| process.state = 'T');
    vec![
        plugin("a credential plugin waits for a login", &["F45"], "waitid"),
        plugin("kubectl waits for a name server, or for a person", &[], "epoll_pwait"),
        lossy,
        doubtful,
        script,
        wrapper,
        elsewhere,
        moment,
        dial("no answer", &["F45"], RungState::Waiting, None, 5_000),
        dial("no answer yet", &[], RungState::Waiting, None, 900),
        over,
        unresolved,
        interrupted,
        stopped,
    ]
}
