//! F44: kubectl reported success for a command that had not ended.

use super::prelude::*;
use crate::model::parse_kubectl;

pub(super) const FAULT: Fault = Fault {
    code: "F44",
    name: "kubectl reported success for an unfinished command",
    short: "false success",
    severity: Severity::Fault,
    step: Step::Ends,
    kinds: Kinds::Command,
    means: "`kubectl exec` exited with code 0 while its command was still running. A script that relies on the exit code \
            goes on too early, and the command's own result is lost.",
    why: "A program on the path closed the idle connection in an orderly way. Over SPDY kubectl cannot tell this from the \
          end of the command.",
    needs: "A trace of the end of both processes on one host: kubectl's exit code, and the command's exit after it or not \
            at all.",
    apart: &[
        Apart { code: "F31", by: "the command itself had not ended" },
        Apart { code: "F30", by: "no daemon of the path ended" },
        Apart { code: "F26", by: "kubectl reported success" },
    ],
    next: &[
        "Do not trust that exit code. Let the command write its own result, and check it.",
        "Use kubectl 1.31 or later with WebSocket: it reports a connection that ends without the command's status.",
        "Raise the idle timeout of the load balancer or proxy, or use a client that sends heartbeats (kubectl 1.27).",
    ],
    manual: &[
        "ps -o pid,ppid,lstart,etime,args -p {process}   # the command, after kubectl {kubectl} has ended",
        "ss -tni dst {remote}   # lastrcv of the connection, while it is tried again",
    ],
    sources: &["actions/runner-container-hooks#331", "argoproj/argo-cd#14191"],
    made: Made::LabWith("diagnosed from a recorded trace"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let session = ctx.session;
    let client = session.hops.first().filter(|_| ctx.client_exit() == Some(ExitStatus::Code(0)))?;
    let is_exec = parse_kubectl(&client.process.argv).is_some_and(|call| call.word == "exec");
    let is_sure = is_exec && ctx.host.report.totals.lost.is_empty() && !ctx.has_gap(&[GapCode::LostEvents]);
    let (_, process) = ctx.hop(Role::Process).filter(|(_, hop)| is_sure && hop.task.host == client.task.host)?;
    let attempt = session.attempt.as_ref()?;
    let told = attempt.client_ended?;
    let reading = match attempt.rung(Rung::Ended).and_then(|one| one.at) {
        Some(ended) if ended > told => {
            number("the command ended after kubectl by", ended.since(told).as_millis(), "ms")
        }
        Some(_) => return None,
        None => {
            let left = session.closed_at.is_some() && ctx.has_gap(&[GapCode::ProcessLeftRunning]);
            let since = ctx.host.report.now().since(told).as_millis();
            left.then(|| number("the command runs on since kubectl's end for", since, "ms"))?
        }
    };
    let leg = ctx.legs().into_iter().find(|leg| leg.near_hop == Some(0));
    let about = About {
        pid: Some(process.task.tgid),
        local: leg.and_then(|leg| leg.tuple).map(|tuple| tuple.local),
        remote: leg.and_then(|leg| leg.tuple).map(|tuple| tuple.remote),
        ..About::default()
    };
    Some(RuleMatch { hop: Some(0), about, since: Some(told), ..RuleMatch::default() }.with(reading).with(number(
        "exit code of kubectl",
        0,
        "",
    )))
}

#[cfg(test)]
use std::sync::Arc;

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, OPENED, attempt},
    model::{BootTime, SessionExit},
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let at = |millis: u64| OPENED.plus(Span::from_millis(millis));
    let of = |about, named: &'static [&'static str], told: ExitStatus, ended: Option<BootTime>| {
        let mut fixture = Fixture::new(about, named);
        fixture.closes_after(9_000);
        fixture.session(|session| {
            session.hops[0].exit = Some(told);
            let client = Arc::make_mut(&mut session.hops[0].process);
            client.argv = ["kubectl", "exec", "web", "--", "sh"].map(RawText::from).to_vec();
            let mut seen = attempt(&[(Rung::Running, RungState::Reached)]);
            let one = seen.as_mut().unwrap();
            one.client_ended = Some(at(8_000));
            if let Some(ended) = ended {
                let rungs = attempt(&[(Rung::Ended, RungState::Reached)]).unwrap().rungs;
                one.rungs.extend(rungs);
                one.rungs.last_mut().unwrap().at = Some(ended);
                session.exit = Some(SessionExit { code: Some(5), signal: None, reason: ExitReason::Exited });
                session.hops.last_mut().unwrap().exit = Some(ExitStatus::Code(5));
            }
            session.attempt = seen;
        });
        if ended.is_none() {
            fixture.gap(GapCode::ProcessLeftRunning);
        }
        fixture
    };
    let code = ExitStatus::Code;
    let moment = |mut fixture: Fixture| {
        // Right after the end, before a sample of the process that was left.
        fixture.samples = Default::default();
        fixture
    };
    vec![
        moment(of("a relay closed the idle connection, and the command runs on", &["F44"], code(0), None)),
        of("the command ended later", &["F44"], code(0), Some(at(8_900))),
        of("the command ended first", &[], code(0), Some(at(7_990))),
        of("kubectl told of an error", &[], code(1), Some(at(8_900))),
        moment(of("kubectl was killed", &[], ExitStatus::Signal(9), None)),
    ]
}
