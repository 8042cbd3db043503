//! Recording of a pump. Starts a new file when the current one is full.

use std::io;

use crate::{
    correlate::Correlator,
    model::{BootTime, Fact, Observation},
    record::Writer,
};

/// Minimum of remembered observations before the correlator is asked to drop obsolete ones: the check examines each
/// observation.
const MANY: usize = 20_000;

/// Writes observations, and remembers those that the next file must begin with.
pub(super) struct Recording {
    writer: Writer,
    /// Remembered observations, in order of arrival: those needed at the last check, and all later ones.
    told: Vec<Observation>,
    /// Number of observations that triggers the next check.
    enough: usize,
}

impl Recording {
    pub(super) fn new(writer: Writer) -> Self {
        Self { writer, told: Vec::new(), enough: MANY }
    }

    pub(super) fn write(&mut self, seen: &Observation) -> io::Result<()> {
        self.writer.write(seen)?;
        self.writer.tick(seen.at)?;
        if self.writer.is_in_parts() && seen.fact != Fact::Tick {
            self.told.push(seen.clone());
        }
        Ok(())
    }

    /// Starts the next file if the current one is full. `correlator` has processed everything written so far.
    pub(super) fn go_on(&mut self, now: BootTime, correlator: &Correlator) -> io::Result<()> {
        let full = self.writer.is_full(now);
        if full || self.told.len() >= self.enough {
            self.told = correlator.still_matter(std::mem::take(&mut self.told));
            self.enough = MANY.max(2 * self.told.len());
        }
        if full { self.writer.go_on(now, &self.told) } else { Ok(()) }
    }

    pub(super) fn finish(self) -> io::Result<()> {
        self.writer.finish()
    }
}
