//! F21: the runtime does not drain the FIFO.

use super::prelude::*;
use crate::model::Descriptor;

pub(super) const FAULT: Fault = Fault {
    code: "F21",
    name: "the runtime does not drain the FIFO",
    short: "FIFO full",
    severity: Severity::Fault,
    step: Step::Queues,
    kinds: Kinds::Command,
    means: "The command's output has filled the FIFO between shim and runtime, and no runtime reads it: the shim \
            blocks, then the command in its next write. The shim itself keeps the FIFO open, which prevents a SIGPIPE.",
    why: "containerd or dockerd was stopped, or was restarted and did not reattach to this exec. With CRI-O, crio was \
          stopped: it has pipes to its own runc instead of FIFOs, and these fill in the same way.",
    needs: "Two samples of the bytes in the exec's FIFOs, and a runtime that does not read them. The runtime is \
            stopped, has ended, or is younger than the command and does not hold the FIFOs.",
    apart: &[
        Apart { code: "F16", by: "the FIFO has no reader left, so the cause is not nearer to the client" },
        Apart { code: "F22", by: "the command waits for room in a pipe" },
        Apart { code: "F26", by: "the runtime closed the FIFO, not the client" },
    ],
    next: &[
        "Start the runtime. It does not always reattach to earlier execs; if not, end the command in the container.",
        "Read the FIFO by hand to let the command continue (below). The client loses the bytes read this way.",
    ],
    manual: &[
        "ls -l /proc/{pid}/fd/{fd}",
        "find -L /proc/[0-9]*/fd -inum {inode} 2>/dev/null   # who has it open: the shim alone",
        "timeout 1 cat /proc/{pid}/fd/{fd} | wc -c   # empties it, and lets the command go on",
    ],
    sources: &["containerd/containerd#9342", "containerd/containerd#11511"],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let writer = |held: &&Held<'_>| held.stream != "stdin" && held.descriptor.access.writes();
    let of_shim = ctx.fifos().iter().filter(writer).map(|held| (held.task, held.descriptor, held.stream));
    // Without a shim, runc hands the output over.
    let mut outputs = of_shim.chain(ctx.runc_outputs()).filter(|_| ctx.is_open());
    let is_full = |one: &Descriptor| ctx.file(one).is_some_and(|file| twice(file, queues::is_full));
    let (task, descriptor, stream) = outputs.find(|(_, one, _)| is_full(one))?;
    let held = ctx.host.holders(descriptor.kind, descriptor.file);
    let writes = |task: TaskKey| held.iter().any(|(holder, one)| *holder == task && one.access.writes());
    // The shim also opens the FIFO for reading, but never reads.
    let mut readers = held.iter().filter(|(task, one)| one.access.reads() && !writes(*task)).map(|(task, _)| *task);
    let stopped = readers.clone().find(|task| ctx.is_stopped(*task));
    let (hop, runtime) = ctx.hop(Role::Runtime)?;
    // A runtime older than the command closed the FIFO because the client left.
    let is_another = ctx.hop(Role::Process).is_some_and(|(_, hop)| runtime.task.start_ticks > hop.task.start_ticks);
    let is_gone = runtime.exit.is_some() || (is_another && ctx.host.was_looked_at(runtime.task));
    let unread = readers.next().is_none() && is_gone;
    if !unread && stopped.is_none() {
        return None;
    }
    let file = ctx.file(descriptor)?;
    let about =
        About { pid: Some(task.tgid), fd: Some(descriptor.fd), inode: Some(descriptor.file.inode), ..About::default() };
    let since = file.before.as_ref().map(|(at, _)| *at);
    let found = RuleMatch { hop: Some(hop), about, since, ..RuleMatch::default() };
    let what = if descriptor.kind == FileKind::Pipe { "pipe" } else { "FIFO" };
    let text = format!("bytes in the full {what} for {stream}");
    let found = found.with(number(text, file.last.queued.into(), "bytes"));
    Some(match stopped {
        Some(task) => found.with(word(format!("state of its reader (pid {})", task.tgid), "T")),
        None => found.with(number("readers besides the shim", 0, "")),
    })
}

#[cfg(test)]
use crate::diagnose::fixture::{Fixture, On, PROCESS, RUNTIME};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let full = |about, named: &'static [&'static str]| {
        let mut fixture = Fixture::new(about, named);
        fixture.full(FileKind::Fifo, 71);
        fixture.full(FileKind::Pipe, 61);
        fixture.waits(PROCESS, "write", Some(1));
        fixture
    };
    let mut stopped = full("containerd is stopped", &["F21"]);
    stopped.process(RUNTIME, |process, _| process.state = 'T');
    let mut restarted = full("containerd was restarted, and does not hold the FIFO", &["F21"]);
    restarted.each(|sample, _| sample.descriptors.get_mut(&RUNTIME).unwrap().retain(|one| one.file.inode != 71));
    let mut left = restarted.clone();
    (left.about, left.named) = ("the runtime that began it has let go of the FIFO", &[]);
    restarted.session(|session| session.hops[6].task = TaskKey::from_ns(PROCESS, 1));
    let mut ended = full("containerd ended", &["F21"]);
    ended.session(|session| session.hops[3].exit = Some(ExitStatus::Signal(9)));
    ended.each(|sample, _| {
        sample.descriptors.remove(&RUNTIME);
        sample.processes.remove(&RUNTIME);
        for inode in [On::Stream as u64, On::Stream as u64 + 1] {
            sample.tcp.remove(&inode);
        }
    });
    let mut unseen = full("whether containerd holds it was not looked at", &[]);
    unseen.each(|sample, _| {
        sample.descriptors.remove(&RUNTIME);
    });
    let busy = full("full at both moments, and read", &[]);
    let crio = |about, named: &'static [&'static str]| {
        let mut fixture = Fixture::crio(about, named);
        fixture.full(FileKind::Pipe, 71);
        fixture.full(FileKind::Pipe, 61);
        fixture.waits(PROCESS, "write", Some(1));
        fixture
    };
    let mut crio_stopped = crio("crio is stopped, and does not read runc's pipe", &["F21"]);
    crio_stopped.process(RUNTIME, |process, _| process.state = 'T');
    let crio_reads = crio("full at both moments, and read by crio", &[]);
    vec![stopped, restarted, left, ended, unseen, busy, crio_stopped, crio_reads]
}
