//! Detects that the tracer took long to start.

use super::limits::START_WITHIN;
use crate::model::{BootTime, Fact, LATE_START, Observation, Span};

/// Progress of the tracer's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Start {
    /// No observation has arrived.
    #[default]
    Unseen,
    /// No tick has arrived.
    Running {
        /// Time of the first observation.
        first: BootTime,
        /// Time of the newest record of the kernel.
        newest: BootTime,
    },
    /// A tick has arrived, or the start lies in an earlier file of the recording.
    Over,
}

impl Start {
    /// Takes note of one observation, in order of arrival. At the first tick, returns a start that took longer than
    /// [`START_WITHIN`]: the time until which everything is in doubt, and how long the start took.
    ///
    /// The start lasts from the first observation to the newest record that arrived before the first tick. The tick itself
    /// carries the time at which reading began. A recording without ticks is an excerpt, and nothing is known about its
    /// start.
    pub(super) fn observe(&mut self, seen: &Observation) -> Option<(BootTime, Span)> {
        // Records of the tracer are numbered. Nothing is known about the start of other recordings, such as one written
        // by hand.
        let newest = if seen.seq.is_some() { seen.at } else { BootTime::default() };
        let (first, newest) = match *self {
            Self::Over => return None,
            // The tracer itself reported how long its start took.
            _ if matches!(&seen.fact, Fact::Lost { what, .. } if what == LATE_START) => {
                *self = Self::Over;
                return None;
            }
            Self::Unseen => (seen.at, newest),
            Self::Running { first, newest: before } => (first, before.max(newest)),
        };
        if seen.fact != Fact::Tick {
            *self = Self::Running { first, newest };
            return None;
        }
        *self = Self::Over;
        let took = newest.since(first);
        (took > START_WITHIN).then_some((newest, took))
    }
}
