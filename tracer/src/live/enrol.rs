//! Hands processes, programs and connections that the snapshot found to the probes.

use super::losses::Losses;
use crate::{
    model::{Fact, Observation, TaskKey, WatchAs},
    source::{ebpf::loader::Probes, snapshot::Snapshot},
};

/// Watches a process from now on. A process that is gone, or not of that start time, is not watched.
pub(super) fn watch(probes: &mut Probes, snapshot: &Snapshot, losses: &mut Losses, task: TaskKey, class: WatchAs) {
    // Check the identity before and after: a pid that changed hands in between must not stay watched.
    let Some(mntns) = snapshot.mount_namespace(task) else { return };
    let mut watched = probes.watch(task.tgid, mntns, class);
    if let Some(program) = snapshot.program(task) {
        watched = watched.and_then(|()| probes.set_program(task.tgid, &program));
    }
    if let Err(error) = watched {
        losses.add("watch-full");
        tracing::warn!(tgid = task.tgid, %error, "a process cannot be watched");
    }
    if snapshot.mount_namespace(task).is_none() {
        probes.unwatch(task.tgid);
    }
}

/// Gives the probes the Go version of a described process. The kernel enrols processes by itself, but only the program's file
/// shows the version.
pub(super) fn set_program(probes: &mut Probes, seen: &Observation) {
    if let (Fact::ProcessSeen(info), Some(task)) = (&seen.fact, seen.task)
        && let Some(program) = &info.program
        && let Err(error) = probes.set_program(task.tgid, program)
    {
        tracing::debug!(tgid = task.tgid, %error, "the probes do not know the program of a process");
    }
}

/// Has the probes report the end of a connection that is older than they are.
pub(super) fn track(probes: &mut Probes, losses: &mut Losses, seen: &Observation) {
    if let (Fact::SocketSeen { socket }, Some(task)) = (&seen.fact, seen.task)
        && let Err(error) = probes.track(socket.id, task, socket.role)
    {
        losses.add("tracked-full");
        tracing::debug!(tgid = task.tgid, %error, "the end of a connection will not be reported");
    }
}
