//! Discards entries that have expired.

use std::collections::BTreeSet;

use super::sockets::forget_sockets;
use crate::correlate::{
    effects::Effects,
    limits,
    state::{Dependency, State},
    timers::{Phase, Timer},
};

/// Searches every table once. An entry that an open session depends on is kept.
pub(in crate::correlate) fn sweep(state: &mut State, effects: &mut Effects) {
    let (now, dependents) = (effects.now, &state.dependents);
    state.processes.sweep(now, |task| dependents.has(&Dependency::Task(task)));
    let mut gone = state.sockets.sweep(now, |idx| dependents.has(&Dependency::Socket(idx)));
    let mut forgotten = BTreeSet::new();
    let mut touched = BTreeSet::new();
    while let Some((_, timer)) = effects.timers.pop(Phase::Discard, now) {
        match timer {
            Timer::UnixIdle(ends) => {
                if [ends.near, ends.far].iter().any(|idx| state.dependents.has(&Dependency::Socket(*idx))) {
                    effects.timers.set(now.plus(limits::UNIX_KEPT), Timer::UnixIdle(ends));
                } else {
                    gone.extend([ends.near, ends.far]);
                    state.sockets.drop_entry(ends.near);
                    state.sockets.drop_entry(ends.far);
                }
            }
            Timer::ExecUnused(id) => {
                // Known from runc's arguments alone: no runtime of the path made its FIFOs, so it never was a session.
                if state.anchors.get(&id).is_some_and(|exec| !exec.is_session()) {
                    forgotten.insert(id);
                }
            }
            Timer::SessionOver(id) => {
                touched.extend(state.audits.forget(&id));
                forgotten.insert(id);
            }
            // Timers of other phases.
            Timer::PeerMissing(_)
            | Timer::StreamUnclaimed(_)
            | Timer::ExecUnclaimed(_)
            | Timer::Rebuild(_)
            | Timer::RequestUnshown(_)
            | Timer::AttemptOver(_)
            | Timer::Sweep => {}
        }
    }
    forget_sockets(state, gone);
    state.anchors.forget_all(forgotten);
    state.audits.sweep(now);
    effects.anchors_changed(touched);
    forget_of_gone_processes(state);
    forget_containers(state, effects);
    effects.bound_queries();
    state.measures.forget_before(now.minus(limits::MEASURES_KEPT));
}

/// Drops entries of processes that the process table has dropped.
fn forget_of_gone_processes(state: &mut State) {
    state.forget_calls();
    state.forget_stores();
    let (processes, sockets) = (&state.processes, &state.sockets);
    let has_process = |task| processes.get(task).is_some();
    state.dials.forget(|idx| sockets.get(idx).is_some(), has_process);
    state.dials_kubelets.retain(|task| has_process(*task));
    state.watched.retain(|task| processes.get(*task).is_some());
    state.served.retain(|task| processes.get(*task).is_some());
    state.pods.retain(|shim, _| processes.get(*shim).is_some());
    state.daemon_connections.retain(|(near, far), _| processes.get(*near).is_some() && processes.get(*far).is_some());
}

/// Where too many containers are known, keeps those with an open session.
fn forget_containers(state: &mut State, effects: &mut Effects) {
    if state.containers.len() <= limits::MAX_CONTAINERS {
        return;
    }
    let dependents = &state.dependents;
    state.containers.retain(|id, _| dependents.has(&Dependency::Container(id.as_str().into())));
    // Names of a dropped container may be asked for again.
    effects.forget_container_queries();
}
