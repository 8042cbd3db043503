//! F14: runc blocks on its own errors.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F14",
    name: "runc blocks on its own errors",
    short: "runc blocked",
    severity: Severity::Fault,
    step: Step::Process,
    kinds: Kinds::Command,
    means: "runc writes more errors or warnings than its pipe to the shim can hold, and the shim reads that pipe only \
            after runc has ended. Both wait for each other, and the command never starts.",
    why: "runc runs with --debug, or repeats a warning for every mount or cgroup; 64 KiB are enough.",
    needs: "Two samples: the system call of runc's threads with its descriptor, and the bytes in that pipe.",
    apart: &[
        Apart { code: "F13", by: "runc waits for room in a full pipe" },
        Apart { code: "F16", by: "the full pipe is runc's, not the command's" },
    ],
    next: &[
        "Read runc's messages from the pipe (below). This also lets runc continue.",
        "Turn off runc's debugging, or fix the cause of its warnings.",
    ],
    manual: &[
        "cat /proc/{pid}/syscall; ls -l /proc/{pid}/fd/{fd}",
        "timeout 1 dd if=/proc/{pid}/fd/{fd} bs=64k count=1 2>/dev/null   # reads it, and lets runc go on",
    ],
    sources: &["opencontainers/runc#2530", "containerd/containerd#4434"],
    made: Made::LabWith("a program in place of runc prints many warnings"),
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let (at, runc) = ctx.hop(Role::Runc).filter(|(_, hop)| hop.exit.is_none())?;
    if !ctx.is_open() || ctx.last_role() != Some(Role::Runc) {
        return None;
    }
    let own = ctx.process(runc.task).map(|series| (runc.task, series));
    own.into_iter().chain(ctx.beginnings()).find_map(|(task, series)| {
        let fd = blocked_writes(series).into_iter().next()?;
        let descriptors = ctx.host.report.measures.descriptors(task);
        let pipe = descriptors.iter().find(|one| one.fd == fd && one.kind == FileKind::Pipe)?;
        let queued = ctx.file(pipe).filter(|file| twice(file, queues::is_full))?.last.queued;
        let about = About { pid: Some(task.tgid), fd: Some(fd), inode: Some(pipe.file.inode), ..About::default() };
        let since = series.before.as_ref().map(|(at, _)| *at);
        Some(
            RuleMatch { hop: Some(at), about, since, ..RuleMatch::default() }
                .with(word(format!("call of runc (pid {})", task.tgid), "write"))
                .with(number("bytes in the full pipe that it writes to", queued.into(), "bytes")),
        )
    })
}

/// Descriptors that a thread was writing to in both samples without waking in between.
fn blocked_writes(series: &Series<ProcessMeasure>) -> Vec<u32> {
    let Some((last, before)) = both(series) else { return Vec::new() };
    let writes = last.threads.iter().filter_map(|thread| {
        let call = thread.call.as_ref().filter(|call| matches!(call.name.as_str(), "write" | "writev"))?;
        let same = before
            .threads
            .iter()
            .any(|one| one.tid == thread.tid && one.call == thread.call && one.switches == thread.switches);
        call.fd.filter(|_| same)
    });
    writes.collect()
}

#[cfg(test)]
use super::f10_frozen::beginning;
#[cfg(test)]
use crate::diagnose::fixture::{Fixture, RUNC, pipe, room};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], full: bool| {
        let mut fixture = beginning(about, named);
        fixture.waits(RUNC, "write", Some(2));
        fixture.each(|sample, _| {
            sample.hold(RUNC, pipe(2, 93, false));
            sample.files.insert((FileKind::Pipe, 93), room());
        });
        if full {
            fixture.full(FileKind::Pipe, 93);
        }
        fixture
    };
    let mut woke = of("it gets on, slowly", &[], true);
    woke.process(RUNC, |process, number| process.threads[0].switches = Some(number));
    vec![of("64 KiB of warnings", &["F14"], true), of("there is room", &[], false), woke]
}
