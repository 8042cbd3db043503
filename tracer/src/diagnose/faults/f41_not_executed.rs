//! F41: the command cannot be executed.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F41",
    name: "the command cannot be executed",
    short: "not executed",
    severity: Severity::Fault,
    step: Step::Process,
    kinds: Kinds::Command,
    means: "The path to the container is whole, and the OCI runtime could not execute the command there. Nothing of the \
            command ran. kubectl printed the reason.",
    why: "The image has no such program: no shell, or another name. A script names an interpreter that is not in the image \
          (ENOENT), the program is built for another architecture (ENOEXEC), or may not be executed (EACCES). Without an \
          error number the OCI runtime gave up before execve(2): as a rule it did not find the program in PATH. Other \
          causes are a working directory, a user or a security profile that does not exist.",
    needs: "A trace of the start on the node: the failed execve(2), or the end of the OCI runtime's last stage with an \
            error before any execve(2).",
    apart: &[
        Apart { code: "F46", by: "the error is another than EPERM" },
        Apart { code: "F12", by: "the OCI runtime could start all of its own stages" },
        Apart { code: "F10", by: "the OCI runtime has ended" },
        Apart { code: "F37", by: "the kubelet passed the request on to the runtime" },
    ],
    next: &[
        "Read kubectl's message: it names the program and the reason.",
        "Look for a program that the image has (`sh`, `/bin/ash`), or give its whole path.",
        "For an image without a shell use `kubectl debug -it POD --image=IMAGE --target=CONTAINER`.",
    ],
    manual: &[
        "kubectl debug -it POD --image=busybox --target=CONTAINER -- ls -l /proc/1/root/bin",
        "journalctl _PID={kubelet} --since -5min | grep -i 'exec failed'",
    ],
    sources: &["moby/moby#30311", "argoproj/argo-cd#10503"],
    made: Made::LabWith("diagnosed from a recorded trace"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// A start that certainly failed because of the command or of what the container permits.
pub(super) struct FailedStart<'a> {
    /// Index of the hop of the OCI runtime, and its pid.
    runc: (usize, u32),
    /// Exit code of the OCI runtime.
    code: u8,
    failed: &'a RungSeen,
    /// Error number of execve(2); `None` if the OCI runtime gave up before.
    pub(super) errno: Option<u32>,
}

/// The failed start of a session, unless something else may be to blame.
pub(super) fn failed_start<'a>(ctx: &SessionCtx<'a>) -> Option<FailedStart<'a>> {
    let session = ctx.session;
    let is_failed = session.exit.is_some_and(|exit| exit.reason == ExitReason::StartFailed);
    let is_sure = is_failed && ctx.host.report.totals.lost.is_empty() && !ctx.has_gap(&[GapCode::LostEvents]);
    let (at, runc) = ctx.hop(Role::Runc).filter(|_| is_sure)?;
    // After a signal to runc the command is not to blame. `runc exec --detach` may end with success before the execve(2).
    let Some(ExitStatus::Code(code)) = runc.exit else { return None };
    let attempt = session.attempt.as_ref()?;
    let failed = attempt.rung(Rung::Executed).filter(|one| one.state == RungState::Failed)?;
    let is_known = failed.errno.is_some() || (attempt.was_start_refused && code != 0);
    is_known.then_some(FailedStart { runc: (at, runc.task.tgid), code, failed, errno: failed.errno })
}

impl FailedStart<'_> {
    pub(super) fn found(&self, ctx: &SessionCtx<'_>) -> RuleMatch {
        let reading = match self.errno {
            Some(errno) => {
                let name = errno_name(errno).map_or_else(|| errno.to_string(), str::to_owned);
                word("error of execve(2) in the container", name.as_str())
            }
            None => word("execve(2) in the container", "not reached"),
        };
        let (at, pid) = self.runc;
        let about = About { pid: Some(pid), ..About::default() };
        let found = RuleMatch { hop: Some(at), about, since: self.failed.at, ..RuleMatch::default() }
            .with(reading)
            .with(number("exit code of the OCI runtime", self.code.into(), ""));
        match ctx.session.command.first() {
            Some(program) => found.with(word("program", program.clone())),
            None => found,
        }
    }
}

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    failed_start(ctx).map(|start| start.found(ctx))
}

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, attempt},
    model::SessionExit,
};

/// A start that failed.
#[cfg(test)]
pub(super) fn failed(
    about: &'static str,
    named: &'static [&'static str],
    errno: Option<u32>,
    is_refused: bool,
    runc: ExitStatus,
) -> Fixture {
    let mut fixture = Fixture::new(about, named);
    fixture.ends_after(6);
    fixture.closes_after(120);
    fixture.exits(SessionExit { code: None, signal: None, reason: ExitReason::StartFailed });
    fixture.session(|session| {
        session.hops[5].exit = Some(runc);
        session.attempt = attempt(&[(Rung::RuncStarted, RungState::Reached), (Rung::Executed, RungState::Failed)]);
        let seen = session.attempt.as_mut().unwrap();
        seen.was_start_refused = is_refused;
        seen.rungs.last_mut().unwrap().errno = errno;
    });
    fixture
}

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let code = ExitStatus::Code;
    let mut lost = failed("records were lost", &[], Some(2), false, code(255));
    lost.lost.insert("ring-full".to_owned(), 1);
    let mut ran = failed("the command ended with 127", &[], None, false, code(0));
    ran.exits(SessionExit { code: Some(127), signal: None, reason: ExitReason::Exited });
    vec![
        failed("a script without its interpreter", &["F41"], Some(2), false, code(255)),
        failed("another architecture", &["F41"], Some(8), false, code(255)),
        failed("runc had ended before the execve(2)", &["F41"], Some(8), false, code(0)),
        failed("no such program in PATH", &["F41"], None, true, code(255)),
        failed("runc failed before its last stage", &[], None, false, code(255)),
        failed("runc was killed", &[], None, true, ExitStatus::Signal(9)),
        lost,
        ran,
    ]
}
