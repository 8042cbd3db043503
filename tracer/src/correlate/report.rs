//! What belongs to no session: connections of processes on the path, and the daemons themselves; and where sessions end on this
//! host.

use std::collections::BTreeSet;

use super::{
    assemble::roles::{Seen, role_of},
    state::{
        self, State,
        sockets::{Socket, SocketIdx},
    },
};
use crate::model::{Daemon, Family, Loose, Role, SessionId, SocketInfo, SocketRole, Standing, TaskKey, is_shim_socket};

impl State {
    /// Daemons of the path that live.
    pub(super) fn daemons(&self) -> Vec<Daemon> {
        let of_shims = self.daemon_connections.iter().filter(|(_, one)| is_shim_socket(&one.path));
        let shims: BTreeSet<TaskKey> = of_shims.map(|((_, far), _)| *far).collect();
        let mut daemons = BTreeSet::new();
        for (task, process) in self.processes.iter().filter(|(_, process)| process.exit.is_none()) {
            let mut add = |role| {
                daemons.insert(Daemon { task, role, netns: process.info.netns });
            };
            for port in &process.ports {
                if self.unverified_role(task, *port).is_some() {
                    continue;
                }
                if self.places.is_kubelet_port(*port) {
                    add(Role::Kubelet);
                } else if self.places.is_apiserver_port(*port) {
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

    /// Standing unix connections of daemons.
    pub(super) fn standing(&self) -> Vec<Standing> {
        let told = |((near, far), one): (&(TaskKey, TaskKey), &state::DaemonConnection)| Standing {
            path: one.path.clone(),
            near: (*near, one.near),
            far: (*far, one.far),
        };
        self.daemon_connections.iter().map(told).collect()
    }

    /// Open TCP connections of known processes, without those whose both ends a session of `session_of` has.
    pub(super) fn loose(&self, session_of: impl Fn(SocketIdx) -> Option<SessionId>) -> Vec<Loose> {
        let mut loose: Vec<Loose> = self
            .sockets
            .iter()
            .filter(|(_, socket)| socket.closed.is_none() && socket.role != Some(SocketRole::Listening))
            .map(|(idx, socket)| (socket, session_of(idx)))
            .filter(|(socket, session)| socket.peer.is_none() || session.is_none())
            .filter_map(|(socket, session)| self.loose_end(socket, session))
            .collect();
        loose.sort_by_key(|one| (one.task, one.socket.id));
        loose
    }

    fn loose_end(&self, socket: &Socket, session: Option<SessionId>) -> Option<Loose> {
        let (task, tuple) = (socket.owner?, socket.tuple?);
        let process = self.processes.get(task)?;
        let accepted = socket.role == Some(SocketRole::Accepted);
        let peer = socket.peer.and_then(|idx| self.sockets.get(idx)).and_then(|peer| peer.owner);
        let role = role_of(
            &self.places,
            &Seen {
                inbound_port: accepted.then_some(tuple.local.port()),
                from_itself: peer == Some(task),
                ports: &process.ports,
                may_be_apiserver: self.processes.may_be_apiserver(task),
                may_be_kubelet: self.processes.may_be_kubelet(task),
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
        let is_lonely = socket.peer.is_none() && self.sockets.stays_here(tuple);
        Some(Loose { task, role, socket: info, peer, session, is_lonely })
    }
}
