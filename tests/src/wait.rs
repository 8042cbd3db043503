//! Waits for conditions that send no notification.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Pause between two checks of a condition.
const LOOK: Duration = Duration::from_millis(5);

/// Longest time for a condition, on a busy machine.
const LONGEST: Duration = Duration::from_secs(120);

/// Waits until the condition holds.
///
/// # Panics
/// If it does not hold in time.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONGEST;
    while !holds() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(LOOK);
    }
}
