//! Outages of the server, as the publisher reports them. One of a moment, as at the start, is none.

use std::time::Duration;

use tokio::time::Instant;

/// Shortest outage that is reported.
const REPORTED_AFTER: Duration = Duration::from_secs(1);

/// Whether the server takes batches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    is_reported: bool,
}

impl Outage {
    /// Notes the outcome of an attempt. Returns what to report.
    pub(super) fn note(&mut self, is_taken: bool, now: Instant) -> Option<&'static str> {
        if is_taken {
            let was_reported = std::mem::take(self).is_reported;
            return was_reported.then_some("the message stream takes batches again");
        }
        let since = *self.since.get_or_insert(now);
        let is_new = !self.is_reported && now.duration_since(since) >= REPORTED_AFTER;
        self.is_reported |= is_new;
        is_new.then_some("the message stream takes no batches now: they wait")
    }

    /// True if the server takes nothing now.
    pub(super) const fn is_present(&self) -> bool {
        self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outage_is_reported_once_and_not_that_of_a_moment() {
        let mut outage = Outage::default();
        let start = Instant::now();
        let mut note = |is_taken, millis| outage.note(is_taken, start + Duration::from_millis(millis)).is_some();
        assert!(!note(false, 0) && !note(false, 200) && !note(true, 300));
        assert!(!note(false, 5_000) && !note(false, 5_999));
        assert!(note(false, 6_000) && !note(false, 9_000));
        assert!(note(true, 9_500) && !note(true, 9_600));
    }
}
