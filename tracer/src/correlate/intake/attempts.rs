//! Attempts without a session: a kubectl that ended before anything else showed its request.

use crate::correlate::{
    effects::Effects,
    limits::ATTEMPT_SETTLED,
    state::{
        Dependency, State,
        anchor::{Call, Facts},
        anchor_id::AnchorId,
    },
    timers::Timer,
};
use crate::model::{BootTime, ExitStatus, Kind, TaskKey};

/// Sets a timer for a kubectl that ended with an error and that no session has shown. `kubectl logs` and requests are
/// no attempts to reach a process.
pub(super) fn client_ended(state: &State, effects: &mut Effects, at: BootTime, task: TaskKey) {
    if is_attempt(state, task) {
        effects.timers.set(at.plus(ATTEMPT_SETTLED), Timer::AttemptOver(task));
    }
}

fn is_attempt(state: &State, task: TaskKey) -> bool {
    let Some(process) = state.processes.get(task) else { return false };
    let Some((_, ExitStatus::Code(1..))) = process.exit else { return false };
    let kind = state.kubectl(task, &process.info).and_then(|call| Kind::kept_open(call.word));
    let leads_to_process = kind.is_some_and(|kind| kind != Kind::Logs);
    leads_to_process
        && (state.calls.contains_key(&task) || state.ended_unconnected(task))
        && !state.served.contains(&task)
        && !state.pending_requests.contains_key(&task)
        && !state.dependents.has(&Dependency::Task(task))
}

/// Expires [`Timer::AttemptOver`]: makes the attempt a session that is already over. `may_be_shown` returns true if a
/// session since the kubectl's start lacks its client: the kubectl may be that client.
pub(super) fn show_attempt(
    state: &mut State,
    effects: &mut Effects,
    task: TaskKey,
    may_be_shown: impl FnOnce(&State, BootTime) -> bool,
) {
    let started = BootTime(task.start_ns());
    if !is_attempt(state, task) || may_be_shown(state, started) {
        return;
    }
    let id = AnchorId::kubectl(&state.hosts, task);
    let socket = state.calls.get(&task).and_then(|calls| calls.iter().copied().max());
    if let Some(anchor) = state.anchor(task.host, &id, "", started) {
        anchor.facts = Facts::Kubectl(Call { task: Some(task), socket, is_request: false, is_attempt: true });
        effects.invalidate(id);
    }
}
