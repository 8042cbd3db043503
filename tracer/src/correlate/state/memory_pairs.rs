//! Pairs of sockets of one process that waiting goroutines copy between, while no bytes flow.

use std::collections::BTreeSet;

use super::{sockets::SocketIdx, table::Table};

#[derive(Default)]
pub(in crate::correlate) struct MemoryPairs {
    /// (from, to) → true if the arguments of the copy name both sockets.
    pairs: Table<(SocketIdx, SocketIdx), bool>,
    /// Socket → sockets at the other end of a pair, in any direction.
    partners: Table<SocketIdx, BTreeSet<SocketIdx>>,
}

impl MemoryPairs {
    pub(in crate::correlate) fn push(&mut self, from: SocketIdx, to: SocketIdx, copied: bool) {
        *self.pairs.entry((from, to)).or_default() |= copied;
        self.partners.entry(from).or_default().insert(to);
        self.partners.entry(to).or_default().insert(from);
    }

    pub(in crate::correlate) fn partners(&self, idx: SocketIdx) -> impl Iterator<Item = SocketIdx> + '_ {
        self.partners.get(&idx).into_iter().flatten().copied()
    }

    /// True if the arguments of a copy name both sockets, from and to.
    pub(in crate::correlate) fn copied(&self, from: SocketIdx, to: SocketIdx) -> bool {
        self.pairs.get(&(from, to)) == Some(&true)
    }

    pub(in crate::correlate) fn forget(&mut self, idx: SocketIdx) {
        for partner in self.partners.swap_remove(&idx).unwrap_or_default() {
            self.pairs.swap_remove(&(idx, partner));
            self.pairs.swap_remove(&(partner, idx));
            if let Some(others) = self.partners.get_mut(&partner) {
                others.remove(&idx);
                if others.is_empty() {
                    self.partners.swap_remove(&partner);
                }
            }
        }
    }
}
