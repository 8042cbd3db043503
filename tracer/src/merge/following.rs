//! Recordings that go on while they are merged.

use super::{
    hosts::{Input, Merge, Surveyed},
    origin::{Fault, FromStream},
    sequence::{Merged, Sequence, shows_progress},
};
use crate::{
    model::{BootTime, Observation, Span},
    record::{Header, OpenError},
};
use std::path::PathBuf;

/// Most observations of one recording that wait until the others have reached their time. A host whose clock is minutes ahead
/// has some ten thousand.
const MAX_WAITING: usize = 200_000;

/// Time between the zero of the merged clock and the boot of the first host: later hosts may have been up for longer.
const BEFORE_BOOT: u64 = 13 * 366 * 24 * 3_600 * 1_000_000_000;

/// Merges the same hosts again and again. Times stay comparable: the zero of the merged clock keeps its UTC.
#[derive(Debug, Default)]
pub struct FutureMerge {
    /// UTC of the zero, in nanoseconds; `None` before the first merge.
    zero: Option<u64>,
}

impl FutureMerge {
    /// Surveys recordings, and merges them from their beginning. Recordings that cannot be read are returned with the reason.
    ///
    /// # Errors
    /// No recording can be read, or their times do not fit together.
    pub fn begin(&mut self, streams: Vec<FromStream>) -> Result<(Following, Vec<Fault>), Fault> {
        let (surveyed, left_out) = Surveyed::of_streams(streams);
        let zero = self.zero.or_else(|| Some(surveyed.first_boot()?.saturating_sub(BEFORE_BOOT)));
        let merge = surveyed.merge(zero)?;
        self.zero = zero;
        let reached = merge.reached.clone();
        let sequence = merge.sequence().map_err(|error| (PathBuf::new(), OpenError::Io(error)))?;
        Ok((Following { merge, sequence, reached }, left_out))
    }
}

/// Recordings of hosts, merged as far as they are known.
pub struct Following {
    merge: Merge,
    sequence: Sequence,
    /// Merged time that each recording has reached.
    reached: Vec<BootTime>,
}

impl Following {
    /// Surveyed recordings, in the given order without those that cannot be read.
    #[must_use]
    pub fn inputs(&self) -> &[Input] {
        self.merge.inputs()
    }

    /// Header of the merged recording.
    #[must_use]
    pub fn header(&self) -> Header {
        self.merge.header(String::new())
    }

    /// Merged time that a recording has reached.
    #[must_use]
    pub fn reached(&self, input: usize) -> BootTime {
        self.reached.get(input).copied().unwrap_or_default()
    }

    /// Appends observations to a recording. Returns false if too many wait.
    pub fn extend(&mut self, input: usize, more: Vec<Observation>) -> bool {
        let later = self.merge.inputs().get(input).map_or(Span(0), |input| input.to.later);
        if self.sequence.waiting(input) + more.len() > MAX_WAITING {
            return false;
        }
        for seen in &more {
            if let Some(survey) = self.merge.surveys.get_mut(input) {
                survey.take(seen);
            }
            if shows_progress(seen)
                && let Some(reached) = self.reached.get_mut(input)
            {
                *reached = (*reached).max(seen.at.plus(later));
            }
        }
        self.sequence.extend(input, more);
        true
    }

    /// True if connections tell another clock than at the beginning: only a new merge uses it.
    #[must_use]
    pub fn has_outdated_clock(&self) -> bool {
        self.merge.has_outdated_clock()
    }

    /// The next observation up to a merged time: the number of its recording, the time that the recording has reached, and
    /// the observation.
    pub fn next(&mut self, until: BootTime) -> Option<(usize, BootTime, Observation)> {
        while let Some(Merged { input, at, seen }) = self.sequence.next(until) {
            if self.merge.is_true_of_all(input, &seen.fact) {
                return Some((input, at, seen));
            }
        }
        None
    }
}
