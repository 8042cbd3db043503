//! Recording of a pump. Starts a new file when the current one is full.

use std::io;

use crate::{
    correlate::Correlator,
    model::{BootTime, Fact, Observation},
    record::{Writer, Written},
};

/// Minimum of remembered observations before the correlator is asked to drop obsolete ones: the check examines each
/// observation.
const MANY: usize = 20_000;

/// Writes observations, and remembers those that the next file must begin with.
pub(super) struct Recording {
    writer: Writer,
    /// Remembered observations, in order of arrival: those needed at the last check, and all later ones.
    remembered: Vec<Observation>,
    /// Number of observations that triggers the next check.
    enough: usize,
}

impl Recording {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer, remembered: Vec::new(), enough: MANY }
    }

    pub(super) fn write(&mut self, seen: &Observation) -> io::Result<()> {
        self.writer.write(seen)?;
        self.writer.tick(seen.at)?;
        if self.writer.is_in_parts() && seen.fact != Fact::Tick {
            self.remembered.push(seen.clone());
        }
        Ok(())
    }

    /// Starts the next file if the current one is full. `correlator` has processed everything written so far.
    pub(super) fn go_on(&mut self, now: BootTime, correlator: &Correlator) -> io::Result<()> {
        let full = self.writer.is_full(now);
        if full || self.remembered.len() >= self.enough {
            self.remembered = correlator.still_matter(std::mem::take(&mut self.remembered));
            self.enough = MANY.max(2 * self.remembered.len());
        }
        if full { self.writer.go_on(now, &self.remembered) } else { Ok(()) }
    }

    /// True if facts wait for their batch.
    pub(super) const fn has_batch(&self) -> bool {
        self.writer.has_batch()
    }

    /// Observations that had no room, so far.
    pub(super) const fn refused(&self) -> u64 {
        self.writer.refused()
    }

    pub(super) fn finish(self) -> io::Result<Written> {
        self.writer.finish()
    }
}
