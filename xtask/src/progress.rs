//! Progress lines with the elapsed time, and waiting for conditions.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::hint::hinted;

/// Interval between checks of a condition: short enough to lose little time, long enough to leave the CPU to starting
/// processes.
const POLL: Duration = Duration::from_millis(200);

/// Prints progress with the elapsed time.
pub(crate) struct Progress {
    start: Instant,
}

impl Progress {
    /// Starts the clock.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// Prints one line to standard error. Standard output is left to results.
    pub(crate) fn report(&self, what: impl std::fmt::Display) {
        eprintln!("[{:5.1} s] {what}", self.start.elapsed().as_secs_f64());
    }
}

/// Checks `condition` until it holds. An error of `condition` ends the wait; after `limit` the wait itself fails.
pub(crate) fn wait_until(
    what: &str,
    limit: Duration,
    log: &Path,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let start = Instant::now();
    while !condition()? {
        if start.elapsed() > limit {
            return Err(hinted(
                format!("{what}: not ready within {} s", limit.as_secs()),
                format!("see {}; `cargo xtask lab down` stops all started daemons", log.display()),
            ));
        }
        thread::sleep(POLL);
    }
    Ok(())
}
