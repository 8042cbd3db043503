//! Losses of a live trace: counters of the kernel's maps, refusals of the tracer itself, and the delay of reading.

use std::collections::BTreeMap;

use tracer_common::Counter;

use crate::{
    model::{BEHIND, BootTime, Span},
    source::ebpf::loader::Probes,
};

/// Delay of a record above which the loss [`BEHIND`] is reported.
const LATE: Span = Span::from_secs(1);

/// Runs of probes that the kernel skipped: see [`Probes::skipped_runs`].
const RUNS_SKIPPED: &str = "runs-skipped";
/// Interval of reading that count, which costs more than the counters of the maps.
const SKIPPED_EVERY: Span = Span::from_millis(100);

/// Losses since the last report.
#[derive(Default)]
pub(super) struct Losses {
    /// Value of each kernel counter at the last report, by name.
    counters: BTreeMap<&'static str, u64>,
    /// Losses counted in user space since the last report, by name.
    own: BTreeMap<&'static str, u64>,
    /// Time of the last reading of the skipped runs.
    skipped_read: Option<BootTime>,
    lag: Lag,
}

/// Delay between the write of a record and its reading.
#[derive(Default)]
struct Lag {
    /// Age of the oldest record read since the last report.
    worst: Span,
    /// Age reported last; zero once the tracer has caught up.
    reported: Span,
}

impl Losses {
    /// Counts one act that the tracer missed or could not do.
    pub(super) fn add(&mut self, what: &'static str) {
        *self.own.entry(what).or_default() += 1;
    }

    /// Notes that a record of time `at` is read at `now`.
    pub(super) fn note_read(&mut self, at: BootTime, now: BootTime) {
        self.lag.worst = self.lag.worst.max(now.since(at));
    }

    /// Losses since the last call, by name, at `now`. Delays are in milliseconds. The last call of a trace reads every count.
    pub(super) fn poll(&mut self, probes: &Probes, now: BootTime, is_last: bool) -> Vec<(&'static str, u64)> {
        let counters = Counter::losses().map(|counter| (counter.name(), probes.count(counter)));
        let is_due = self.skipped_read.is_none_or(|read| now.since(read) >= SKIPPED_EVERY);
        let mut skipped = None;
        if is_due || is_last {
            self.skipped_read = Some(now);
            skipped = probes.skipped_runs().map(|count| (RUNS_SKIPPED, count));
        }
        let lost = self.report(counters.chain(skipped));
        if let Some((_, count)) = lost.iter().find(|(name, _)| *name == Counter::ReadFailed.name()) {
            tracing::info!(count, "reads of kernel memory failed: processes or connections may be missing");
        }
        lost
    }

    fn report(&mut self, counters: impl Iterator<Item = (&'static str, u64)>) -> Vec<(&'static str, u64)> {
        let mut lost = std::mem::take(&mut self.own);
        for (name, count) in counters {
            let before = self.counters.insert(name, count).unwrap_or(0);
            if count > before {
                *lost.entry(name).or_default() += count - before;
            }
        }
        lost.extend(self.lag.report().map(|late| (BEHIND, late.as_millis())));
        lost.into_iter().collect()
    }
}

impl Lag {
    /// The delay to report: the first one above [`LATE`], then each one at least twice the one before. A report without a delay
    /// ends the series.
    fn report(&mut self) -> Option<Span> {
        let worst = std::mem::take(&mut self.worst);
        if worst <= LATE {
            self.reported = Span::default();
            return None;
        }
        let is_news = worst.0 / 2 >= self.reported.0;
        if is_news {
            self.reported = worst;
        }
        is_news.then_some(worst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> BootTime {
        BootTime(ms * 1_000_000)
    }

    #[test]
    fn counters_are_reported_by_their_growth() {
        let mut losses = Losses::default();
        assert_eq!(losses.report([("ring-full", 0)].into_iter()), []);
        assert_eq!(
            losses.report([("ring-full", 7), ("watch-full", 2)].into_iter()),
            [("ring-full", 7), ("watch-full", 2)]
        );
        losses.add("watch-full");
        assert_eq!(losses.report([("ring-full", 7), ("watch-full", 3)].into_iter()), [("watch-full", 2)]);
        assert_eq!(losses.report([("ring-full", 7), ("watch-full", 3)].into_iter()), []);
    }

    #[test]
    fn lag_past_a_second_is_reported_per_doubling() {
        let mut losses = Losses::default();
        let mut lag = |late: u64| {
            losses.note_read(at(10_000), at(10_000 + late));
            losses.report(std::iter::empty())
        };
        assert_eq!(lag(900), []);
        assert_eq!(lag(1_200), [("behind", 1_200)]);
        assert_eq!(lag(2_000), []);
        assert_eq!(lag(2_500), [("behind", 2_500)]);
        assert_eq!(lag(100), []);
        assert_eq!(lag(1_100), [("behind", 1_100)], "a new series after catching up");
    }
}
