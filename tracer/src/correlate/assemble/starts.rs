//! The processes that had a runtime start a container.

use super::upstream::{Builder, Node};
use crate::correlate::state::{Dependency, anchor::Anchor};
use crate::model::{Role, TaskKey};

/// The kubelet's cgroups: `/kubepods/…`, `/kubepods.slice/…`.
const KUBEPODS: &str = "kubepods";
/// Longest chain of runtimes: cri-dockerd, dockerd, containerd.
const RUNTIMES: usize = 3;

impl Builder<'_> {
    /// True if the runtime was observed to start the shim, directly or through other processes.
    pub(in crate::correlate) fn has_forked(&self, runtime: Option<TaskKey>, shim: TaskKey) -> bool {
        runtime.is_some_and(|runtime| self.state.processes.lineage(shim).skip(1).any(|above| above == runtime))
    }

    /// Adds the processes that had the runtime start a container: dockerd, if the container belongs to dockerd;
    /// the kubelet, if the container is in the kubelet's cgroups and exactly one kubelet is connected.
    pub(in crate::correlate) fn add_requesters(&mut self, anchor: &Anchor, up: &mut Vec<Node>) {
        let cgroup = anchor.process().and_then(|process| self.state.processes.get(process)?.info.cgroup.as_ref());
        let by_kubelet = cgroup.and_then(|path| path.as_str()).is_some_and(|path| path.contains(KUBEPODS));
        // containerd below dockerd passes on what dockerd asks for: dockerd comes before it on the path.
        let mut passes_on = anchor.as_container().is_some_and(|container| container.is_delegated);
        while let Some(top) = up.last().map(|node| node.task).filter(|_| up.len() <= RUNTIMES) {
            let connected = self.state.daemon_connections.keys().filter(|(_, to)| *to == top).map(|(from, _)| *from);
            let (kubelets, others): (Vec<_>, Vec<_>) = connected.partition(|task| self.state.is_kubelet(*task));
            let runtimes: Vec<_> = others
                .into_iter()
                .filter(|task| self.state.processes.get(*task).is_some_and(|process| process.is_runtime))
                .collect();
            let (task, role) = match (&kubelets[..], &runtimes[..]) {
                ([kubelet], _) if by_kubelet && !passes_on => (*kubelet, Role::Kubelet),
                (_, [runtime]) if passes_on || (by_kubelet && kubelets.is_empty()) => (*runtime, Role::Runtime),
                _ => return,
            };
            passes_on = false;
            self.dependencies.push(Dependency::Task(task));
            up.push(Node { task, role, inbound: None, pair: None, outbound: None });
            if role == Role::Kubelet {
                return;
            }
        }
    }
}
