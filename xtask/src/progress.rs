//! Progress lines with the time since the start, and waiting for conditions.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::hint::hinted;

/// How often a condition is looked at: often enough to lose no second, rarely enough to leave the CPU to what starts.
const POLL: Duration = Duration::from_millis(200);

/// Prints what is done and how long it has taken so far.
pub(crate) struct Progress {
    start: Instant,
}

impl Progress {
    /// The clock starts now.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// One line on standard error, which leaves standard output to results.
    pub(crate) fn say(&self, what: impl std::fmt::Display) {
        eprintln!("[{:5.1} s] {what}", self.start.elapsed().as_secs_f64());
    }
}

/// Looks at `condition` until it holds. Its error ends the wait at once; after `limit` the wait is an error itself.
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
                format!("{what} did not come about within {} s", limit.as_secs()),
                format!("{} says why; `cargo xtask lab down` clears what was started", log.display()),
            ));
        }
        thread::sleep(POLL);
    }
    Ok(())
}
