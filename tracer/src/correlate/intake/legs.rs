//! Connections of API servers to kubelets without a known accepting end.

use crate::correlate::{
    effects::Effects,
    state::{Dependency, State, anchor_id::AnchorId, pairing::PairResult, sockets::SocketIdx},
};
use crate::model::{BootTime, SocketRole, Want};

/// Expires [`Timer::PeerMissing`](crate::correlate::timers::Timer::PeerMissing): the leg still has no accepting end
/// on this host, so the kubelet may be on another. An API server dials for exec, attach and port-forward; logs use
/// pooled connections.
pub(in crate::correlate) fn ask_for_far_end(state: &mut State, effects: &mut Effects, leg: SocketIdx) {
    let Some(socket) = state.sockets.get(leg) else { return };
    let (peer, closed, tuple, netns, isn) = (socket.peer, socket.closed, socket.tuple, socket.netns, socket.isn);
    if let (None, None, Some(tuple)) = (peer, closed, tuple) {
        effects.ask(Want::Peer { tuple, netns, isn });
    }
}

/// Notes that no process on this host has the other end of a connection. A leg to a kubelet becomes a provisional
/// session.
pub(in crate::correlate) fn peer_absent(state: &mut State, effects: &mut Effects, at: BootTime, leg: SocketIdx) {
    effects.changed(Dependency::Socket(leg));
    let Some(socket) = state.sockets.get(leg) else { return };
    let to_kubelet = socket.tuple.is_some_and(|tuple| state.endpoints.is_kubelet_port(tuple.remote.port()));
    let dialled = socket.role == Some(SocketRole::Connected) && matches!(state.inbound_of(leg), PairResult::Paired(_));
    if let (true, true, Some(cookie)) = (to_kubelet, dialled, socket.id.cookie) {
        // No exec id is known: nothing but the leg itself names the session.
        let host = socket.id.host;
        let id = AnchorId::leg(host, cookie, leg);
        let since = socket.since.min(at);
        if state.anchor(host, &id, "", since).is_some() {
            state.legs.insert(leg, id.clone());
            effects.invalidate(id);
        }
    }
}
