//! Handlers: how one fact, or one timer, changes the state.
//!
//! A handler takes `&mut State` and `&mut Effects` and reaches nothing else. It neither builds nor emits sessions: it notes
//! in [`Effects`] which of them must be rebuilt.

mod attempts;
mod daemons;
mod dials;
mod fifos;
mod kubectl;
mod legs;
mod pods;
mod processes;
mod relays;
mod requests;
mod sockets;
mod streams;
mod sweep;
mod tcp;
mod unix;

use super::{
    effects::Effects,
    limits::{REFUSED_EVERY, SWEEP_EVERY},
    state::{Dependency, State},
    timers::Timer,
};
use crate::model::{AuditEvent, BootTime, Fact, Observation};

/// Applies one fact. A fact that needs a process and has none is ignored: the recording is damaged or made by hand.
pub(super) fn apply(state: &mut State, effects: &mut Effects, seen: Observation) {
    state.measures.take(&seen);
    let Observation { at, task, source, fact, .. } = seen;
    match fact {
        Fact::Fork { .. }
        | Fact::Exec(_)
        | Fact::Enrolled(_)
        | Fact::Ancestry(_)
        | Fact::ProcessSeen(_)
        | Fact::ProcessGone
        | Fact::Watched
        | Fact::Looked
        | Fact::ExecFailed { .. }
        | Fact::Signalled(_)
        | Fact::Exit { .. } => {
            if let Some(task) = task {
                processes::apply(state, effects, at, task, fact);
            }
        }
        Fact::PidFile { path, pid } => processes::pid_file(state, effects, at, task, &path, pid),
        Fact::Listening { .. }
        | Fact::Connected { .. }
        | Fact::Dialled { .. }
        | Fact::Accepted { .. }
        | Fact::SocketSeen { .. }
        | Fact::Closed { .. }
        | Fact::PeerAbsent { .. }
        | Fact::Touched { .. }
        | Fact::RelayAwaited { .. }
        | Fact::Relayed { .. } => tcp::apply(state, effects, at, task, source, fact),
        Fact::ListeningUnix { .. } | Fact::UnixConnected { .. } | Fact::UnixAccepted { .. } => {
            unix::apply(state, effects, at, task, source, fact);
        }
        Fact::FifoMade { .. } | Fact::FifoHeld { .. } | Fact::FifoRelayed { .. } | Fact::FifoAwaited { .. } => {
            if let Some(task) = task {
                fifos::apply(state, effects, at, task, fact);
            }
        }
        Fact::ContainerSeen(info) => pods::container_named(state, effects, *info),
        Fact::ContainerUnknown { id } => {
            state.containers.entry(id.clone()).or_insert(None);
            effects.changed(Dependency::Container(id.into()));
        }
        Fact::AuditFollowed => {
            state.audits.followed = state.audits.followed.or(Some(at));
            effects.all_sessions_changed();
        }
        Fact::Audited(event) => audited(state, effects, at, *event),
        Fact::AuditSkipped { count } => {
            state.audits.skipped(at);
            effects.report_loss("audit-log".to_owned(), count);
        }
        Fact::Stopped => {
            // Sessions that wait for the audit log wait in vain from now on.
            state.audits.ended = true;
            effects.all_sessions_changed();
        }
        Fact::Lost { what, count } => {
            state.losses.report(at, &what);
            effects.report_loss(what, count);
        }
        // The time of the observation alone matters.
        Fact::Tick | Fact::Continued => {}
        // Measurements change no link; their table has them already.
        Fact::TcpMeasured { .. }
        | Fact::PeerMeasured { .. }
        | Fact::UnixMeasured { .. }
        | Fact::SocketGone { .. }
        | Fact::SocketUnlisted { .. }
        | Fact::ProcessMeasured(_)
        | Fact::Descriptors { .. }
        | Fact::FileMeasured { .. }
        | Fact::FifoUsed { .. } => {}
    }
}

/// Carries out the work of a timer that was due at `due`. `lacks_client` returns true if an open session, or one that
/// closed since the given time, lacks its client.
pub(super) fn expire(
    state: &mut State,
    effects: &mut Effects,
    due: BootTime,
    timer: Timer,
    lacks_client: impl FnOnce(&State, Option<BootTime>) -> bool,
) {
    match timer {
        Timer::PeerMissing(leg) => legs::ask_for_far_end(state, effects, leg),
        Timer::StreamUnclaimed(idx) => streams::show_stream(state, effects, due, idx),
        Timer::ExecUnclaimed(id) => processes::show_unclaimed(state, effects, &id),
        Timer::Rebuild(id) => effects.invalidate(id),
        Timer::RequestUnshown(task) => {
            if kubectl::is_unshown(state, task) {
                let may_be_shown = lacks_client(state, None);
                kubectl::show_request(state, effects, due, task, may_be_shown);
            }
        }
        Timer::AttemptOver(task) => {
            attempts::show_attempt(state, effects, task, |state, since| lacks_client(state, Some(since)));
        }
        Timer::Sweep => {
            effects.timers.set(effects.now.plus(SWEEP_EVERY), Timer::Sweep);
            sweep::sweep(state, effects);
        }
        // Part of the sweep.
        Timer::UnixIdle(_) | Timer::ExecUnused(_) | Timer::SessionOver(_) => {}
    }
}

/// Sets kubectls' timers to their original times, because nothing more of a snapshot can follow.
pub(super) fn end_snapshot(effects: &mut Effects) {
    effects.timers.reschedule_requests(kubectl::served_by);
}

fn audited(state: &mut State, effects: &mut Effects, at: BootTime, event: AuditEvent) {
    let touched = state.audits.take(at, event);
    effects.anchors_changed(touched);
}

/// Puts sessions in doubt as soon as a table refuses an entry. The refusal itself is reported later.
pub(super) fn note_refused(state: &mut State, now: BootTime) {
    state.collect_refused();
    if state.refused.take_doubt() {
        state.losses.refuse(now);
    }
}

/// Reports refusals of full tables since the last report. Returns true if there were any.
pub(super) fn report_refused(state: &mut State, effects: &mut Effects) -> bool {
    if state.refused.is_empty() {
        return false;
    }
    state.next_refusal = effects.now.plus(REFUSED_EVERY);
    for (what, count) in state.refused.take() {
        effects.report_loss(what.to_owned(), count);
    }
    true
}
