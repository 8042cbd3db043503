//! Two sockets of one process between which bytes move.

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
    joined_if(state, effects, is_news, at, from, to);
}

/// Goroutines that wait copy between two sockets. Those of one creator do so where a request is served for the path: whoever
/// else serves may have started, in one goroutine, one for each of two that have nothing to do with each other.
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
        joined(state, effects, at, from, to);
    }
}

/// Goroutines of one creator touched a socket.
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
        joined(state, effects, at, idx, other);
    }
}

/// Something new is known of these two sockets of one process.
pub(in crate::correlate) fn joined(state: &mut State, effects: &mut Effects, at: BootTime, a: SocketIdx, b: SocketIdx) {
    joined_if(state, effects, true, at, a, b);
}

/// These two sockets of one process were seen together. Where that `is_news`, sessions that rest on them change; where it is not,
/// what it means may have come to be known meanwhile.
pub(in crate::correlate) fn joined_if(
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
    streams::stream_served(state, effects, a, b);
}

/// A relay whose inbound connection was accepted before the process came onto the path: the other one was seen to be
/// connected by it, and what is not connected was accepted. Servers' ports are lower than those that the kernel chooses for
/// who connects; the other way round it is a tunnel that this process connected itself (konnectivity, k3s agents). Tells whether
/// that is anything new.
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
