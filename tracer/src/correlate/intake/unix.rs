//! Facts about unix sockets.

use super::daemons;
use crate::correlate::{
    effects::Effects,
    limits,
    state::{DaemonConnection, State},
    timers::Timer,
};
use crate::model::{BootTime, Fact, RawText, Source, TaskKey, Want};

/// Applies a fact about a unix socket. `task` owns the socket, if the fact has an owner.
pub(super) fn apply(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: Option<TaskKey>,
    source: Source,
    fact: Fact,
) {
    match (fact, task) {
        (Fact::ListeningUnix { path, listener, .. }, Some(task)) => match listener {
            Some(listener) => daemons::listener_verified(state, effects, task, &path, &listener),
            None => daemons::daemon_found(state, effects, task, &path),
        },
        (Fact::UnixConnected { socket: _, listener: Some(listener), path, bound: true }, by) => {
            connected_to(state, effects, by, listener, &path);
        }
        (Fact::UnixConnected { socket, listener: Some(listener), path, bound: false }, _) => {
            if let Some(task) = state.processes.current_task(socket.host, listener) {
                daemons::daemon_found(state, effects, task, &path);
            } else if state.is_daemon_socket(&path) {
                state.expected_daemons.insert((socket.host, listener));
                effects.ask(Want::Pid(listener));
            }
        }
        (Fact::UnixAccepted { socket, peer, connector, path, bound }, Some(task)) => {
            if let Some(path) = served_at(state, effects, task, path, bound) {
                let older = source == Source::Snapshot;
                let connection = DaemonConnection { path, near: peer, far: socket };
                unix_accepted(state, effects, at, task, connector, older, connection);
            }
        }
        _ => {}
    }
}

/// Handles a connection to a listener that is known by the name it was bound with. The name proves nothing, because
/// the socket may have another path by now. Asks for the listener's owner if a daemon has such a name, or if a
/// kubelet connects.
pub(in crate::correlate) fn connected_to(
    state: &mut State,
    effects: &mut Effects,
    by: Option<TaskKey>,
    listener: u32,
    bound: &RawText,
) {
    let host = by.map(|by| by.host).unwrap_or_default();
    let task = state.processes.current_task(host, listener);
    if task.is_some_and(|task| state.processes.serves_at(task, bound).is_some()) {
        return;
    }
    if state.is_daemon_socket(bound) || by.is_some_and(|by| state.is_kubelet(by)) {
        effects.ask(Want::Listeners(listener));
    }
}

/// Path at which clients reach the listener that accepted a connection; `None` if the listener is not known to be a
/// daemon's.
pub(in crate::correlate) fn served_at(
    state: &mut State,
    effects: &mut Effects,
    task: TaskKey,
    path: RawText,
    bound: bool,
) -> Option<RawText> {
    if !bound {
        daemons::daemon_found(state, effects, task, &path);
        return Some(path);
    }
    let at = state.processes.serves_at(task, &path).cloned();
    if at.is_none() && state.is_daemon_socket(&path) {
        effects.ask(Want::Listeners(task.tgid));
    }
    at
}

/// Handles an accepted unix connection of a daemon. Most such connections are shared by all sessions, and count once
/// for each pair of processes. A connection to dockerd's API may be a leg of one session.
pub(in crate::correlate) fn unix_accepted(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    accepting: TaskKey,
    connector: Option<u32>,
    older: bool,
    connection: DaemonConnection,
) {
    let connecting = connector.and_then(|tgid| state.processes.current_task(accepting.host, tgid));
    if state.endpoints.is_exec_socket(&connection.path)
        && let Some(ends) = state.sockets.learn_unix(at, connection.near, connection.far, &connection.path)
    {
        state.sockets.set_owner(ends.far, accepting);
        match (connecting, connector) {
            (Some(task), _) => state.sockets.set_owner(ends.near, task),
            (None, Some(pid)) => {
                state.unowned.entry((accepting.host, pid)).or_default().push(ends.near);
                effects.ask(Want::Pid(pid));
            }
            (None, None) => {}
        }
        if older && state.older_unix < state.caps.older_unix {
            state.older_unix += 1;
        } else {
            if older {
                state.refused.add("older-unix-full", 1);
            }
            effects.timers.set(at.plus(limits::UNIX_KEPT), Timer::UnixIdle(ends));
        }
    }
    if let (Some(connecting), true) = (connecting, state.is_daemon_socket(&connection.path)) {
        state.daemon_connections.insert((connecting, accepting), connection);
    }
}
