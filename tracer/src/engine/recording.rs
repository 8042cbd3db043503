//! The recording of a pump: writes what comes, and goes on in a new file where one is full.

use std::io;

use crate::{
    correlate::Correlator,
    model::{BootTime, Fact, Observation},
    record::Writer,
};

/// So many observations are remembered at least before it is asked which of them still matter: asking looks at each.
const MANY: usize = 20_000;

/// Writes, and remembers what the next file must begin with.
pub(super) struct Recording {
    writer: Writer,
    /// In their order of arrival, those that mattered when it was asked last, and all since.
    told: Vec<Observation>,
    /// When to ask again.
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

    /// Goes on in the next file, where this one is full. `correlator` has taken in what was written.
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
