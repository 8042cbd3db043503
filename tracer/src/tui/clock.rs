//! Position in a recording, and its playback.

use crate::model::{BootTime, Span};

/// Playback speeds: factor, divisor, label.
const SPEEDS: [(u64, u64, &str); 8] =
    [(1, 8, "1/8"), (1, 4, "1/4"), (1, 2, "1/2"), (1, 1, "1"), (2, 1, "2"), (4, 1, "4"), (16, 1, "16"), (64, 1, "64")];
const NORMAL_SPEED: usize = 3;

/// Position in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// First moment of the recording.
    pub from: BootTime,
    /// Last moment of the recording.
    pub to: BootTime,
    /// The moment on the screen.
    pub at: BootTime,
    /// True while playback runs.
    pub playing: bool,
    speed: usize,
}

impl Clock {
    /// Starts paused at the end, where everything is known.
    #[must_use]
    pub const fn new(from: BootTime, to: BootTime) -> Self {
        Self { from, to, at: to, playing: false, speed: NORMAL_SPEED }
    }

    /// Length of the recording.
    #[must_use]
    pub const fn length(&self) -> Span {
        self.to.since(self.from)
    }

    /// Label of the playback speed: `2`, `1/4`.
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

    /// Starts or stops playback; at the end, starts over.
    pub(super) fn toggle(&mut self) {
        self.playing = !self.playing;
        if self.playing && self.at >= self.to {
            self.at = self.from;
        }
    }

    /// Advances playback by a span of real time.
    pub(super) fn pass(&mut self, span: Span) {
        let (times, of, _) = SPEEDS[self.speed];
        self.go(self.at.plus(Span(span.0.saturating_mul(times) / of)));
        self.playing &= self.at < self.to;
    }

    /// Moves back or forward by a fiftieth of the recording, or by a five-hundredth if `fine`.
    pub(super) fn skip(&mut self, forward: bool, fine: bool) {
        let step = Span((self.length().0 / if fine { 500 } else { 50 }).max(1));
        self.go(if forward { self.at.plus(step) } else { self.at.minus(step) });
    }

    /// Moves to the first or last moment.
    pub(super) fn go_to_end(&mut self, last: bool) {
        self.go(if last { self.to } else { self.from });
    }

    /// Moves to a position in thousandths of the length.
    pub(super) fn go_to_share(&mut self, thousandths: u64) {
        let share = u128::from(self.length().0) * u128::from(thousandths.min(1_000)) / 1_000;
        self.go(self.from.plus(Span(u64::try_from(share).unwrap_or(u64::MAX))));
    }

    pub(super) fn go(&mut self, at: BootTime) {
        self.at = at.clamp(self.from, self.to);
    }

    /// Position in thousandths of the length.
    pub(super) fn share(&self) -> u64 {
        let length = u128::from(self.length().0.max(1));
        u64::try_from(u128::from(self.at.since(self.from).0) * 1_000 / length).unwrap_or(1_000)
    }
}
