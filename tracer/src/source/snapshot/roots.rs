//! Files of runtimes, in every mount namespace that holds some: containers, bundles, pid files.

use std::collections::BTreeMap;

use super::{container::Root, view::HostView};
use crate::{
    host_paths,
    model::{BootTime, ContainerInfo, Fact, Observation, RawText, Source, parse_cgroup},
};

/// Roots of mount namespaces: the host's as the tracer sees it first, then those of runtimes elsewhere.
pub(super) fn each_root(view: &HostView) -> impl Iterator<Item = Root> + '_ {
    let own = Root::open(&host_paths::get().root).map(|root| match &view.options.bundles {
        Some(folder) => root.with_bundles(folder),
        None => root,
    });
    let elsewhere = view.roots.values().filter_map(|key| {
        let root = Root::open(&view.proc.path(key.tgid, "root"))?;
        view.proc.is_still(*key).then_some(root)
    });
    own.into_iter().chain(elsewhere)
}

/// Every container whose bundle is in one of the roots.
pub(super) fn containers(view: &HostView, now: BootTime) -> Vec<Observation> {
    let mut all: BTreeMap<String, ContainerInfo> = BTreeMap::new();
    for (id, info) in each_root(view).flat_map(|root| root.containers()) {
        let known = match all.remove(&id) {
            Some(known) => known.or(info),
            None => info,
        };
        all.insert(id, known);
    }
    let fact = |info| Observation::new(now, Source::Snapshot, Fact::ContainerSeen(Box::new(info)));
    all.into_values().map(fact).collect()
}

/// One container. `bundle` is a path inside its bundle, if one is known.
pub(super) fn container(view: &HostView, id: &str, bundle: Option<&RawText>, now: BootTime) -> Observation {
    let inside = bundle.and_then(RawText::as_str);
    // One root may have the bundle and another one the kubelet's log links: each knows a part.
    let known = each_root(view).filter_map(|root| root.container(id, inside)).reduce(ContainerInfo::or);
    let fact = match known {
        Some(info) => Fact::ContainerSeen(Box::new(info)),
        None => Fact::ContainerUnknown { id: id.to_owned() },
    };
    Observation::new(now, Source::Snapshot, fact)
}

/// The pid in a pid file of a runtime.
pub(super) fn pid_file(view: &HostView, path: &RawText, now: BootTime) -> Observation {
    let pid = path.as_str().and_then(|path| each_root(view).find_map(|root| root.pid_file(path)));
    Observation::new(now, Source::Snapshot, Fact::PidFile { path: path.clone(), pid })
}

/// True if the first process of this process's container runs. `None` outside of containers, or without a pid file.
pub(super) fn is_container_running(view: &HostView, pid: u32) -> Option<bool> {
    let id = view.proc.cgroup(pid)?.as_str().and_then(parse_cgroup)?.id;
    let first = each_root(view).find_map(|root| root.first_pid(&id))?;
    // Another process may have the pid by now, in another container or in none.
    let cgroup = view.proc.cgroup(first);
    Some(cgroup.is_some_and(|path| path.as_str().and_then(parse_cgroup).is_some_and(|one| one.id == id)))
}
