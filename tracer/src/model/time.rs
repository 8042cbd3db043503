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
        Self(millis * 1_000_000)
    }

    /// Seconds as a span.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs * 1_000_000_000)
    }

    /// Whole milliseconds, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl BootTime {
    /// How long after `earlier` this is; nothing where it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// How far apart the two are.
    #[must_use]
    pub const fn apart(self, other: Self) -> Span {
        Span(self.0.abs_diff(other.0))
    }

    /// The moment `span` later.
    #[must_use]
    pub const fn plus(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The last moment, up to this one, that is a whole number of `span` after boot.
    #[must_use]
    pub const fn whole(self, span: Span) -> Self {
        match self.0.checked_rem(span.0) {
            Some(rest) => Self(self.0 - rest),
            None => self,
        }
    }

    /// The moment `span` earlier, or boot.
    #[must_use]
    pub const fn minus(self, span: Span) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
}

/// Ties boot time to UTC. Taken at the start for sinks, and anew by who reads what has times of UTC.
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

    /// The moment of UTC, or boot where that was later.
    #[must_use]
    pub const fn boot_time(self, utc_ns: u64) -> BootTime {
        BootTime(utc_ns.saturating_sub(self.boot_to_utc_ns))
    }
}
