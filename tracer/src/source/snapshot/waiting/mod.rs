//! Which connection an exec's FIFOs are read for, while nothing flows: from the memory of the runtime, read and never written;
//! nothing is stopped. Go's own bookkeeping says which goroutine waits for a FIFO, and that goroutine's stack what for.
//!
//! Everything read is whatever the process wrote there. Each step is checked against what the kernel says of the same file,
//! everything is bounded, and what does not fit, or moves meanwhile, is no answer.

mod judge;
mod layout;
mod memory;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
};

use self::{
    judge::Found,
    layout::Layout,
    memory::Words,
    walk::{Polled, Reached, Walk},
};
use super::{
    Snapshot,
    descriptors::Held,
    listening,
    sock_diag::{self, Namespaces, TcpSocket},
};
use crate::model::{BootTime, Fact, Observation, Program, RawText, SocketId, Source, TaskKey, parse_fifo_path};

/// FIFOs that are looked at: of 2,000 execs.
const MAX_FIFOS: usize = 4_000;
/// Accepted connections that are looked at.
const MAX_CONNECTIONS: usize = 20_000;
/// The runtime's own, and those of libraries (containerd/console).
const MAX_EPOLLS: usize = 16;

/// A FIFO of an exec in Go's poller.
struct Fifo {
    path: RawText,
    /// Container and exec.
    exec: (String, String),
    file: Polled,
}

impl Snapshot {
    /// FIFOs of that runtime's execs whose readers lead to one of its accepted connections each.
    pub(super) fn waiting_of(&self, key: TaskKey, tcp: &BTreeMap<u64, TcpSocket>, now: BootTime) -> Vec<Observation> {
        let seen = |(path, socket, copied)| {
            Observation::of(now, Source::Snapshot, key, Fact::FifoAwaited { path, socket, copied })
        };
        self.awaited(key, tcp).unwrap_or_default().into_iter().map(seen).collect()
    }

    /// The same, with the sockets of its own network namespace.
    pub(super) fn waiting_now(&self, key: TaskKey, now: BootTime) -> Vec<Observation> {
        let Some(netns) = self.proc.namespace(key.tgid, "net").filter(|_| !self.no_memory) else {
            return Vec::new();
        };
        let namespaces = Namespaces::from([(netns, vec![self.proc.path(key.tgid, "ns/net")])]);
        self.waiting_of(key, &sock_diag::dump(&namespaces).tcp, now)
    }

    fn awaited(&self, key: TaskKey, tcp: &BTreeMap<u64, TcpSocket>) -> Option<Vec<(RawText, SocketId, bool)>> {
        if self.no_memory || !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            return None;
        }
        let Some(Program::Go(version)) = self.program(key) else { return None };
        let layout = Layout::of(&version)?;
        let files = self.held(key);
        let is_exec = |held: &Held| matches!(held, Held::Fifo(path, _) if exec_of(path).is_some());
        if !files.values().any(is_exec) {
            return Some(Vec::new());
        }
        let memory = File::open(self.proc.path(key.tgid, "mem")).ok()?;
        // It stays that process's memory, whoever has the pid later.
        if self.proc.key(key.tgid)? != key {
            return None;
        }
        let ranges = self.proc.anonymous(key.tgid);
        let words = Words::new(&memory, &ranges);
        let walk = Walk { words: &words, layout };
        let (fifos, connections) = self.polled(key.tgid, &files, &accepted(&files, tcp), &walk);
        let ids: BTreeMap<u32, SocketId> = connections.iter().map(|(file, id)| (file.fd, *id)).collect();
        let found = look(&walk, &fifos, &connections.into_keys().collect::<Vec<_>>());
        // What was not looked at, or changed hands, might have spoken against what was.
        let is_sound = words.is_complete() && self.proc.key(key.tgid)? == key;
        let told = found.into_iter().filter_map(|(path, fd, copied)| Some((path, *ids.get(&fd)?, copied)));
        is_sound.then(|| told.collect())
    }

    /// FIFOs of execs, and accepted connections, that Go's poller watches.
    fn polled(
        &self,
        pid: u32,
        files: &BTreeMap<u32, Held>,
        accepted: &BTreeMap<u64, SocketId>,
        walk: &Walk<'_>,
    ) -> (Vec<Fifo>, BTreeMap<Polled, SocketId>) {
        let (mut fifos, mut connections) = (Vec::new(), BTreeMap::new());
        let epolls = files.iter().filter(|(_, held)| **held == Held::Epoll).map(|(fd, _)| *fd);
        for watched in epolls.take(MAX_EPOLLS).flat_map(|epoll| self.proc.watched(pid, epoll)) {
            match files.get(&watched.fd) {
                // The number may have been another file's when it was added.
                Some(Held::Fifo(path, inode)) if *inode == watched.inode && fifos.len() < MAX_FIFOS => {
                    if let (Some(exec), Some(file)) = (exec_of(path), walk.polled(watched.fd, watched.data)) {
                        fifos.push(Fifo { path: path.clone(), exec, file });
                    }
                }
                Some(Held::Socket(inode)) if *inode == watched.inode && connections.len() < MAX_CONNECTIONS => {
                    if let (Some(id), Some(file)) = (accepted.get(inode), walk.polled(watched.fd, watched.data)) {
                        connections.insert(file, *id);
                    }
                }
                _ => {}
            }
        }
        (fifos, connections)
    }
}

/// FIFOs, each with the number of its connection, and whether the copy's own arguments name it.
fn look(walk: &Walk<'_>, fifos: &[Fifo], connections: &[Polled]) -> Vec<(RawText, u32, bool)> {
    let readers = connections
        .iter()
        .filter_map(|connection| Some((connection.fd, walk.waiter(*connection)?.parent_goid?)))
        .collect();
    let mut paths = Vec::new();
    let mut found = Vec::new();
    for fifo in fifos {
        let Some(waiter) = walk.waiter(fifo.file) else { continue };
        let Some(reached) = walk.reached(fifo.file, waiter, connections) else { continue };
        paths.push(fifo);
        let Reached { all, copied } = reached;
        found.push(Found { exec: &fifo.exec, reached: all, copied, parent: waiter.parent_goid });
    }
    let judged = judge::connections(&found, &readers);
    let told = |fifo: &Fifo| {
        let connection = *judged.get(&&fifo.exec)?;
        Some((fifo.path.clone(), connection, judge::is_copied(&found, &&fifo.exec, connection)))
    };
    paths.into_iter().filter_map(told).collect()
}

/// Whose FIFO that is; a container's own is none of an exec's.
fn exec_of(path: &RawText) -> Option<(String, String)> {
    let fifo = parse_fifo_path(path.as_str()?)?;
    (fifo.exec != fifo.container).then_some((fifo.container, fifo.exec))
}

/// Connections that the process accepted, by inode.
fn accepted(files: &BTreeMap<u32, Held>, tcp: &BTreeMap<u64, TcpSocket>) -> BTreeMap<u64, SocketId> {
    let inodes: BTreeSet<u64> =
        files.values().filter_map(|held| if let Held::Socket(inode) = held { Some(*inode) } else { None }).collect();
    let held = || inodes.iter().filter_map(|inode| Some((*inode, tcp.get(inode)?)));
    let own = listening(held().map(|(_, socket)| socket));
    held()
        .filter(|(_, socket)| !socket.listening && own.contains(&(socket.netns, socket.tuple.local.port())))
        .map(|(inode, socket)| (inode, socket.id))
        .collect()
}
