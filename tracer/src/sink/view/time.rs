//! Times of the JSON contract.

use std::time::{Duration, UNIX_EPOCH};

use crate::model::{BootTime, ClockAnchor};

/// A moment as RFC 3339 in UTC with milliseconds, rounded down.
#[must_use]
pub fn moment(anchor: ClockAnchor, at: BootTime) -> String {
    rfc3339(anchor.utc_ns(at))
}

fn rfc3339(utc_ns: u64) -> String {
    // 64 bits of nanoseconds end in the year 2554, which humantime can print.
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_nanos(utc_ns)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_utc_with_milliseconds() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800, "2024-02-29T00:00:00.000Z"),
            (1_795_299_243, "2026-11-21T22:14:03.000Z"),
            (4_107_542_399, "2100-02-28T23:59:59.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(seconds * 1_000_000_000), text);
        }
        assert_eq!(rfc3339(1_999_999), "1970-01-01T00:00:00.001Z");
        assert_eq!(rfc3339(u64::MAX), "2554-07-21T23:34:33.709Z");
    }
}
