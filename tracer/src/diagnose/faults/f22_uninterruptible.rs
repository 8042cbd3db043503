//! F22: the process waits for a device.

use super::prelude::*;

pub(super) const FAULT: Fault = Fault {
    code: "F22",
    name: "the process waits for a device",
    short: "state D",
    severity: Severity::Fault,
    step: Step::Doing,
    means: "A thread of the command sleeps in the kernel and cannot be woken, not even by SIGKILL, until a disk or a file \
            server answers. The path is well; the session ends when the device does answer.",
    why: "NFS or another network file system whose server is gone, a block device that hangs, a file system that is frozen.",
    needs: "Two samples: state D of the same thread, which did not wake in between (its count of switches is the same), in a \
            cgroup that is known not to be frozen.",
    apart: &[
        Apart { code: "F10", by: "the cgroup is not frozen" },
        Apart { code: "F16", by: "it does not wait for room in a pipe" },
        Apart { code: "F23", by: "a byte or a signal would not wake it" },
    ],
    next: &[
        "Find the mount: the files that it has open, and the kernel's stack below. See whether its server or device answers.",
        "Nothing but that device ends it; a forced unmount (umount -f, -l) lets some go.",
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
    scenes,
};

fn rule(case: &Case<'_>) -> Option<Found> {
    case.inside().into_iter().filter(|_| case.is_open()).find_map(|(task, series)| {
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
        let hop = case.session.hops.len().checked_sub(1);
        let mut found = Found { hop, about, since, ..Found::default() }
            .with(word(format!("state of thread {}", thread.tid), "D"))
            .with(number("times that it woke between the samples", 0, ""));
        if let Some(call) = &thread.call {
            found = found.with(word("its call", call.name.as_str()));
        }
        if let Some(inside) = thread.stack.first() {
            found = found.with(word("innermost function of the kernel", inside.clone()));
        }
        Some(found)
    })
}

#[cfg(test)]
use crate::diagnose::scene::{PROCESS, Scene};

#[cfg(test)]
fn scenes() -> Vec<Scene> {
    let of = |about, named: &'static [&'static str], wakes: u64, frozen: Option<bool>| {
        let mut scene = Scene::new(about, named);
        scene.waits(PROCESS, "openat", None);
        scene.process(PROCESS, |process, number| {
            process.state = 'D';
            process.threads[0].state = 'D';
            process.threads[0].stack = vec!["rpc_wait_bit_killable".into()];
            process.threads[0].switches = Some(7 + number * wakes);
            if let Some(cgroup) = &mut process.cgroup {
                cgroup.frozen = frozen;
            }
        });
        scene
    };
    vec![
        of("the file server is gone", &["F22"], 0, Some(false)),
        of("a disk that is busy", &[], 400, Some(false)),
        of("whether it is frozen is not known", &[], 0, None),
    ]
}
