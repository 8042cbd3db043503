//! Where a process comes from: the processes above it, and the names of their users.

use super::{passwd, view::HostView};
use crate::{
    host_paths,
    model::{Ancestry, BootTime, Fact, Observation, Source, TaskKey},
};

/// Ancestry of a process; `None` if the process is gone.
pub(super) fn report(view: &HostView, key: TaskKey, now: BootTime) -> Option<Observation> {
    let parents = view.proc.ancestors(key)?;
    let (found, info) = view.proc.describe(key.tgid)?;
    let uids = parents.iter().map(|above| above.uid).chain([info.uid, info.login_uid]).flatten().collect();
    // If the tracer runs in a container, its own list is the image's. The first process has the host's.
    let names = [view.proc.path(1, "root/etc/passwd"), host_paths::get().file("/etc/passwd")]
        .into_iter()
        .map(|list| passwd::names(&list, &uids))
        .find(|names| !names.is_empty())
        .unwrap_or_default();
    let ancestry = Fact::Ancestry(Box::new(Ancestry { parents, names }));
    (found == key).then(|| Observation::of(now, Source::Snapshot, key, ancestry))
}
