//! F25: a background process holds the output open.

use std::collections::BTreeSet;

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F25",
    name: "a background process holds the output open",
    short: "output held",
    severity: Severity::Fault,
    step: Step::Ends,
    kinds: Kinds::Command,
    means: "The command has ended but kubectl has not: a process left behind by the command still has its output open, \
            and the shim waits for end of file.",
    why: "A background child inherits stdout and stderr, as in `sh -c 'server &'`. A daemon should close them.",
    needs: "Two samples: the end of the command, the holders of its pipes' other ends, and that the holders are alive. \
            A process outside the command's process group is reported only if no other exec can have left it.",
    apart: &[
        Apart { code: "F16", by: "the command has ended, and no output is queued" },
        Apart { code: "F26", by: "the client is still connected" },
        Apart { code: "F09", by: "the shim waits for end of file, which another process holds back" },
    ],
    next: &[
        "End the process named above. If it has to stay, end kubectl.",
        "Redirect the output of background processes: `server >/dev/null 2>&1 &`, or setsid.",
    ],
    manual: &[
        "ls -l /proc/{pid}/fd/{fd}   # pipe:[{inode}]",
        "find /proc/[0-9]*/fd -lname 'pipe:\\[{inode}\\]' 2>/dev/null   # everybody who has it, the shim among them",
        "tr '\\0' ' ' </proc/{pid}/cmdline",
    ],
    sources: &[
        "kubernetes/kubernetes#44371",
        "moby/moby#33039",
        "containerd/containerd#2823",
        "containerd/containerd#10094",
        "GHSA-7jxh-36q5-gcqv",
    ],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    let ended = ctx.command_ended().map(|(at, command)| (at, Some(command.task)));
    let gone = || ctx.is_command_gone().then(|| (ctx.session.hops.len().saturating_sub(1), None));
    let (at, command) = ended.or_else(gone).filter(|_| ctx.is_open())?;
    let shim = ctx.shim()?;
    let holders = own(ctx, shim).or_else(|| unclaimed(ctx, shim))?;
    // A process that is about to end as well is not the cause.
    let lives = |task: TaskKey| {
        ctx.process(task).is_some_and(|series| {
            let is_left = command.is_none_or(|command| ended_before(ctx, command, series));
            twice(series, |one| !matches!(one.state, 'Z' | 'X')) && is_left
        })
    };
    let (task, fd, inode) = holders.into_iter().find(|(task, ..)| lives(*task))?;
    let about = About { pid: Some(task.tgid), fd: Some(fd), inode: Some(inode), ..About::default() };
    Some(
        RuleMatch { hop: Some(at), about, ..RuleMatch::default() }
            .with(word(
                command.map_or("the command".to_owned(), |task| format!("the command (pid {})", task.tgid)),
                "ended",
            ))
            .with(number("its output is still open in process", task.tgid.into(), ""))
            .with(number("by descriptor", fd.into(), "")),
    )
}

/// True if the command had ended by the sample before the last one of that process. Every session stays open for a
/// moment after its command's end.
fn ended_before(ctx: &SessionCtx<'_>, command: TaskKey, other: &Series<ProcessMeasure>) -> bool {
    let Some((earlier, _)) = &other.before else { return false };
    ctx.process(command).is_none_or(|series| series.at < *earlier || twice(series, |one| one.state == 'Z'))
}

/// Other writers of the command's pipes, if the pipes were measured while the command lived.
fn own(ctx: &SessionCtx<'_>, shim: TaskKey) -> Option<Vec<Holder>> {
    let (_, command) = ctx.hop(Role::Process)?;
    let pipes = ctx.host.report.measures.descriptors(command.task).iter();
    let pipes = pipes.filter(|one| one.kind == FileKind::Pipe && one.access.writes() && matches!(one.fd, 1 | 2));
    let held = pipes.flat_map(|pipe| ctx.host.holders(pipe.kind, pipe.file));
    let others = held.filter(|(task, one)| *task != command.task && *task != shim && one.access.writes());
    let others: Vec<_> = others.map(|(task, one)| (*task, one.fd, one.file.inode)).collect();
    Some(others).filter(|others| !others.is_empty())
}

/// A holder of a pipe: process, descriptor, inode of the pipe.
type Holder = (TaskKey, u32, u64);

/// Writers of this exec's pipes, if the pipes were not measured while the command lived. Candidates are pipes that this
/// shim reads and that no session explains.
///
/// A pipe belongs to this exec if one of its holders is in the command's process group: the group has the command's
/// pid, and only descendants can be in it (setpgid(2)). Otherwise the pipe must be the only possible one: a single
/// session has lost its command, and a single group started since holds pipes.
fn unclaimed(ctx: &SessionCtx<'_>, shim: TaskKey) -> Option<Vec<Holder>> {
    let left = left_pipes(ctx, shim);
    let group = |task: TaskKey| ctx.process(task).and_then(|series| series.last.group);
    let command = ctx.hop(Role::Process).map(|(_, hop)| hop.task.tgid).or(ctx.session.command_pid);
    if let Some(pid) = command {
        let is_own = |pipe: &&Vec<Holder>| pipe.iter().any(|(task, ..)| group(*task) == Some(pid));
        let own: Vec<Holder> = left.iter().filter(is_own).flatten().copied().collect();
        if !own.is_empty() {
            return Some(own);
        }
    }
    let ended = ctx.host.open().map(|session| SessionCtx::new(ctx.host, session));
    let ended = ended.filter(|other| {
        other.shim() == Some(shim) && (other.command_ended().is_some() || other.hop(Role::Process).is_none())
    });
    let begun = begun(ctx)?;
    let is_younger = |(task, ..): &Holder| task.host == begun.host && task.start_ticks >= begun.start_ticks;
    let young: Vec<Holder> = left.into_iter().filter(|pipe| pipe.iter().all(is_younger)).flatten().collect();
    let groups: BTreeSet<Option<u32>> = young.iter().map(|(task, ..)| group(*task)).collect();
    Some(young).filter(|_| ended.count() == 1 && groups.len() == 1)
}

/// A process that started no later than the command: the command itself, or the client that requested it.
fn begun(ctx: &SessionCtx<'_>) -> Option<TaskKey> {
    let command = ctx.hop(Role::Process).map(|(_, hop)| hop.task);
    command.or_else(|| ctx.session.hops.first().filter(|hop| hop.role == Role::Client).map(|hop| hop.task))
}

/// Writers of each pipe that this shim reads, without pipes of open sessions and of the container's own process. That
/// process is a child of the shim.
fn left_pipes(ctx: &SessionCtx<'_>, shim: TaskKey) -> Vec<Vec<Holder>> {
    let measures = &ctx.host.report.measures;
    let in_sessions = |task: TaskKey| ctx.host.is(task, Role::Process);
    let read = measures.descriptors(shim).iter().filter(|one| one.kind == FileKind::Pipe && one.access.reads());
    let left = read.filter_map(|pipe| {
        let writers: Vec<Holder> = ctx
            .host
            .holders(pipe.kind, pipe.file)
            .iter()
            .filter(|(task, one)| *task != shim && one.access.writes())
            .map(|(task, one)| (*task, one.fd, one.file.inode))
            .collect();
        // A process with an unknown parent may be the container's own process.
        let parent = |task: TaskKey| measures.process(task).and_then(|series| series.last.parent);
        let is_left =
            |(task, ..): &Holder| !in_sessions(*task) && parent(*task).is_some_and(|parent| parent != shim.tgid);
        (!writers.is_empty() && writers.iter().all(is_left)).then_some(writers)
    });
    left.collect()
}

#[cfg(test)]
use crate::diagnose::fixture::{Fixture, PROCESS, SHIM, pipe, sleeping};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], parent: u32| {
        let mut fixture = Fixture::new(about, named);
        fixture.session(|session| session.hops[6].exit = Some(ExitStatus::Code(0)));
        fixture.each(|sample, _| {
            sample.processes.remove(&PROCESS);
            let mut child = sleeping("accept4", Some(5));
            child.parent = Some(parent);
            sample.processes.insert(620, child);
            sample.hold(620, pipe(1, 61, false));
        });
        fixture
    };
    let mut seen = of("a child that it left behind", &["F25"], 1);
    seen.samples[1].descriptors.remove(&PROCESS);
    let mut unseen = of("the command ended before anybody looked", &["F25"], 510);
    unseen.each(|sample, _| {
        sample.descriptors.remove(&PROCESS);
    });
    let mut init = of("the container's own process writes to a pipe of its own", &[], SHIM);
    init.each(|sample, _| {
        sample.descriptors.remove(&PROCESS);
    });
    let mut ending = of("the child ends, too", &[], 1);
    ending.samples[1].processes.get_mut(&620).unwrap().state = 'Z';
    let mut just = of("the command has just ended", &[], 1);
    just.samples[0].processes.insert(PROCESS, sleeping("wait4", None));
    let mut nobody = of("nobody has it any more", &[], 1);
    nobody.each(|sample, _| {
        sample.descriptors.remove(&620);
    });
    // A child of an earlier exec, which still runs and holds that exec's pipe.
    let earlier = |fixture: &mut Fixture, group| {
        fixture.each(|sample, _| {
            let mut other = sleeping("clock_nanosleep", None);
            (other.parent, other.group) = (Some(510), group);
            sample.processes.insert(580, other);
            sample.hold(580, pipe(1, 55, false));
            sample.hold(SHIM, pipe(50, 55, true));
        });
    };
    let mut grouped = unseen.clone();
    grouped.about = "an earlier exec left a process, too: the group tells which is whose";
    grouped.process(620, |process, _| process.group = Some(PROCESS));
    earlier(&mut grouped, Some(570));
    let mut torn = unseen.clone();
    (torn.about, torn.named) = ("two pipes, and nothing tells whose they are", &[]);
    torn.process(620, |process, _| process.group = Some(620));
    earlier(&mut torn, Some(570));
    let mut other = unseen.clone();
    (other.about, other.named) = ("only an earlier exec's process is left", &[]);
    other.each(|sample, _| {
        sample.processes.remove(&620);
        sample.descriptors.remove(&620);
    });
    earlier(&mut other, Some(570));
    other.session(|session| session.hops[6].task.start_ticks += 500);
    vec![seen, unseen, init, ending, just, nobody, grouped, torn, other]
}
