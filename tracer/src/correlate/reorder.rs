//! Puts observations into the order of their times, within a window.

use std::collections::BTreeMap;

use super::limits::{MAX_WAITING, REORDER_WITHIN};
use crate::model::{BootTime, Observation, Source};

/// Holds observations back until nothing earlier can come.
#[derive(Default)]
pub(super) struct Order {
    /// Boxed: they are large, and a tree moves what it holds.
    waiting: BTreeMap<(BootTime, u64), Box<Observation>>,
    arrived: u64,
    /// Bytes of memory that `waiting` takes, about.
    weight: usize,
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
        self.weight += seen.weight();
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
        self.weight -= seen.weight();
        self.released = self.released.max(seen.at);
        Some(*seen)
    }

    /// The earliest one, where more wait than memory allows: the window is then shorter than [`REORDER_WITHIN`].
    pub(super) fn pop_excess(&mut self) -> Option<Observation> {
        if self.weight <= MAX_WAITING {
            return None;
        }
        let seen = self.pop_any()?;
        self.released = self.released.max(seen.at);
        Some(seen)
    }

    /// The next one, its turn or not: nothing more will come.
    pub(super) fn pop_any(&mut self) -> Option<Observation> {
        let (_, seen) = self.waiting.pop_first()?;
        self.weight -= seen.weight();
        Some(*seen)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Fact, ProcessInfo, TaskKey};

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

    #[test]
    fn observations_that_wait_take_bounded_memory() {
        let mut order = Order::default();
        let info = ProcessInfo { argv: vec![vec![b'x'; 100_000].into()], ..ProcessInfo::default() };
        let seen = Observation::of(
            BootTime::LATEST,
            Source::Snapshot,
            TaskKey::from_ticks(1, 1),
            Fact::ProcessSeen(Box::new(info)),
        );
        for _ in 0..MAX_WAITING / 100_000 {
            order.push(seen.clone());
            assert!(order.weight <= MAX_WAITING + seen.weight());
            while order.pop_excess().is_some() {}
        }
        assert!(order.weight <= MAX_WAITING && !order.is_empty());
        assert!(order.pop_excess().is_none());
        while order.pop_any().is_some() {}
        assert_eq!(order.weight, 0);
    }
}
