//! Requests of kubectls of this host, as long as no session shows them: an API server that lets them wait, a kubelet that is
//! not reached, an API server on another host; and `kubectl logs`, whose bytes use a connection that all requests share.

use crate::correlate::{
    effects::Effects,
    limits::{REQUEST_AGAIN, REQUEST_SHOWN_AFTER, SNAPSHOT_TAKEN_IN},
    state::{
        Dependency, State,
        anchor::{Call, Facts},
        anchor_id::AnchorId,
        dials::{Cause, Dial},
        sockets::SocketIdx,
    },
    timers::Timer,
};
use crate::model::{BootTime, Kind, SocketInfo, SocketRole, TaskKey};

/// Notes a connection to an API server. If a kubectl keeps it open, it may be the only trace of the request.
pub(in crate::correlate) fn note_call(
    state: &mut State,
    effects: &mut Effects,
    task: TaskKey,
    idx: SocketIdx,
    socket: &SocketInfo,
) {
    let to_apiserver = socket.tuple.is_some_and(|tuple| state.endpoints.is_apiserver_port(tuple.remote.port()));
    if !to_apiserver || socket.role == Some(SocketRole::Accepted) {
        return;
    }
    state.note_call(task, idx);
    if state.pending_requests.contains_key(&task) {
        // It was shown before it had a connection.
        effects.changed(Dependency::Task(task));
    }
    set_request_timer(state, effects, task);
}

/// Notes that a process dials an API server. The connection may never come about.
pub(super) fn note_dial(state: &mut State, effects: &mut Effects, task: TaskKey) {
    state.calls.entry(task).or_default();
    set_request_timer(state, effects, task);
}

/// True if the process waits for an API server to answer its SYN.
fn is_dialling(state: &State, task: TaskKey) -> bool {
    let waits = |dial: &Dial| dial.established.is_none() && dial.failed.is_none();
    state.dials.of(Cause::Own(task)).last().is_some_and(waits)
}

/// Sets a timer for a kubectl, once its arguments and its connection are known. A session should show its request by
/// then.
pub(in crate::correlate) fn set_request_timer(state: &mut State, effects: &mut Effects, task: TaskKey) {
    let process = state.processes.get(task);
    if !state.pending_requests.contains_key(&task)
        && let Some(process) = process
        && let Some(call) = state.kubectl(task, &process.info)
    {
        let has_call = state.calls.contains_key(&task);
        if Kind::kept_open(call.word).is_none() {
            if has_call {
                effects.timers.set(effects.now, Timer::RequestUnshown(task));
            }
            return;
        }
        // The connections of an older kubectl follow in the snapshot.
        if !has_call && served_by(task) <= effects.now {
            return;
        }
        // A kubectl from before the tracer's start comes with a snapshot: wait for the rest of the snapshot.
        let since = |idx| state.sockets.get(idx).map(|socket| socket.since.plus(SNAPSHOT_TAKEN_IN));
        let snapshot_read = state.open_calls(task).filter_map(since).max();
        effects.timers.set(served_by(task).max(snapshot_read.unwrap_or_default()), Timer::RequestUnshown(task));
    }
}

/// True if a kubectl waits for an answer and no session shows its request.
pub(in crate::correlate) fn is_unshown(state: &State, task: TaskKey) -> bool {
    let gone = state.processes.get(task).is_none_or(|process| process.exit.is_some());
    !(gone
        || state.served.contains(&task)
        || state.pending_requests.contains_key(&task)
        || state.dependents.has(&Dependency::Task(task)))
}

/// Makes the kubectl's own connection a provisional session, because no other session shows the request.
/// `may_be_shown` is true if an open session lacks its client: this kubectl may be that client, and is looked at
/// again later.
pub(in crate::correlate) fn show_request(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    may_be_shown: bool,
) {
    let is_request = state.is_request(task);
    if !is_request && may_be_shown {
        effects.timers.set(at.next_after(effects.now, REQUEST_AGAIN), Timer::RequestUnshown(task));
        return;
    }
    let call = state.open_calls(task).max();
    // A request is over within milliseconds: its connection follows, and shows it.
    if call.is_none() && (is_request || !(is_dialling(state, task) || state.has_not_connected(task))) {
        return;
    }
    let id = AnchorId::kubectl(&state.hosts, task);
    let older = call.and_then(|call| state.sockets.get(call)).is_some_and(|socket| socket.older);
    if let Some(anchor) = state.anchor(task.host, &id, "", at) {
        anchor.preexisting = older;
        anchor.facts = Facts::Kubectl(Call { task: Some(task), socket: call, is_request, is_attempt: false });
        state.pending_requests.insert(task, id.clone());
        effects.invalidate(id);
    }
}

/// Time by which a session usually shows the kubectl's request.
pub(in crate::correlate) fn served_by(task: TaskKey) -> BootTime {
    BootTime(task.start_ns()).plus(REQUEST_SHOWN_AFTER)
}
