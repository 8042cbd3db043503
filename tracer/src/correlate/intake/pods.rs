//! The start of a pod: the runtime starts a shim, the shim has runc make the sandbox (the pause process, which holds the pod's
//! namespaces), then each container. Where every container has a shim of its own (dockerd, CRI-O), each is a start of its own.

use crate::correlate::{
    Correlator,
    assemble::upstream::{Builder, Node},
    state::{
        Part, World,
        anchor_id::AnchorId,
        anchors::{Exec, What},
    },
};
use crate::model::{BootTime, Role, RuncCreate, TaskKey, Want};

/// containerd's namespace of what dockerd has it start: a part of the bundle's path.
const MOBY: &str = "/moby/";
/// The kubelet's cgroups: `/kubepods/…`, `/kubepods.slice/…`.
const KUBEPODS: &str = "kubepods";

impl Correlator {
    /// `runc create`: a container's first process is about to be made.
    pub(in crate::correlate) fn container_created(&mut self, at: BootTime, task: TaskKey, create: &RuncCreate) {
        let process = self.world.processes.get(task);
        let forked_by = process.and_then(|process| process.forked_by);
        let Some(shim) = forked_by.or(process.and_then(|process| process.info.parent)) else { return };
        let id = AnchorId::container(task.host, &create.container);
        let Some(exec) = self.world.exec(task.host, &id, &create.container, at) else { return };
        if exec.runc.is_some() {
            return;
        }
        exec.tty = Some(create.tty);
        exec.shim_forked = forked_by.is_some();
        exec.by_dockerd = create.bundle.as_str().is_some_and(|path| path.contains(MOBY));
        self.world.execs.set_runc(&id, task, Some(shim), create.pid_file.as_ref());
        let (runtime, seen) = self.world.starter(shim);
        // What an older shim made before is not known: then this container stands for itself.
        let first = self.world.pods.get(&shim).filter(|_| seen).cloned();
        match first.and_then(|first| self.world.execs.get_mut(&first)).filter(|pod| !pod.over) {
            Some(pod) if pod.beside.len() < self.world.caps.beside => {
                pod.beside.push(id.clone());
                let first = AnchorId::container(pod.host, &pod.container);
                if let Some(exec) = self.world.execs.get_mut(&id) {
                    exec.what = What::Beside;
                }
                self.dirty.insert(first);
            }
            Some(_) => {
                self.world.execs.forget(&id);
                self.world.refused.add("containers-full", 1);
            }
            None => {
                if let Some(exec) = self.world.execs.get_mut(&id) {
                    exec.what = What::Start;
                    exec.runtime = runtime;
                }
                self.world.pods.insert(shim, id.clone());
                self.begun.push_back((at, id.clone()));
                self.ask(Want::Container { id: create.container.clone(), bundle: Some(create.bundle.clone()) });
                self.dirty.insert(id);
            }
        }
    }
}

impl World {
    /// The runtime that started that shim, and whether that was seen; else the one that is connected to it.
    fn starter(&self, shim: TaskKey) -> (Option<TaskKey>, bool) {
        let is_runtime = |task: &TaskKey| self.processes.get(*task).is_some_and(|process| process.is_runtime);
        if let Some(runtime) = self.processes.lineage(shim).skip(1).find(is_runtime) {
            return (Some(runtime), true);
        }
        let mut connected = self.standing.keys().filter(|(_, to)| *to == shim).map(|(from, _)| *from);
        (connected.next().filter(|_| connected.next().is_none()), false)
    }
}

impl Builder<'_> {
    /// Whether the runtime was seen to start that shim.
    pub(in crate::correlate) fn forked(&self, runtime: Option<TaskKey>, shim: TaskKey) -> bool {
        runtime.is_some_and(|runtime| self.world.processes.lineage(shim).skip(1).any(|above| above == runtime))
    }

    /// Who had the runtime start a container: dockerd, where it is dockerd's; the kubelet, where it is in the kubelet's
    /// cgroups and one kubelet alone is connected.
    pub(in crate::correlate) fn started_for(&mut self, exec: &Exec, up: &mut Vec<Node>) {
        let cgroup = exec.process.and_then(|process| self.world.processes.get(process)?.info.cgroup.as_ref());
        let by_kubelet = cgroup.and_then(|path| path.as_str()).is_some_and(|path| path.contains(KUBEPODS));
        let mut passes_on = exec.by_dockerd;
        while let Some(top) = up.last().map(|node| node.task).filter(|_| up.len() <= RUNTIMES) {
            let connected = self.world.standing.keys().filter(|(_, to)| *to == top).map(|(from, _)| *from);
            let (kubelets, others): (Vec<_>, Vec<_>) = connected.partition(|task| self.world.is_kubelet(*task));
            let runtimes: Vec<_> = others
                .into_iter()
                .filter(|task| self.world.processes.get(*task).is_some_and(|process| process.is_runtime))
                .collect();
            let (task, role) = match (&kubelets[..], &runtimes[..]) {
                ([kubelet], _) if by_kubelet && !passes_on => (*kubelet, Role::Kubelet),
                (_, [runtime]) if passes_on || (by_kubelet && kubelets.is_empty()) => (*runtime, Role::Runtime),
                _ => return,
            };
            passes_on = false;
            self.parts.push(Part::Task(task));
            up.push(Node { task, role, inbound: None, join: None, outbound: None });
            if role == Role::Kubelet {
                return;
            }
        }
    }
}

/// containerd, dockerd and cri-dockerd, one before the other.
const RUNTIMES: usize = 3;
