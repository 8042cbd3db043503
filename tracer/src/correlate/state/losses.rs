//! Times of losses: kernel records, or table entries without room.

use std::collections::{BTreeMap, BTreeSet};

use crate::correlate::limits::{LOSS_REPORTED_WITHIN, MAX_LOSSES};
use crate::model::{BootTime, LATE_START};

/// Losses that hide an act completely, or a process of the path. Other losses leave a trace: a later act names a
/// connection without a record.
const BLINDING: [&str; 8] = [
    "last-full",
    "reading-full",
    "read-failed",
    "runs-skipped",
    "syscalls-full",
    "watch-full",
    "unwatched",
    "questions-full",
];

/// Losses of kernel records and of table entries. [`Missed`](super::coverage::Missed) lists the facts of a
/// session that they put in doubt.
#[derive(Default)]
pub(in crate::correlate) struct Losses {
    all: LossTimes,
    /// The losses of [`BLINDING`].
    blinding: LossTimes,
}

impl Losses {
    /// Adds a loss that the tracer reported, by the name of the loss.
    pub(in crate::correlate) fn report(&mut self, at: BootTime, what: &str) {
        if what == LATE_START {
            self.doubt_until(at);
            return;
        }
        self.all.push(at);
        if BLINDING.contains(&what) {
            self.blinding.push(at);
        }
    }

    /// Adds a refusal by a full table.
    pub(in crate::correlate) fn refuse(&mut self, at: BootTime) {
        self.all.push(at);
    }

    /// Puts the whole time up to `at` in doubt.
    pub(in crate::correlate) fn doubt_until(&mut self, at: BootTime) {
        self.all.doubt_until(at);
        self.blinding.doubt_until(at);
    }

    /// True if an event may have been lost at or after `from`.
    pub(in crate::correlate) fn since(&self, from: BootTime) -> bool {
        self.all.since(from)
    }

    /// True if an event may have been lost between two times.
    pub(in crate::correlate) fn between(&self, from: BootTime, to: BootTime) -> bool {
        self.all.between(from, to)
    }

    /// True if an act may have been lost between two times without a trace in later records.
    pub(in crate::correlate) fn blinding_between(&self, from: BootTime, to: BootTime) -> bool {
        self.blinding.between(from, to)
    }
}

/// Times of losses. A conclusion from the absence of an event is in doubt near such a time.
#[derive(Default)]
pub(in crate::correlate) struct LossTimes {
    times: BTreeSet<BootTime>,
    /// Up to this time every interval counts as one with a loss: the start was late, or old times made room for
    /// newer ones.
    whole: Option<BootTime>,
}

impl LossTimes {
    /// Adds a loss. `at` is the time of the report.
    pub(in crate::correlate) fn push(&mut self, at: BootTime) {
        self.times.insert(at);
        if self.times.len() > MAX_LOSSES {
            self.whole = self.whole.max(self.times.pop_first());
        }
    }

    /// Puts the whole time up to `at` in doubt.
    pub(in crate::correlate) fn doubt_until(&mut self, at: BootTime) {
        self.whole = self.whole.max(Some(at));
    }

    /// True if an event may have been lost at or after `from`.
    pub(in crate::correlate) fn since(&self, from: BootTime) -> bool {
        self.times.last().copied().max(self.whole).is_some_and(|at| at >= from)
    }

    /// True if an event may have been lost between two times. A loss is reported up to [`LOSS_REPORTED_WITHIN`]
    /// late.
    pub(in crate::correlate) fn between(&self, from: BootTime, to: BootTime) -> bool {
        self.whole.is_some_and(|at| at >= from)
            || self.times.range(from..=to.plus(LOSS_REPORTED_WITHIN).max(from)).next().is_some()
    }
}

/// Refused or discarded table entries that no finding has reported yet, by name of the loss.
#[derive(Default)]
pub(in crate::correlate) struct Refused {
    counts: BTreeMap<&'static str, u64>,
    /// Set when an entry that sessions rest on was refused since [`Refused::take_doubt`] was called.
    doubt: bool,
}

impl Refused {
    /// Counts entries that sessions rest on. A count of 0 adds nothing.
    pub(in crate::correlate) fn add(&mut self, what: &'static str, count: u64) {
        self.add_undoubted(what, count);
        self.doubt |= count > 0;
    }

    /// Counts entries of a table that accounts for doubtful answers itself.
    pub(in crate::correlate) fn add_undoubted(&mut self, what: &'static str, count: u64) {
        if count > 0 {
            let sum = self.counts.entry(what).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    pub(in crate::correlate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// True if sessions are in doubt since the last call.
    pub(in crate::correlate) fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.doubt)
    }

    /// Returns all counts in the order of their names, and resets them.
    pub(in crate::correlate) fn take(&mut self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropped_times_keep_their_doubt() {
        let mut losses = LossTimes::default();
        for second in 0..=MAX_LOSSES as u64 {
            losses.push(BootTime(second * 1_000_000_000));
        }
        let at = |ns| BootTime(ns);
        assert!(losses.between(at(0), at(1)), "the first time made room, but its doubt stays");
        assert!(!losses.between(at(1_500_000_000), at(1_600_000_000)));
    }
}
