//! F22: the process waits for a device.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F22",
    name: "the process waits for a device",
    short: "state D",
    severity: Severity::Fault,
    step: Step::Doing,
    kinds: Kinds::Any,
    means: "A thread of the command is in uninterruptible sleep until a disk or a file server answers; not even \
            SIGKILL ends it. The path is healthy, and the session continues when the device answers.",
    why: "The server of an NFS or other network file system is gone, a block device hangs, or a file system is frozen.",
    needs: "Two samples of the same thread in state D that did not wake in between (equal switch counts), in a cgroup \
            that is known not to be frozen.",
    apart: &[
        Apart { code: "F10", by: "the cgroup is not frozen" },
        Apart { code: "F16", by: "it does not wait for room in a pipe" },
        Apart { code: "F23", by: "a byte or a signal would not wake it" },
    ],
    next: &[
        "Find the mount from the command's open files and the kernel stack (below). Check that its server or device \
         answers.",
        "Repair the device: nothing else ends the wait. A forced unmount (umount -f, -l) releases some.",
    ],
    manual: &[
        "cat /proc/{pid}/stack   # nfs_, rpc_, ext4_, blk_ … name the kind",
        "ls -l /proc/{pid}/fd; cat /proc/{pid}/mountinfo | grep -e nfs -e cifs -e ceph -e fuse",
        "dmesg | grep -e 'blocked for more than' -e 'not responding'",
    ],
    sources: &["moby/moby#37886", "moby/moby#31614", "containerd/containerd#1722", "kubernetes/kubernetes#72048"],
    made: Made::Lab,
    rule: Rule::Session(rule),
    #[cfg(test)]
    fixtures,
};

fn rule(ctx: &SessionCtx<'_>) -> Option<RuleMatch> {
    ctx.inside().into_iter().filter(|_| ctx.is_open()).find_map(|(task, series)| {
        let (last, before) = both(series)?;
        last.cgroup.filter(|cgroup| cgroup.frozen == Some(false))?;
        let thread = last.threads.iter().find(|thread| {
            let same = |one: &&crate::model::ThreadMeasure| {
                one.tid == thread.tid && one.state == 'D' && one.switches == thread.switches
            };
            thread.state == 'D' && thread.switches.is_some() && before.threads.iter().any(|one| same(&one))
        })?;
        let about = About { pid: Some(task.tgid), ..About::default() };
        let since = series.before.as_ref().map(|(at, _)| *at);
        let hop = ctx.session.hops.len().checked_sub(1);
        let mut found = RuleMatch { hop, about, since, ..RuleMatch::default() }
            .with(word(format!("state of thread {}", thread.tid), "D"))
            .with(number("wake-ups between the samples", 0, ""));
        if let Some(call) = &thread.call {
            found = found.with(word("its call", call.name.as_str()));
        }
        if let Some(inside) = thread.stack.first() {
            found = found.with(word("innermost kernel function", inside.clone()));
        }
        Some(found)
    })
}

#[cfg(test)]
use crate::diagnose::fixture::{Fixture, PROCESS};

#[cfg(test)]
fn fixtures() -> Vec<Fixture> {
    let of = |about, named: &'static [&'static str], wakes: u64, frozen: Option<bool>| {
        let mut fixture = Fixture::new(about, named);
        fixture.waits(PROCESS, "openat", None);
        fixture.process(PROCESS, |process, number| {
            process.state = 'D';
            process.threads[0].state = 'D';
            process.threads[0].stack = vec!["rpc_wait_bit_killable".into()];
            process.threads[0].switches = Some(7 + number * wakes);
            if let Some(cgroup) = &mut process.cgroup {
                cgroup.frozen = frozen;
            }
        });
        fixture
    };
    vec![
        of("the file server is gone", &["F22"], 0, Some(false)),
        of("a disk that is busy", &[], 400, Some(false)),
        of("whether it is frozen is not known", &[], 0, None),
    ]
}
