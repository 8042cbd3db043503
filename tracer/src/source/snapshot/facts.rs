//! Facts about processes and sockets that several scans report.

use std::collections::BTreeSet;

use super::sockets::{TcpSocket, UnixSocket};
use crate::model::{BootTime, Fact, Listener, Observation, ProcessInfo, SocketInfo, SocketRole, Source, TaskKey};

/// A process that exists.
pub(super) fn process_seen(now: BootTime, key: TaskKey, info: ProcessInfo) -> Observation {
    Observation::of(now, Source::Snapshot, key, Fact::ProcessSeen(Box::new(info)))
}

/// A process that listens on a unix socket.
pub(super) fn listening_unix(now: BootTime, key: TaskKey, socket: &UnixSocket, listener: Listener) -> Observation {
    let path = socket.path.clone().unwrap_or_default();
    let fact = Fact::ListeningUnix { path, socket: socket.id, listener: Some(listener) };
    Observation::of(now, Source::Snapshot, key, fact)
}

/// A TCP socket of a process. `own`: listeners of the process; `all`: listeners of all processes.
pub(super) fn tcp_fact(socket: &TcpSocket, own: &BTreeSet<(u32, u16)>, all: &BTreeSet<(u32, u16)>) -> Fact {
    let local = (socket.netns, socket.tuple.local.port());
    let role = if socket.listening {
        Some(SocketRole::Listening)
    } else if own.contains(&local) {
        Some(SocketRole::Accepted)
    } else if all.contains(&local) {
        None // The listener is another process's: the socket was inherited, or the port is shared.
    } else {
        Some(SocketRole::Connected)
    };
    let info = SocketInfo {
        id: socket.id,
        family: socket.family,
        tuple: Some(socket.tuple),
        netns: Some(socket.netns),
        role,
        isn: socket.isn,
    };
    if socket.listening { Fact::Listening { socket: info } } else { Fact::SocketSeen { socket: info } }
}
