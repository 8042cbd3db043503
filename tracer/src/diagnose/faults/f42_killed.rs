//! F42: the command was killed.

use super::prelude::*;
use crate::model::{Killed, Reading, SentBy};

pub(super) const FAULT: Fault = Fault {
    code: "F42",
    name: "the command was killed",
    short: "killed",
    severity: Severity::Fault,
    step: Step::Ends,
    kinds: Kinds::Command,
    means: "The command did not end by itself: SIGKILL or SIGTERM ended it. kubectl prints `command terminated with exit \
            code 137` (SIGKILL) or 143 (SIGTERM).",
    why: "The container's memory limit, the end of the container (its pod was deleted or evicted, a liveness probe \
          failed, its own program ended), or a person or program that sent the signal.",
    needs: "A trace of the signal on the node, with its sender.",
    apart: &[
        Apart { code: "F30", by: "the connections were whole when the command ended" },
        Apart { code: "F27", by: "the command ended with its container" },
        Apart { code: "F11", by: "the command had been executed" },
    ],
    next: &[
        "Look at the pod: `kubectl describe pod` has the last state of the container, and events such as Killing, Unhealthy \
         and Evicted.",
        "After a liveness probe failed, or the pod was deleted, run the command again in the new container.",
    ],
    manual: &["kubectl get events --field-selector involvedObject.kind=Pod --sort-by=.lastTimestamp | tail"],
    sources: &["kubernetes/kubernetes#117793", "Azure/AKS#5434", "okteto/okteto#1135"],
    made: Made::LabWith("diagnosed from a recorded trace"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

/// Advice after a lack of memory.
const MEMORY: Advice = Advice {
    next: &[
        "Raise the container's memory limit, or let the command use less: an exec counts towards the limit of its container.",
        "Without a limit of the container the node itself was out of memory.",
    ],
    manual: &["dmesg | grep -i -e 'oom-kill' -e 'killed process {pid}'"],
};

/// Advice after a signal of a process.
const SENDER: Advice = Advice {
    next: &["Ask the owner of the process that sent the signal (above): a person, a script, an agent of the node."],
    manual: &["ausearch -k kill 2>/dev/null | tail   # if the node's audit rules record kill(2)"],
};

/// SIGKILL and SIGTERM. Others have everyday causes: Ctrl-C, and a terminal that is closed.
const KILLS: [u8; 2] = [9, 15];

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let killed = ctx.session.killed.as_deref().filter(|killed| KILLS.contains(&killed.signal.number))?;
    let (at, process) = ctx.hop(Role::Process)?;
    let signal = &killed.signal;
    // A command that ends itself, as `kill -9 $$` does, is no fault.
    if signal.by == SentBy::Process && signal.sender == Some(process.task) {
        return None;
    }
    let (name, advice) = match signal.by {
        SentBy::OutOfMemory => ("the command was killed: out of memory", Some(MEMORY)),
        SentBy::Kernel if killed.stopped.is_some() => ("the command was killed: its container was stopped", None),
        SentBy::Kernel => ("the command was killed: the container's first process ended", None),
        SentBy::Process if killed.stopped.is_some() => ("the command was killed: its container was stopped", None),
        SentBy::Process => ("the command was killed by another process", Some(SENDER)),
    };
    let about = About { pid: Some(process.task.tgid), ..About::default() };
    let found =
        RuleMatch { name: Some(name), advice, hop: Some(at), about, since: Some(killed.at), ..RuleMatch::default() };
    Some(evidence(killed).into_iter().fold(found, RuleMatch::with))
}

fn evidence(killed: &Killed) -> Vec<Reading> {
    let signal = &killed.signal;
    let mut readings = vec![number("signal", signal.number.into(), "")];
    match signal.by {
        SentBy::OutOfMemory => readings.push(word("chosen as a victim by", "the kernel, out of memory")),
        SentBy::Kernel | SentBy::Process => {
            let what = if signal.by == SentBy::Process { "sent by" } else { "sent by the kernel at the end of" };
            readings.push(word(what, signal.comm.clone()));
            readings.extend(signal.sender.map(|sender| number("pid of that process", sender.tgid.into(), "")));
            readings.extend(signal.uid.map(|uid| number("uid of that process", uid.into(), "")));
        }
    }
    let before = killed.stopped.map(|stopped| killed.at.since(stopped).as_millis());
    readings.extend(before.map(|ms| number("the runtime was asked to kill the container before by", ms, "ms")));
    readings
}

#[cfg(test)]
use crate::{
    diagnose::fixture::{Fixture, NOW, PROCESS, task},
    model::{SessionExit, Signal},
};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], number: u8, by: SentBy, sender: u32, stopped: Option<u64>| {
        let mut fixture = Fixture::new(about, named);
        fixture.closes_after(59_000);
        fixture.exits(SessionExit { code: None, signal: Some(number), reason: ExitReason::Signalled });
        fixture.session(|session| {
            session.hops.last_mut().unwrap().exit = Some(ExitStatus::Signal(number));
            let signal = Signal { number, by, sender: Some(task(sender)), comm: "runc".into(), uid: Some(0) };
            let at = NOW.minus(Span::from_millis(1_000));
            let stopped = stopped.map(|before| at.minus(Span::from_millis(before)));
            session.killed = Some(Box::new(Killed { at, signal, stopped }));
        });
        fixture
    };
    let mut unknown = of("the sender is not known", &[], 9, SentBy::Process, 4_711, None);
    unknown.session(|session| session.killed = None);
    vec![
        of("out of memory", &["F42"], 9, SentBy::OutOfMemory, 4_711, None),
        of("the pod was deleted", &["F42"], 9, SentBy::Kernel, 4_711, Some(30_000)),
        of("the container's own program ended", &["F42"], 9, SentBy::Kernel, 4_711, None),
        of("a person killed it", &["F42"], 15, SentBy::Process, 4_711, None),
        of("it killed itself", &[], 9, SentBy::Process, PROCESS, None),
        of("Ctrl-C", &[], 2, SentBy::Process, 4_711, None),
        of("the terminal was closed", &[], 1, SentBy::Kernel, 4_711, None),
        unknown,
    ]
}
