//! Index of sockets by the keys that lead to their peers.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use crate::model::{Isn, Tuple};

/// Index of an entry in the socket table. Never reused, unlike the names that the kernel gives to sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::correlate) struct SocketIdx(pub(super) u64);

/// Sockets whose peer changed.
pub(in crate::correlate) type Changed = SmallVec<[SocketIdx; 2]>;

/// Index of sockets by the keys that lead to their peer.
#[derive(Default)]
pub(in crate::correlate) struct Ends {
    /// Sockets without a proved peer, by the addresses that the peer must have.
    by_tuple: BTreeMap<Tuple, BTreeSet<SocketIdx>>,
    /// Connections by initial sequence numbers, as long as they are remembered. A second match makes both
    /// matches uncertain.
    by_isn: BTreeMap<Isn, BTreeSet<SocketIdx>>,
}

impl Ends {
    /// Sockets that wait for a peer with these addresses.
    pub(in crate::correlate) fn waiting_for(&self, tuple: Tuple) -> impl Iterator<Item = SocketIdx> + '_ {
        self.by_tuple.get(&tuple).into_iter().flatten().copied()
    }

    /// Sockets with these sequence numbers.
    pub(in crate::correlate) fn with(&self, isn: Isn) -> impl Iterator<Item = SocketIdx> + '_ {
        self.by_isn.get(&isn).into_iter().flatten().copied()
    }

    /// Adds a socket that waits for a peer.
    pub(in crate::correlate) fn wait(&mut self, idx: SocketIdx, tuple: Tuple) {
        self.by_tuple.entry(tuple.mirrored()).or_default().insert(idx);
    }

    /// Removes a socket from the waiting ones. Returns true if it waited until now.
    pub(in crate::correlate) fn leave(&mut self, idx: SocketIdx, tuple: Option<Tuple>) -> bool {
        let Some(key) = tuple.map(Tuple::mirrored) else { return false };
        let Some(waiting) = self.by_tuple.get_mut(&key) else { return false };
        let waited = waiting.remove(&idx);
        if waiting.is_empty() {
            self.by_tuple.remove(&key);
        }
        waited
    }

    /// Adds a socket under its sequence numbers.
    pub(in crate::correlate) fn name(&mut self, idx: SocketIdx, isn: Isn) {
        self.by_isn.entry(isn).or_default().insert(idx);
    }

    /// Removes a socket from its sequence numbers: it is forgotten, or got other numbers.
    pub(in crate::correlate) fn rename(&mut self, idx: SocketIdx, isn: Option<Isn>) {
        let Some(isn) = isn else { return };
        if let Some(named) = self.by_isn.get_mut(&isn) {
            named.remove(&idx);
            if named.is_empty() {
                self.by_isn.remove(&isn);
            }
        }
    }
}
