//! Facts about TCP sockets.

use super::{daemons, dials, legs, relays, sockets, streams};
use crate::correlate::{
    effects::Effects,
    limits,
    state::{Dependency, State, dials::Dial},
    timers::Timer,
};
use crate::model::{Actor, BootTime, Fact, SocketId, SocketInfo, SocketRole, Source, TaskKey};

/// Applies a fact about a TCP socket. `task` owns the socket, if the fact has an owner.
pub(super) fn apply(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: Option<TaskKey>,
    source: Source,
    fact: Fact,
) {
    match (fact, task) {
        (Fact::Listening { socket }, Some(task)) => listening(state, effects, at, task, &socket),
        (Fact::Connected { socket, actor, inbound }, Some(task)) => {
            connected(state, effects, at, task, socket, actor, inbound)
        }
        (Fact::Dialled { socket, remote, netns, actor, inbound, failed }, Some(task)) => {
            state.reports_dials.insert(task.host);
            let failed = failed.map(|error| (at, error));
            let by_goroutine = actor.g.is_some();
            let dial = Dial { at, socket, remote, by_goroutine, established: None, failed };
            if inbound.is_none() && dials::is_error_within_host(state, &dial) {
                dials::forward_failed(state, effects, task, netns, dial);
            } else {
                dials::dialled(state, effects, task, inbound, dial);
            }
        }
        (Fact::Accepted { socket }, Some(task)) => accepted(state, effects, at, task, socket),
        (Fact::SocketSeen { socket }, task) => socket_seen(state, effects, at, task, source, &socket),
        (Fact::Closed { socket, received, acked }, _) => {
            if let Some(idx) = state.sockets.closed(at, socket, received, acked) {
                effects.changed(Dependency::Socket(idx));
            }
        }
        (Fact::PeerAbsent { tuple, netns, host }, _) => {
            for idx in state.sockets.peer_absent(tuple, netns, host) {
                legs::peer_absent(state, effects, at, idx);
            }
        }
        (Fact::Touched { actor, socket }, Some(task)) => relays::touched(state, effects, at, task, actor, &socket),
        (Fact::RelayAwaited { from, to, copied }, Some(_)) => {
            relays::relay_awaited(state, effects, at, from, to, copied)
        }
        (Fact::Relayed { actor, from, to, .. }, Some(task)) => {
            relays::relayed(state, effects, at, task, actor, &from, &to)
        }
        _ => {}
    }
}

fn accepted(state: &mut State, effects: &mut Effects, at: BootTime, task: TaskKey, socket: SocketInfo) {
    state.processes.serves(task, at);
    let socket = SocketInfo { role: Some(SocketRole::Accepted), ..socket };
    if let Some(idx) = sockets::socket_as(state, effects, at, Some(task), &socket, true) {
        streams::set_stream_timer(state, effects, at.plus(limits::STREAM_UNCLAIMED_AFTER), task, idx);
    }
}

/// A socket that existed before the record or snapshot that reports it.
fn socket_seen(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: Option<TaskKey>,
    source: Source,
    socket: &SocketInfo,
) {
    let is_new = state.sockets.find(socket.id).is_none();
    let idx = sockets::socket(state, effects, at, task, socket);
    if source == Source::Snapshot
        && let Some(idx) = idx
    {
        for changed in state.sockets.found(at, idx) {
            effects.changed(Dependency::Socket(changed));
        }
    }
    if let (Some(idx), Some(task), true) = (idx, task, is_new)
        && source == Source::Snapshot
    {
        state.sockets.set_older(idx);
        // The rest of the snapshot has the same time: wait until it is read.
        streams::set_stream_timer(state, effects, at.plus(limits::SNAPSHOT_WITHIN), task, idx);
    }
    if let (Some(task), Some(tuple)) = (task, socket.tuple) {
        daemons::endpoint_found(state, effects, task, tuple.local.port());
        daemons::endpoint_found(state, effects, task, tuple.remote.port());
    }
}

pub(in crate::correlate) fn listening(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    socket: &SocketInfo,
) {
    let socket = SocketInfo { role: Some(SocketRole::Listening), ..*socket };
    sockets::socket(state, effects, at, Some(task), &socket);
    if let Some(tuple) = socket.tuple {
        state.processes.entry(task).ports.insert(tuple.local.port());
        state.processes.serves(task, at);
        effects.changed(Dependency::Task(task));
        daemons::endpoint_found(state, effects, task, tuple.local.port());
    }
}

pub(in crate::correlate) fn connected(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    socket: SocketInfo,
    actor: Actor,
    inbound: Option<SocketId>,
) {
    let socket = SocketInfo { role: Some(SocketRole::Connected), ..socket };
    let Some(outbound) = sockets::socket_as(state, effects, at, Some(task), &socket, true) else { return };
    let dial = Dial {
        at,
        socket: socket.id,
        remote: socket.tuple.map(|tuple| tuple.remote),
        by_goroutine: actor.g.is_some(),
        established: Some((at, outbound)),
        failed: None,
    };
    dials::dialled(state, effects, task, inbound, dial);
    if inbound.is_some_and(|id| state.sockets.find(id).is_none()) {
        // The record of the accept was lost. The connection serves an unknown client, and is none that this process
        // began.
        state.pairings.dialled_for_unknown(outbound);
    }
    if let Some(inbound) = inbound.and_then(|id| state.sockets.find(id)) {
        let rivals = state.pairings.dialled(at, inbound, outbound, actor, &state.sockets);
        for idx in rivals.into_iter().chain([outbound]) {
            effects.changed(Dependency::Socket(idx));
        }
        if socket.tuple.is_some_and(|tuple| state.endpoints.is_kubelet_port(tuple.remote.port())) {
            effects.timers.set(at.plus(limits::PEER_WITHIN), Timer::PeerMissing(outbound));
        }
    }
}
