//! Execs that are being started: the shim waits for its `runc exec`, and has none of the exec's FIFOs open until that has ended.

use std::collections::BTreeSet;

use super::{Snapshot, descriptors::Target, process_seen};
use crate::model::{BootTime, Depth, Fact, Observation, Scope, TaskKey, parse_fifo_path, parse_runc_exec};

/// Children of one process that are looked at. runc has three, one after the other.
const MAX_CHILDREN: usize = 64;

impl Snapshot {
    /// The `runc exec`s of these shims, where `facts` tell of FIFOs that a runtime holds and no shim does.
    pub(super) fn starting(&self, shims: &BTreeSet<TaskKey>, facts: &[Observation], now: BootTime) -> Vec<Observation> {
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
        shims.iter().flat_map(|shim| self.runcs_of(*shim, now)).collect()
    }

    fn runcs_of(&self, shim: TaskKey, now: BootTime) -> Vec<Observation> {
        let own = self.proc.namespace(shim.tgid, "mnt");
        // In another mount namespace it is a container's, whatever its arguments say.
        let outside = |pid: &u32| own.is_some() && self.proc.namespace(*pid, "mnt") == own;
        let children = self.proc.children(shim.tgid).into_iter().filter(outside).take(MAX_CHILDREN);
        let described = children.filter_map(|pid| self.proc.describe(pid));
        let runcs = described.filter(|(_, info)| info.parent == Some(shim) && parse_runc_exec(&info.argv).is_some());
        runcs.map(|(key, info)| process_seen(now, key, info)).collect()
    }

    /// With the children of those of which they are asked for: what `runc exec` has begun, and what is not what it will be yet.
    pub(super) fn with_children(&self, scope: &Scope) -> Scope {
        let mut scope = scope.clone();
        for parent in scope.parents.clone() {
            let children = self.proc.children(parent.tgid).into_iter().take(MAX_CHILDREN);
            let keys: Vec<TaskKey> = children.filter_map(|pid| self.proc.key(pid)).collect();
            // Asked after: a pid that changed hands in between has other children.
            if self.proc.is_still(parent) {
                scope.tasks.extend(keys.into_iter().map(|key| (key, Depth::Whole)));
                self.add_asked(parent, &mut scope);
            }
        }
        scope
    }

    /// Adds the unix connections of that process to somebody who listens: whom it may wait for.
    fn add_asked(&self, task: TaskKey, scope: &mut Scope) {
        let (Some(census), Some(files)) = (&self.census, self.files_of(task)) else { return };
        let netns = self.proc.namespace(task.tgid, "net");
        let sockets = &census.sockets.unix;
        for file in files.iter() {
            let Target::Socket(inode) = file.target else { continue };
            let Some(own) = sockets.get(&inode) else { continue };
            if let Some(path) = own.peer.and_then(|peer| sockets.get(&peer)?.path.clone()) {
                scope.unix.entry(own.id).or_insert((path, netns));
            }
        }
    }
}
