//! F46: the kernel does not let the command into the container.

use super::{f41_not_executed::failed_start, prelude::*};

pub(super) const FAULT: Fault = Fault {
    code: "F46",
    name: "not let into the container",
    short: "not permitted",
    severity: Severity::Fault,
    step: Step::Process,
    kinds: Kinds::Command,
    means: "The path to the container is whole, the program exists and may be executed, and the kernel did not permit its \
            start (EPERM): \"operation not permitted\". Nothing of the command ran.",
    why: "The file has capabilities (setcap) that the container may not have. Other causes are a seccomp profile or a \
          security module that denies execve(2).",
    needs: "A trace of the start on the node: execve(2) that failed with EPERM. Other denials of a start, such as that of a \
            terminal, are not reported yet.",
    apart: &[
        Apart {
            code: "F41",
            by: "execve(2) failed with EPERM: the program was found, has a format and may be executed",
        },
        Apart { code: "F12", by: "the OCI runtime could start all of its own stages" },
        Apart { code: "F37", by: "the kubelet passed the request on to the runtime" },
    ],
    next: &[
        "Look for capabilities of the file, and compare them with those of the container (below).",
        "Use a copy of the program without capabilities, or add the capability to the container's securityContext.",
        "Without capabilities of the file, check the container's seccomp profile and the log of the security module.",
    ],
    manual: &[
        "getcap /proc/PID/root/PATH   # PID: the container's first process on the node",
        "grep -e CapBnd -e Seccomp -e NoNewPrivs /proc/PID/status",
        "journalctl -k --since -5min | grep -i -e denied -e audit",
    ],
    sources: &["capabilities(7): a capability-dumb binary whose capabilities are not permitted fails with EPERM"],
    made: Made::LabWith("diagnosed from a recorded trace"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// Error number of a denied act. Other denials have numbers that have other causes as well (EACCES).
pub(super) const EPERM: u32 = 1;

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let start = failed_start(ctx)?;
    (start.errno == Some(EPERM)).then(|| start.found(ctx))
}

#[cfg(test)]
use crate::{diagnose::fixture::Fixture, model::SessionExit};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    use super::f41_not_executed::failed;
    let code = ExitStatus::Code;
    let mut lost = failed("records were lost", &[], Some(EPERM), false, code(255));
    lost.lost.insert("ring-full".to_owned(), 1);
    let mut ran = failed("the command ended with 126", &[], None, false, code(0));
    ran.exits(SessionExit { code: Some(126), signal: None, reason: ExitReason::Exited });
    vec![
        failed("a file with capabilities that the container lacks", &["F46"], Some(EPERM), false, code(255)),
        failed("runc had ended before the denied execve(2)", &["F46"], Some(EPERM), false, code(0)),
        failed("a file that may not be executed", &["F41"], Some(13), false, code(255)),
        failed("runc was killed", &[], Some(EPERM), false, ExitStatus::Signal(9)),
        lost,
        ran,
    ]
}
