//! Streaming connections, and the exec that each of them serves.

use crate::correlate::{
    effects::Effects,
    limits,
    state::{
        State,
        anchor::{AnchorKind, Facts, Stream},
        anchor_id::AnchorId,
        anchors::Claim,
        sockets::SocketIdx,
    },
    timers::Timer,
};
use crate::model::{Actor, BootTime, Evidence, SocketId, SocketRole, TaskKey};

/// Connection on whose behalf an actor acted: the accepted one on which the actor received last. A unix connection
/// counts if each session has one of its own.
pub(in crate::correlate) fn stream_of_actor(
    state: &State,
    at: BootTime,
    task: TaskKey,
    actor: Actor,
    inbound: Option<SocketId>,
) -> Option<SocketIdx> {
    // A thread of a Go program serves many goroutines and proves nothing.
    if actor.g.is_none() && state.processes.is_go(task) {
        return None;
    }
    let idx = state.sockets.find(inbound?)?;
    let socket = state.sockets.get(idx)?;
    let can_be = socket.tuple.is_some() || socket.unix.is_some();
    let is_inbound = socket.role.is_none_or(|role| role == SocketRole::Accepted);
    (can_be && is_inbound && at.since(socket.since) <= limits::STREAM_WITHIN).then_some(idx)
}

/// Assigns a connection to an exec. An exec with two claims loses both. `identified` is false if the actor is known
/// by its `g` alone, which another goroutine may have had before.
pub(in crate::correlate) fn claim(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    id: &AnchorId,
    stream: SocketIdx,
    by: Evidence,
    identified: bool,
) {
    let claim = state.anchors.claim_stream(id, stream);
    let Some(anchor) = state.anchors.get_mut(id) else { return };
    let preexisting = anchor.preexisting;
    let Some(known) = anchor.as_exec_mut().map(|exec| &mut exec.stream) else { return };
    if claim == Claim::Foreign {
        // The exec's FIFOs may have been created on a `g` that served another stream. Reads and writes name the right
        // stream later.
        known.ambiguous |= preexisting;
    } else if known.socket.is_some_and(|known| known != stream) || known.ambiguous {
        known.ambiguous = true;
        known.socket = None;
    } else {
        known.unidentified = if identified {
            None
        } else if known.socket.is_none() {
            Some(at)
        } else {
            known.unidentified
        };
        known.socket = Some(stream);
        // Evidence is ordered by strength: goroutine, memory, thread.
        known.by = Some(known.by.map_or(by, |known| known.min(by)));
    }
    if let Claim::Resolved(standing_in) = claim {
        effects.merge(state, at, &standing_in, id);
    }
    effects.invalidate(id.clone());
}

/// Sets a timer for an accepted connection that may be a stream. Facts that explain the connection should have
/// arrived by then.
pub(in crate::correlate) fn set_stream_timer(
    state: &mut State,
    effects: &mut Effects,
    due: BootTime,
    task: TaskKey,
    idx: SocketIdx,
) {
    let Some(socket) = state.sockets.get(idx) else { return };
    let process = state.processes.get(task);
    let serves = process.is_some_and(|process| process.is_runtime) || state.is_kubelet(task);
    let is_path_port = socket.tuple.is_none_or(|tuple| state.endpoints.is_path_port(tuple.local.port()));
    if serves && !is_path_port && socket.role != Some(SocketRole::Connected) {
        effects.timers.set(due, Timer::StreamUnclaimed(idx));
        state.streams.entry(task).or_default().insert(idx);
    }
}

/// Expires [`Timer::StreamUnclaimed`]: no exec has claimed the connection. It becomes a session, which may be exec,
/// attach or port-forward.
pub(in crate::correlate) fn show_stream(state: &mut State, effects: &mut Effects, at: BootTime, idx: SocketIdx) {
    let Some(socket) = state.sockets.get(idx) else { return };
    // A refused attempt is over, even if the record of one end's close was lost.
    let peer = socket.peer.and_then(|peer| state.sockets.get(peer));
    let is_over = socket.closed.or(peer.and_then(|peer| peer.closed)).is_some();
    if is_over || state.anchors.by_stream(idx).is_some() || !state.is_stream(idx) {
        return;
    }
    // A stream of dockershim's own server is paired with an exec by the exec's connection to dockerd.
    if state.is_served(idx) {
        return;
    }
    let (owner, older, since, host) = (socket.owner, socket.older, socket.since, socket.id.host);
    let Some(name) = socket.id.cookie.or(socket.id.inode) else { return };
    let id = AnchorId::stream(host, name, idx);
    if let Some(anchor) = state.anchor(host, &id, "", since.min(at)) {
        anchor.preexisting = older;
        anchor.facts = Facts::Stream(Stream { runtime: owner, socket: idx });
        state.anchors.claim_stream(&id, idx);
        effects.invalidate(id);
        if older {
            offer_stream(state, effects, owner);
        }
    }
}

/// Offers a stream from before the tracer's start to execs that lack one.
pub(in crate::correlate) fn offer_stream(state: &mut State, effects: &mut Effects, owner: Option<TaskKey>) {
    // dockershim streams in the kubelet, for execs of dockerd.
    let runtime = owner.filter(|owner| !state.is_kubelet(*owner));
    effects.invalidate_all(state.anchors.offer_stream(runtime));
}

/// Handles bytes that move between a stream and another socket: they show the stream's exec, or that the stream
/// forwards a port.
pub(in crate::correlate) fn note_stream_use(state: &mut State, effects: &mut Effects, a: SocketIdx, b: SocketIdx) {
    for (stream, other) in [(a, b), (b, a)] {
        if state.forwarded_by(stream).contains(&other) {
            // The runtime forwards to a connection of its own: no exec will claim this stream.
            show_stream(state, effects, effects.now, stream);
        }
        let Some(id) = state.anchors.by_stream(stream).cloned() else { continue };
        if state.anchors.get(&id).is_none_or(|anchor| anchor.kind() != AnchorKind::Stream) {
            continue;
        }
        if let Some(exec) = state.exec_of_hijacked(other).cloned()
            && state.pairings.outlets(other, &state.sockets).0.contains(&stream)
        {
            let at = effects.now;
            state.anchors.forget_stream(stream);
            effects.merge(state, at, &id, &exec);
            effects.invalidate(exec);
        } else {
            effects.invalidate(id);
        }
    }
}

/// Evidence of an act: the goroutine if known, else the thread.
pub(in crate::correlate) fn by(actor: Actor) -> Evidence {
    if actor.g.is_some() { Evidence::Goroutine } else { Evidence::Thread }
}
