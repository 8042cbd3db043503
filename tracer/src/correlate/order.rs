//! Puts observations into the order of their times, within a window.

use std::collections::BTreeMap;

use super::limits::REORDER_WITHIN;
use crate::model::{BootTime, Observation, Source};

/// Holds observations back until nothing earlier can come.
#[derive(Default)]
pub(super) struct Order {
    /// Boxed: they are large, and a tree moves what it holds.
    waiting: BTreeMap<(BootTime, u64), Box<Observation>>,
    arrived: u64,
    newest: BootTime,
    released: BootTime,
    /// Observations that came after later ones had been let through.
    pub(super) late: u64,
}

impl Order {
    pub(super) fn push(&mut self, seen: Observation) {
        if seen.at < self.released {
            self.late += 1;
        }
        // An answer is as new as the question is old: records that the kernel wrote in between may still be unread.
        if seen.source == Source::Ebpf {
            self.newest = self.newest.max(seen.at);
        }
        self.arrived += 1;
        self.waiting.insert((seen.at, self.arrived), Box::new(seen));
    }

    /// Time passed: what is older than the window may go.
    pub(super) fn advance(&mut self, now: BootTime) {
        self.newest = self.newest.max(now);
    }

    /// Up to when everything is known: nothing earlier is expected any more.
    pub(super) fn settled(&self) -> BootTime {
        self.newest.minus(REORDER_WITHIN)
    }

    /// The next one whose turn has come.
    pub(super) fn pop(&mut self) -> Option<Observation> {
        let settled = self.settled();
        let entry = self.waiting.first_entry()?;
        if entry.key().0 > settled {
            return None;
        }
        let seen = entry.remove();
        self.released = self.released.max(seen.at);
        Some(*seen)
    }

    /// The next one, its turn or not: nothing more will come.
    pub(super) fn pop_any(&mut self) -> Option<Observation> {
        self.waiting.pop_first().map(|(_, seen)| *seen)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Fact;

    #[test]
    fn what_comes_in_disorder_within_the_window_goes_out_in_order() {
        let mut order = Order::default();
        for ms in [10, 8, 9, 30, 2] {
            order.push(Observation::new(BootTime(ms * 1_000_000), Source::Ebpf, Fact::Tick));
        }
        let out: Vec<u64> = std::iter::from_fn(|| order.pop()).map(|seen| seen.at.0 / 1_000_000).collect();
        assert_eq!(out, [2, 8, 9, 10], "30 waits for 35");
        assert_eq!(order.late, 0, "nothing had been let through yet");
        order.push(Observation::new(BootTime(7_000_000), Source::Ebpf, Fact::Tick));
        assert_eq!(order.late, 1);
        assert_eq!(order.pop_any().map(|seen| seen.at.0), Some(7_000_000));
    }
}
