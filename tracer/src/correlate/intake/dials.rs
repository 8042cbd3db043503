//! Connections that processes begin, and those that fail.

use std::net::SocketAddr;

use super::{kubectl, streams};
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
            if remote.ip().is_loopback() && dial.established.is_some() {
                end_forward_failures(state, effects, task, remote.port());
            }
            state.dials.note(Cause::Own(task), dial);
            if to_apiserver && dial.established.is_none() {
                kubectl::note_dial(state, effects, task);
            }
        }
        None => {}
    }
}

/// True for an error at a loopback address that is no port of the path.
pub(in crate::correlate) fn is_error_within_host(state: &State, dial: &Dial) -> bool {
    let is_within = |remote: SocketAddr| remote.ip().is_loopback() && !state.endpoints.is_path_port(remote.port());
    dial.failed.is_some() && dial.remote.is_some_and(is_within)
}

/// Notes that a runtime could not connect to a port in a pod: a runtime dials in a pod's network namespace for a
/// port-forward alone. The goroutine has received nothing before, so the stream is known only while there is no other.
///
/// kubectl may end at once, so every stream without an exec becomes a session now. Showing only a stream that is alone
/// would rest on the absence of others.
pub(in crate::correlate) fn forward_failed(
    state: &mut State,
    effects: &mut Effects,
    task: TaskKey,
    netns: Option<u32>,
    dial: Dial,
) {
    let Some(netns) = netns else { return };
    let unclaimed = state.unclaimed_streams(task, netns, dial.at);
    let now = effects.now;
    for stream in &unclaimed {
        streams::show_stream(state, effects, now, *stream);
    }
    if let [stream] = unclaimed[..]
        && state.is_stream(stream)
    {
        state.dials.note(Cause::Forward(stream), dial);
        effects.changed(Dependency::Socket(stream));
    }
}

/// Ends failures to connect to this port, once a runtime has connected to it. A runtime tries 127.0.0.1 first and then
/// ::1 (containerd: sandbox_portforward_linux.go), so the addresses may differ.
fn end_forward_failures(state: &mut State, effects: &mut Effects, runtime: TaskKey, port: u16) {
    for stream in state.streams.get(&runtime).into_iter().flatten() {
        if state.dials.forget_failures(Cause::Forward(*stream), port) {
            effects.changed(Dependency::Socket(*stream));
        }
    }
}
