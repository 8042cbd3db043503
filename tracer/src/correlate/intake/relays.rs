//! Pairs of sockets of one process between which bytes move.

use super::{legs, sockets, streams};
use crate::correlate::{
    effects::Effects,
    limits,
    state::{Dependency, State, pairing::PairResult, sockets::SocketIdx},
    timers::Timer,
};
use crate::model::{Actor, BootTime, SocketId, SocketInfo, SocketRole, TaskKey};

pub(in crate::correlate) fn relayed(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    actor: Actor,
    from: &SocketInfo,
    to: &SocketInfo,
) {
    let (Some(from), Some(to)) =
        (sockets::relay_end(state, effects, at, task, from), sockets::relay_end(state, effects, at, task, to))
    else {
        return;
    };
    let is_news = infer_roles(state, from, to) | state.pairings.moved(from, to, actor);
    note_pair_if(state, effects, is_news, at, from, to);
}

/// Handles goroutines that wait to copy between two sockets. Goroutines of one creator do so on a port of the path,
/// where they serve one request. In other servers one goroutine may have started two that are unrelated.
pub(in crate::correlate) fn relay_awaited(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    from: SocketId,
    to: SocketId,
    copied: bool,
) {
    let (Some(from), Some(to)) = (state.sockets.find(from), state.sockets.find(to)) else { return };
    let port = |idx| state.sockets.get(idx).and_then(|socket| socket.tuple).map(|tuple| tuple.local.port());
    let is_path_port = |idx| port(idx).is_some_and(|port| state.endpoints.is_path_port(port));
    if copied || is_path_port(from) || is_path_port(to) {
        state.pairings.add_memory_pair(from, to, copied);
        note_pair(state, effects, at, from, to);
    }
}

/// Handles a goroutine that moved bytes on a socket. Its creator pairs the socket with others.
pub(in crate::correlate) fn touched(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    actor: Actor,
    socket: &SocketInfo,
) {
    let (Some(goid), Some(creator)) = (actor.goid, actor.parent_goid) else { return };
    let Some(idx) = sockets::socket(state, effects, at, Some(task), socket) else { return };
    for other in state.pairings.touched(task, creator, goid, idx) {
        note_pair(state, effects, at, idx, other);
    }
}

/// Notes new evidence that two sockets of one process belong together.
pub(in crate::correlate) fn note_pair(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    a: SocketIdx,
    b: SocketIdx,
) {
    note_pair_if(state, effects, true, at, a, b);
}

/// Notes that two sockets of one process were seen together. With `is_news`, sessions that depend on them change.
/// Otherwise the same evidence may mean more than before, because other facts have arrived.
pub(in crate::correlate) fn note_pair_if(
    state: &mut State,
    effects: &mut Effects,
    is_news: bool,
    at: BootTime,
    a: SocketIdx,
    b: SocketIdx,
) {
    for idx in [a, b] {
        if is_news {
            effects.changed(Dependency::Socket(idx));
        }
        let Some(socket) = state.sockets.get(idx) else { continue };
        let (absent, leaves) = (
            socket.peer_absent,
            socket.role == Some(SocketRole::Connected) && socket.peer.is_none() && state.leads_to_kubelet(socket.tuple),
        );
        if leaves && matches!(state.inbound_of(idx), PairResult::Paired(_)) {
            if absent {
                legs::peer_absent(state, effects, at, idx);
            } else {
                effects.timers.set(at.plus(limits::PEER_WITHIN), Timer::PeerMissing(idx));
            }
        }
        if let Some(id) = state.exec_of_hijacked(idx).cloned() {
            effects.invalidate(id);
        }
    }
    streams::note_stream_use(state, effects, a, b);
}

/// Infers that a socket was accepted, if its connection is older than the tracer. The other socket of the relay was
/// connected, so this one was accepted, unless its port is the higher one. A server's port is lower than the ports
/// that the kernel chooses for clients. A higher port means a tunnel that this process connected itself
/// (konnectivity, k3s agents).
///
/// Returns true if a role is new.
pub(in crate::correlate) fn infer_roles(state: &mut State, a: SocketIdx, b: SocketIdx) -> bool {
    let mut is_news = false;
    for (one, other) in [(a, b), (b, a)] {
        let role = |idx| state.sockets.get(idx).and_then(|socket| socket.role);
        let tuple = state.sockets.get(other).and_then(|socket| socket.tuple);
        let serves = tuple.is_some_and(|tuple| tuple.local.port() < tuple.remote.port());
        if role(one) == Some(SocketRole::Connected) && role(other).is_none() && serves {
            state.sockets.set_role(other, SocketRole::Accepted);
            is_news = true;
        }
    }
    is_news
}
