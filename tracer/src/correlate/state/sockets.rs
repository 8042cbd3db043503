//! The socket table: one entry per socket under all its names, and the peer of each socket.

use std::{collections::BTreeSet, net::IpAddr};

pub(in crate::correlate) use super::ends::SocketIdx;
use super::{
    ends::{Changed, Ends},
    table::Table,
};
use crate::correlate::limits::{Caps, MAX_CANDIDATES, REMEMBER};
use crate::model::{BootTime, Family, HostNo, Isn, Pairing, RawText, SocketId, SocketInfo, SocketRole, TaskKey, Tuple};

#[derive(Clone, Debug)]
pub(in crate::correlate) struct Socket {
    pub(in crate::correlate) id: SocketId,
    pub(in crate::correlate) tuple: Option<Tuple>,
    pub(in crate::correlate) netns: Option<u32>,
    pub(in crate::correlate) role: Option<SocketRole>,
    /// First process that was seen with the socket. Later ones inherited it.
    pub(in crate::correlate) owner: Option<TaskKey>,
    /// Initial sequence numbers of a TCP connection, read by a BPF program.
    pub(in crate::correlate) isn: Option<Isn>,
    /// The other end, once both ends are known. [`Sockets::pair`] documents when the peer changes.
    pub(in crate::correlate) peer: Option<SocketIdx>,
    /// Set when a search found no process of this host with the other end.
    pub(in crate::correlate) peer_absent: bool,
    /// Path of a unix connection to an API that uses one connection per session; `None` for other sockets.
    pub(in crate::correlate) unix: Option<RawText>,
    /// Set when the socket is older than the tracer.
    pub(in crate::correlate) older: bool,
    /// Time of the first record about the socket.
    pub(in crate::correlate) since: BootTime,
    /// Time of connect or accept, if a record reported it.
    pub(in crate::correlate) begun: Option<BootTime>,
    /// Time of the last snapshot that contained the socket.
    pub(in crate::correlate) found: Option<BootTime>,
    /// Time of the close.
    pub(in crate::correlate) closed: Option<BootTime>,
    /// Bytes received, known after the close.
    pub(in crate::correlate) received: Option<u64>,
    /// Bytes that the other end acknowledged, known after the close.
    pub(in crate::correlate) acked: Option<u64>,
}

/// Fields of a socket that a sighting can fill.
type SightedFields = (SocketId, Option<Tuple>, Option<u32>, Option<SocketRole>, Option<TaskKey>, Option<BootTime>);

impl Socket {
    const fn sighted_fields(&self) -> SightedFields {
        (self.id, self.tuple, self.netns, self.role, self.owner, self.begun)
    }
}

/// Result of a sighting of a socket.
pub(in crate::correlate) struct Learned {
    /// Entry of the socket.
    pub(in crate::correlate) idx: SocketIdx,
    /// Sockets whose peer changed.
    pub(in crate::correlate) changed: Changed,
    /// Set when the sighting added anything new.
    pub(in crate::correlate) is_news: bool,
}

/// Both ends of a unix connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::correlate) struct UnixEnds {
    /// Connecting end.
    pub(in crate::correlate) near: SocketIdx,
    /// Accepting end.
    pub(in crate::correlate) far: SocketIdx,
}

#[derive(Default)]
pub(in crate::correlate) struct Sockets {
    /// Boxed: entries are large, and the table moves them.
    all: Table<SocketIdx, Box<Socket>>,
    by_cookie: Table<(HostNo, u64), SocketIdx>,
    by_inode: Table<(HostNo, u64), SocketIdx>,
    /// Rule for pairing the two ends of a TCP connection.
    pub(in crate::correlate) rule: Pairing,
    pub(in crate::correlate) ends: Ends,
    /// Closed sockets by time of the close, for [`Sockets::sweep`].
    closed: BTreeSet<(BootTime, SocketIdx)>,
    /// Addresses of this host: local addresses of sockets that belong to its processes.
    addresses: BTreeSet<IpAddr>,
    /// Number of entries made so far, and index of the newest one.
    made: u64,
    pub(in crate::correlate) caps: Caps,
    /// Sockets refused since [`Sockets::take_refused`] was called.
    refused: u64,
    /// Addresses refused since [`Sockets::take_refused`] was called.
    refused_addresses: u64,
}

impl Sockets {
    pub(in crate::correlate) fn new(rule: Pairing) -> Self {
        Self { rule, ..Self::default() }
    }

    pub(in crate::correlate) fn get(&self, idx: SocketIdx) -> Option<&Socket> {
        self.all.get(&idx).map(|socket| &**socket)
    }

    /// All entries, in no meaningful order.
    pub(in crate::correlate) fn iter(&self) -> impl Iterator<Item = (SocketIdx, &Socket)> {
        self.all.iter().map(|(idx, socket)| (*idx, &**socket))
    }

    /// Entry with this name. The cookie decides. An inode alone names the newest socket that has it.
    pub(in crate::correlate) fn find(&self, id: SocketId) -> Option<SocketIdx> {
        match id.cookie {
            Some(cookie) => self.by_cookie.get(&(id.host, cookie)).copied().or_else(|| {
                // So far known by inode only. It is the same socket unless another cookie was seen with the
                // inode.
                let idx = self.by_inode.get(&(id.host, id.inode?)).copied()?;
                self.all.get(&idx).is_some_and(|socket| socket.id.cookie.is_none()).then_some(idx)
            }),
            None => self.by_inode.get(&(id.host, id.inode?)).copied(),
        }
    }

    /// Adds a sighting of a socket. `begins` is true for a record of the connect or accept itself. Returns
    /// `None` if the socket has no name, or the table is full.
    pub(in crate::correlate) fn learn(
        &mut self,
        at: BootTime,
        owner: Option<TaskKey>,
        info: &SocketInfo,
        begins: bool,
    ) -> Option<Learned> {
        if info.id.is_none() {
            return None;
        }
        let known = self.find(info.id);
        let idx = match known {
            Some(idx) => idx,
            None => self.make(at, info)?,
        };
        let socket = self.all.get_mut(&idx)?;
        let before = socket.sighted_fields();
        if begins {
            socket.begun = socket.begun.or(Some(at));
        }
        socket.id.cookie = socket.id.cookie.or(info.id.cookie);
        socket.id.inode = socket.id.inode.or(info.id.inode);
        socket.tuple = socket.tuple.or(info.tuple);
        socket.netns = socket.netns.or(info.netns);
        socket.role = socket.role.or(info.role);
        // The first process keeps the socket. Later ones inherited the descriptor.
        socket.owner = socket.owner.or(owner);
        let is_news = known.is_none() || socket.sighted_fields() != before;
        let (id, here) = (socket.id, socket.tuple.filter(|_| socket.owner.is_some()));
        if let Some(tuple) = here {
            self.note_address(tuple.local.ip());
        }
        if let Some(cookie) = id.cookie {
            self.by_cookie.insert((id.host, cookie), idx);
        }
        if let Some(inode) = id.inode {
            self.by_inode.insert((id.host, inode), idx);
        }
        if let Some(isn) = info.isn {
            self.learn_isn(idx, isn);
        }
        let changed = self.pair(idx);
        Some(Learned { idx, is_news: is_news || !changed.is_empty(), changed })
    }

    /// Sets the sequence numbers. A connection has one pair of them, so of two different readings one was torn.
    /// The reading that the peer confirms counts; without a confirmation the newer one does.
    fn learn_isn(&mut self, idx: SocketIdx, isn: Isn) {
        let Some(socket) = self.all.get(&idx).filter(|socket| socket.isn != Some(isn)) else { return };
        let before = socket.isn;
        let peer = socket.peer.and_then(|peer| self.all.get(&peer)).and_then(|peer| peer.isn);
        if before.zip(peer).is_some_and(|(before, peer)| before.is_other_end_of(peer)) {
            return;
        }
        self.ends.rename(idx, before);
        self.ends.name(idx, isn);
        if let Some(socket) = self.all.get_mut(&idx) {
            socket.isn = Some(isn);
        }
    }

    fn note_address(&mut self, address: IpAddr) {
        if self.addresses.len() < self.caps.addresses {
            self.addresses.insert(address);
        } else if !self.addresses.contains(&address) {
            self.refused_addresses += 1;
        }
    }

    /// True if the table has no room for another socket. [`Sockets::make_room`] may change this.
    pub(in crate::correlate) fn is_full(&self) -> bool {
        self.all.len() >= self.caps.sockets
    }

    /// Discards entries that no session needs: first those with an exited owner, and if there are none, closed
    /// ones. Returns the discarded entries. Each of them is a loss: a later record about the socket finds no
    /// entry.
    pub(in crate::correlate) fn make_room(
        &mut self,
        needed: impl Fn(SocketIdx) -> bool,
        has_exited: impl Fn(TaskKey) -> bool,
    ) -> Vec<SocketIdx> {
        let is_left = |socket: &Socket| socket.owner.is_some_and(&has_exited);
        let mut gone: Vec<SocketIdx> =
            self.iter().filter(|(idx, socket)| is_left(socket) && !needed(*idx)).map(|(idx, _)| idx).collect();
        if gone.is_empty() {
            gone.extend(self.closed.iter().map(|(_, idx)| *idx).filter(|idx| !needed(*idx)));
        }
        // Sort: the order of the table depends on earlier removals.
        gone.sort_unstable();
        for idx in &gone {
            self.remove(*idx);
        }
        gone
    }

    /// Numbers of sockets and of addresses refused since the last call.
    pub(in crate::correlate) fn take_refused(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.refused), std::mem::take(&mut self.refused_addresses))
    }

    fn make(&mut self, at: BootTime, info: &SocketInfo) -> Option<SocketIdx> {
        if self.is_full() {
            self.refused += 1;
            return None;
        }
        self.made += 1;
        let idx = SocketIdx(self.made);
        let socket = Socket {
            id: info.id,
            tuple: None,
            netns: None,
            role: None,
            owner: None,
            isn: None,
            peer: None,
            peer_absent: false,
            unix: None,
            older: false,
            since: at,
            begun: None,
            found: None,
            closed: None,
            received: None,
            acked: None,
        };
        self.all.insert(idx, Box::new(socket));
        Some(idx)
    }

    /// Notes that a snapshot contains the socket. Returns the sockets whose peer changed.
    pub(in crate::correlate) fn found(&mut self, at: BootTime, idx: SocketIdx) -> Changed {
        if let Some(socket) = self.all.get_mut(&idx) {
            socket.found = socket.found.max(Some(at));
        }
        self.pair(idx)
    }

    /// Adds a unix connection. Both ends are known at once; no record reports the close. Returns `None` if the
    /// table is full.
    pub(in crate::correlate) fn learn_unix(
        &mut self,
        at: BootTime,
        near: SocketId,
        far: SocketId,
        path: &RawText,
    ) -> Option<UnixEnds> {
        let known = far.inode.and_then(|inode| self.by_inode.get(&(far.host, inode))).copied();
        let peer =
            known.and_then(|idx| self.all.get(&idx)).filter(|socket| socket.unix.is_some()).and_then(|far| far.peer);
        if let (Some(far), Some(peer)) = (known, peer)
            && self.all.get(&peer).is_some_and(|socket| socket.id.inode == near.inode)
        {
            // Probe and snapshot both reported this connection.
            return Some(UnixEnds { near: peer, far });
        }
        let mut end = |id: SocketId, role: SocketRole| {
            // Inodes are reused, so a new connection gets a new entry.
            if let Some(inode) = id.inode {
                self.by_inode.swap_remove(&(id.host, inode));
            }
            let info = SocketInfo { id, family: Family::Unix, tuple: None, netns: None, role: Some(role), isn: None };
            let idx = self.learn(at, None, &info, false)?.idx;
            self.all.get_mut(&idx)?.unix = Some(path.clone());
            Some(idx)
        };
        let (near, far) = (end(near, SocketRole::Connected)?, end(far, SocketRole::Accepted)?);
        self.set_peers(near, far);
        Some(UnixEnds { near, far })
    }

    pub(in crate::correlate) fn set_older(&mut self, idx: SocketIdx) {
        if let Some(socket) = self.all.get_mut(&idx) {
            socket.older = true;
        }
    }

    pub(in crate::correlate) fn set_owner(&mut self, idx: SocketIdx, owner: TaskKey) {
        if let Some(socket) = self.all.get_mut(&idx) {
            socket.owner = socket.owner.or(Some(owner));
        }
    }

    /// True if the remote address belongs to this host. The other end is then on this host, or gone.
    pub(in crate::correlate) fn stays_here(&self, tuple: Tuple) -> bool {
        tuple.is_loopback() || self.addresses.contains(&tuple.remote.ip())
    }

    /// Drops an entry of a socket whose close is never reported.
    pub(in crate::correlate) fn drop_entry(&mut self, idx: SocketIdx) {
        self.remove(idx);
    }

    /// Makes two sockets each other's peer.
    pub(in crate::correlate) fn set_peers(&mut self, one: SocketIdx, other: SocketIdx) {
        self.set_peer(one, other);
        self.set_peer(other, one);
    }

    /// Sets the peer of one end. A peer with a known role gives the other role to this end.
    fn set_peer(&mut self, idx: SocketIdx, peer: SocketIdx) {
        let role = self.all.get(&peer).and_then(|peer| match peer.role? {
            SocketRole::Accepted => Some(SocketRole::Connected),
            SocketRole::Connected => Some(SocketRole::Accepted),
            SocketRole::Listening => None,
        });
        if let Some(socket) = self.all.get_mut(&idx) {
            socket.peer = Some(peer);
            socket.role = socket.role.or(role);
            let tuple = socket.tuple;
            if self.rule == Pairing::Addresses {
                self.ends.leave(idx, tuple);
            }
        }
    }

    /// Clears the peer of a socket. Returns the socket's addresses.
    pub(in crate::correlate) fn forget_peer(&mut self, idx: SocketIdx) -> Option<Tuple> {
        let socket = self.all.get_mut(&idx)?;
        socket.peer = None;
        socket.tuple
    }

    pub(in crate::correlate) fn set_role(&mut self, idx: SocketIdx, role: SocketRole) {
        if let Some(socket) = self.all.get_mut(&idx) {
            socket.role = Some(role);
        }
    }

    /// Marks the sockets with these addresses as having no peer on this host, and returns them.
    pub(in crate::correlate) fn peer_absent(
        &mut self,
        tuple: Tuple,
        netns: Option<u32>,
        host: HostNo,
    ) -> Vec<SocketIdx> {
        let is_of = |socket: &Socket| socket.id.host == host && (netns.is_none() || socket.netns == netns);
        let here = |idx: &SocketIdx| self.all.get(idx).is_some_and(|socket| is_of(socket));
        let found: Vec<SocketIdx> = self.ends.waiting_for(tuple.mirrored()).take(MAX_CANDIDATES).filter(here).collect();
        for idx in &found {
            if let Some(socket) = self.all.get_mut(idx) {
                socket.peer_absent = true;
            }
        }
        found
    }

    /// Notes the close of a socket, with its byte counts. The first report counts.
    pub(in crate::correlate) fn closed(
        &mut self,
        at: BootTime,
        id: SocketId,
        received: Option<u64>,
        acked: Option<u64>,
    ) -> Option<SocketIdx> {
        let idx = self.find(id)?;
        let socket = self.all.get_mut(&idx)?;
        if socket.closed.is_none() {
            socket.closed = Some(at);
            socket.received = received;
            socket.acked = acked;
            self.closed.insert((at, idx));
            // The next socket may get this inode.
            if let Some(inode) = socket.id.inode
                && self.by_inode.get(&(socket.id.host, inode)) == Some(&idx)
            {
                self.by_inode.swap_remove(&(socket.id.host, inode));
            }
        }
        Some(idx)
    }

    /// Forgets sockets that closed long ago, unless a session needs them. Returns the forgotten ones.
    pub(in crate::correlate) fn sweep(&mut self, now: BootTime, needed: impl Fn(SocketIdx) -> bool) -> Vec<SocketIdx> {
        let mut gone = Vec::new();
        while let Some(&(at, idx)) = self.closed.first() {
            if now.since(at) < REMEMBER {
                break;
            }
            self.closed.pop_first();
            if needed(idx) {
                self.closed.insert((now, idx));
            } else {
                self.remove(idx);
                gone.push(idx);
            }
        }
        gone
    }

    fn remove(&mut self, idx: SocketIdx) {
        let Some(socket) = self.all.swap_remove(&idx) else { return };
        self.ends.leave(idx, socket.tuple);
        self.ends.rename(idx, socket.isn);
        if let Some(closed) = socket.closed {
            self.closed.remove(&(closed, idx));
        }
        if let Some(cookie) = socket.id.cookie
            && self.by_cookie.get(&(socket.id.host, cookie)) == Some(&idx)
        {
            self.by_cookie.swap_remove(&(socket.id.host, cookie));
        }
        if let Some(inode) = socket.id.inode
            && self.by_inode.get(&(socket.id.host, inode)) == Some(&idx)
        {
            self.by_inode.swap_remove(&(socket.id.host, inode));
        }
    }
}
