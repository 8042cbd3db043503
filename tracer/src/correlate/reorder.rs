//! The reorder buffer: puts observations into the order of their times.
//!
//! Observations arrive almost in order of time. An interrupt between a record's clock reading and its place in the ring
//! buffer may swap two records. An answer to a query has the time at which the answer was read.
//!
//! The buffer has a clock: the time of the newest kernel record or tick. It holds an observation until the clock is
//! [`REORDER_WITHIN`] past the observation's own time. An observation older than one that was already released is
//! late: it is counted, and the next [`ReorderBuffer::pop`] returns it.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
};

use super::limits::{MAX_WAITING, REORDER_WITHIN};
use crate::model::{BootTime, Observation, Source};

/// Observations that wait until no earlier one can arrive.
#[derive(Default)]
pub(super) struct ReorderBuffer {
    waiting: BinaryHeap<Waiting>,
    /// Number of observations pushed so far; orders those of equal time.
    arrived: u64,
    /// Approximate memory of `waiting`, in bytes; bounded by [`MAX_WAITING`].
    weight: usize,
    /// Time of the newest kernel record or tick.
    newest: BootTime,
    /// Time of the newest observation that was released.
    released: BootTime,
    /// Number of observations that arrived after one with a later time was released.
    pub(super) late: u64,
}

/// An observation with the number of its arrival. Boxed, because observations are large and a heap moves its entries.
struct Waiting {
    arrived: u64,
    seen: Box<Observation>,
}

impl Waiting {
    /// The earliest comes first. Observations of equal time keep their order.
    fn key(&self) -> Reverse<(BootTime, u64)> {
        Reverse((self.seen.at, self.arrived))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl ReorderBuffer {
    pub(super) fn push(&mut self, seen: Observation) {
        if seen.at < self.released {
            self.late += 1;
        }
        // Answers to queries do not move the clock: older records may still be unread in the ring buffer. A tick may
        // ([`Self::advance`]), because the loop sends it after it has emptied the ring buffer.
        if seen.source == Source::Ebpf {
            self.newest = self.newest.max(seen.at);
        }
        self.arrived += 1;
        self.weight += seen.weight();
        self.waiting.push(Waiting { arrived: self.arrived, seen: Box::new(seen) });
    }

    /// Moves the clock to the time of a tick.
    pub(super) fn advance(&mut self, now: BootTime) {
        self.newest = self.newest.max(now);
    }

    /// Time up to which observations are released: the clock less [`REORDER_WITHIN`].
    pub(super) fn settled(&self) -> BootTime {
        self.newest.minus(REORDER_WITHIN)
    }

    /// Removes the earliest observation if its time is not after [`Self::settled`].
    pub(super) fn pop(&mut self) -> Option<Observation> {
        let settled = self.settled();
        if self.waiting.peek()?.seen.at > settled {
            return None;
        }
        let seen = self.pop_any()?;
        self.released = self.released.max(seen.at);
        Some(seen)
    }

    /// Removes the earliest observation if the buffer exceeds [`MAX_WAITING`] bytes. This observation waits for less
    /// than [`REORDER_WITHIN`].
    pub(super) fn pop_excess(&mut self) -> Option<Observation> {
        if self.weight <= MAX_WAITING {
            return None;
        }
        let seen = self.pop_any()?;
        self.released = self.released.max(seen.at);
        Some(seen)
    }

    /// Removes the earliest observation, for the end of the input.
    pub(super) fn pop_any(&mut self) -> Option<Observation> {
        let Waiting { seen, .. } = self.waiting.pop()?;
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
    fn disorder_within_window_is_sorted() {
        let mut buffer = ReorderBuffer::default();
        for ms in [10, 8, 9, 30, 2] {
            buffer.push(Observation::new(BootTime(ms * 1_000_000), Source::Ebpf, Fact::Tick));
        }
        let out: Vec<u64> = std::iter::from_fn(|| buffer.pop()).map(|seen| seen.at.0 / 1_000_000).collect();
        assert_eq!(out, [2, 8, 9, 10], "30 waits for 35");
        assert_eq!(buffer.late, 0, "nothing was released before");
        buffer.push(Observation::new(BootTime(7_000_000), Source::Ebpf, Fact::Tick));
        assert_eq!(buffer.late, 1);
        assert_eq!(buffer.pop_any().map(|seen| seen.at.0), Some(7_000_000));
    }

    #[test]
    fn waiting_observations_take_bounded_memory() {
        let mut buffer = ReorderBuffer::default();
        let info = ProcessInfo { argv: vec![vec![b'x'; 100_000].into()], ..ProcessInfo::default() };
        let seen = Observation::of(
            BootTime::LATEST,
            Source::Snapshot,
            TaskKey::from_ticks(1, 1),
            Fact::ProcessSeen(Box::new(info)),
        );
        for _ in 0..MAX_WAITING / 100_000 {
            buffer.push(seen.clone());
            assert!(buffer.weight <= MAX_WAITING + seen.weight());
            while buffer.pop_excess().is_some() {}
        }
        assert!(buffer.weight <= MAX_WAITING && !buffer.is_empty());
        assert!(buffer.pop_excess().is_none());
        while buffer.pop_any().is_some() {}
        assert_eq!(buffer.weight, 0);
    }
}
