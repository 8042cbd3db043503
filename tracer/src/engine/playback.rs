//! A recording, played.

use std::{collections::VecDeque, io};

use super::{Flow, Pump, Seen, Setup, Shown};
use crate::{
    correlate::{Options, REORDER_WITHIN},
    model::{BootTime, Observation, Source},
    record::{self, Reader},
    sink,
};

/// Shows a recording as it was shown live. `wait` is called with the time of each observation before it is taken in, and says
/// whether to go on. How the recording ended is [`Reader::end`]'s to tell.
///
/// # Errors
/// When a sink cannot write.
pub fn replay(reader: &mut Reader, setup: Setup, mut wait: impl FnMut(BootTime) -> Flow) -> io::Result<Shown> {
    // Who draws the whole recording draws its faults, too.
    let judging = setup.sinks.iter().any(|sink| sink.judges());
    let pump = pump(reader, setup);
    let mut pump = if judging { pump.judging() } else { pump };
    pump.begin()?;
    while let Some(seen) = reader.next() {
        if wait(seen.at).or(pump.take(seen)?) == Flow::Stop {
            break;
        }
        if pump.is_overfull() {
            reader.refuse(OVERFULL);
        }
        // The answers are in the recording.
        drop(pump.wants());
    }
    pump.finish()
}

/// Damage: the correlator holds back as much as memory allows.
const OVERFULL: &str = "too many observations wait for their turn: time does not pass";

/// Damage: a playback holds back as much as memory allows.
const TOO_FAR_AHEAD: &str = "too many observations are later than the moment that is asked for";

/// Memory for observations that were read and are later than the moment that is asked for, in bytes: as for those that wait in the
/// reordering window.
const MAX_AHEAD: usize = 256 << 20;

fn pump(reader: &Reader, setup: Setup) -> Pump {
    let pairing = reader.header().pairing();
    let record::Header { anchor, host, others, abilities, degraded, options, .. } = reader.header().clone();
    let header = sink::Header { anchor, host, others, abilities, degraded };
    let record::Settings { apiserver_port, kubelet_port, runtime_socket, .. } = options;
    let options = Options { apiserver_port, kubelet_port, runtime_socket, pairing };
    let pump = Pump::new(setup, header, &options, None);
    // A later file begins with facts of earlier ones, which are older than its first tick by any time.
    if reader.header().part.is_some_and(|part| part.told_again > 0) { pump.started_before() } else { pump }
}

/// A recording that is played up to any moment, and on from there; for what was before, it is opened anew.
pub struct Playback {
    reader: Reader,
    pump: Pump,
    /// Read, and later than where it stands; in their order of arrival.
    ahead: VecDeque<Observation>,
    /// When the recording begins: behind what the file tells again of earlier ones.
    start: Option<BootTime>,
    /// The latest that was read.
    end: BootTime,
}

impl Playback {
    /// Stands before the beginning.
    ///
    /// # Errors
    /// When a sink cannot write.
    pub fn new(reader: Reader, setup: Setup) -> io::Result<Self> {
        let mut pump = pump(&reader, setup).judging();
        pump.begin()?;
        let told_again = reader.header().part.map_or(0, |part| part.told_again);
        let mut playback = Self { reader, pump, ahead: VecDeque::new(), start: None, end: BootTime::default() };
        for _ in 0..told_again {
            let Some(seen) = playback.reader.next() else { break };
            playback.take(seen)?;
        }
        playback.start = playback.read().map(|seen| {
            let at = seen.at;
            playback.ahead.push_front(seen);
            at
        });
        Ok(playback)
    }

    /// When the recording begins; `None` where it holds nothing.
    #[must_use]
    pub const fn start(&self) -> Option<BootTime> {
        self.start
    }

    /// The latest that was read so far: behind [`Playback::to_the_end`], when the recording ends.
    #[must_use]
    pub const fn end(&self) -> BootTime {
        self.end
    }

    /// How the recording ended, once that was read, and which file it is.
    #[must_use]
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Where it was recorded.
    #[must_use]
    pub const fn header(&self) -> &sink::Header {
        self.pump.header()
    }

    /// Takes in all that was so by then, and tells whether there is more.
    ///
    /// # Errors
    /// When a sink cannot write.
    pub fn to(&mut self, at: BootTime) -> io::Result<bool> {
        while !self.towards(at, usize::MAX)? {}
        Ok(!self.ahead.is_empty())
    }

    /// Takes in at most so many observations of what was so by then, and tells whether that was all: for whoever has something else to
    /// look at meanwhile.
    ///
    /// # Errors
    /// When a sink cannot write.
    pub fn towards(&mut self, at: BootTime, mut budget: usize) -> io::Result<bool> {
        let mut later = VecDeque::new();
        let mut weight = 0;
        let mut is_there = true;
        while let Some(seen) = self.ahead.pop_front().or_else(|| self.read()) {
            if seen.at <= at {
                self.take(seen)?;
                budget = budget.saturating_sub(1);
                if budget == 0 {
                    is_there = false;
                    break;
                }
                continue;
            }
            // Answers may be put late, records of the kernel come within the window, and time overtakes nothing.
            let is_beyond = seen.source != Source::Snapshot && seen.at > at.plus(REORDER_WITHIN);
            weight += seen.weight();
            later.push_back(seen);
            if weight > MAX_AHEAD {
                self.reader.refuse(TOO_FAR_AHEAD);
            }
            if is_beyond {
                break;
            }
        }
        later.append(&mut self.ahead);
        self.ahead = later;
        if is_there {
            self.pump.reach(at)?;
        }
        Ok(is_there)
    }

    /// Takes in all.
    ///
    /// # Errors
    /// When a sink cannot write.
    pub fn to_the_end(&mut self) -> io::Result<()> {
        while let Some(seen) = self.ahead.pop_front().or_else(|| self.read()) {
            self.take(seen)?;
        }
        self.pump.reach(self.end)?;
        Ok(())
    }

    /// How things stood.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.pump.seen()
    }

    /// The same with what was over by then.
    #[must_use]
    pub fn seen_at_all(&self) -> Seen {
        self.pump.seen_at_all()
    }

    /// The whole recording, judged as such: sessions that are open at its end and those that had a fault, or `at_all` all that are known.
    #[must_use]
    pub fn seen_whole(&self, at_all: bool) -> Seen {
        self.pump.seen_whole(at_all)
    }

    fn read(&mut self) -> Option<Observation> {
        let seen = self.reader.next()?;
        self.end = self.end.max(seen.at);
        Some(seen)
    }

    fn take(&mut self, seen: Observation) -> io::Result<()> {
        self.pump.take(seen)?;
        // The answers are in the recording.
        drop(self.pump.wants());
        if self.pump.is_overfull() {
            self.reader.refuse(OVERFULL);
        }
        Ok(())
    }
}
