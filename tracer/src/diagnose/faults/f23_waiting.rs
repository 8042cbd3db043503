//! F23: waiting for input.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F23",
    name: "waiting for input",
    short: "waiting",
    severity: Severity::Info,
    step: Step::Ends,
    kinds: Kinds::Command,
    means: "Nothing is wrong. The command has read all of its input and waits for more: for typed input, or for a pipe \
            into kubectl.",
    why: "A shell at its prompt, `cat` without a file, a pager, a password prompt: each sleeps in read(2) on standard \
          input until a byte arrives.",
    needs: "One sample: the system call and descriptor of each thread, and the file behind that descriptor.",
    apart: &[
        Apart { code: "F16", by: "no queue holds bytes: the command reads, it does not write" },
        Apart { code: "F20", by: "the client's own input has not ended, as far as can be observed" },
        Apart { code: "F22", by: "a byte or a signal ends this sleep" },
    ],
    next: &["Type, or close the input. To end the session, end the command or kubectl."],
    manual: &[
        "cat /proc/{pid}/syscall   # begins with the number of read, then 0x0: the descriptor",
        "ls -l /proc/{pid}/fd/0   # the terminal or pipe that it reads",
    ],
    sources: &["measured: an idle reader of a terminal and a blocked writer sleep in the same kernel function"],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    // Without stdin passed on, input is impossible.
    if !ctx.is_open() || ctx.session.stdin == Some(false) {
        return None;
    }
    let (task, thread) = ctx.reads_stdin()?;
    let call = thread.call.as_ref()?;
    let hop = ctx.session.hops.iter().position(|hop| hop.task == task).or_else(|| Some(ctx.command()?.0));
    let about = About { pid: Some(task.tgid), fd: call.fd, ..About::default() };
    let queued = ctx.descriptor(0).and_then(|stdin| ctx.file(stdin)).map(|series| series.last.queued);
    let mut found = RuleMatch { hop, about, ..RuleMatch::default() }
        .with(word(format!("call of pid {}", task.tgid), call.name.as_str()))
        .with(number("descriptor that it reads", call.fd.unwrap_or(0).into(), ""));
    if let Some(queued) = queued {
        found = found.with(number("bytes queued in its standard input", queued.into(), "bytes"));
    }
    Some(found)
}

#[cfg(test)]
use crate::diagnose::fixture::{Fixture, PROCESS};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let mut pipe = Fixture::new("cat without a file", &["F23"]);
    pipe.waits(PROCESS, "read", Some(0));
    let mut shell = Fixture::terminal("a shell at its prompt", &["F23"]);
    shell.waits(PROCESS, "read", Some(0));
    let mut child = Fixture::terminal("a program that the shell started reads", &["F23"]);
    child.process(PROCESS, |process, _| process.foreground = Some(610));
    child.each(|sample, _| {
        let mut reader = crate::diagnose::fixture::sleeping("read", Some(0));
        (reader.foreground, reader.group) = (Some(610), Some(610));
        sample.processes.insert(610, reader);
        sample.descriptors.insert(610, sample.descriptors[&PROCESS].clone());
    });
    let mut other = Fixture::new("it reads something else", &[]);
    other.waits(PROCESS, "read", Some(7));
    let mut background = Fixture::terminal("who reads the terminal is in the background", &[]);
    background.waits(PROCESS, "read", Some(0));
    background.process(PROCESS, |process, _| process.foreground = Some(999));
    let mut without = Fixture::new("stdin is not passed on", &[]);
    without.session(|session| session.stdin = Some(false));
    without.waits(PROCESS, "read", Some(0));
    let mut crio = Fixture::crio("cat without a file, through CRI-O", &["F23"]);
    crio.waits(PROCESS, "read", Some(0));
    vec![pipe, shell, child, other, background, without, crio]
}
