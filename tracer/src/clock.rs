//! Reads the clocks of the host: boot time, and its offset to UTC.

use rustix::time::{ClockId, clock_gettime};

use crate::model::{BootTime, ClockAnchor};

/// Largest delay between two reads of one anchor, in nanoseconds. A longer delay means that the thread was interrupted.
const CLOSE_NS: u64 = 20_000;
/// Reads of the clocks for one anchor. The closest pair counts where none is within [`CLOSE_NS`].
const TRIES: usize = 10;

/// Current boot time (CLOCK_BOOTTIME): the clock of the kernel's records.
#[must_use]
pub fn now() -> BootTime {
    BootTime(nanoseconds(ClockId::Boottime))
}

/// Current offset between boot time and UTC.
#[must_use]
pub fn anchor() -> ClockAnchor {
    // The two clocks cannot be read at one instant. Read them again where the thread was interrupted in between.
    let reads = (0..TRIES).map(|_| {
        let before = nanoseconds(ClockId::Boottime);
        let utc = nanoseconds(ClockId::Realtime);
        (nanoseconds(ClockId::Boottime).saturating_sub(before), utc.saturating_sub(before))
    });
    let mut best = (u64::MAX, 0);
    for read in reads {
        best = best.min(read);
        if best.0 <= CLOSE_NS {
            break;
        }
    }
    ClockAnchor { boot_to_utc_ns: best.1 }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither clock shows a time before its beginning.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
