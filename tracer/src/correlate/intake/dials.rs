//! Connections that processes begin, and those that fail.

use super::kubectl;
use crate::correlate::{
    effects::Effects,
    state::{
        Dependency, State,
        dials::{Cause, Dial},
    },
};
use crate::model::{SocketId, TaskKey};

/// Notes a dial, or its result, with the accepted connection on whose behalf the process dialled.
pub(in crate::correlate) fn dialled(
    state: &mut State,
    effects: &mut Effects,
    task: TaskKey,
    inbound: Option<SocketId>,
    dial: Dial,
) {
    let Some(remote) = dial.remote else { return };
    let inbound = inbound.and_then(|id| state.sockets.find(id));
    let endpoints = &state.endpoints;
    if endpoints.is_kubelet_port(remote.port()) && dial.established.is_some() {
        state.dials_kubelets.insert(task);
    }
    let to_apiserver = endpoints.is_apiserver_port(remote.port());
    match inbound {
        Some(inbound) => {
            state.dials.note(Cause::Inbound(inbound), dial);
            effects.changed(Dependency::Socket(inbound));
        }
        // A kubelet's own connections to pods are most of a node's; connections within the host and to daemons of the
        // path are few.
        None if remote.ip().is_loopback() || endpoints.is_path_port(remote.port()) => {
            state.dials.note(Cause::Own(task), dial);
            if to_apiserver && dial.established.is_none() {
                kubectl::note_dial(state, effects, task);
            }
        }
        None => {}
    }
}
