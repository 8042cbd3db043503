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

use std::collections::BTreeSet;

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
/// SPDY's ids of streams have 31 bits (SPDY/3, 2.6.1).
const MAX_STREAM_ID: u64 = 0x7fff_ffff;

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

    /// Which of these connections, in order of their numbers, its stack leads to; `None` where it did not keep still or is too deep.
    pub(super) fn reached(&self, file: Polled, waiter: Waiter, connections: &[Polled]) -> Option<BTreeSet<u32>> {
        let depth = waiter.top - waiter.bottom;
        if depth > MAX_STACK {
            return None;
        }
        let mut stack = self.words.many(waiter.bottom, usize::try_from(depth / 8).ok()?)?;
        stack.sort_unstable();
        stack.dedup();
        let found = stack.into_iter().filter_map(|word| self.connection_of_writer(word, connections)).collect();
        (self.waiter(file) == Some(waiter)).then_some(found)
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
