//! Pairs of sockets of one process that waiting goroutines copy between, while no bytes flow.

use std::collections::BTreeSet;

use super::{sockets::SocketNo, table::Table};

#[derive(Default)]
pub(in crate::correlate) struct Awaited {
    /// (from, to) → true if the arguments of the copy name both sockets.
    pairs: Table<(SocketNo, SocketNo), bool>,
    /// Socket → sockets at the other end of a pair, in any direction.
    partners: Table<SocketNo, BTreeSet<SocketNo>>,
}

impl Awaited {
    pub(in crate::correlate) fn push(&mut self, from: SocketNo, to: SocketNo, copied: bool) {
        *self.pairs.entry((from, to)).or_default() |= copied;
        self.partners.entry(from).or_default().insert(to);
        self.partners.entry(to).or_default().insert(from);
    }

    pub(in crate::correlate) fn partners(&self, no: SocketNo) -> impl Iterator<Item = SocketNo> + '_ {
        self.partners.get(&no).into_iter().flatten().copied()
    }

    /// True if the arguments of a copy name both sockets, from and to.
    pub(in crate::correlate) fn copied(&self, from: SocketNo, to: SocketNo) -> bool {
        self.pairs.get(&(from, to)) == Some(&true)
    }

    pub(in crate::correlate) fn forget(&mut self, no: SocketNo) {
        for partner in self.partners.swap_remove(&no).unwrap_or_default() {
            self.pairs.swap_remove(&(no, partner));
            self.pairs.swap_remove(&(partner, no));
            if let Some(others) = self.partners.get_mut(&partner) {
                others.remove(&no);
                if others.is_empty() {
                    self.partners.swap_remove(&partner);
                }
            }
        }
    }
}
