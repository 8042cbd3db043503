//! Execs that are being started. Until its `runc exec` has ended, a shim has none of the exec's FIFOs open.

use std::collections::BTreeSet;

use super::{facts::process_seen, view::HostView};
use crate::model::{BootTime, Depth, Fact, Observation, Scope, TaskKey, parse_fifo_path, parse_runc_exec};

/// Children of one process that are looked at. runc has three, one after the other.
const MAX_CHILDREN: usize = 64;

/// The `runc exec`s of these shims. Empty unless `facts` hold a FIFO that a runtime has open and no shim has.
pub(super) fn execs_of(
    view: &HostView,
    shims: &BTreeSet<TaskKey>,
    facts: &[Observation],
    now: BootTime,
) -> Vec<Observation> {
    let (mut opened, mut made) = (BTreeSet::new(), BTreeSet::new());
    for seen in facts {
        let (Fact::FifoHeld { path, .. }, Some(task)) = (&seen.fact, seen.task) else { continue };
        if let Some(fifo) = path.as_str().and_then(parse_fifo_path) {
            if shims.contains(&task) { &mut opened } else { &mut made }.insert(fifo.exec);
        }
    }
    if made.is_subset(&opened) {
        return Vec::new();
    }
    shims.iter().flat_map(|shim| runcs_of(view, *shim, now)).collect()
}

fn runcs_of(view: &HostView, shim: TaskKey, now: BootTime) -> Vec<Observation> {
    let own = view.proc.namespace(shim.tgid, "mnt");
    // A child in another mount namespace is a container's process, whatever its arguments claim.
    let outside = |pid: &u32| own.is_some() && view.proc.namespace(*pid, "mnt") == own;
    let children = view.proc.children(shim.tgid).into_iter().filter(outside).take(MAX_CHILDREN);
    let described = children.filter_map(|pid| view.proc.describe(pid));
    let runcs = described.filter(|(_, info)| info.parent == Some(shim) && parse_runc_exec(&info.argv).is_some());
    runcs.map(|(key, info)| process_seen(now, key, info)).collect()
}

/// The scope with the children of its `parents`: processes that a `runc exec` has started and that do not run their program yet.
pub(super) fn with_children(view: &HostView, scope: &Scope) -> Scope {
    let mut scope = scope.clone();
    for parent in scope.parents.clone() {
        let children = view.proc.children(parent.tgid).into_iter().take(MAX_CHILDREN);
        let keys: Vec<TaskKey> = children.filter_map(|pid| view.proc.key(pid)).collect();
        // Check the identity last: a pid that changed hands in between has other children.
        if view.proc.is_still(parent) {
            scope.tasks.extend(keys.into_iter().map(|key| (key, Depth::Whole)));
        }
    }
    scope
}
