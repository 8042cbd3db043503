//! Finds which connections and FIFOs of an idle process belong together, from the process's memory.
//!
//! Go's own tables show which goroutine waits for a connection or for an exec's FIFO, and that goroutine's stack shows the other end of
//! its copy. Memory is read and never written, and the process is not stopped.
//!
//! The process controls everything in its memory. Each step is checked against the kernel's own data about the same file, and every
//! loop is bounded. Values that do not fit, or that move meanwhile, lead to no answer.

mod ends;
mod evaluate;
#[cfg(test)]
mod fake;
mod frames;
mod layout;
mod memory;
mod pipes;
mod poller;
mod relays;
mod translators;
mod walk;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
};

use self::{
    evaluate::FifoReader,
    frames::Frames,
    layout::Layout,
    memory::{Pages, Words},
    poller::{Polled, Side},
    relays::Copies,
    walk::{Reached, Walk},
};
use super::{
    descriptors::Held,
    fifos::awaitable,
    foreground::pipe_name,
    golang,
    namespaces::Namespaces,
    sock_diag,
    sockets::{Sockets, listening},
    view::HostView,
};
use crate::model::{BootTime, Fact, Observation, Program, RawText, SocketId, Source, TaskKey, parse_fifo_path};

/// FIFOs of one process that are followed: those of 2,000 execs.
const MAX_FIFOS: usize = 4_000;
/// Connections of one process that are followed.
const MAX_CONNECTIONS: usize = 20_000;
/// Epoll instances of one process: the runtime's own, and those of libraries (containerd/console).
const MAX_EPOLLS: usize = 16;

/// A FIFO of an exec in Go's poller.
struct Fifo {
    path: RawText,
    /// Ids of container and exec.
    exec: (String, String),
    file: Polled,
}

/// A connection in Go's poller.
#[derive(Clone, Copy)]
struct Connection {
    id: SocketId,
    is_accepted: bool,
}

/// Files in Go's poller.
#[derive(Default)]
struct PolledFiles {
    fifos: Vec<Fifo>,
    connections: BTreeMap<Polled, Connection>,
}

impl PolledFiles {
    /// Connections that `is_wanted` accepts, in order of descriptors.
    fn connections(&self, is_wanted: impl Fn(&Connection) -> bool) -> Vec<Polled> {
        self.connections.iter().filter(|(_, connection)| is_wanted(connection)).map(|(file, _)| *file).collect()
    }

    fn connection(&self, fd: u32) -> Option<Connection> {
        let (_, connection) = self.connections.iter().find(|(file, _)| file.fd == fd)?;
        Some(*connection)
    }
}

/// Connections and FIFOs of a process that belong together, by the goroutines that wait for them. `sockets` must list the process's
/// sockets.
pub(super) fn report(view: &HostView, key: TaskKey, sockets: &Sockets, now: BootTime) -> Vec<Observation> {
    let seen = |fact| Observation::of(now, Source::Snapshot, key, fact);
    facts_of(view, key, sockets).unwrap_or_default().into_iter().map(seen).collect()
}

/// As [`report`], with the current sockets of the process's network namespace.
pub(super) fn report_now(view: &HostView, key: TaskKey, now: BootTime) -> Vec<Observation> {
    let Some(netns) = view.proc.namespace(key.tgid, "net").filter(|_| !view.options.no_memory) else {
        return Vec::new();
    };
    let namespaces = Namespaces::from([(netns, vec![view.proc.path(key.tgid, "ns/net")])]);
    report(view, key, &sock_diag::dump(&namespaces), now)
}

fn facts_of(view: &HostView, key: TaskKey, sockets: &Sockets) -> Option<Vec<Fact>> {
    if view.options.no_memory || !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return None;
    }
    let Some(Program::Go(version)) = golang::program(&view.proc.path(key.tgid, "exe")) else { return None };
    let layout = Layout::of(&version)?;
    let files = awaitable(view, key);
    let connections = connections(&files, sockets);
    if connections.is_empty() {
        return None;
    }
    let memory = File::open(view.proc.path(key.tgid, "mem")).ok()?;
    // Check the identity after opening: the file stays bound to the process, whichever process gets the pid later.
    if view.proc.key(key.tgid)? != key {
        return None;
    }
    let mappings = view.proc.mappings(key.tgid);
    let words = Words::new(&memory, &mappings);
    let pages = Pages::new(&words);
    let frames = Frames::new(&words, layout);
    let walk = Walk { words: &words, pages: &pages, frames: &frames, layout };
    let polled = polled_files(view, key.tgid, &files, &connections, &walk);
    let found = walk_all(&walk, &polled);
    // A part that was not read, or that is another process's, might have contradicted the rest.
    (words.is_complete() && view.proc.key(key.tgid)? == key).then_some(found)
}

/// FIFOs of execs, and connections, in Go's poller.
fn polled_files(
    view: &HostView,
    pid: u32,
    files: &BTreeMap<u32, Held>,
    connections: &BTreeMap<u64, Connection>,
    walk: &Walk<'_>,
) -> PolledFiles {
    let mut polled = PolledFiles::default();
    let epolls = files.iter().filter(|(_, held)| **held == Held::Epoll).map(|(fd, _)| *fd);
    for entry in epolls.take(MAX_EPOLLS).flat_map(|epoll| view.proc.epoll_entries(pid, epoll)) {
        // An entry names the descriptor and inode at the time it was added. The descriptor may be another file by now, so the inode
        // must be equal.
        match files.get(&entry.fd) {
            Some(Held::Fifo(path, inode)) if *inode == entry.inode && polled.fifos.len() < MAX_FIFOS => {
                if let (Some(exec), Some(file)) = (exec_of(path), walk.polled(entry.fd, entry.data, true)) {
                    polled.fifos.push(Fifo { path: path.clone(), exec, file });
                }
            }
            Some(Held::Pipe { inode, runc }) if *inode == entry.inode && polled.fifos.len() < MAX_FIFOS => {
                if let Some(file) = walk.polled(entry.fd, entry.data, true) {
                    // All pipes of one runc belong to one exec.
                    let exec = (String::new(), runc.to_string());
                    polled.fifos.push(Fifo { path: pipe_name(*inode), exec, file });
                }
            }
            Some(Held::Socket(inode)) if *inode == entry.inode && polled.connections.len() < MAX_CONNECTIONS => {
                if let (Some(connection), Some(file)) =
                    (connections.get(inode), walk.polled(entry.fd, entry.data, false))
                {
                    polled.connections.insert(file, *connection);
                }
            }
            _ => {}
        }
    }
    polled
}

/// Walks from every polled file, and reports files that belong together.
fn walk_all(walk: &Walk<'_>, polled: &PolledFiles) -> Vec<Fact> {
    // Copies between two files, by the goroutines that wait for connections.
    let connections = polled.connections(|_| true);
    let mut files: Vec<Polled> = connections.iter().copied().chain(polled.fifos.iter().map(|fifo| fifo.file)).collect();
    files.sort_unstable();
    let mut copies = relays::copies(walk, &connections, &files);
    // The other connections may be those of a translator, whose copies wait on Go channels.
    let copied: BTreeSet<u32> = copies.copied.iter().flat_map(|(from, to)| [*from, *to]).collect();
    let left = |is_accepted: bool| {
        let mut left = polled.connections(|connection| connection.is_accepted == is_accepted);
        left.retain(|file| !copied.contains(&file.fd));
        left
    };
    copies.copied.extend(translators::copies(walk, &left(true), &left(false)));
    let mut facts = fifo_facts(walk, polled, &copies);
    let id = |fd| Some(polled.connection(fd)?.id);
    let mut paired = BTreeSet::new();
    let mut report = |from: u32, to: u32, copied: bool| {
        if let (Some(from), Some(to)) = (id(from), id(to)) {
            facts.push(Fact::RelayAwaited { from, to, copied });
        }
    };
    for (from, to) in &copies.copied {
        paired.extend([*from, *to]);
        report(*from, *to, true);
    }
    // A common creator proves less than a copy: pair only connections without one.
    let is_accepted = |fd| polled.connection(fd).is_some_and(|connection| connection.is_accepted);
    for (accepted, connected) in relays::created_together(&copies.creators, is_accepted) {
        if !paired.contains(&accepted) && !paired.contains(&connected) {
            report(accepted, connected, false);
            report(connected, accepted, false);
        }
    }
    facts
}

/// Reports FIFOs with their connections, and whether the arguments of a copy name the connection.
fn fifo_facts(walk: &Walk<'_>, polled: &PolledFiles, copies: &Copies) -> Vec<Fact> {
    if polled.fifos.is_empty() {
        return Vec::new();
    }
    let connections = polled.connections(|connection| connection.is_accepted);
    let readers = connections
        .iter()
        .filter_map(|connection| Some((connection.fd, walk.waiter(*connection, Side::Reads)?.parent_goid?)))
        .collect();
    let mut found = Vec::new();
    let mut left = Vec::new();
    for fifo in &polled.fifos {
        // A FIFO's reader may wait to write instead, for a client that does not read. Its copy was found at the connection.
        let mut own = copied(fifo, &copies.copied);
        if let Some(waiter) = walk.waiter(fifo.file, Side::Reads)
            && let Some(Reached { all, copied }) = walk.reached(fifo.file, waiter, &connections)
        {
            own.push(FifoReader { exec: &fifo.exec, reached: all, copied, parent: waiter.parent_goid });
        }
        // Without a copy's arguments, look for two copies with a pipe between them. They prove more than other live words.
        if own.iter().all(|found| found.copied.is_empty()) {
            left.push((fifo, own));
        } else {
            found.extend(own);
        }
    }
    let files: Vec<Polled> = left.iter().map(|(fifo, _)| fifo.file).collect();
    let piped = pipes::copies(walk, &files, &connections);
    for (fifo, own) in left {
        let piped = copied(fifo, &piped);
        found.extend(if piped.is_empty() { own } else { piped });
    }
    let decided = evaluate::connections(&found, &readers);
    let fact = |fifo: &Fifo| {
        let connection = *decided.get(&&fifo.exec)?;
        let copied = evaluate::is_copied(&found, &&fifo.exec, connection);
        let socket = polled.connection(connection)?.id;
        Some(Fact::FifoAwaited { path: fifo.path.clone(), socket, copied })
    };
    polled.fifos.iter().filter_map(fact).collect()
}

/// Evidence about a FIFO from these copies.
fn copied<'a>(fifo: &'a Fifo, copies: &BTreeSet<(u32, u32)>) -> Vec<FifoReader<&'a (String, String)>> {
    let of_fifo = copies.iter().filter(|(from, _)| *from == fifo.file.fd);
    let found = |(_, to): &(u32, u32)| {
        let to = BTreeSet::from([*to]);
        FifoReader { exec: &fifo.exec, reached: to.clone(), copied: to, parent: None }
    };
    of_fifo.map(found).collect()
}

/// Container and exec of a FIFO; `None` for the FIFOs of a container's first process.
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
        // An accepted unix socket has the path of its listener.
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

    /// Descriptor, pollDesc and reading goroutine of three FIFOs: stdout and stderr of exec `a`, stdout of exec `b`.
    const FIFOS: [(u32, u64, u64); 3] = [(5, 0x1000, 0x2000), (6, 0x1100, 0x2200), (7, 0x1200, 0x2400)];
    const CONNECTIONS: [(u32, u64); 2] = [(8, 0x1300), (9, 0x1400)];
    /// A SPDY stream of each connection, and the `*os.File` of each FIFO.
    const STREAMS: [u64; 2] = [0x3000, 0x3100];
    const FILES: [u64; 3] = [0x3200, 0x3300, 0x3400];

    /// Parks the reader of each FIFO in a call of this function, with arguments that lead to this connection.
    fn memory_with(calls: [(Calls, usize); 3]) -> Fake {
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

    /// Path of the FIFO, inode of its connection, and whether a copy names it.
    fn reported(memory: &Fake) -> Vec<(String, u64, bool)> {
        let (mappings, layout) = (mappings(), Layout::of("go1.19.8").unwrap());
        let words = Words::new(memory, &mappings);
        let (pages, frames) = (Pages::new(&words), Frames::new(&words, layout));
        let walk = Walk { words: &words, pages: &pages, frames: &frames, layout };
        let mut polled = PolledFiles::default();
        for ((fd, poller, _), exec) in FIFOS.into_iter().zip(["a-stdout", "a-stderr", "b-stdout"]) {
            let path = RawText::from(exec);
            let exec = ("c".to_owned(), exec[..1].to_owned());
            polled.fifos.push(Fifo { path, exec, file: walk.polled(fd, poller, true).unwrap() });
        }
        for (fd, poller) in CONNECTIONS {
            let id = SocketId { inode: Some(fd.into()), ..SocketId::default() };
            let connection = Connection { id, is_accepted: true };
            polled.connections.insert(walk.polled(fd, poller, false).unwrap(), connection);
        }
        let row = |fact| {
            let Fact::FifoAwaited { path, socket, copied } = fact else { panic!("{fact:?}") };
            (path.as_str().unwrap().to_owned(), socket.inode.unwrap(), copied)
        };
        walk_all(&walk, &polled).into_iter().map(row).collect()
    }

    #[test]
    fn stale_words_on_both_stacks_name_nothing() {
        let own =
            [("a-stdout".to_owned(), 8, true), ("a-stderr".to_owned(), 8, true), ("b-stdout".to_owned(), 9, true)];
        assert_eq!(reported(&memory_with([(Calls::Copy, 0), (Calls::Copy, 0), (Calls::Copy, 1)])), own);
        let stale = [(Calls::Leave, 1), (Calls::Leave, 1), (Calls::Copy, 1)];
        assert_eq!(reported(&memory_with(stale)), own[2..], "the other exec's connection is its own");
        assert_eq!(reported(&memory_with([(Calls::Leave, 0), (Calls::Leave, 0), (Calls::Leave, 0)])), []);
        assert_eq!(
            reported(&memory_with([(Calls::Copy, 0), (Calls::Copy, 0), (Calls::Copy, 0)])),
            [],
            "two execs claim it"
        );
    }
}
