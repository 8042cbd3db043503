//! The socket table: one entry a socket, whatever names it is called by, and its other end.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    peers::{Changed, Ends},
    table::Table,
};
use crate::correlate::limits::{Caps, MAX_CANDIDATES, REMEMBER};
use crate::model::{BootTime, Family, HostNo, Isn, Pairing, RawText, SocketId, SocketInfo, SocketRole, TaskKey, Tuple};

/// Number of an entry: never reused, unlike every name that the kernel gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::correlate) struct SocketNo(u64);

#[derive(Clone, Debug)]
pub(in crate::correlate) struct Socket {
    pub(in crate::correlate) id: SocketId,
    pub(in crate::correlate) tuple: Option<Tuple>,
    pub(in crate::correlate) netns: Option<u32>,
    pub(in crate::correlate) role: Option<SocketRole>,
    pub(in crate::correlate) owner: Option<TaskKey>,
    /// Initial sequence numbers, of a TCP connection that a BPF program read.
    pub(in crate::correlate) isn: Option<Isn>,
    /// The other end, once both are known. See [`Sockets::pair`] for when that changes.
    pub(in crate::correlate) peer: Option<SocketNo>,
    /// No process of this host has the other end.
    pub(in crate::correlate) peer_absent: bool,
    /// A unix connection to an API on which each session has a connection of its own, and its path.
    pub(in crate::correlate) unix: Option<RawText>,
    /// It is older than the tracer.
    pub(in crate::correlate) older: bool,
    /// When it was first seen.
    pub(in crate::correlate) since: BootTime,
    /// When it was connected or accepted, where that was told.
    pub(in crate::correlate) begun: Option<BootTime>,
    /// When somebody last looked, and it was there.
    pub(in crate::correlate) found: Option<BootTime>,
    pub(in crate::correlate) closed: Option<BootTime>,
    pub(in crate::correlate) received: Option<u64>,
    pub(in crate::correlate) acked: Option<u64>,
}

/// What of a socket is told by who sees it.
type Told = (SocketId, Option<Tuple>, Option<u32>, Option<SocketRole>, Option<TaskKey>, Option<BootTime>);

impl Socket {
    const fn told(&self) -> Told {
        (self.id, self.tuple, self.netns, self.role, self.owner, self.begun)
    }
}

/// What came of seeing a socket.
pub(in crate::correlate) struct Learnt {
    /// Its entry.
    pub(in crate::correlate) no: SocketNo,
    /// Sockets whose other end changed by that.
    pub(in crate::correlate) changed: Changed,
    /// Whether more is known of it than before.
    pub(in crate::correlate) is_news: bool,
}

/// Both ends of a unix connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::correlate) struct UnixEnds {
    /// Of who connected.
    pub(in crate::correlate) near: SocketNo,
    /// Of who accepted.
    pub(in crate::correlate) far: SocketNo,
}

#[derive(Default)]
pub(in crate::correlate) struct Sockets {
    /// Boxed: they are large, and a table moves what it holds.
    all: Table<SocketNo, Box<Socket>>,
    by_cookie: Table<(HostNo, u64), SocketNo>,
    by_inode: Table<(HostNo, u64), SocketNo>,
    /// How ends are paired.
    pub(in crate::correlate) rule: Pairing,
    pub(in crate::correlate) ends: Ends,
    closed: BTreeSet<(BootTime, SocketNo)>,
    /// Addresses of this host: what processes here have as their own end.
    addresses: BTreeSet<IpAddr>,
    made: u64,
    pub(in crate::correlate) caps: Caps,
    refused: u64,
    refused_addresses: u64,
}

impl Sockets {
    pub(in crate::correlate) fn new(rule: Pairing) -> Self {
        Self { rule, ..Self::default() }
    }

    pub(in crate::correlate) fn get(&self, no: SocketNo) -> Option<&Socket> {
        self.all.get(&no).map(|socket| &**socket)
    }

    /// Every entry, in no order that means anything.
    pub(in crate::correlate) fn iter(&self) -> impl Iterator<Item = (SocketNo, &Socket)> {
        self.all.iter().map(|(no, socket)| (*no, &**socket))
    }

    /// The entry of that name. The cookie decides; an inode alone names the newest bearer.
    pub(in crate::correlate) fn find(&self, id: SocketId) -> Option<SocketNo> {
        match id.cookie {
            Some(cookie) => self.by_cookie.get(&(id.host, cookie)).copied().or_else(|| {
                // Known by inode only so far: the same socket, if no other cookie was ever seen on it.
                let no = self.by_inode.get(&(id.host, id.inode?)).copied()?;
                self.all.get(&no).is_some_and(|socket| socket.id.cookie.is_none()).then_some(no)
            }),
            None => self.by_inode.get(&(id.host, id.inode?)).copied(),
        }
    }

    /// Takes in what was seen of a socket, `begins`: that it was connected or accepted just then.
    pub(in crate::correlate) fn learn(
        &mut self,
        at: BootTime,
        owner: Option<TaskKey>,
        info: &SocketInfo,
        begins: bool,
    ) -> Option<Learnt> {
        if info.id.is_none() {
            return None;
        }
        let known = self.find(info.id);
        let no = match known {
            Some(no) => no,
            None => self.make(at, info)?,
        };
        let socket = self.all.get_mut(&no)?;
        let before = socket.told();
        if begins {
            socket.begun = socket.begun.or(Some(at));
        }
        socket.id.cookie = socket.id.cookie.or(info.id.cookie);
        socket.id.inode = socket.id.inode.or(info.id.inode);
        socket.tuple = socket.tuple.or(info.tuple);
        socket.netns = socket.netns.or(info.netns);
        socket.role = socket.role.or(info.role);
        // The process that named it first keeps it: later ones have it by inheritance.
        socket.owner = socket.owner.or(owner);
        let is_news = known.is_none() || socket.told() != before;
        let (id, here) = (socket.id, socket.tuple.filter(|_| socket.owner.is_some()));
        if let Some(tuple) = here {
            self.note_address(tuple.local.ip());
        }
        if let Some(cookie) = id.cookie {
            self.by_cookie.insert((id.host, cookie), no);
        }
        if let Some(inode) = id.inode {
            self.by_inode.insert((id.host, inode), no);
        }
        if let Some(isn) = info.isn {
            self.learn_isn(no, isn);
        }
        let changed = self.pair(no);
        Some(Learnt { no, is_news: is_news || !changed.is_empty(), changed })
    }

    /// A connection has one pair of sequence numbers. Where two readings differ, one of them was torn: the reading that the
    /// other end confirms counts, else the newer one.
    fn learn_isn(&mut self, no: SocketNo, isn: Isn) {
        let Some(socket) = self.all.get(&no).filter(|socket| socket.isn != Some(isn)) else { return };
        let before = socket.isn;
        let peer = socket.peer.and_then(|peer| self.all.get(&peer)).and_then(|peer| peer.isn);
        if before.zip(peer).is_some_and(|(before, peer)| before.is_other_end_of(peer)) {
            return;
        }
        self.ends.rename(no, before);
        self.ends.name(no, isn);
        if let Some(socket) = self.all.get_mut(&no) {
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

    /// Whether no further socket fits. [`Sockets::make_room`] may change that.
    pub(in crate::correlate) fn is_full(&self) -> bool {
        self.all.len() >= self.caps.sockets
    }

    /// Discards entries that no session needs: first those whose owner has exited, then those that closed. Returns the entries.
    /// Each is a loss: a later record about one of them finds no entry.
    pub(in crate::correlate) fn make_room(
        &mut self,
        needed: impl Fn(SocketNo) -> bool,
        has_exited: impl Fn(TaskKey) -> bool,
    ) -> Vec<SocketNo> {
        let is_left = |socket: &Socket| socket.owner.is_some_and(&has_exited);
        let mut gone: Vec<SocketNo> =
            self.iter().filter(|(no, socket)| is_left(socket) && !needed(*no)).map(|(no, _)| no).collect();
        if gone.is_empty() {
            gone.extend(self.closed.iter().map(|(_, no)| *no).filter(|no| !needed(*no)));
        }
        // The table's own order depends on what was removed before.
        gone.sort_unstable();
        for no in &gone {
            self.remove(*no);
        }
        gone
    }

    /// Sockets and addresses that were refused since the last call.
    pub(in crate::correlate) fn take_refused(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.refused), std::mem::take(&mut self.refused_addresses))
    }

    fn make(&mut self, at: BootTime, info: &SocketInfo) -> Option<SocketNo> {
        if self.is_full() {
            self.refused += 1;
            return None;
        }
        self.made += 1;
        let no = SocketNo(self.made);
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
        self.all.insert(no, Box::new(socket));
        Some(no)
    }

    /// A snapshot found the socket with these addresses. Returns the sockets whose other end changed by that.
    pub(in crate::correlate) fn found(&mut self, at: BootTime, no: SocketNo) -> Changed {
        if let Some(socket) = self.all.get_mut(&no) {
            socket.found = socket.found.max(Some(at));
        }
        self.pair(no)
    }

    /// Takes in a unix connection: both ends are known at once, and no record tells when they close.
    pub(in crate::correlate) fn learn_unix(
        &mut self,
        at: BootTime,
        near: SocketId,
        far: SocketId,
        path: &RawText,
    ) -> Option<UnixEnds> {
        let known = far.inode.and_then(|inode| self.by_inode.get(&(far.host, inode))).copied();
        let peer =
            known.and_then(|no| self.all.get(&no)).filter(|socket| socket.unix.is_some()).and_then(|far| far.peer);
        if let (Some(far), Some(peer)) = (known, peer)
            && self.all.get(&peer).is_some_and(|socket| socket.id.inode == near.inode)
        {
            // Seen by the probe and by the snapshot.
            return Some(UnixEnds { near: peer, far });
        }
        let mut end = |id: SocketId, role: SocketRole| {
            // An inode is used again; a new connection has a new entry.
            if let Some(inode) = id.inode {
                self.by_inode.swap_remove(&(id.host, inode));
            }
            let info = SocketInfo { id, family: Family::Unix, tuple: None, netns: None, role: Some(role), isn: None };
            let no = self.learn(at, None, &info, false)?.no;
            self.all.get_mut(&no)?.unix = Some(path.clone());
            Some(no)
        };
        let (near, far) = (end(near, SocketRole::Connected)?, end(far, SocketRole::Accepted)?);
        self.marry(near, far);
        self.marry(far, near);
        Some(UnixEnds { near, far })
    }

    pub(in crate::correlate) fn set_older(&mut self, no: SocketNo) {
        if let Some(socket) = self.all.get_mut(&no) {
            socket.older = true;
        }
    }

    pub(in crate::correlate) fn set_owner(&mut self, no: SocketNo, owner: TaskKey) {
        if let Some(socket) = self.all.get_mut(&no) {
            socket.owner = socket.owner.or(Some(owner));
        }
    }

    /// Whether a connection from there leads to this host: then its other end is here, or it is gone.
    pub(in crate::correlate) fn stays_here(&self, tuple: Tuple) -> bool {
        tuple.is_loopback() || self.addresses.contains(&tuple.remote.ip())
    }

    /// Takes an entry off that nobody closes.
    pub(in crate::correlate) fn drop_entry(&mut self, no: SocketNo) {
        self.remove(no);
    }

    pub(in crate::correlate) fn marry(&mut self, no: SocketNo, peer: SocketNo) {
        let role = self.all.get(&peer).and_then(|peer| match peer.role? {
            SocketRole::Accepted => Some(SocketRole::Connected),
            SocketRole::Connected => Some(SocketRole::Accepted),
            SocketRole::Listening => None,
        });
        if let Some(socket) = self.all.get_mut(&no) {
            socket.peer = Some(peer);
            socket.role = socket.role.or(role);
            let tuple = socket.tuple;
            if self.rule == Pairing::Addresses {
                self.ends.leave(no, tuple);
            }
        }
    }

    /// Takes the other end off a socket; returns its addresses.
    pub(in crate::correlate) fn forget_peer(&mut self, no: SocketNo) -> Option<Tuple> {
        let socket = self.all.get_mut(&no)?;
        socket.peer = None;
        socket.tuple
    }

    pub(in crate::correlate) fn set_role(&mut self, no: SocketNo, role: SocketRole) {
        if let Some(socket) = self.all.get_mut(&no) {
            socket.role = Some(role);
        }
    }

    /// Nobody on this host has the other end.
    pub(in crate::correlate) fn peer_absent(
        &mut self,
        tuple: Tuple,
        netns: Option<u32>,
        host: HostNo,
    ) -> Vec<SocketNo> {
        let is_of = |socket: &Socket| socket.id.host == host && (netns.is_none() || socket.netns == netns);
        let here = |no: &SocketNo| self.all.get(no).is_some_and(|socket| is_of(socket));
        let found: Vec<SocketNo> = self.ends.waiting_for(tuple.mirrored()).take(MAX_CANDIDATES).filter(here).collect();
        for no in &found {
            if let Some(socket) = self.all.get_mut(no) {
                socket.peer_absent = true;
            }
        }
        found
    }

    pub(in crate::correlate) fn closed(
        &mut self,
        at: BootTime,
        id: SocketId,
        received: Option<u64>,
        acked: Option<u64>,
    ) -> Option<SocketNo> {
        let no = self.find(id)?;
        let socket = self.all.get_mut(&no)?;
        if socket.closed.is_none() {
            socket.closed = Some(at);
            socket.received = received;
            socket.acked = acked;
            self.closed.insert((at, no));
            // The inode goes to the next socket.
            if let Some(inode) = socket.id.inode
                && self.by_inode.get(&(socket.id.host, inode)) == Some(&no)
            {
                self.by_inode.swap_remove(&(socket.id.host, inode));
            }
        }
        Some(no)
    }

    /// Forgets what closed long ago and nobody needs; tells what.
    pub(in crate::correlate) fn sweep(&mut self, now: BootTime, needed: impl Fn(SocketNo) -> bool) -> Vec<SocketNo> {
        let mut gone = Vec::new();
        while let Some(&(at, no)) = self.closed.first() {
            if now.since(at) < REMEMBER {
                break;
            }
            self.closed.pop_first();
            if needed(no) {
                self.closed.insert((now, no));
            } else {
                self.remove(no);
                gone.push(no);
            }
        }
        gone
    }

    fn remove(&mut self, no: SocketNo) {
        let Some(socket) = self.all.swap_remove(&no) else { return };
        self.ends.leave(no, socket.tuple);
        self.ends.rename(no, socket.isn);
        if let Some(closed) = socket.closed {
            self.closed.remove(&(closed, no));
        }
        if let Some(cookie) = socket.id.cookie
            && self.by_cookie.get(&(socket.id.host, cookie)) == Some(&no)
        {
            self.by_cookie.swap_remove(&(socket.id.host, cookie));
        }
        if let Some(inode) = socket.id.inode
            && self.by_inode.get(&(socket.id.host, inode)) == Some(&no)
        {
            self.by_inode.swap_remove(&(socket.id.host, inode));
        }
    }
}
