//! Finds the peer of a TCP socket: the rules by which two sockets are ends of one connection, and the evidence
//! for it. [`Pairing`] names the rules.

use smallvec::{SmallVec, smallvec};

use super::{
    ends::{Changed, SocketIdx},
    sockets::{Socket, Sockets},
};
use crate::correlate::limits::{ENDS_WITHIN, MAX_CANDIDATES};
use crate::model::{Confidence, Evidence, Isn, Pairing, Proofs, SocketRole, Tuple};

/// Quality of a match by addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    /// Mirrored addresses across network namespaces, or with an unknown namespace.
    Addresses,
    /// Mirrored addresses inside one network namespace: unique while the connection lives.
    Namespace,
}

impl Match {
    /// Match of two sockets by addresses. `None` if both ends have sequence numbers: those decide regardless of
    /// the addresses.
    fn of(one: &Socket, other: &Socket) -> Option<Self> {
        if one.isn.is_some() && other.isn.is_some() || !fits_by_addresses(one, other) {
            return None;
        }
        Some(if in_one_namespace(one, other) { Self::Namespace } else { Self::Addresses })
    }
}

fn in_one_namespace(one: &Socket, other: &Socket) -> bool {
    one.id.host == other.id.host && one.netns.is_some() && one.netns == other.netns
}

/// True if `one` closed before `that` appeared. Addresses are reused; both ends of a connection live at the same
/// time.
fn ended_before(one: &Socket, that: &Socket) -> bool {
    one.closed.is_some_and(|at| at < that.since)
}

/// True if two sockets can be one connection by addresses, roles and times.
fn fits_by_addresses(socket: &Socket, other: &Socket) -> bool {
    let Some(tuple) = socket.tuple.filter(|tuple| other.tuple == Some(tuple.mirrored())) else { return false };
    // Two namespaces may have equal loopback addresses without any connection between them.
    let same_host = other.id.host == socket.id.host;
    let same_namespace = same_host && (other.netns.is_none() || other.netns == socket.netns);
    // A connection has one connecting and one accepting end.
    let roles_differ = other.role.is_none() || other.role != socket.role;
    let together = !ended_before(other, socket) && !ended_before(socket, other);
    // The two first sightings are close together, or a snapshot shows that the older socket still existed.
    let seen_together = socket.since.apart(other.since) <= ENDS_WITHIN
        || socket.found >= Some(other.since)
        || other.found >= Some(socket.since);
    // A connection is accepted after its connect, never before.
    let in_order = |one: &Socket, that: &Socket| {
        one.role != Some(SocketRole::Connected)
            || one.begun.zip(that.begun).is_none_or(|(connected, accepted)| connected <= accepted)
    };
    let in_order = in_order(other, socket) && in_order(socket, other);
    roles_differ && together && in_order && seen_together && (!tuple.is_loopback() || same_namespace)
}

impl Sockets {
    /// Looks for the peer of a socket after a new sighting. Returns the sockets whose peer changed.
    pub(in crate::correlate) fn pair(&mut self, idx: SocketIdx) -> Changed {
        let Some(socket) = self.get(idx) else { return Changed::new() };
        let Some(tuple) = socket.tuple else { return Changed::new() };
        if socket.role == Some(SocketRole::Listening) || tuple.remote.port() == 0 {
            return Changed::new();
        }
        match self.rule {
            Pairing::Addresses => self.pair_by_addresses(idx, tuple),
            Pairing::SequenceNumbers => self.pair_by_proof(idx, tuple),
        }
    }

    /// Rule for recordings without sequence numbers: pair with the only unpaired socket that mirrors this one.
    /// If two sockets fit, take neither.
    fn pair_by_addresses(&mut self, idx: SocketIdx, tuple: Tuple) -> Changed {
        if self.get(idx).is_none_or(|socket| socket.peer.is_some()) {
            return Changed::new();
        }
        if let [other] = self.peer_candidates(idx)[..] {
            self.set_peers(idx, other);
            return smallvec![idx, other];
        }
        self.ends.wait(idx, tuple);
        Changed::new()
    }

    /// Rule for recordings with sequence numbers: pair two sockets if each is the only best match of the other.
    /// A pair that rests on addresses ends with a better match, or with a second equal one. A second socket with
    /// equal sequence numbers ends even a proved pair.
    fn pair_by_proof(&mut self, idx: SocketIdx, tuple: Tuple) -> Changed {
        let mut changed = Changed::new();
        if self.is_refuted(idx) {
            changed.extend(self.leave_peer(idx));
        }
        if self.is_proved(idx) {
            // A new fact has proved an existing pair of addresses.
            changed.extend(self.settle(idx));
            return changed;
        }
        self.ends.wait(idx, tuple);
        let found = self.peer_candidates(idx);
        for other in found.iter().copied() {
            let back = self.peer_candidates(other);
            if found.len() == 1 && back[..] == [idx] {
                changed.extend(self.make_peers(idx, other));
            } else if found.len() + back.len() > 2 {
                // More than one match: neither end keeps a peer.
                changed.extend(self.leave_peer(other));
            }
        }
        changed
    }

    /// Makes two sockets peers, and separates each from its previous peer.
    fn make_peers(&mut self, idx: SocketIdx, other: SocketIdx) -> Changed {
        if self.get(idx).and_then(|socket| socket.peer) == Some(other) {
            return Changed::new();
        }
        let mut changed = self.leave_peer(idx);
        changed.extend(self.leave_peer(other));
        self.set_peers(idx, other);
        changed.extend([idx, other]);
        if self.is_proved(idx) {
            self.settle(idx);
        }
        changed
    }

    /// Stops a proved pair from waiting. Returns the ends that waited until now.
    fn settle(&mut self, idx: SocketIdx) -> Changed {
        let peer = self.get(idx).and_then(|socket| socket.peer);
        let mut waited = Changed::new();
        for end in peer.into_iter().chain([idx]) {
            let tuple = self.get(end).and_then(|socket| socket.tuple);
            if self.ends.leave(end, tuple) {
                waited.push(end);
            }
        }
        waited
    }

    /// True if both ends of a pair have sequence numbers, and the numbers differ.
    fn is_refuted(&self, idx: SocketIdx) -> bool {
        let isns = self.ends_of(idx).and_then(|(socket, other)| socket.isn.zip(other.isn));
        isns.is_some_and(|(own, others)| !own.is_other_end_of(others))
    }

    /// True if the pair rests on more than addresses across network namespaces.
    fn is_proved(&self, idx: SocketIdx) -> bool {
        self.ends_of(idx).is_some_and(|(socket, other)| {
            let agree = socket.isn.zip(other.isn).is_some_and(|(own, others)| own.is_other_end_of(others));
            agree || in_one_namespace(socket, other)
        })
    }

    /// Entries of a socket and of its peer.
    fn ends_of(&self, idx: SocketIdx) -> Option<(&Socket, &Socket)> {
        let socket = self.get(idx)?;
        Some((socket, self.get(socket.peer?)?))
    }

    /// True if more than one socket can be the peer.
    pub(in crate::correlate) fn is_ambiguous(&self, idx: SocketIdx) -> bool {
        let found = self.peer_candidates(idx);
        match (self.rule, &found[..]) {
            (Pairing::SequenceNumbers, [one]) => self.peer_candidates(*one).len() > 1,
            _ => found.len() > 1,
        }
    }

    /// At most two sockets that can be the peer: the best matches.
    fn peer_candidates(&self, idx: SocketIdx) -> SmallVec<[SocketIdx; 2]> {
        let Some((socket, tuple)) = self.get(idx).and_then(|socket| Some((socket, socket.tuple?))) else {
            return SmallVec::new();
        };
        // Sequence numbers decide, where a socket with matching ones exists.
        if self.rule == Pairing::SequenceNumbers {
            let others = socket.isn.into_iter().flat_map(Isn::others);
            let named: SmallVec<[SocketIdx; 2]> = others.flat_map(|isn| self.ends.with(isn)).take(2).collect();
            if !named.is_empty() {
                return named;
            }
        }
        // No real host has so many sockets with equal addresses. Report an ambiguity without comparing them all.
        if self.ends.waiting_for(tuple).nth(MAX_CANDIDATES).is_some() {
            return self.ends.waiting_for(tuple).take(2).collect();
        }
        let waiting = self.ends.waiting_for(tuple).filter(|other| *other != idx);
        let waiting = waiting.filter_map(|other| Some((other, self.get(other)?)));
        if self.rule == Pairing::Addresses {
            return waiting.filter(|(_, other)| fits_by_addresses(socket, other)).map(|(idx, _)| idx).take(2).collect();
        }
        let matches: Vec<(Match, SocketIdx)> =
            waiting.filter_map(|(idx, other)| Some((Match::of(socket, other)?, idx))).collect();
        let best = matches.iter().map(|(how, _)| *how).max();
        matches.into_iter().filter(|(how, _)| Some(*how) == best).map(|(_, idx)| idx).take(2).collect()
    }

    /// Separates a socket from its peer: the two are not one connection, or may not be. Both wait for a peer
    /// again.
    fn leave_peer(&mut self, idx: SocketIdx) -> Changed {
        let Some(peer) = self.get(idx).and_then(|socket| socket.peer) else { return Changed::new() };
        for end in [idx, peer] {
            if let Some(tuple) = self.forget_peer(end) {
                self.ends.wait(end, tuple);
            }
        }
        smallvec![idx, peer]
    }

    /// Confidence and evidence that two paired sockets are one connection.
    pub(in crate::correlate) fn proof(&self, near: &Socket, far: &Socket) -> (Confidence, Proofs) {
        let mirrored = near.tuple.map(Tuple::mirrored) == far.tuple;
        if self.rule == Pairing::Addresses || (mirrored && in_one_namespace(near, far)) {
            return (Confidence::Exact, smallvec![Evidence::SocketPair]);
        }
        let agree = near.isn.zip(far.isn).is_some_and(|(near, far)| near.is_other_end_of(far));
        match (agree, mirrored) {
            (true, true) => (Confidence::Exact, smallvec![Evidence::SocketPair, Evidence::Isn]),
            (true, false) => (Confidence::Exact, smallvec![Evidence::Isn]),
            (false, _) => (Confidence::Strong, smallvec![Evidence::SocketPair]),
        }
    }
}
