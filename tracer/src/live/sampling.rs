//! When open sessions are measured, and when a watcher gets the current state.

use std::time::Duration;

use tokio::time::Instant;

use super::options::Watcher;
use crate::engine::{Flow, Status};

/// Shortest time between two reports to a watcher: faster than an eye sees.
const WATCHER_PAUSE: Duration = Duration::from_millis(100);
/// Time for which measuring goes on after the last session has ended. A leftover is one that stays.
const MEASURED_AFTER: Duration = Duration::from_secs(60);
/// A repeated task may take at most one in so many parts of the time.
const SHARE: u32 = 10;

/// Schedule of a task that is repeated.
pub(super) struct Schedule {
    every: Duration,
    next: Instant,
}

impl Schedule {
    /// Due at once, then at this interval.
    pub(super) fn new(every: Duration) -> Self {
        Self { every, next: Instant::now() }
    }

    /// True if the task is due at that time.
    pub(super) fn is_due(&self, at: Instant) -> bool {
        at >= self.next
    }

    /// Notes that the task has run, and when it began. A long task runs less often, and two runs are never closer than asked for.
    pub(super) fn done(&mut self, began: Instant) {
        self.next = Instant::now() + self.every.max(began.elapsed() * SHARE);
    }
}

/// Decides when to measure: at an interval, while a session is open and for [`MEASURED_AFTER`] afterwards.
pub(super) struct Sampling {
    schedule: Schedule,
    /// End of measuring, unless a session is open.
    until: Instant,
}

impl Sampling {
    /// Measures at this interval.
    pub(super) fn new(every: Duration) -> Self {
        Self { schedule: Schedule::new(every), until: Instant::now() }
    }

    /// True if it is time to measure. `open`: a session is open.
    pub(super) fn is_due(&mut self, open: bool, at: Instant) -> bool {
        if open {
            self.until = at + MEASURED_AFTER;
        }
        self.schedule.is_due(at) && at <= self.until
    }

    /// Notes a measurement that began at that time.
    pub(super) fn done(&mut self, began: Instant) {
        self.schedule.done(began);
    }
}

/// Reports the current state to a [`Watcher`].
pub(super) struct Feed {
    watcher: Watcher,
    schedule: Schedule,
    /// Number of changes at the last report.
    changes: u64,
}

impl Feed {
    /// Reports at the watcher's interval, and soon after a change.
    pub(super) fn new(watcher: Watcher) -> Self {
        Self { schedule: Schedule::new(watcher.every.min(WATCHER_PAUSE)), watcher, changes: 0 }
    }

    /// Reports the state if it is time. `changes` grows with each change of the state; `state` is called only if needed.
    pub(super) fn report(&mut self, changes: u64, state: impl FnOnce() -> Status) -> Flow {
        let began = Instant::now();
        let is_news = changes > self.changes;
        let due = if is_news { self.schedule.next } else { self.schedule.next + self.watcher.every };
        if began < due {
            return Flow::Continue;
        }
        self.changes = changes;
        let flow = (self.watcher.report)(state());
        self.schedule.done(began);
        flow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_ends_a_minute_after_the_last_session() {
        let mut sampling = Sampling::new(Duration::from_secs(2));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert!(!sampling.is_due(false, after(1)), "no session has been open");
        assert!(sampling.is_due(true, after(1)));
        assert!(sampling.is_due(false, after(61)));
        assert!(!sampling.is_due(false, after(62)));
    }
}
