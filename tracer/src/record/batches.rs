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

    /// Notes the number of observations that had no room and that no part tells yet. A sink that outlives the process keeps
    /// it. Default: ignored.
    fn left_out(&mut self, _observations: u64) {}

    /// The number that an earlier process left. Default: none.
    fn left_out_before(&self) -> u64 {
        0
    }

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
    /// Set after a refused batch, until the next part.
    is_broken: bool,
    /// Observations that were refused.
    refused: u64,
    /// Observations that were refused, also in an earlier process, and that no part tells yet.
    untold: u64,
    /// Those of them that the lines tell.
    told_in_lines: u64,
    /// Compressed bytes that the sink took.
    bytes: u64,
}

impl Batches {
    pub(super) fn new(sink: Box<dyn BatchSink>) -> Self {
        let untold = sink.left_out_before();
        Self {
            sink,
            lines: Vec::new(),
            observations: 0,
            has_facts: false,
            is_broken: false,
            refused: 0,
            untold,
            told_in_lines: 0,
            bytes: 0,
        }
    }

    /// Adds the line of an observation. Returns false if it was left out: what follows a refused batch makes no sense
    /// without it, until the next part begins.
    pub(super) fn observe(&mut self, line: &[u8], is_tick: bool) -> io::Result<bool> {
        self.add(line)?;
        self.has_facts |= !is_tick;
        if self.is_broken {
            self.refuse(1);
            return Ok(false);
        }
        self.observations += 1;
        Ok(true)
    }

    fn refuse(&mut self, observations: u64) {
        self.refused += observations;
        self.untold += observations;
    }

    /// Adds a line with its end, of an observation or not.
    pub(super) fn add(&mut self, line: &[u8]) -> io::Result<()> {
        if !self.lines.is_empty() && self.lines.len() + line.len() > ENOUGH {
            self.flush()?;
        }
        if !self.is_broken {
            self.lines.extend_from_slice(line);
        }
        Ok(())
    }

    /// Adds the line that tells of [`untold`](Self::untold).
    pub(super) fn add_untold(&mut self, line: &[u8]) -> io::Result<()> {
        self.add(line)?;
        if !self.is_broken {
            self.told_in_lines = self.untold;
        }
        Ok(())
    }

    /// True if there is more to deliver than the passage of time.
    pub(super) const fn has_facts(&self) -> bool {
        self.has_facts
    }

    /// True after a refused batch: the lines are left out until the next part.
    pub(super) const fn is_broken(&self) -> bool {
        self.is_broken
    }

    /// True if a new part can begin after a refused batch.
    pub(super) fn has_room(&self) -> bool {
        self.sink.has_room()
    }

    /// Takes lines again, for a new part.
    pub(super) const fn mend(&mut self) {
        self.is_broken = false;
    }

    /// Number of observations that were left out and that no part tells yet.
    pub(super) const fn untold(&self) -> u64 {
        self.untold
    }

    /// Number of observations of this process that were left out.
    pub(super) const fn refused(&self) -> u64 {
        self.refused
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives the lines to the sink.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.has_facts = false;
        if self.is_broken {
            self.sink.left_out(self.untold);
        }
        if self.lines.is_empty() {
            return Ok(());
        }
        let frame = zstd::bulk::compress(&self.lines, zstd::DEFAULT_COMPRESSION_LEVEL)?;
        self.lines.clear();
        let (observations, told) = (std::mem::take(&mut self.observations), std::mem::take(&mut self.told_in_lines));
        let bytes = frame.len() as u64;
        if self.sink.take(Batch { observations, frame }) {
            self.bytes += bytes;
            self.untold -= told;
            if told > 0 {
                self.sink.left_out(self.untold);
            }
        } else {
            self.is_broken = true;
            self.refuse(observations);
            self.sink.left_out(self.untold);
        }
        Ok(())
    }

    /// Ends the recording. Returns the number of observations that no reader will get.
    pub(super) fn finish(&mut self) -> u64 {
        if self.is_broken {
            tracing::debug!(untold = self.untold, "the recording ends while the queue is full");
        }
        self.refused + self.sink.finish()
    }
}
