//! Processes on the path, with their sockets.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    facts::{listening_unix, tcp_fact},
    listeners::{Verifier, is_activator},
    open_files::OpenFiles,
    sockets::listening,
    view::HostView,
};
use crate::model::{BootTime, Fact, Listener, Observation, RawText, SocketId, Source, TaskKey};

/// Sockets of services that every daemon uses: the journal, D-Bus. They are not on the path.
pub(super) const HOST_SERVICES: [&[u8]; 3] = [b"/run/systemd/", b"/run/dbus/", b"/var/run/dbus/"];
/// Facts that one snapshot reports; a replay keeps them all.
const MAX_FACTS: usize = 200_000;

/// A daemon, by the unix socket that it serves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Daemon {
    Runtime,
    Shim,
}

/// Processes on the path, and the unix sockets between them.
#[derive(Default)]
pub(super) struct OnPath {
    pub(super) pids: BTreeSet<u32>,
    /// Names to which the unix sockets of the path are bound.
    paths: BTreeSet<RawText>,
    /// Verification of each listener whose name or file is a daemon's, by inode of the socket and pid.
    pub(super) listeners: BTreeMap<(u64, u32), Listener>,
}

/// Facts about processes on the path.
#[derive(Default)]
pub(super) struct PathFacts {
    /// A process comes before its sockets. Connections between daemons come last: both ends are known then.
    pub(super) facts: Vec<Observation>,
    /// Verified listeners on unix sockets of the path.
    pub(super) daemons: BTreeMap<TaskKey, Daemon>,
    /// All processes that listen.
    pub(super) servers: BTreeSet<TaskKey>,
    /// Number of sockets left out for lack of room.
    pub(super) cut: u64,
}

/// Finds the processes on the path.
pub(super) fn find(view: &HostView, open_files: &OpenFiles) -> OnPath {
    let (sockets, endpoints) = (&open_files.sockets, &view.options.endpoints);
    let OnPath { mut pids, mut paths, mut listeners } = OnPath::default();
    let mut runtimes = BTreeSet::new();
    let mut verifier = Verifier::new(&view.proc, endpoints);
    // Both ends of connections to the API server's and the kubelet's ports.
    for (inode, socket) in &sockets.tcp {
        let port = |address: std::net::SocketAddr| endpoints.is_path_port(address.port());
        if port(socket.tuple.local) || (!socket.listening && port(socket.tuple.remote)) {
            pids.extend(open_files.holders(*inode));
        }
    }
    // Listeners on the sockets of runtimes and shims.
    for (inode, socket) in sockets.unix.iter().filter(|(_, socket)| socket.listening) {
        let Some(path) = &socket.path else { continue };
        for pid in open_files.holders(*inode) {
            let Some(listener) = verifier.listener(*pid, socket) else { continue };
            // systemd holds a listener for a service that it has started, or will start. It serves no client itself.
            if view.proc.comm(*pid).is_none_or(|comm| is_activator(*pid, &comm)) {
                continue;
            }
            pids.insert(*pid);
            if let Some(at) = listener.serves_at() {
                paths.insert(path.clone());
                if endpoints.is_runtime_socket(at) {
                    runtimes.insert(*pid);
                }
            }
            listeners.insert((*inode, *pid), listener);
        }
    }
    // Processes to which a runtime is connected: shims and monitors, wherever they listen.
    for inode in runtimes.iter().flat_map(|pid| open_files.held_by(*pid)) {
        let Some(socket) = sockets.unix.get(&inode).filter(|socket| !socket.listening && socket.path.is_none()) else {
            continue;
        };
        let Some(peer) = socket.peer else { continue };
        // A pair made by socketpair(2) has no path, and neither end connected.
        let Some(path) = sockets.unix.get(&peer).and_then(|peer| peer.path.clone()) else { continue };
        if !HOST_SERVICES.iter().any(|prefix| path.as_bytes().starts_with(prefix)) {
            pids.extend(open_files.holders(peer));
            paths.insert(path);
        }
    }
    OnPath { pids, paths, listeners }
}

/// Reports these processes and their sockets.
pub(super) fn report(view: &mut HostView, open_files: &OpenFiles, on_path: OnPath, now: BootTime) -> PathFacts {
    let OnPath { pids, paths, listeners: mut verified } = on_path;
    let sockets = &open_files.sockets;
    let all: BTreeSet<(u32, u16)> = listening(sockets.tcp.values());
    let mut found = PathFacts::default();
    let mut connections = Vec::new();
    for pid in pids {
        let Some(process) = view.describe(pid) else { continue };
        let own = listening(process.sockets.iter().filter_map(|inode| sockets.tcp.get(inode)));
        let is_activator = is_activator(pid, &process.info.comm);
        let key = process.key;
        let is_listener = |inode| sockets.unix.get(inode).is_some_and(|socket| socket.listening);
        if !own.is_empty() || process.sockets.iter().any(is_listener) {
            found.servers.insert(key);
        }
        found.facts.push(view.note_process(now, key, process.info));
        for inode in process.sockets {
            if found.facts.len() + connections.len() >= MAX_FACTS {
                found.cut += 1;
            } else if let Some(socket) = sockets.tcp.get(&inode) {
                // The service that systemd started has the listener too, and serves it.
                if !(socket.listening && is_activator && open_files.holders(inode).len() > 1) {
                    let fact = tcp_fact(socket, &own, &all);
                    found.facts.push(Observation::of(now, Source::Snapshot, key, fact));
                }
            } else if let Some(socket) = sockets.unix.get(&inode).filter(|socket| socket.listening) {
                if let Some(listener) = verified.remove(&(inode, pid)).filter(|_| !is_activator) {
                    if let Some(at) = listener.serves_at() {
                        let is_runtime = view.options.endpoints.is_runtime_socket(at);
                        found.daemons.insert(key, if is_runtime { Daemon::Runtime } else { Daemon::Shim });
                    }
                    found.facts.push(listening_unix(now, key, socket, listener));
                }
            } else if let Some(socket) = sockets.unix.get(&inode)
                && let Some(path) = socket.path.clone().filter(|path| paths.contains(path))
                && let Some(peer) = socket.peer
            {
                // An accepted end has its listener's path. Name the connector only if one process has the other end.
                let connector = match open_files.holders(peer) {
                    [one] => Some(*one),
                    _ => None,
                };
                let id = sockets.unix.get(&peer).map_or(SocketId::new(0, peer), |peer| peer.id);
                let fact = Fact::UnixAccepted { socket: socket.id, peer: id, connector, path, bound: true };
                connections.push(Observation::of(now, Source::Snapshot, key, fact));
            }
        }
    }
    found.facts.append(&mut connections);
    found
}
