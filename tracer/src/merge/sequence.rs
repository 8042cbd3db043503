//! The observations of several recordings as one sequence: always that of the recording that lags behind.

use std::collections::{BTreeSet, VecDeque};

use crate::{
    model::{BootTime, Fact, Move, Observation, Source},
    record::Reader,
};

/// An observation of the sequence, with the clock and the ids of all hosts.
pub(super) struct Merged {
    /// Number of its recording.
    pub(super) input: usize,
    /// Time reached by the recording's kernel records.
    pub(super) at: BootTime,
    pub(super) seen: Observation,
}

/// Recordings that are being read.
pub(super) struct Sequence {
    sources: Vec<Reading>,
    /// Recordings with a next observation. Repeated observations of all recordings come first, as in a part; then the
    /// earliest comes first.
    ready: BTreeSet<(bool, BootTime, usize)>,
}

/// A recording that is being read.
struct Reading {
    reader: Reader,
    /// Observations after those of the reader.
    more: VecDeque<Observation>,
    to: Move,
    next: Option<Observation>,
    /// Number of repeated observations that are left, with the next one.
    told_again: u64,
    /// Time reached by the kernel's records, including the next one.
    at: BootTime,
}

impl Sequence {
    /// Begins to read: each recording with its place among the hosts, and its number of repeated observations.
    pub(super) fn new(recordings: Vec<(Reader, Move, u64)>) -> Self {
        let reading = |(reader, to, told_again)| {
            let (more, at) = (VecDeque::new(), BootTime::default());
            let mut reading = Reading { reader, more, to, next: None, told_again, at };
            reading.load();
            reading
        };
        let mut sequence = Self { sources: recordings.into_iter().map(reading).collect(), ready: BTreeSet::new() };
        (0..sequence.sources.len()).for_each(|input| sequence.line_up(input));
        sequence
    }

    /// Appends observations to a recording, with the clock and the ids of its host alone.
    pub(super) fn extend(&mut self, input: usize, more: Vec<Observation>) {
        let Some(source) = self.sources.get_mut(input) else { return };
        source.more.extend(more);
        if source.next.is_none() {
            source.load();
            self.line_up(input);
        }
    }

    /// Number of observations that were appended to a recording and not yet taken.
    pub(super) fn waiting(&self, input: usize) -> usize {
        self.sources.get(input).map_or(0, |source| source.more.len())
    }

    /// The next observation of a recording that has reached no later time than `until`.
    pub(super) fn next(&mut self, until: BootTime) -> Option<Merged> {
        let (is_new, at, input) = *self.ready.first()?;
        if is_new && at > until {
            return None;
        }
        self.ready.pop_first();
        let source = self.sources.get_mut(input)?;
        let seen = source.next.take()?;
        source.told_again = source.told_again.saturating_sub(1);
        source.load();
        self.line_up(input);
        Some(Merged { input, at, seen })
    }

    fn line_up(&mut self, input: usize) {
        if let Some(source) = self.sources.get(input).filter(|source| source.next.is_some()) {
            self.ready.insert((source.told_again == 0, source.at, input));
        }
    }
}

impl Reading {
    fn load(&mut self) {
        self.next = self.reader.next().or_else(|| self.more.pop_front());
        if let Some(seen) = &mut self.next {
            seen.move_to(self.to);
            // Answers are dated back. Only records and ticks show the progress of a recording.
            if shows_progress(seen) {
                self.at = self.at.max(seen.at);
            }
        }
    }
}

/// True for an observation whose time its recording has reached.
pub(super) fn shows_progress(seen: &Observation) -> bool {
    seen.source == Source::Ebpf || seen.fact == Fact::Tick
}
