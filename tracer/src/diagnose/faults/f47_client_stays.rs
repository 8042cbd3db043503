//! F47: the session is over and the client does not end.

use super::prelude::*;
use crate::model::parse_kubectl;

pub(super) const FAULT: Fault = Fault {
    code: "F47",
    name: "the session is over and the client does not end",
    short: "client stays",
    severity: Severity::Fault,
    step: Step::Ends,
    kinds: Kinds::Command,
    means: "The command has ended and the connections behind the API server are closed. kubectl still runs, and a \
            person or a script waits for it in vain.",
    why: "kubectl is stopped (Ctrl-Z, job control), or writes the rest of the output to a pipe or a terminal without a \
          reader.",
    needs: "A trace of the command's end on a host with client and process, and a sample of kubectl ten seconds later.",
    apart: &[
        Apart { code: "F16", by: "the command has ended" },
        Apart { code: "F25", by: "no process holds the output: the connections are closed" },
        Apart { code: "F44", by: "kubectl has not ended" },
    ],
    next: &[
        "Look at the state of kubectl: T is stopped; continue it with `fg` or `kill -CONT {pid}`.",
        "Look where its output goes: a pager, a program that does not read, a paused terminal (Ctrl-Q).",
    ],
    manual: &[
        "grep State /proc/{pid}/status   # T: stopped",
        "ls -l /proc/{pid}/fd/1 /proc/{pid}/fd/2   # where its output goes",
        "ss -tnp state close-wait | grep pid={pid},",
    ],
    sources: &["kubernetes/kubernetes#35846"],
    made: Made::LabWith("diagnosed from a recorded trace"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// kubectl ends within milliseconds of the last byte, on a busy machine within a second or two.
const LONG: Span = Span::from_secs(10);

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let session = ctx.session;
    let client = session.hops.first().filter(|hop| hop.role == Role::Client && hop.exit.is_none())?;
    // Other clients serve many sessions, and `attach`, `cp` and `debug` have more to do.
    let is_exec = parse_kubectl(&client.process.argv).is_some_and(|call| call.word == "exec");
    let is_over = !ctx.is_open() && is_exec && ctx.is_seen_whole();
    let (_, process) = ctx.hop(Role::Process).filter(|_| is_over)?;
    process.exit?;
    let closed = session.closed_at?;
    // No record of kubectl's end is no proof: only a sample shows that it is there.
    let series = ctx.process(client.task).filter(|series| !matches!(series.last.state, 'Z' | 'X'))?;
    let since = Some(series.at.since(closed)).filter(|since| *since >= LONG)?;
    let leg = ctx.legs().into_iter().find(|leg| leg.near_hop == Some(0));
    let about = About {
        pid: Some(client.task.tgid),
        local: leg.and_then(|leg| leg.tuple).map(|tuple| tuple.local),
        remote: leg.and_then(|leg| leg.tuple).map(|tuple| tuple.remote),
        ..About::default()
    };
    Some(
        RuleMatch { hop: Some(0), about, since: Some(closed), ..RuleMatch::default() }
            .with(number("since the end of the session, with kubectl still there", since.as_millis(), "ms"))
            .with(word("state of kubectl", series.last.state.to_string().as_str())),
    )
}

#[cfg(test)]
use std::sync::Arc;

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, KUBECTL},
    model::SessionExit,
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], word: &str, closed: u64, exit: Option<ExitStatus>| {
        let mut fixture = Fixture::new(about, named);
        fixture.closes_after(closed);
        fixture.exits(SessionExit { code: Some(0), signal: None, reason: ExitReason::Exited });
        fixture.session(|session| {
            session.hops.last_mut().unwrap().exit = Some(ExitStatus::Code(0));
            session.hops[0].exit = exit;
            let client = Arc::make_mut(&mut session.hops[0].process);
            client.argv = ["kubectl", word, "web", "--", "sh"].map(RawText::from).to_vec();
        });
        fixture.process(KUBECTL, |process, _| process.state = 'T');
        fixture
    };
    let mut unmeasured = of("kubectl was not measured", &[], "exec", 40_000, None);
    unmeasured.samples = Default::default();
    let mut lost = of("records were lost", &[], "exec", 40_000, None);
    lost.lost.insert("ring-full".to_owned(), 1);
    vec![
        of("kubectl is stopped", &["F47"], "exec", 40_000, None),
        of("the session has just ended", &[], "exec", 59_000, None),
        of("kubectl has ended", &[], "exec", 40_000, Some(ExitStatus::Code(0))),
        of("kubectl copies another file", &[], "cp", 40_000, None),
        unmeasured,
        lost,
    ]
}
