//! What belongs together inside a process, while nothing flows: from its memory, read and never written; nothing is stopped.
//! Go's own bookkeeping says which goroutine waits for a connection or an exec's FIFO, and that goroutine's stack what for.
//!
//! Everything read is whatever the process wrote there. Each step is checked against what the kernel says of the same file,
//! everything is bounded, and what does not fit, or moves meanwhile, is no answer.

mod ends;
#[cfg(test)]
mod fake;
mod frames;
mod judge;
mod layout;
mod memory;
mod pipes;
mod relays;
mod translators;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
};

use self::{
    frames::Frames,
    judge::Found,
    layout::Layout,
    memory::{Pages, Words},
    relays::Copies,
    walk::{Polled, Reached, Side, Walk},
};
use super::{
    Snapshot,
    descriptors::Held,
    foreground::pipe_name,
    listening,
    sock_diag::{self, Namespaces, Sockets},
};
use crate::model::{BootTime, Fact, Observation, Program, RawText, SocketId, Source, TaskKey, parse_fifo_path};

/// FIFOs that are looked at: of 2,000 execs.
const MAX_FIFOS: usize = 4_000;
/// Connections that are looked at.
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

/// A connection in Go's poller.
#[derive(Clone, Copy)]
struct Connection {
    id: SocketId,
    is_accepted: bool,
}

/// What Go's poller watches.
#[derive(Default)]
struct Watching {
    fifos: Vec<Fifo>,
    connections: BTreeMap<Polled, Connection>,
}

impl Watching {
    fn connections(&self, which: impl Fn(&Connection) -> bool) -> Vec<Polled> {
        self.connections.iter().filter(|(_, connection)| which(connection)).map(|(file, _)| *file).collect()
    }

    fn connection(&self, fd: u32) -> Option<Connection> {
        let (_, connection) = self.connections.iter().find(|(file, _)| file.fd == fd)?;
        Some(*connection)
    }
}

impl Snapshot {
    /// What the goroutines of that process that wait for connections and for FIFOs of execs say belongs together.
    pub(super) fn waiting_of(&self, key: TaskKey, sockets: &Sockets, now: BootTime) -> Vec<Observation> {
        let seen = |fact| Observation::of(now, Source::Snapshot, key, fact);
        self.awaited(key, sockets).unwrap_or_default().into_iter().map(seen).collect()
    }

    /// The same, with the sockets of its own network namespace.
    pub(super) fn waiting_now(&self, key: TaskKey, now: BootTime) -> Vec<Observation> {
        let Some(netns) = self.proc.namespace(key.tgid, "net").filter(|_| !self.no_memory) else {
            return Vec::new();
        };
        let namespaces = Namespaces::from([(netns, vec![self.proc.path(key.tgid, "ns/net")])]);
        self.waiting_of(key, &sock_diag::dump(&namespaces), now)
    }

    fn awaited(&self, key: TaskKey, sockets: &Sockets) -> Option<Vec<Fact>> {
        if self.no_memory || !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            return None;
        }
        let Some(Program::Go(version)) = self.program(key) else { return None };
        let layout = Layout::of(&version)?;
        let files = self.held(key);
        let connections = connections(&files, sockets);
        if connections.is_empty() {
            return None;
        }
        let memory = File::open(self.proc.path(key.tgid, "mem")).ok()?;
        // It stays that process's memory, whoever has the pid later.
        if self.proc.key(key.tgid)? != key {
            return None;
        }
        let mappings = self.proc.mappings(key.tgid);
        let words = Words::new(&memory, &mappings);
        let pages = Pages::new(&words);
        let frames = Frames::new(&words, layout);
        let walk = Walk { words: &words, pages: &pages, frames: &frames, layout };
        let watching = self.polled(key.tgid, &files, &connections, &walk);
        let found = look(&walk, &watching);
        // What was not looked at, or changed hands, might have spoken against what was.
        (words.is_complete() && self.proc.key(key.tgid)? == key).then_some(found)
    }

    /// FIFOs of execs, and connections, that Go's poller watches.
    fn polled(
        &self,
        pid: u32,
        files: &BTreeMap<u32, Held>,
        connections: &BTreeMap<u64, Connection>,
        walk: &Walk<'_>,
    ) -> Watching {
        let mut watching = Watching::default();
        let epolls = files.iter().filter(|(_, held)| **held == Held::Epoll).map(|(fd, _)| *fd);
        for watched in epolls.take(MAX_EPOLLS).flat_map(|epoll| self.proc.watched(pid, epoll)) {
            match files.get(&watched.fd) {
                // The number may have been another file's when it was added.
                Some(Held::Fifo(path, inode)) if *inode == watched.inode && watching.fifos.len() < MAX_FIFOS => {
                    if let (Some(exec), Some(file)) = (exec_of(path), walk.polled(watched.fd, watched.data, true)) {
                        watching.fifos.push(Fifo { path: path.clone(), exec, file });
                    }
                }
                Some(Held::Pipe { inode, runc }) if *inode == watched.inode && watching.fifos.len() < MAX_FIFOS => {
                    if let Some(file) = walk.polled(watched.fd, watched.data, true) {
                        // The pipes of one runc are one exec's.
                        let exec = (String::new(), runc.to_string());
                        watching.fifos.push(Fifo { path: pipe_name(*inode), exec, file });
                    }
                }
                Some(Held::Socket(inode))
                    if *inode == watched.inode && watching.connections.len() < MAX_CONNECTIONS =>
                {
                    if let (Some(connection), Some(file)) =
                        (connections.get(inode), walk.polled(watched.fd, watched.data, false))
                    {
                        watching.connections.insert(file, *connection);
                    }
                }
                _ => {}
            }
        }
        watching
    }
}

/// What waits for what, and for whom.
fn look(walk: &Walk<'_>, watching: &Watching) -> Vec<Fact> {
    let connections = watching.connections(|_| true);
    let mut files: Vec<Polled> =
        connections.iter().copied().chain(watching.fifos.iter().map(|fifo| fifo.file)).collect();
    files.sort_unstable();
    let mut copies = relays::copies(walk, &connections, &files);
    let copied: BTreeSet<u32> = copies.copied.iter().flat_map(|(from, to)| [*from, *to]).collect();
    let left = |is_accepted: bool| {
        let mut left = watching.connections(|connection| connection.is_accepted == is_accepted);
        left.retain(|file| !copied.contains(&file.fd));
        left
    };
    copies.copied.extend(translators::copies(walk, &left(true), &left(false)));
    let mut facts = fifos(walk, watching, &copies);
    let id = |fd| Some(watching.connection(fd)?.id);
    let mut said = BTreeSet::new();
    let mut tell = |from: u32, to: u32, copied: bool| {
        if let (Some(from), Some(to)) = (id(from), id(to)) {
            facts.push(Fact::RelayAwaited { from, to, copied });
        }
    };
    for (from, to) in &copies.copied {
        said.extend([*from, *to]);
        tell(*from, *to, true);
    }
    let is_accepted = |fd| watching.connection(fd).is_some_and(|connection| connection.is_accepted);
    for (accepted, connected) in relays::created_together(&copies.creators, is_accepted) {
        if !said.contains(&accepted) && !said.contains(&connected) {
            tell(accepted, connected, false);
            tell(connected, accepted, false);
        }
    }
    facts
}

/// FIFOs, each with its connection, and whether the copy's own arguments name it.
fn fifos(walk: &Walk<'_>, watching: &Watching, copies: &Copies) -> Vec<Fact> {
    if watching.fifos.is_empty() {
        return Vec::new();
    }
    let connections = watching.connections(|connection| connection.is_accepted);
    let readers = connections
        .iter()
        .filter_map(|connection| Some((connection.fd, walk.waiter(*connection, Side::Reads)?.parent_goid?)))
        .collect();
    let mut found = Vec::new();
    let mut left = Vec::new();
    for fifo in &watching.fifos {
        // Who reads it may wait to write, for a client that does not read.
        let mut told = copied(fifo, &copies.copied);
        if let Some(waiter) = walk.waiter(fifo.file, Side::Reads)
            && let Some(Reached { all, copied }) = walk.reached(fifo.file, waiter, &connections)
        {
            told.push(Found { exec: &fifo.exec, reached: all, copied, parent: waiter.parent_goid });
        }
        // Other words in use say less than the arguments of two copies and a pipe between them.
        if told.iter().all(|found| found.copied.is_empty()) {
            left.push((fifo, told));
        } else {
            found.extend(told);
        }
    }
    let files: Vec<Polled> = left.iter().map(|(fifo, _)| fifo.file).collect();
    let piped = pipes::copies(walk, &files, &connections);
    for (fifo, told) in left {
        let piped = copied(fifo, &piped);
        found.extend(if piped.is_empty() { told } else { piped });
    }
    let judged = judge::connections(&found, &readers);
    let told = |fifo: &Fifo| {
        let connection = *judged.get(&&fifo.exec)?;
        let copied = judge::is_copied(&found, &&fifo.exec, connection);
        let socket = watching.connection(connection)?.id;
        Some(Fact::FifoAwaited { path: fifo.path.clone(), socket, copied })
    };
    watching.fifos.iter().filter_map(told).collect()
}

/// What copies say of that FIFO.
fn copied<'a>(fifo: &'a Fifo, copies: &BTreeSet<(u32, u32)>) -> Vec<Found<&'a (String, String)>> {
    let of_fifo = copies.iter().filter(|(from, _)| *from == fifo.file.fd);
    let found = |(_, to): &(u32, u32)| {
        let to = BTreeSet::from([*to]);
        Found { exec: &fifo.exec, reached: to.clone(), copied: to, parent: None }
    };
    of_fifo.map(found).collect()
}

/// Whose FIFO that is; a container's own is none of an exec's.
fn exec_of(path: &RawText) -> Option<(String, String)> {
    let fifo = parse_fifo_path(path.as_str()?)?;
    (fifo.exec != fifo.container).then_some((fifo.container, fifo.exec))
}

/// Connections of the process, by inode.
fn connections(files: &BTreeMap<u32, Held>, sockets: &Sockets) -> BTreeMap<u64, Connection> {
    let inodes: BTreeSet<u64> =
        files.values().filter_map(|held| if let Held::Socket(inode) = held { Some(*inode) } else { None }).collect();
    let own = listening(inodes.iter().filter_map(|inode| sockets.tcp.get(inode)));
    let connection = |inode: &u64| {
        if let Some(socket) = sockets.tcp.get(inode).filter(|socket| !socket.listening) {
            let is_accepted = own.contains(&(socket.netns, socket.tuple.local.port()));
            return Some((*inode, Connection { id: socket.id, is_accepted }));
        }
        let socket = sockets.unix.get(inode).filter(|socket| !socket.listening)?;
        // What was accepted has the path of its listener.
        Some((*inode, Connection { id: socket.id, is_accepted: socket.path.is_some() }))
    };
    inodes.iter().filter_map(connection).collect()
}

#[cfg(test)]
mod tests {
    use super::{
        fake::{Calls, Fake, TYPE, mappings},
        *,
    };

    /// Descriptor, pollDesc, and the goroutine that waits to read: of stdout and stderr of one exec, and of one of another exec.
    const FIFOS: [(u32, u64, u64); 3] = [(5, 0x1000, 0x2000), (6, 0x1100, 0x2200), (7, 0x1200, 0x2400)];
    const CONNECTIONS: [(u32, u64); 2] = [(8, 0x1300), (9, 0x1400)];
    /// A SPDY stream of each connection, and the `*os.File` of each FIFO.
    const STREAMS: [u64; 2] = [0x3000, 0x3100];
    const FILES: [u64; 3] = [0x3200, 0x3300, 0x3400];

    /// Who waits for each FIFO is in a call of that function, with arguments that lead to these connections.
    fn world(calls: [(Calls, usize); 3]) -> Fake {
        let mut memory = Fake::program();
        for ((fd, poller), stream) in CONNECTIONS.into_iter().zip(STREAMS) {
            let connection = 0x5000 + poller;
            memory.put(poller + 8, &[u64::from(fd)]);
            memory.put(stream, &[3, 0, connection]);
            memory.put(connection, &[TYPE, connection + 0x40]);
            memory.put(connection + 0x40, &[connection + 0x60]);
            memory.put(connection + 0x60, &[0, 0, u64::from(fd), poller]);
        }
        for (((fd, poller, g), file), (index, (calls, to))) in
            FIFOS.into_iter().zip(FILES).zip(calls.into_iter().enumerate())
        {
            memory.put(poller + 8, &[u64::from(fd), 0, g]);
            memory.put(file, &[file + 0x80]);
            memory.put(file + 0x80, &[0, 0, u64::from(fd), poller]);
            memory.park_in(calls, g, 0x1_0000 + 0x1000 * index as u64, &[TYPE, STREAMS[to], TYPE, file]);
        }
        memory
    }

    /// Exec and connection.
    fn told(memory: &Fake) -> Vec<(String, u64, bool)> {
        let (mappings, layout) = (mappings(), Layout::of("go1.19.8").unwrap());
        let words = Words::new(memory, &mappings);
        let (pages, frames) = (Pages::new(&words), Frames::new(&words, layout));
        let walk = Walk { words: &words, pages: &pages, frames: &frames, layout };
        let mut watching = Watching::default();
        for ((fd, poller, _), exec) in FIFOS.into_iter().zip(["a-stdout", "a-stderr", "b-stdout"]) {
            let path = RawText::from(exec);
            let exec = ("c".to_owned(), exec[..1].to_owned());
            watching.fifos.push(Fifo { path, exec, file: walk.polled(fd, poller, true).unwrap() });
        }
        for (fd, poller) in CONNECTIONS {
            let id = SocketId { inode: Some(fd.into()), ..SocketId::default() };
            let connection = Connection { id, is_accepted: true };
            watching.connections.insert(walk.polled(fd, poller, false).unwrap(), connection);
        }
        let told = |fact| {
            let Fact::FifoAwaited { path, socket, copied } = fact else { panic!("{fact:?}") };
            (path.as_str().unwrap().to_owned(), socket.inode.unwrap(), copied)
        };
        look(&walk, &watching).into_iter().map(told).collect()
    }

    #[test]
    fn stale_words_that_agree_on_both_stacks_name_no_connection() {
        let own =
            [("a-stdout".to_owned(), 8, true), ("a-stderr".to_owned(), 8, true), ("b-stdout".to_owned(), 9, true)];
        assert_eq!(told(&world([(Calls::Copy, 0), (Calls::Copy, 0), (Calls::Copy, 1)])), own);
        let stale = [(Calls::Leave, 1), (Calls::Leave, 1), (Calls::Copy, 1)];
        assert_eq!(told(&world(stale)), own[2..], "the other exec's connection is its own");
        assert_eq!(told(&world([(Calls::Leave, 0), (Calls::Leave, 0), (Calls::Leave, 0)])), []);
        assert_eq!(told(&world([(Calls::Copy, 0), (Calls::Copy, 0), (Calls::Copy, 0)])), [], "two execs claim it");
    }
}
