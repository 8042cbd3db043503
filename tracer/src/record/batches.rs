//! A recording as batches of whole lines, for a message stream. The frames of all batches, one after another, are a
//! compressed recording in parts: a part begins with a header and the facts that still matter, so that a reader can
//! start at any part.

use std::{fmt, io};

use super::format::MAX_LINE;

/// Size of the lines of a batch, in bytes. A longer line makes a longer batch.
const ENOUGH: usize = 64 << 10;

/// Longest text of a batch, in bytes, for readers.
pub const MAX_BATCH: usize = ENOUGH + MAX_LINE;

/// Whole lines of a recording, compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Observations in it, without those that a further part repeats.
    pub observations: u64,
    /// The lines as one zstd frame.
    pub frame: Vec<u8>,
}

/// Takes batches in order. Never waits, except at the end.
pub trait BatchSink: Send + fmt::Debug {
    /// Takes a batch, or returns false because its queue is full. Readers must be able to see that a batch is missing.
    fn take(&mut self, batch: Batch) -> bool;

    /// True if the queue has space for several batches.
    fn has_room(&self) -> bool;

    /// Waits for the delivery of the queue, for a bounded time. Returns the number of observations that were not
    /// delivered.
    fn finish(&mut self) -> u64;
}

/// Collects lines, and gives them to a sink.
pub(super) struct Batches {
    sink: Box<dyn BatchSink>,
    lines: Vec<u8>,
    /// Observations among the lines.
    observations: u64,
    /// True if the lines have more than ticks.
    has_facts: bool,
    /// Observations refused since the last part; `None` while none are.
    refused: Option<u64>,
    /// Observations refused in earlier parts.
    refused_before: u64,
    /// Compressed bytes that the sink took.
    bytes: u64,
}

impl Batches {
    pub(super) fn new(sink: Box<dyn BatchSink>) -> Self {
        Self { sink, lines: Vec::new(), observations: 0, has_facts: false, refused: None, refused_before: 0, bytes: 0 }
    }

    /// Adds the line of an observation. Returns false if it was left out: what follows a refused batch makes no sense
    /// without it, until the next part begins.
    pub(super) fn observe(&mut self, line: &[u8], is_tick: bool) -> io::Result<bool> {
        self.add(line)?;
        if let Some(refused) = &mut self.refused {
            *refused += 1;
            return Ok(false);
        }
        self.observations += 1;
        self.has_facts |= !is_tick;
        Ok(true)
    }

    /// Adds a line with its end, of an observation or not.
    pub(super) fn add(&mut self, line: &[u8]) -> io::Result<()> {
        if !self.lines.is_empty() && self.lines.len() + line.len() > ENOUGH {
            self.flush()?;
        }
        if self.refused.is_none() {
            self.lines.extend_from_slice(line);
        }
        Ok(())
    }

    /// True if there is more to deliver than the passage of time.
    pub(super) const fn has_facts(&self) -> bool {
        self.has_facts
    }

    /// True after a refused batch: the lines are left out until the next part.
    pub(super) const fn is_broken(&self) -> bool {
        self.refused.is_some()
    }

    /// True if a new part can begin after a refused batch.
    pub(super) fn has_room(&self) -> bool {
        self.sink.has_room()
    }

    /// Takes lines again, for a new part. Returns the number of observations that were left out before.
    pub(super) fn mend(&mut self) -> u64 {
        let refused = self.refused.take().unwrap_or_default();
        self.refused_before += refused;
        refused
    }

    /// Takes back [`mend`](Self::mend) if the new part was refused as well, so that its count is reported later.
    pub(super) fn refuse_again(&mut self, before: u64) -> bool {
        let Some(refused) = &mut self.refused else { return false };
        *refused += before;
        self.refused_before -= before;
        true
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the lines to the sink.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let frame = zstd::bulk::compress(&self.lines, zstd::DEFAULT_COMPRESSION_LEVEL)?;
        self.lines.clear();
        self.has_facts = false;
        let (observations, bytes) = (std::mem::take(&mut self.observations), frame.len() as u64);
        if self.sink.take(Batch { observations, frame }) {
            self.bytes += bytes;
        } else {
            self.refused = Some(self.refused.unwrap_or_default() + observations);
        }
        Ok(())
    }

    /// Ends the recording. Returns the number of observations that no reader will get.
    pub(super) fn finish(&mut self) -> u64 {
        let refused = self.mend();
        if refused > 0 {
            tracing::debug!(refused, "the recording ends while the queue is full");
        }
        self.refused_before + self.sink.finish()
    }
}
