//! From a file that a goroutine waits for to the connections that it leads to.
//!
//! 1. `runtime.pollDesc`, whose address the kernel keeps for the runtime (runtime/netpoll_epoll.go: `netpollopen`), names
//!    the goroutine that waits to read: `rg`.
//! 2. Its stack, from where it was left to where it began, holds what `io.Copy` writes to (containerd:
//!    pkg/cri/io/exec_io.go, `ExecIO.Attach`): a `*spdystream.Stream`, or a `streamAndReply`, which begins with one as an
//!    interface (Kubernetes' streaming server: remotecommand/httpstream.go).
//! 3. That leads to its connection: `Stream.conn`, `Connection.conn` (moby/spdystream: the same places since its first
//!    version), through wrappers that begin with the `net.Conn` that they wrap (k8s.io/apimachinery:
//!    httpstream/spdy, `connWrapper`; crypto/tls: `Conn`), to the `net.netFD` of a `*net.TCPConn`.
//!
//! A stack also holds words that are of no use any more, left there by earlier calls, or by earlier goroutines: Go hands
//! stacks on without clearing them (runtime/proc.go: `gfget`). So a word proves nothing. What it leads to must be open now: the
//! netFD of a closed connection has lost both its number and its pollDesc (internal/poll/fd_unix.go: `FD.destroy`). That
//! leaves connections that are open and another exec's, which `judge` takes care of.

use std::collections::{BTreeMap, BTreeSet};

use super::{layout::Layout, memory::Words};

/// `pdReady` and `pdWait`: a goroutine's address is none of these.
const MAX_STATE: u64 = 2;
/// `_Gwaiting`, and with `_Gscan` while the collector looks at its stack (runtime/runtime2.go).
const WAITING: [u64; 2] = [4, 0x1004];
/// Of `runtime.g.sched`: behind `stack`, two guards, `_panic`, `_defer` and `m`.
const SCHED: u64 = 56;
/// Stacks of copying goroutines are used by about 1 KiB.
const MAX_STACK: u64 = 64 << 10;
/// `connWrapper`, `tls.Conn`, `TCPConn`, and one more.
const MAX_WRAPPERS: usize = 4;
/// Words of a reader in which its file is looked for (containerd/fifo: `fifo`, whose `file` is behind three channels).
const READER: usize = 16;
/// SPDY's ids of streams have 31 bits (SPDY/3, 2.6.1).
const MAX_STREAM_ID: u64 = 0x7fff_ffff;

/// Where a stack leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// Every connection.
    pub(super) all: BTreeSet<u32>,
    /// Those that stand beside a reader of the goroutine's own file: the arguments of the copy itself. What an earlier copy left
    /// there names the file that it read, and a FIFO is one exec's.
    pub(super) copied: BTreeSet<u32>,
}

/// A goroutine that is parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    g: u64,
    goid: u64,
    pub(super) parent_goid: Option<u64>,
    top: u64,
    bottom: u64,
}

/// A file in Go's poller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Polled {
    pub(super) fd: u32,
    /// Address of its `runtime.pollDesc`.
    poller: u64,
}

/// What the walk needs.
pub(super) struct Walk<'a> {
    pub(super) words: &'a Words<'a>,
    pub(super) layout: Layout,
}

impl Walk<'_> {
    /// A file of the runtime's epoll instance, and no other's: its pollDesc says the same number, and the same tag.
    pub(super) fn polled(&self, fd: u32, data: u64) -> Option<Polled> {
        let (poller, tag) = self.layout.poller_of(data);
        let [_link, number, seq] = self.words.some(poller)?;
        // The tag is as many low bits of `fdseq` as fit; it is kept within them (runtime/netpoll.go: `pollCache.free`).
        (number == u64::from(fd) && tag.is_none_or(|tag| tag == seq)).then_some(Polled { fd, poller })
    }

    /// Who waits to read from it, as it is while nobody runs it.
    pub(super) fn waiter(&self, file: Polled) -> Option<Waiter> {
        let reader = file.poller + self.layout.reader;
        let g = self.words.one(reader)?;
        if g <= MAX_STATE {
            return None;
        }
        let [bottom, top] = self.words.some(g)?;
        // gobuf: sp, pc, g. A `g` that was left holds its own address.
        let [sp, _pc, own] = self.words.some(g.checked_add(SCHED)?)?;
        let status = self.words.one(g.checked_add(self.layout.goid)? - 8)? & u64::from(u32::MAX);
        let goid = self.words.one(g + self.layout.goid)?;
        let parent_goid = match self.layout.parent_goid {
            Some(offset) => Some(self.words.one(g.checked_add(offset)?)?).filter(|parent| *parent != 0),
            None => None,
        };
        let is_parked = own == g && WAITING.contains(&status) && bottom < sp && sp < top && goid != 0;
        // Read again: it may have been woken up in between.
        (is_parked && self.words.one(reader) == Some(g)).then_some(Waiter { g, goid, parent_goid, top, bottom: sp })
    }

    /// Which of these connections, in order of their numbers, its stack leads to, and which of them it copies to; `None` where it did not keep still or is too deep.
    pub(super) fn reached(&self, file: Polled, waiter: Waiter, connections: &[Polled]) -> Option<Reached> {
        let depth = waiter.top - waiter.bottom;
        if depth > MAX_STACK {
            return None;
        }
        let stack = self.words.many(waiter.bottom, usize::try_from(depth / 8).ok()?)?;
        let mut seen = BTreeMap::new();
        let mut found = Reached::default();
        for (index, word) in stack.iter().enumerate() {
            let connection = *seen.entry(*word).or_insert_with(|| self.connection_of_writer(*word, connections));
            let Some(fd) = connection else { continue };
            found.all.insert(fd);
            // `io.Copy(dst, src)`: two interfaces, type and value each, side by side where arguments are kept.
            if stack.get(index + 2).is_some_and(|source| self.reads(*source, file)) {
                found.copied.insert(fd);
            }
        }
        (self.waiter(file) == Some(waiter)).then_some(found)
    }

    /// Whether that reads this very file: an `*os.File`, or something that holds one.
    fn reads(&self, reader: u64, file: Polled) -> bool {
        let is_file = |pointer: u64| {
            let found = || {
                // os.File, and the `file` in it, which begins with a `poll.FD` as a netFD does.
                let inner = self.words.one(pointer)?;
                let [_state, _semaphores, number] = self.words.some(inner)?;
                let poller = self.words.one(inner.checked_add(self.layout.poller)?)?;
                Some(number == u64::from(file.fd) && poller == file.poller)
            };
            found().unwrap_or(false)
        };
        is_file(reader) || self.words.many(reader, READER).is_some_and(|words| words.into_iter().any(is_file))
    }

    /// Number of the connection to which that writes, if it is a `*Stream` or a `*streamAndReply`.
    fn connection_of_writer(&self, writer: u64, connections: &[Polled]) -> Option<u32> {
        self.connection_of(writer, connections).or_else(|| {
            let [_type, stream] = self.words.some(writer)?;
            self.connection_of(stream, connections)
        })
    }

    /// Number of the connection whose stream that is, if it is a stream's address.
    fn connection_of(&self, stream: u64, connections: &[Polled]) -> Option<u32> {
        // streamId, parent, conn
        let [id, _parent, connection] = self.words.some(stream)?;
        if !(1..=MAX_STREAM_ID).contains(&id) {
            return None;
        }
        // An interface's type and value; so is what a wrapper begins with.
        let [_type, mut inner] = self.words.some(connection)?;
        for _ in 0..MAX_WRAPPERS {
            let [first, second] = self.words.some(inner)?;
            if let Some(fd) = self.is_open(first, connections) {
                return Some(fd);
            }
            inner = second;
        }
        None
    }

    /// Number of the connection whose `netFD` that is.
    fn is_open(&self, net_fd: u64, connections: &[Polled]) -> Option<u32> {
        // fdMutex: `state`, and two semaphores.
        let [_state, _semaphores, number] = self.words.some(net_fd)?;
        let number = u32::try_from(number).ok()?;
        let index = connections.binary_search_by_key(&number, |connection| connection.fd).ok()?;
        let poller = self.words.one(net_fd + self.layout.poller)?;
        connections.get(index).filter(|connection| connection.poller == poller).map(|connection| connection.fd)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::source::snapshot::waiting::memory::Memory;

    /// Words by address; what is not said is 0.
    struct Fake(BTreeMap<u64, u64>);

    impl Memory for Fake {
        fn read(&self, at: u64, into: &mut [u8]) -> bool {
            for (index, bytes) in into.chunks_mut(8).enumerate() {
                let word = self.0.get(&(at + 8 * index as u64)).copied().unwrap_or(0);
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            true
        }
    }

    const HEAP: [(u64, u64); 1] = [(0x1000, 0x0010_0000)];
    const FIFO: (u32, u64) = (5, 0x1000);
    const SOCKETS: [(u32, u64); 2] = [(6, 0x1100), (7, 0x1200)];
    const G: u64 = 0x2000;
    const STACK: u64 = 0x8000;
    const TOP: u64 = 0x9000;
    /// Streams of the two sockets, and one of a closed connection.
    const STREAMS: [u64; 3] = [0x3000, 0x3100, 0x3200];

    /// Go 1.19: a goroutine waits for the FIFO; three streams lie in the heap.
    fn world(on_stack: &[u64]) -> Fake {
        let mut words = BTreeMap::new();
        for (fd, poller) in [FIFO, SOCKETS[0], SOCKETS[1]] {
            words.insert(poller + 8, u64::from(fd));
        }
        words.insert(FIFO.1 + 24, G);
        words.extend([(G, STACK), (G + 8, TOP), (G + 56, TOP - 0x100), (G + 72, G), (G + 144, 4), (G + 152, 33)]);
        for (index, word) in on_stack.iter().enumerate() {
            words.insert(TOP - 0x80 + 8 * index as u64, *word);
        }
        for (index, stream) in STREAMS.into_iter().enumerate() {
            // Stream, Connection, connWrapper, TCPConn, netFD.
            let base = 0x4000 + 0x1000 * index as u64;
            words.extend([(stream, 3), (stream + 16, base), (base + 8, base + 0x100), (base + 0x108, base + 0x200)]);
            words.insert(base + 0x200, base + 0x300);
            let (fd, poller) = SOCKETS.get(index).map_or((u64::MAX, 0), |(fd, poller)| (u64::from(*fd), *poller));
            words.extend([(base + 0x310, fd), (base + 0x318, poller)]);
            // streamAndReply
            words.insert(stream + 0x88, stream);
        }
        Fake(words)
    }

    fn reached(memory: &Fake) -> Option<Vec<u32>> {
        let words = Words::new(memory, &HEAP);
        let walk = Walk { words: &words, layout: Layout::of("go1.19.8").unwrap() };
        let fifo = walk.polled(FIFO.0, FIFO.1)?;
        let connections: Vec<Polled> = SOCKETS.iter().filter_map(|(fd, data)| walk.polled(*fd, *data)).collect();
        Some(walk.reached(fifo, walk.waiter(fifo)?, &connections)?.all.into_iter().collect())
    }

    #[test]
    fn a_stack_leads_to_the_connections_that_are_open() {
        assert_eq!(reached(&world(&[])), Some(vec![]));
        assert_eq!(reached(&world(&[STREAMS[0], 1, u64::MAX, 0x1001])), Some(vec![6]));
        assert_eq!(reached(&world(&[STREAMS[1] + 0x80])), Some(vec![7]), "through a streamAndReply");
        assert_eq!(reached(&world(&[STREAMS[2], STREAMS[0]])), Some(vec![6]), "the closed one's number is gone");
        assert_eq!(reached(&world(&[STREAMS[0], STREAMS[1], STREAMS[0]])), Some(vec![6, 7]));
    }

    /// The world with one of its words changed, and a stream on the stack.
    fn with(at: u64, word: u64) -> Option<Vec<u32>> {
        let mut memory = world(&[STREAMS[0]]);
        memory.0.insert(at, word);
        reached(&memory)
    }

    #[test]
    fn what_does_not_fit_is_no_answer() {
        for (at, word, why) in [
            (FIFO.1 + 8, 99, "another file's pollDesc"),
            (FIFO.1 + 24, 0, "nobody waits"),
            (FIFO.1 + 24, 2, "somebody is about to"),
            (FIFO.1 + 24, u64::MAX - 7, "nonsense"),
            (FIFO.1 + 24, G + 4, "nonsense"),
            (G + 72, G + 8, "no g"),
            (G + 144, 2, "it runs"),
            (G + 56, TOP + 8, "not on its stack"),
            (G + 8, u64::MAX, "too deep"),
        ] {
            assert_eq!(with(at, word), None, "{why}");
        }
        for (at, word, why) in [
            (SOCKETS[0].1 + 8, 99, "not in Go's poller"),
            (STREAMS[0], 0, "no stream's id"),
            (STREAMS[0], 1 << 31, "no stream's id"),
            (STREAMS[0] + 16, 0, "no connection"),
            (STREAMS[0] + 16, u64::MAX - 7, "no connection"),
            (0x4008, 0x4000, "a circle"),
            (0x4310, 7, "the number of another"),
            (0x4318, SOCKETS[1].1, "the pollDesc of another"),
        ] {
            assert_eq!(with(at, word), Some(vec![]), "{why}");
        }
    }

    #[test]
    fn a_goroutine_that_moves_meanwhile_is_no_answer() {
        /// Wakes up after that many reads.
        struct Waking(Fake, std::cell::Cell<u32>);
        impl Memory for Waking {
            fn read(&self, at: u64, into: &mut [u8]) -> bool {
                self.1.set(self.1.get().saturating_sub(1));
                self.0.read(at, into) && {
                    if at == FIFO.1 + 24 && self.1.get() == 0 {
                        into.fill(0);
                    }
                    true
                }
            }
        }
        let outcome = |reads| {
            let memory = Waking(world(&[STREAMS[0]]), std::cell::Cell::new(reads));
            let words = Words::new(&memory, &HEAP);
            let walk = Walk { words: &words, layout: Layout::of("go1.19.8").unwrap() };
            let fifo = walk.polled(FIFO.0, FIFO.1)?;
            walk.reached(fifo, walk.waiter(fifo)?, &[])
        };
        assert_eq!(outcome(u32::MAX), Some(Reached::default()));
        assert!((1..14).all(|reads| outcome(reads).is_none()), "woken up before, in or after the walk");
    }
}
