//! The start of a pod. The runtime starts a shim; the shim has runc make the sandbox, then each container. The
//! sandbox is the pause process, which holds the pod's namespaces. With a shim for each container (dockerd, CRI-O),
//! each container is a start of its own.

use std::sync::Arc;

use crate::correlate::{
    effects::Effects,
    limits::EXEC_UNUSED_AFTER,
    state::{Dependency, State, anchor_id::AnchorId},
    timers::Timer,
};
use crate::model::{BootTime, ContainerInfo, RuncCreate, Runtime, Target, TaskKey, Want};

/// Handles `runc create`: the first process of a container is about to be made.
pub(in crate::correlate) fn container_created(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    create: &RuncCreate,
) {
    let process = state.processes.get(task);
    let forked_by = process.and_then(|process| process.forked_by);
    let Some(shim) = forked_by.or(process.and_then(|process| process.info.parent)) else { return };
    let id = AnchorId::container(task.host, &create.container);
    let Some(anchor) = state.anchor(task.host, &id, &create.container, at) else { return };
    let Some(container) = anchor.as_container_mut().filter(|container| container.launch.runc.is_none()) else { return };
    container.launch.tty = Some(create.tty);
    container.launch.shim_forked = forked_by.is_some();
    container.is_delegated = create.bundle.as_str().is_some_and(|path| Runtime::of_bundle(path).delegates);
    state.anchors.set_runc(&id, task, Some(shim), create.pid_file.as_ref());
    let (runtime, seen) = starter(state, shim);
    // Containers of a shim from before the tracer's start are unknown: then this container is a start of its own.
    let first = state.pods.get(&shim).filter(|_| seen).cloned();
    let first = first.filter(|first| state.anchors.get(first).is_some_and(|pod| !pod.over));
    match first.and_then(|first| Some((state.anchors.container_mut(&first)?, first))) {
        Some((pod, first)) if pod.siblings.len() < state.caps.beside => {
            pod.siblings.push(id);
            effects.invalidate(first);
        }
        Some(_) => {
            state.anchors.forget(&id);
            state.refused.add("containers-full", 1);
        }
        None => {
            if let Some(container) = state.anchors.container_mut(&id) {
                container.is_first = true;
                container.runtime = runtime;
            }
            state.pods.insert(shim, id.clone());
            effects.timers.set(at.plus(EXEC_UNUSED_AFTER), Timer::ExecUnused(id.clone()));
            effects.ask(Want::Container { id: create.container.clone(), bundle: Some(create.bundle.clone()) });
            effects.invalidate(id);
        }
    }
}

/// Adds names of a container. Files, monitors and log links each know some of them; the first report of a name stays.
pub(in crate::correlate) fn container_named(state: &mut State, effects: &mut Effects, info: ContainerInfo) {
    let dependency = Dependency::Container(info.id.as_str().into());
    let known = state.containers.entry(info.id.clone()).or_default();
    let new = Target::from(info);
    *known = Some(Arc::new(match known.take() {
        Some(old) => Arc::unwrap_or_clone(old).or(new),
        None => new,
    }));
    effects.changed(dependency);
}

/// Runtime that started a shim, and true if a record shows so. Else the one daemon that is connected to the shim.
fn starter(state: &State, shim: TaskKey) -> (Option<TaskKey>, bool) {
    let is_runtime = |task: &TaskKey| state.processes.get(*task).is_some_and(|process| process.is_runtime);
    if let Some(runtime) = state.processes.lineage(shim).skip(1).find(is_runtime) {
        return (Some(runtime), true);
    }
    let mut connected = state.daemon_connections.keys().filter(|(_, to)| *to == shim).map(|(from, _)| *from);
    (connected.next().filter(|_| connected.next().is_none()), false)
}
