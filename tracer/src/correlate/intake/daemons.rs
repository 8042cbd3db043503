//! Daemons of the path: their discovery, and the time from which their acts are known.

use std::collections::BTreeSet;

use super::streams::offer_stream;
use crate::correlate::{
    effects::Effects,
    limits,
    state::{State, anchor::Anchor},
    timers::Timer,
};
use crate::model::{BootTime, Listener, RawText, Runtime, TaskKey, Want, WatchAs};

/// Asks to follow a process with a socket on a port of the path, if the tracer does not follow it yet.
pub(in crate::correlate) fn endpoint_found(state: &mut State, effects: &mut Effects, task: TaskKey, port: u16) {
    if state.endpoints.is_path_port(port) && state.watched.insert(task) {
        effects.ask(Want::Watch(task, WatchAs::Endpoint));
    }
}

/// Handles a listening process that the snapshot has verified.
pub(in crate::correlate) fn listener_verified(
    state: &mut State,
    effects: &mut Effects,
    task: TaskKey,
    bound: &RawText,
    listener: &Listener,
) {
    state.verified.insert(task.host);
    state.processes.listens(task, bound, listener);
    if let Some(at) = listener.serves_at() {
        daemon_found(state, effects, task, at);
    }
}

pub(in crate::correlate) fn daemon_found(state: &mut State, effects: &mut Effects, task: TaskKey, path: &RawText) {
    if !state.may_be_daemon(task) {
        return;
    }
    if state.is_daemon_socket(path) {
        state.watched.insert(task);
        effects.ask(Want::Watch(task, WatchAs::Daemon));
    }
    if state.endpoints.is_runtime_socket(path) {
        let known = Runtime::at_socket(path);
        let process = state.processes.entry(task);
        process.is_runtime = true;
        process.runtime = process.runtime.or(known);
    }
}

/// Notes that the tracer has attached to a daemon: its acts are recorded from now on.
pub(in crate::correlate) fn attached(state: &mut State, at: BootTime, daemon: TaskKey) {
    state.processes.entry(daemon).coverage.attach(at);
}

/// Notes that the open files of a daemon were scanned. Execs that the daemon was at work with can be judged from now
/// on.
pub(in crate::correlate) fn scanned(state: &mut State, effects: &mut Effects, at: BootTime, daemon: TaskKey) {
    let Some(attached) = state.processes.entry(daemon).coverage.scan(at) else { return };
    let under_way = state.anchors.under_way(daemon, attached.plus(limits::FIFOS_WITHIN), at);
    for id in &under_way {
        effects.timers.set(at.plus(limits::EXEC_UNCLAIMED_AFTER), Timer::ExecUnclaimed(id.clone()));
    }
    effects.invalidate_all(under_way);
    let streams = state.anchors.unresolved().filter(|stream| stream.preexisting);
    let owners: BTreeSet<Option<TaskKey>> = streams.map(Anchor::runtime).collect();
    for owner in owners {
        offer_stream(state, effects, owner);
    }
}
