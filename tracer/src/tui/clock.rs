//! Where a recording stands, and how it goes on.

use crate::model::{BootTime, Span};

/// Times as fast as it was; what keys choose from.
const SPEEDS: [(u64, u64, &str); 8] =
    [(1, 8, "1/8"), (1, 4, "1/4"), (1, 2, "1/2"), (1, 1, "1"), (2, 1, "2"), (4, 1, "4"), (16, 1, "16"), (64, 1, "64")];
const AS_IT_WAS: usize = 3;

/// A recording's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Its first moment.
    pub from: BootTime,
    /// Its last one.
    pub to: BootTime,
    /// The one that is shown.
    pub at: BootTime,
    /// Whether it goes on by itself.
    pub playing: bool,
    speed: usize,
}

impl Clock {
    /// At the end, where all that the recording has is known; not playing.
    #[must_use]
    pub const fn new(from: BootTime, to: BootTime) -> Self {
        Self { from, to, at: to, playing: false, speed: AS_IT_WAS }
    }

    /// How long the recording is.
    #[must_use]
    pub const fn length(&self) -> Span {
        self.to.since(self.from)
    }

    /// How fast it plays, in words: `2`, `1/4`.
    #[must_use]
    pub fn speed(&self) -> &'static str {
        SPEEDS[self.speed].2
    }

    pub(super) fn faster(&mut self) {
        self.speed = (self.speed + 1).min(SPEEDS.len() - 1);
    }

    pub(super) fn slower(&mut self) {
        self.speed = self.speed.saturating_sub(1);
    }

    /// Plays, from the start where it is at its end; or stops.
    pub(super) fn toggle(&mut self) {
        self.playing = !self.playing;
        if self.playing && self.at >= self.to {
            self.at = self.from;
        }
    }

    /// So much real time went by.
    pub(super) fn pass(&mut self, span: Span) {
        let (times, of, _) = SPEEDS[self.speed];
        self.go(self.at.plus(Span(span.0.saturating_mul(times) / of)));
        self.playing &= self.at < self.to;
    }

    /// A step back or on: a fiftieth of the recording, or a five-hundredth.
    pub(super) fn step(&mut self, on: bool, fine: bool) {
        let step = Span((self.length().0 / if fine { 500 } else { 50 }).max(1));
        self.go(if on { self.at.plus(step) } else { self.at.minus(step) });
    }

    /// To that part of it, in thousandths.
    pub(super) fn go_to_share(&mut self, thousandths: u64) {
        let share = u128::from(self.length().0) * u128::from(thousandths.min(1_000)) / 1_000;
        self.go(self.from.plus(Span(u64::try_from(share).unwrap_or(u64::MAX))));
    }

    fn go(&mut self, at: BootTime) {
        self.at = at.clamp(self.from, self.to);
    }

    /// How much of it lies before the moment that is shown, in thousandths.
    pub(super) fn share(&self) -> u64 {
        let length = u128::from(self.length().0.max(1));
        u64::try_from(u128::from(self.at.since(self.from).0) * 1_000 / length).unwrap_or(1_000)
    }
}
