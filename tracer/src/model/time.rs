//! Time is data: nanoseconds since boot, as the kernel stamps them.

use serde::{Deserialize, Serialize};

/// A moment, in nanoseconds of CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(pub u64);

/// A length of time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Span(pub u64);

impl Span {
    /// Milliseconds as a span.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// Seconds as a span.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Whole milliseconds, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl BootTime {
    /// Latest moment that counts as a time since boot: 100 years. No host runs that long, and the sum of such a time
    /// and any span of the correlator stays far below the largest number.
    pub const LATEST: Self = Self(100 * 365 * 86_400 * 1_000_000_000);

    /// First moment after `now` in the series that begins at `self` and repeats every `step`. Always later than `now`,
    /// except at the largest number. A timer that is late by years therefore costs one step.
    #[must_use]
    pub const fn next_after(self, now: Self, step: Span) -> Self {
        if self.0 > now.0 {
            return self;
        }
        match (now.0 - self.0).checked_div(step.0) {
            Some(passed) => self.plus(Span(step.0.saturating_mul(passed.saturating_add(1)))),
            None => now.plus(Span(1)),
        }
    }

    /// Time elapsed since `earlier`; 0 if `earlier` is later than this.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// Absolute distance between two moments.
    #[must_use]
    pub const fn apart(self, other: Self) -> Span {
        Span(self.0.abs_diff(other.0))
    }

    /// The moment `span` later.
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// Last multiple of `span` since boot, up to this moment.
    #[must_use]
    pub const fn whole(self, span: Span) -> Self {
        match self.0.checked_rem(span.0) {
            Some(rest) => Self(self.0 - rest),
            None => self,
        }
    }

    /// The moment `span` earlier; at the earliest, boot.
    #[must_use]
    pub const fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

/// Relation of boot time to UTC. Taken once at the start for sinks, and again by readers of UTC times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClockAnchor {
    /// Nanoseconds of UTC (since 1970) at boot time 0.
    pub boot_to_utc_ns: u64,
}

impl ClockAnchor {
    /// `at` in nanoseconds of UTC.
    #[must_use]
    pub const fn utc_ns(self, at: BootTime) -> u64 {
        self.boot_to_utc_ns.saturating_add(at.0)
    }

    /// Boot time of a moment in UTC; boot itself if the moment is earlier.
    #[must_use]
    pub const fn boot_time(self, utc_ns: u64) -> BootTime {
        BootTime(utc_ns.saturating_sub(self.boot_to_utc_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_moment_of_series_is_later_than_now() {
        let (second, year) = (Span::from_secs(1), Span::from_secs(365 * 86_400));
        let at = BootTime(7);
        assert_eq!(at.next_after(BootTime(3), second), at);
        assert_eq!(at.next_after(at, second), at.plus(second));
        assert_eq!(at.next_after(BootTime(2_500_000_000), second), BootTime(3_000_000_007));
        for now in [at, at.plus(year), BootTime::LATEST] {
            for step in [Span(0), Span(1), second, year, Span(u64::MAX)] {
                assert!(at.next_after(now, step) > now, "{now:?} {step:?}");
            }
        }
    }

    #[test]
    fn time_arithmetic_saturates_at_both_ends() {
        let last = BootTime(u64::MAX);
        assert_eq!(last.plus(Span::from_secs(u64::MAX)), last);
        assert_eq!(last.next_after(last, Span::from_secs(1)), last);
        assert_eq!(BootTime(0).minus(Span::from_millis(u64::MAX)), BootTime(0));
        assert_eq!(BootTime(1).since(last), Span(0));
        assert_eq!(ClockAnchor { boot_to_utc_ns: u64::MAX }.utc_ns(last), u64::MAX);
    }
}
