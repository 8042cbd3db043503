//! Times of losses: kernel records, or table entries without room.

use std::collections::BTreeMap;

use crate::correlate::limits::{LOSS_REPORTED_WITHIN, MAX_LOSSES};
use crate::model::{BootTime, Fact, LATE_START, Observation};

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
    /// Time of the newest tick.
    ticked: BootTime,
    /// For each report of a loss that still waits in the reorder buffer, by its time: the last tick before it.
    tick_before: BTreeMap<BootTime, BootTime>,
}

impl Losses {
    /// Notes the arrival of a tick or of a report, before it is applied. The tracer reads its counters before each tick, so what a
    /// report counts was lost after the newest tick. A tracer that gets no processor for seconds reports seconds late.
    pub(in crate::correlate) fn note_arrival(&mut self, seen: &Observation) {
        if seen.fact == Fact::Tick {
            self.ticked = self.ticked.max(seen.at);
        } else if matches!(seen.fact, Fact::Lost { .. }) {
            self.tick_before.entry(seen.at).or_insert(self.ticked);
        }
    }

    /// Adds a loss that the tracer reported, by the name of the loss.
    pub(in crate::correlate) fn report(&mut self, at: BootTime, what: &str) {
        // Reports are applied in the order of their times.
        self.tick_before = self.tick_before.split_off(&at);
        if what == LATE_START {
            self.doubt_until(at);
            return;
        }
        let since = at.minus(LOSS_REPORTED_WITHIN);
        let since = self.tick_before.get(&at).map_or(since, |tick| since.min(*tick));
        self.all.push(since, at);
        if BLINDING.contains(&what) {
            self.blinding.push(since, at);
        }
    }

    /// Adds a refusal by a full table.
    pub(in crate::correlate) fn refuse(&mut self, at: BootTime) {
        self.all.push_report(at);
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

/// Intervals with losses. A conclusion from the absence of an event in such an interval is in doubt.
#[derive(Default)]
pub(in crate::correlate) struct LossTimes {
    /// Beginning of each interval, by its end. Of two intervals, the one that ends earlier begins no later.
    intervals: BTreeMap<BootTime, BootTime>,
    /// Up to this time every interval counts as one with a loss: the start was late, or old intervals made room for
    /// newer ones.
    whole: Option<BootTime>,
}

impl LossTimes {
    /// Adds a loss that was reported at `at`, up to [`LOSS_REPORTED_WITHIN`] late.
    pub(in crate::correlate) fn push_report(&mut self, at: BootTime) {
        self.push(at.minus(LOSS_REPORTED_WITHIN), at);
    }

    /// Adds a loss after `since`, reported at `at`.
    pub(in crate::correlate) fn push(&mut self, since: BootTime, at: BootTime) {
        let known = self.intervals.range(at..).next().map_or(since, |(_, later)| since.min(*later));
        self.intervals.insert(at, known);
        for (_, begin) in self.intervals.range_mut(..at).rev().take_while(|(_, begin)| **begin > known) {
            *begin = known;
        }
        if self.intervals.len() > MAX_LOSSES {
            self.whole = self.whole.max(self.intervals.pop_first().map(|(end, _)| end));
        }
    }

    /// Puts the whole time up to `at` in doubt.
    pub(in crate::correlate) fn doubt_until(&mut self, at: BootTime) {
        self.whole = self.whole.max(Some(at));
    }

    /// True if an event may have been lost at or after `from`.
    pub(in crate::correlate) fn since(&self, from: BootTime) -> bool {
        self.intervals.last_key_value().map(|(end, _)| *end).max(self.whole).is_some_and(|at| at >= from)
    }

    /// True if an event may have been lost between two times.
    pub(in crate::correlate) fn between(&self, from: BootTime, to: BootTime) -> bool {
        // Later intervals begin no earlier than the first that ends after `from`.
        let first = self.intervals.range(from..).next();
        self.whole.is_some_and(|at| at >= from) || first.is_some_and(|(_, begin)| *begin <= to)
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
    use crate::model::Source;

    fn at(ns: u64) -> BootTime {
        BootTime(ns)
    }

    #[test]
    fn loss_counts_from_the_tick_before_its_report() {
        let mut losses = Losses::default();
        let arrives = |losses: &mut Losses, ns, fact| {
            losses.note_arrival(&Observation::new(at(ns), Source::Engine, fact));
        };
        let lost = || Fact::Lost { what: "ring-full".to_owned(), count: 1 };
        arrives(&mut losses, 1_000_000_000, Fact::Tick);
        // The tracer gets no processor for five seconds.
        arrives(&mut losses, 6_000_000_000, lost());
        arrives(&mut losses, 6_000_000_000, Fact::Tick);
        losses.report(at(6_000_000_000), "ring-full");
        assert!(losses.between(at(2_000_000_000), at(2_100_000_000)));
        assert!(!losses.between(at(800_000_000), at(900_000_000)), "before the last tick");
        assert!(!losses.between(at(6_100_000_000), at(6_200_000_000)));
        // A tracer that keeps up reports within a fixed time.
        arrives(&mut losses, 6_200_000_000, lost());
        losses.report(at(6_200_000_000), "ring-full");
        assert!(losses.between(at(6_050_000_000), at(6_060_000_000)));
    }

    #[test]
    fn overlapping_intervals_are_one() {
        let mut losses = LossTimes::default();
        losses.push(at(70), at(80));
        losses.push(at(20), at(90));
        losses.push(at(60), at(85));
        for time in 20..=90 {
            assert!(losses.between(at(time), at(time)), "{time}");
        }
        assert!(!losses.between(at(18), at(19)) && !losses.between(at(91), at(99)));
    }

    #[test]
    fn dropped_times_keep_their_doubt() {
        let mut losses = LossTimes::default();
        for second in 0..=MAX_LOSSES as u64 {
            losses.push(at(second * 1_000_000_000), at(second * 1_000_000_000));
        }
        assert!(losses.between(at(0), at(1)), "the first time made room, but its doubt stays");
        assert!(!losses.between(at(1_500_000_000), at(1_600_000_000)));
    }
}
