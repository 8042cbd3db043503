//! Walks from a file, through the goroutine that waits for it, to the connections between which that goroutine copies.
//!
//! 1. The kernel keeps the address of a `runtime.pollDesc` with each polled file (runtime/netpoll_epoll.go: `netpollopen`). The
//!    pollDesc names the goroutine that waits to read, `rg`, and the one that waits to write, `wg`.
//! 2. The frames of the goroutine's stack hold the arguments of `io.Copy`. `frames` finds the live words, and `ends` follows values
//!    to files.
//!
//! Dead words never count: earlier calls and earlier goroutines left them, and they may lead anywhere. An object to which a live word
//! leads is live, too: the collector has not reused its memory. The file at the end has to be open, because the netFD of a closed
//! connection has lost its number and its pollDesc (internal/poll/fd_unix.go: `FD.destroy`).

use std::collections::BTreeSet;

use super::{
    ends::{Copying, Ends},
    frames::{Frame, Frames, Function},
    layout::Layout,
    memory::{Pages, ReadWords as _, Words},
    poller::{Polled, Side, Waiter},
};

/// Largest state of a pollDesc that is no goroutine's address: `pdReady` and `pdWait`.
const MAX_STATE: u64 = 2;
/// Status of a parked goroutine: `_Gwaiting`, with `_Gscan` while the collector scans its stack (runtime/runtime2.go).
const WAITING: [u64; 2] = [4, 0x1004];
/// Offset of `runtime.g.sched`: behind `stack`, two guards, `_panic`, `_defer` and `m`.
const SCHED: u64 = 56;
/// Largest stack that is read. Copying goroutines use about 1 KiB, and 2 KiB below TLS.
const MAX_STACK: u64 = 64 << 10;

/// Goroutines that are followed in one list of waiters. A pipe or channel has one.
const MAX_WAITERS: usize = 4;

/// Connections to which the live words of a stack lead, by descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// All of them.
    pub(super) all: BTreeSet<u32>,
    /// Targets of a copy in progress from the goroutine's own file, by the arguments of the call.
    pub(super) copied: BTreeSet<u32>,
}

/// Everything that a walk reads.
pub(super) struct Walk<'a> {
    pub(super) words: &'a Words<'a>,
    /// The same words, cached: to find candidates, which are read again.
    pub(super) pages: &'a Pages<'a>,
    pub(super) frames: &'a Frames<'a>,
    pub(super) layout: Layout,
}

impl Walk<'_> {
    /// A file of the runtime's epoll instance; `None` if its pollDesc has another number or tag, so belongs to another library.
    pub(super) fn polled(&self, fd: u32, data: u64, is_fifo: bool) -> Option<Polled> {
        let (poller, tag) = self.layout.poller_of(data);
        let [_link, number, seq] = self.words.some(poller)?;
        // The tag holds the low bits of `fdseq`, which never grows beyond them (runtime/netpoll.go: `pollCache.free`).
        (number == u64::from(fd) && tag.is_none_or(|tag| tag == seq)).then_some(Polled { fd, poller, is_fifo })
    }

    /// The goroutine that waits for a file on this side, if it is parked.
    pub(super) fn waiter(&self, file: Polled, side: Side) -> Option<Waiter> {
        let waits = match side {
            Side::Reads => file.poller.checked_add(self.layout.reader)?,
            Side::Writes => file.poller.checked_add(self.layout.reader + 8)?,
        };
        let g = self.words.one(waits)?;
        if g <= MAX_STATE {
            return None;
        }
        let waiter = self.parked(g)?;
        // Read again: the goroutine may have been woken up in between.
        (self.words.one(waits) == Some(g)).then_some(waiter)
    }

    /// The goroutine at this address, if it is parked.
    pub(super) fn parked(&self, g: u64) -> Option<Waiter> {
        let last = self.layout.parent_goid.unwrap_or(self.layout.goid);
        let words = self.words.many(g, usize::try_from(last / 8).ok()? + 1)?;
        let word = |offset: u64| words.get(usize::try_from(offset / 8).ok()?).copied();
        let (bottom, top) = (word(0)?, word(8)?);
        // gobuf: sp, pc, g. The gobuf of a parked goroutine holds its own address.
        let (sp, pc, own) = (word(SCHED)?, word(SCHED + 8)?, word(SCHED + 16)?);
        let (status, goid) = (word(self.layout.goid - 8)? & u64::from(u32::MAX), word(self.layout.goid)?);
        let parent_goid = self.layout.parent_goid.and_then(word).filter(|parent| *parent != 0);
        let is_parked = own == g && WAITING.contains(&status) && bottom < sp && sp < top && goid != 0;
        is_parked.then_some(Waiter { g, goid, parent_goid, top, bottom: sp, pc })
    }

    /// Words of the goroutine's stack, from its stack pointer on; `None` if the stack is too deep.
    fn stack(&self, waiter: Waiter) -> Option<Vec<u64>> {
        let depth = waiter.top - waiter.bottom;
        if depth > MAX_STACK {
            return None;
        }
        self.words.many(waiter.bottom, usize::try_from(depth / 8).ok()?)
    }

    /// Applies `find` to the frames of a goroutine. `None` if the goroutine moved meanwhile: afterwards `is_still` must hold and its
    /// stack must be the same, because a woken goroutine may have begun another copy. `None`, too, for a stack that is too deep.
    pub(super) fn in_frames<T>(
        &self,
        waiter: Waiter,
        is_still: impl FnOnce() -> bool,
        find: impl FnOnce(&[Frame]) -> T,
    ) -> Option<T> {
        let stack = self.stack(waiter)?;
        let found = find(&self.frames.of(waiter, &stack));
        (self.stack(waiter)? == stack && is_still()).then_some(found)
    }

    /// Connections to which the stack of the file's reader leads, and those to which it copies. `connections` must be in order of
    /// descriptors. `None` if the goroutine moved meanwhile, or its stack is too deep.
    pub(super) fn reached(&self, file: Polled, waiter: Waiter, connections: &[Polled]) -> Option<Reached> {
        let (cached, ends) = (self.cached_ends(), self.ends());
        let find = |frames: &[Frame]| {
            // Candidates out of cached pages first: most words lead nowhere. Read the others again.
            let streams = frames.iter().flat_map(Frame::pointers);
            let streams = streams.filter(|word| cached.stream_of(*word, connections).is_some());
            let all = streams.filter_map(|word| ends.stream_of(word, connections)).collect();
            let copied = self.copies_in(frames, file, Side::Reads, connections);
            Reached { all, copied: copied.into_iter().map(|(_, to)| to).collect() }
        };
        self.in_frames(waiter, || self.waiter(file, Side::Reads) == Some(waiter), find)
    }

    /// Copies of a goroutine, from file to file; one of both is the file for which it waits. `files` must be in order of
    /// descriptors. `None` if the goroutine moved meanwhile, or its stack is too deep.
    pub(super) fn copies(
        &self,
        file: Polled,
        side: Side,
        waiter: Waiter,
        files: &[Polled],
    ) -> Option<BTreeSet<(u32, u32)>> {
        let is_still = || self.waiter(file, side) == Some(waiter);
        self.in_frames(waiter, is_still, |frames| self.copies_in(frames, file, side, files))
    }

    /// Copies in these frames that begin or end at the goroutine's own file.
    fn copies_in(&self, frames: &[Frame], file: Polled, side: Side, files: &[Polled]) -> BTreeSet<(u32, u32)> {
        let (cached, ends) = (self.cached_ends(), self.ends());
        let copies = self.copying(frames).into_iter();
        let copies = copies.filter(|copying| cached.copies(file, side, *copying, files).is_some());
        copies.filter_map(|copying| ends.copies(file, side, copying, files)).collect()
    }

    /// Calls in these frames that copy, by their live arguments.
    fn copying(&self, frames: &[Frame]) -> Vec<Copying> {
        frames.iter().flat_map(|frame| self.copying_in(frame)).collect()
    }

    fn copying_in(&self, frame: &Frame) -> Vec<Copying> {
        let types = self.cached_ends().words;
        // An interface is a type and a value. The collector marks only the value as live: types need no collection.
        let interface = |at: usize| {
            frame.arguments.get(at).filter(|kind| types.is_type(kind.word))?;
            frame.live(at + 1)
        };
        let mut found = Vec::new();
        match frame.function {
            // Compilers before Go 1.26 move both arguments to local variables, so their order is lost. Try both: the side on which
            // the goroutine waits decides.
            Function::Splice => {
                for to in frame.pointers() {
                    let others = frame.pointers().filter(|from| *from != to);
                    found.extend(others.map(|from| Copying::Files(to, from)));
                }
            }
            Function::WriteTo => {
                if let (Some(reader), Some(writer)) = (frame.live(0), interface(1)) {
                    found.push(Copying::Values(writer, reader));
                }
            }
            Function::Other => {
                for at in 0..frame.arguments.len() {
                    let (Some(writer), Some(second)) = (interface(at), interface(at + 2)) else { continue };
                    // `io.Copy(dst, src)`, and docker's `stdcopy.StdCopy(dstout, dsterr, src)`, with the reader in third place.
                    let readers = [Some(second), interface(at + 4)].into_iter().flatten();
                    found.extend(readers.map(|reader| Copying::Values(writer, reader)));
                }
            }
        }
        found
    }

    /// Writer and reader of each call in these frames that copies between two interfaces.
    pub(super) fn values_copied(&self, frames: &[Frame]) -> Vec<(u64, u64)> {
        let values =
            |copying| if let Copying::Values(writer, reader) = copying { Some((writer, reader)) } else { None };
        self.copying(frames).into_iter().filter_map(values).collect()
    }

    /// Writer and reader of each copy by the goroutines in a list of waiters. `first` reads the head of the list.
    pub(super) fn copies_of_waiters(&self, first: impl Fn() -> Option<u64>) -> Vec<(u64, u64)> {
        let waiting = first();
        let mut found = Vec::new();
        let mut next = waiting;
        for _ in 0..MAX_WAITERS {
            // runtime.sudog: `g`, `next` (runtime/runtime2.go).
            let Some([g, following]) = next.and_then(|sudog| self.words.some(sudog)) else { break };
            let copies = || {
                let waiter = self.parked(g)?;
                let is_still = || self.parked(g) == Some(waiter);
                self.in_frames(waiter, is_still, |frames| self.values_copied(frames))
            };
            found.extend(copies().unwrap_or_default());
            next = Some(following);
        }
        // If the list has changed, a goroutine was woken up, and may be at another copy.
        if first() == waiting { found } else { Vec::new() }
    }

    /// Follows values through the process's memory.
    pub(super) fn ends(&self) -> Ends<'_, Words<'_>> {
        Ends { words: self.words, layout: self.layout }
    }

    /// Follows values through cached pages.
    fn cached_ends(&self) -> Ends<'_, Pages<'_>> {
        Ends { words: self.pages, layout: self.layout }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, collections::BTreeMap};

    use super::*;
    use crate::source::snapshot::waiting::{
        fake::{Calls, Fake, LOCALS, PROGRAM, TYPE, mappings},
        frames::{MIN_FRAME, PUSHED},
        memory::Memory,
    };

    const FIFO: (u32, u64) = (5, 0x1000);
    const SOCKETS: [(u32, u64); 2] = [(6, 0x1100), (7, 0x1200)];
    const G: u64 = 0x2000;
    const STACK: u64 = 0x8000;
    const TOP: u64 = 0x9000;
    /// Streams of the two sockets, and one of a closed connection.
    const STREAMS: [u64; 3] = [0x3000, 0x3100, 0x3200];
    /// Channels of WebSockets on the same connections.
    const CHANNELS: [u64; 3] = [0x9_0000, 0x9_1000, 0x9_2000];
    /// The same connections, as `*tls.Conn`.
    const CONNECTIONS: [u64; 3] = [0x4100, 0x5100, 0x6100];
    /// An `*os.File` of the FIFO, a `fifo` of containerd's that holds it, a `*bufio.Reader` of the first connection.
    const READERS: [u64; 3] = [0x7000, 0x7100, 0x7200];

    /// A `wsstream.Conn`, its list of channels, and its `websocket.Conn`.
    const fn behind(channel: u64) -> [u64; 3] {
        [channel + 0x100, channel + 0x200, channel + 0x300]
    }

    /// Memory of Go 1.19 in which a goroutine waits for `file`, to read or to write.
    fn memory_waiting(file: u64, side: Side, on_stack: &[u64]) -> Fake {
        let mut words = BTreeMap::new();
        for (fd, poller) in [FIFO, SOCKETS[0], SOCKETS[1]] {
            words.insert(poller + 8, u64::from(fd));
        }
        words.insert(file + if side == Side::Reads { 24 } else { 32 }, G);
        for (index, stream) in STREAMS.into_iter().enumerate() {
            // Stream, Connection, tls.Conn, TCPConn, netFD.
            let base = 0x4000 + 0x1000 * index as u64;
            words.extend([(stream, 3), (stream + 16, base), (base, TYPE), (base + 8, base + 0x100)]);
            words.extend([(base + 0x100, TYPE), (base + 0x108, base + 0x200), (base + 0x200, base + 0x300)]);
            let (fd, poller) = SOCKETS.get(index).map_or((u64::MAX, 0), |(fd, poller)| (u64::from(*fd), *poller));
            words.extend([(base + 0x310, fd), (base + 0x318, poller)]);
            // streamAndReply
            words.extend([(stream + 0x80, TYPE), (stream + 0x88, stream)]);
            // websocketChannel, the second of five
            let channel = CHANNELS[index];
            let [connection, list, socket] = behind(channel);
            words.extend([(channel, connection), (channel + 8, 1), (list + 8, channel), (connection + 24, list)]);
            words.extend([(connection + 32, 5), (connection + 40, 5), (connection + 64, socket)]);
            words.extend([(socket + 24, TYPE), (socket + 32, base + 0x100)]);
        }
        let [file, fifo, buffered] = READERS;
        words.extend([(file, file + 0x80), (file + 0x90, u64::from(FIFO.0)), (file + 0x98, FIFO.1), (fifo + 48, file)]);
        for number in 1..4 {
            let channel = fifo + 0x40 + 0x18 * number;
            words.extend([(fifo + 8 * number, channel), (channel + 16, channel + 16)]);
        }
        words.extend([(buffered, 0x7800), (buffered + 8, 4096), (buffered + 16, 4096)]);
        words.extend([(buffered + 24, TYPE), (buffered + 32, CONNECTIONS[0])]);
        // A pointer to something, and beside it one to the first connection; a pointer to its `*net.TCPConn`.
        words.extend([(0x7300, 0x7700), (0x7308, CONNECTIONS[0]), (0x7400, CONNECTIONS[0] + 0x100)]);
        let mut memory = Fake::program();
        memory.0.extend(words);
        memory.park(G, STACK, on_stack);
        memory
    }

    fn memory_with(on_stack: &[u64]) -> Fake {
        memory_waiting(FIFO.1, Side::Reads, on_stack)
    }

    /// Applies `ask` to a walk over this memory, the FIFO and the sockets.
    fn ask<T>(memory: &dyn Memory, ask: impl Fn(&Walk<'_>, Polled, [Polled; 2]) -> Option<T>) -> Option<T> {
        let mappings = mappings();
        let words = Words::new(memory, &mappings);
        let layout = Layout::of("go1.19.8").unwrap();
        let (pages, frames) = (Pages::new(&words), Frames::new(&words, layout));
        let walk = Walk { words: &words, pages: &pages, frames: &frames, layout };
        let [one, other] = SOCKETS.map(|(fd, data)| walk.polled(fd, data, false));
        let absent = Polled { fd: 0, poller: 0, is_fifo: false };
        ask(&walk, walk.polled(FIFO.0, FIFO.1, true)?, [one.unwrap_or(absent), other.unwrap_or(absent)])
    }

    fn reached(memory: &dyn Memory) -> Option<Reached> {
        ask(memory, |walk, fifo, sockets| walk.reached(fifo, walk.waiter(fifo, Side::Reads)?, &sockets))
    }

    fn all(memory: &dyn Memory) -> Option<Vec<u32>> {
        Some(reached(memory)?.all.into_iter().collect())
    }

    #[test]
    fn stack_leads_to_open_connections() {
        assert_eq!(all(&memory_with(&[])), Some(vec![]));
        assert_eq!(all(&memory_with(&[STREAMS[0], 1, u64::MAX, 0x1001])), Some(vec![6]));
        assert_eq!(all(&memory_with(&[STREAMS[1] + 0x80])), Some(vec![7]), "through a streamAndReply");
        assert_eq!(all(&memory_with(&[STREAMS[2], STREAMS[0]])), Some(vec![6]), "the closed one's number is gone");
        assert_eq!(all(&memory_with(&[STREAMS[0], STREAMS[1], STREAMS[0]])), Some(vec![6, 7]));
        assert_eq!(all(&memory_with(&[CHANNELS[1]])), Some(vec![7]), "a WebSocket's");
        assert_eq!(all(&memory_with(&[CHANNELS[2]])), Some(vec![]), "of a closed one");
    }

    #[test]
    fn copy_has_stream_and_reader_side_by_side() {
        let copied = |on_stack| reached(&memory_with(on_stack)).unwrap().copied.into_iter().collect::<Vec<_>>();
        assert_eq!(copied(&[TYPE, STREAMS[0], TYPE, READERS[0]]), [6]);
        assert_eq!(copied(&[TYPE, STREAMS[0], TYPE, READERS[1]]), [6], "a file in a fifo");
        assert_eq!(copied(&[TYPE, STREAMS[0], READERS[0]]), [0; 0], "a word apart");
        assert_eq!(copied(&[TYPE, STREAMS[0], TYPE, READERS[2]]), [0; 0], "another reader");
        assert_eq!(copied(&[TYPE, CHANNELS[0], TYPE, READERS[1]]), [6], "to a WebSocket");
        assert_eq!(copied(&[9, STREAMS[0], TYPE, READERS[0]]), [0; 0], "no interface");
    }

    /// Parks the FIFO's reader in a call of this function, with the arguments of a copy.
    fn parked_in(calls: Calls, on_stack: &[u64]) -> Fake {
        let mut memory = memory_with(&[]);
        memory.park_in(calls, G, STACK, on_stack);
        memory
    }

    #[test]
    fn dead_words_lead_nowhere() {
        let stale = [TYPE, STREAMS[0], TYPE, READERS[0]];
        assert_eq!(reached(&parked_in(Calls::Copy, &stale)).unwrap().copied, BTreeSet::from([6]));
        assert_eq!(
            reached(&parked_in(Calls::Leave, &stale)),
            Some(Reached::default()),
            "arguments of a call that is past"
        );
        let first = Fake::locals(STACK);
        let mut memory = memory_with(&[]);
        memory.put(first, &[STREAMS[1], STREAMS[0], STREAMS[0]]);
        assert_eq!(all(&memory), Some(vec![7]), "of three local variables the first is in use");
        // Everything between the stack pointer and the end of the stack that is no slot of a frame.
        let mut memory = memory_with(&[STREAMS[0]]);
        memory.put(TOP - 0xf8, &[STREAMS[1]; 2]);
        assert_eq!(all(&memory), Some(vec![6]), "a frame without tables");
        // What earlier goroutines left lies below the stack pointer, too.
        memory.put(TOP - 0x200, &stale.repeat(8));
        assert_eq!(all(&memory), Some(vec![6]));
    }

    #[test]
    fn stack_without_end_leads_nowhere() {
        let copy = [TYPE, STREAMS[0], TYPE, READERS[0]];
        for calls in [Calls::Switch, Calls::Fault] {
            assert_eq!(reached(&parked_in(calls, &copy)), Some(Reached::default()), "{calls:?}");
        }
        let outwards = TOP - 0x80 - MIN_FRAME - if PUSHED > 0 { 8 } else { 8 + 8 * u64::from(LOCALS) };
        for (at, word, why) in [
            (outwards, 0x1234, "returns to no function"),
            (outwards, Calls::Copy.pc(), "has no end"),
            (G + 64, 0, "parked nowhere"),
            (G + 64, Calls::Exit.pc() + 0x1000, "parked behind the program"),
            (G + 56, TOP - 0xf8, "not at the start of a frame"),
            (PROGRAM, 0, "no tables"),
            (PROGRAM + 304, 0, "no pointer maps"),
            (PROGRAM + 136, 0, "no functions"),
            (PROGRAM + 88, 2, "tables that end"),
        ] {
            let mut memory = memory_with(&copy);
            memory.put(at, &[word]);
            assert_eq!(reached(&memory).unwrap_or_default().copied, BTreeSet::new(), "{why}");
        }
    }

    #[test]
    fn splice_and_write_to_are_copies() {
        let copies = |calls, side, on_stack: &[u64]| {
            let mut memory = memory_waiting(SOCKETS[0].1, side, &[]);
            memory.park_in(calls, G, STACK, on_stack);
            let copies = |walk: &Walk<'_>, fifo, [one, other]: [Polled; 2]| {
                walk.copies(one, side, walk.waiter(one, side)?, &[fifo, one, other])
            };
            ask(&memory, copies).unwrap().into_iter().collect::<Vec<_>>()
        };
        let [one, other, closed] = CONNECTIONS.map(|connection| connection + 0x200);
        assert_eq!(copies(Calls::Splice, Side::Reads, &[other, one]), [(6, 7)]);
        assert_eq!(copies(Calls::Splice, Side::Writes, &[one, other]), [(7, 6)]);
        assert_eq!(copies(Calls::Splice, Side::Reads, &[one, other]), [(6, 7)], "who waits to read, reads its own");
        assert_eq!(copies(Calls::Splice, Side::Reads, &[closed, one]), [], "closed");
        assert_eq!(copies(Calls::Splice, Side::Reads, &[8, 8, other, one]), [], "past");
        assert_eq!(copies(Calls::WriteTo, Side::Reads, &[READERS[2], TYPE, CONNECTIONS[1]]), [(6, 7)]);
        assert_eq!(copies(Calls::WriteTo, Side::Reads, &[READERS[2], 9, CONNECTIONS[1]]), [], "no interface");
        assert_eq!(copies(Calls::Leave, Side::Reads, &[TYPE, CONNECTIONS[1], TYPE, CONNECTIONS[0]]), [], "past");
    }

    fn with(at: u64, word: u64) -> Option<Vec<u32>> {
        changed(&[STREAMS[0]], at, word)
    }

    fn changed(on_stack: &[u64], at: u64, word: u64) -> Option<Vec<u32>> {
        let mut memory = memory_with(on_stack);
        memory.0.insert(at, word);
        all(&memory)
    }

    #[test]
    fn words_that_do_not_fit_are_no_channel() {
        let channel = CHANNELS[0];
        let [connection, list, socket] = behind(channel);
        for (at, word, why) in [
            (channel, 0, "no connection"),
            (channel + 8, 2, "another's number"),
            (channel + 8, 5, "more than there are"),
            (channel + 8, 0x101, "no number"),
            (list + 8, CHANNELS[1], "another's place"),
            (connection + 24, u64::MAX - 7, "no list"),
            (connection + 32, 1, "a shorter list"),
            (connection + 40, 4, "no slice"),
            (connection + 64, 0, "no WebSocket yet"),
            (socket + 24, 1, "no interface"),
            (socket + 32, 0, "no connection"),
            (0x4310, 7, "the number of another"),
        ] {
            assert_eq!(changed(&[channel], at, word), Some(vec![]), "{why}");
        }
    }

    #[test]
    fn words_that_do_not_fit_give_no_answer() {
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
            (0x4100, 0x60_0000, "no interface"),
            (0x4300, 1, "being closed"),
            (0x4310, 7, "the number of another"),
            (0x4318, SOCKETS[1].1, "the pollDesc of another"),
        ] {
            assert_eq!(with(at, word), Some(vec![]), "{why}");
        }
    }

    /// Copies of the goroutine that waits for the first socket.
    fn copies(side: Side, on_stack: &[u64]) -> Vec<(u32, u32)> {
        let memory = memory_waiting(SOCKETS[0].1, side, on_stack);
        let copies = |walk: &Walk<'_>, fifo, [one, other]: [Polled; 2]| {
            walk.copies(one, side, walk.waiter(one, side)?, &[fifo, one, other])
        };
        ask(&memory, copies).unwrap().into_iter().collect()
    }

    #[test]
    fn waiter_of_a_connection_copies_to_another() {
        let [one, other, closed] = CONNECTIONS;
        let [file, fifo, buffered] = READERS;
        assert_eq!(copies(Side::Reads, &[TYPE, other, TYPE, one]), [(6, 7)]);
        assert_eq!(copies(Side::Writes, &[TYPE, one, TYPE, other]), [(7, 6)], "who does not read holds it up");
        assert_eq!(copies(Side::Reads, &[9, TYPE, other + 0x100, TYPE, one + 0x100]), [(6, 7)], "plain TCP");
        assert_eq!(copies(Side::Reads, &[TYPE, STREAMS[1], TYPE, buffered]), [(6, 7)], "hijacked, to a stream");
        assert_eq!(copies(Side::Reads, &[TYPE, STREAMS[1], TYPE, TYPE, TYPE, buffered]), [(6, 7)], "stdcopy");
        assert_eq!(copies(Side::Reads, &[TYPE, CHANNELS[1], TYPE, buffered]), [(6, 7)], "to a WebSocket");
        assert_eq!(copies(Side::Writes, &[TYPE, CHANNELS[0], TYPE, fifo]), [(5, 6)], "whose client does not read");
        assert_eq!(copies(Side::Writes, &[TYPE, STREAMS[0], TYPE, fifo]), [(5, 6)], "an exec's output");
        assert_eq!(copies(Side::Writes, &[TYPE, STREAMS[0], TYPE, file]), [(5, 6)]);
        assert_eq!(copies(Side::Writes, &[TYPE, STREAMS[0], TYPE, file - 48]), [], "a neighbour's file");
        assert_eq!(
            copies(Side::Reads, &[TYPE, other, TYPE, one, TYPE, other]),
            [(6, 7)],
            "the other order is another copy's"
        );
        for (words, why) in [
            (&[TYPE, one, TYPE, other][..], "it reads the other one: not this goroutine, now"),
            (&[TYPE, closed, TYPE, one], "a closed one"),
            (&[TYPE, one, TYPE, one], "itself"),
            (&[1, other, TYPE, one], "no interface"),
            (&[TYPE, other, 0, one], "no interface"),
            (&[TYPE, other, TYPE, 8, one], "a word apart"),
            (&[TYPE, other, TYPE, 0x7300], "its neighbour in the heap holds one"),
        ] {
            assert_eq!(copies(Side::Reads, words), [], "{why}");
        }
        assert_eq!(copies(Side::Writes, &[TYPE, other, TYPE, one]), [], "it would wait to read");
    }

    /// Memory in which the goroutine wakes up after this many reads.
    struct Waking(Fake, u64, Cell<u32>);

    impl Memory for Waking {
        fn read(&self, at: u64, into: &mut [u8]) -> bool {
            self.2.set(self.2.get().saturating_sub(1));
            self.0.read(at, into) && {
                if at == self.1 && self.2.get() == 0 {
                    into.fill(0);
                }
                true
            }
        }
    }

    #[test]
    fn goroutine_that_moves_gives_no_answer() {
        let waking = |reads| Waking(memory_with(&[STREAMS[0]]), FIFO.1 + 24, Cell::new(reads));
        assert_eq!(reached(&waking(u32::MAX)).unwrap().all, BTreeSet::from([6]));
        let needed = (1..).find(|reads| reached(&waking(*reads)).is_some()).unwrap();
        assert!(needed > 10, "woken up before, in or after the walk: {needed}");
        assert!((needed..needed + 100).all(|reads| reached(&waking(reads)).is_some()));
    }
}
