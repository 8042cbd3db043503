//! Socket tables: properties that a fact reports, and room for new entries.

use std::collections::BTreeSet;

use super::{kubectl, requests};
use crate::correlate::{
    effects::Effects,
    limits::ROOM_EVERY,
    state::{
        Dependency, State,
        sockets::{Learned, SocketIdx},
    },
};
use crate::model::{BootTime, Family, SocketInfo, SocketRole, TaskKey};

pub(in crate::correlate) fn socket(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: Option<TaskKey>,
    info: &SocketInfo,
) -> Option<SocketIdx> {
    socket_as(state, effects, at, task, info, false)
}

pub(in crate::correlate) fn socket_as(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: Option<TaskKey>,
    info: &SocketInfo,
    begins: bool,
) -> Option<SocketIdx> {
    if state.sockets.is_full() && state.sockets.find(info.id).is_none() {
        make_room_for_socket(state, effects);
    }
    let Learned { idx, changed, is_news } = state.sockets.learn(at, task, info, begins)?;
    if is_news {
        effects.changed(Dependency::Socket(idx));
    }
    if let Some(task) = task {
        kubectl::note_call(state, effects, task, idx, info);
        requests::note_store(state, task, idx, info);
    }
    for changed in changed {
        effects.changed(Dependency::Socket(changed));
    }
    Some(idx)
}

/// Adds a connection that explains an act. The record of its accept may be lost.
pub(in crate::correlate) fn add_inbound(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    from: &SocketInfo,
) {
    let Some(tuple) = from.tuple.filter(|_| from.family != Family::Unix) else { return };
    let listens = state.processes.get(task).is_some_and(|process| process.ports.contains(&tuple.local.port()));
    let role = from.role.or(listens.then_some(SocketRole::Accepted));
    socket(state, effects, at, Some(task), &SocketInfo { role, ..*from });
}

/// One end of a relay. A unix connection of a daemon is shared by all sessions (CRI, ttrpc) and is no leg. A unix
/// connection that can be a leg is known from its accept.
pub(in crate::correlate) fn relay_end(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    end: &SocketInfo,
) -> Option<SocketIdx> {
    if end.family == Family::Unix {
        let known = state.sockets.find(end.id)?;
        return state.sockets.get(known).is_some_and(|socket| socket.unix.is_some()).then_some(known);
    }
    socket(state, effects, at, Some(task), end)
}

/// Discards sockets without a dependent session, if the table is full. A search visits every entry, so there is at
/// most one in [`ROOM_EVERY`]. Until then further sockets are refused.
pub(in crate::correlate) fn make_room_for_socket(state: &mut State, effects: &mut Effects) {
    if effects.now < state.next_room {
        return;
    }
    state.next_room = effects.now.plus(ROOM_EVERY);
    let (dependents, processes) = (&state.dependents, &state.processes);
    let gone = state.sockets.make_room(
        |idx| dependents.has(&Dependency::Socket(idx)),
        |task| processes.get(task).is_some_and(|process| process.exit.is_some()),
    );
    state.refused.add("sockets-full", gone.len() as u64);
    forget_sockets(state, gone);
}

/// Drops entries for discarded sockets from other tables.
pub(in crate::correlate) fn forget_sockets(state: &mut State, gone: Vec<SocketIdx>) {
    for idx in &gone {
        state.pairings.forget(*idx);
        state.anchors.forget_stream(*idx);
    }
    if !gone.is_empty() {
        let gone: BTreeSet<SocketIdx> = gone.into_iter().collect();
        state.streams.retain(|_, streams| {
            streams.retain(|idx| !gone.contains(idx));
            !streams.is_empty()
        });
    }
}
