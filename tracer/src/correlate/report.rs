//! Complete result: sessions, the daemons of the path, and connections outside of sessions.

use std::collections::BTreeSet;

use super::{
    assemble::roles::{RoleFacts, role_of},
    effects::Effects,
    sessions::Sessions,
    state::{
        self, Dependency, State,
        sockets::{Socket, SocketIdx},
    },
};
use crate::model::{
    Daemon, DaemonConnection, Diagnosis, Family, Report, Role, Session, SessionId, SocketInfo, SocketRole, TaskKey,
    UnattributedEnd, is_shim_socket,
};

/// Complete result as of now.
pub(super) fn report(state: &State, sessions: &Sessions, effects: &Effects) -> Report {
    let mut all: Vec<Session> = sessions.iter().cloned().collect();
    for session in &mut all {
        session.last_seen = effects.now;
        state.add_late(session);
    }
    all.sort_by(|a, b| (a.opened_at, &a.id).cmp(&(b.opened_at, &b.id)));
    let session_of = |idx| state.dependents.of(&Dependency::Socket(idx)).first().map(|id| state.session_id(id));
    Report {
        at: effects.now,
        sessions: all,
        unattributed: unattributed(state, session_of),
        daemons: daemons(state),
        daemon_connections: daemon_connections(state),
        measures: state.measures.clone(),
        diagnosis: Diagnosis::default(),
        totals: effects.totals.clone(),
    }
}

/// Live daemons of the path.
fn daemons(state: &State) -> Vec<Daemon> {
    let of_shims = state.daemon_connections.iter().filter(|(_, one)| is_shim_socket(&one.path));
    let shims: BTreeSet<TaskKey> = of_shims.map(|((_, far), _)| *far).collect();
    let mut daemons = BTreeSet::new();
    for (task, process) in state.processes.iter().filter(|(_, process)| process.exit.is_none()) {
        let mut add = |role| {
            daemons.insert(Daemon { task, role, netns: process.info.netns });
        };
        for port in &process.ports {
            if state.unverified_role(task, *port).is_some() {
                continue;
            }
            if state.endpoints.is_kubelet_port(*port) {
                add(Role::Kubelet);
            } else if state.endpoints.is_apiserver_port(*port) {
                add(Role::ApiServer);
            }
        }
        if process.is_runtime {
            add(Role::Runtime);
        }
        if shims.contains(&task) {
            add(Role::Shim);
        }
    }
    daemons.into_iter().collect()
}

/// Persistent unix connections between daemons.
fn daemon_connections(state: &State) -> Vec<DaemonConnection> {
    let connection = |((near, far), one): (&(TaskKey, TaskKey), &state::DaemonConnection)| DaemonConnection {
        path: one.path.clone(),
        near: (*near, one.near),
        far: (*far, one.far),
    };
    state.daemon_connections.iter().map(connection).collect()
}

/// Open TCP connections of known processes. A connection is left out if `session_of` gives it a session and both its
/// ends are known.
fn unattributed(state: &State, session_of: impl Fn(SocketIdx) -> Option<SessionId>) -> Vec<UnattributedEnd> {
    let mut ends: Vec<UnattributedEnd> = state
        .sockets
        .iter()
        .filter(|(_, socket)| socket.closed.is_none() && socket.role != Some(SocketRole::Listening))
        .map(|(idx, socket)| (socket, session_of(idx)))
        .filter(|(socket, session)| socket.peer.is_none() || session.is_none())
        .filter_map(|(socket, session)| unattributed_end(state, socket, session))
        .collect();
    ends.sort_by_key(|one| (one.task, one.socket.id));
    ends
}

fn unattributed_end(state: &State, socket: &Socket, session: Option<SessionId>) -> Option<UnattributedEnd> {
    let (task, tuple) = (socket.owner?, socket.tuple?);
    let process = state.processes.get(task)?;
    let accepted = socket.role == Some(SocketRole::Accepted);
    let peer = socket.peer.and_then(|idx| state.sockets.get(idx)).and_then(|peer| peer.owner);
    let role = role_of(
        &state.endpoints,
        &RoleFacts {
            inbound_port: accepted.then_some(tuple.local.port()),
            from_itself: peer == Some(task),
            ports: &process.ports,
            may_be_apiserver: state.processes.may_be_apiserver(task),
            may_be_kubelet: state.processes.may_be_kubelet(task),
            is_runtime: process.is_runtime,
            dialled_port: (!accepted).then_some(tuple.remote.port()),
        },
    );
    let family = if tuple.local.is_ipv4() { Family::Inet } else { Family::Inet6 };
    let info = SocketInfo {
        id: socket.id,
        family,
        tuple: Some(tuple),
        netns: socket.netns,
        role: socket.role,
        isn: socket.isn,
    };
    let peer_missing = socket.peer.is_none() && state.sockets.stays_here(tuple);
    Some(UnattributedEnd { task, role, socket: info, peer, session, peer_missing })
}
