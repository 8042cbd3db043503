//! Handlers: how one fact, or one timer, changes the state.
//!
//! A handler takes `&mut State` and `&mut Effects` and reaches nothing else. It neither builds nor emits sessions: it notes
//! in [`Effects`] which of them must be rebuilt.

mod daemons;
mod fifos;
pub(in crate::correlate) mod kubectl;
pub(in crate::correlate) mod legs;
mod pods;
pub(in crate::correlate) mod processes;
mod relays;
mod requests;
mod sockets;
pub(in crate::correlate) mod streams;
pub(in crate::correlate) mod sweep;
mod tcp;
mod unix;

use super::{
    effects::Effects,
    state::{Dependency, State},
};
use crate::model::{AuditEvent, BootTime, Fact, Observation};

/// Applies one fact. A fact that needs a process and has none is ignored: the recording is damaged or made by hand.
pub(super) fn apply(state: &mut State, effects: &mut Effects, seen: Observation) {
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
        | Fact::Exit { .. } => {
            if let Some(task) = task {
                processes::apply(state, effects, at, task, fact);
            }
        }
        Fact::PidFile { path, pid } => processes::pid_file(state, effects, at, task, &path, pid),
        Fact::Listening { .. }
        | Fact::Connected { .. }
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
        // Measurements change no link.
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
