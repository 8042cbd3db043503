//! Replay of a recording.

use std::{collections::VecDeque, io};

use super::pump::{Flow, Pump, Setup, Shown, Status};
use crate::{
    correlate::{Options, REORDER_WITHIN},
    model::{BootTime, Observation, Source},
    record::{self, Reader},
    sink,
};

/// Replays a recording with the output of the live run. Calls `wait` with the time of each observation before
/// processing it; `wait` decides whether to continue. [`Reader::end`] reports the end of the recording.
///
/// # Errors
/// A sink cannot write.
pub fn replay(reader: &mut Reader, setup: Setup, mut wait: impl FnMut(BootTime) -> Flow) -> io::Result<Shown> {
    // A sink that draws the whole recording also draws its faults.
    let judging = setup.sinks.iter().any(|sink| sink.judges());
    let pump = pump(reader.header(), setup);
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

/// Damage: the correlator would hold back more observations than memory allows.
const OVERFULL: &str = "too many observations are queued: time does not advance";

/// Damage: the playback would hold back more observations than memory allows.
const TOO_FAR_AHEAD: &str = "too many observations are later than the requested moment";

/// Maximum size of observations later than the requested moment, in bytes. Equal to the limit of the reordering window.
const MAX_AHEAD: usize = 256 << 20;

/// A pump for the observations of a recording with this header.
#[must_use]
pub fn pump(header: &record::Header, setup: Setup) -> Pump {
    let pairing = header.pairing();
    let part = header.part;
    let record::Header { anchor, host, others, abilities, degraded, options, .. } = header.clone();
    let header = sink::Header { anchor, host, others, abilities, degraded };
    let record::Settings { apiserver_port, kubelet_port, runtime_socket, .. } = options;
    let options = Options { apiserver_port, kubelet_port, runtime_socket, pairing };
    let pump = Pump::new(setup, header, &options, None);
    // A continuation file begins with facts of earlier files, older than its first tick by any amount.
    if part.is_some_and(|part| part.told_again > 0) { pump.started_before() } else { pump }
}

/// A recording that can be played up to any moment, and further from there. Going back means opening it anew.
pub struct Playback {
    reader: Reader,
    pump: Pump,
    /// Observations read but later than the current position, in order of arrival.
    ahead: VecDeque<Observation>,
    /// Start of the recording, after the repeated observations of earlier files.
    start: Option<BootTime>,
    /// Time of the latest observation read.
    end: BootTime,
}

impl Playback {
    /// Creates a playback, positioned before the beginning.
    ///
    /// # Errors
    /// A sink cannot write.
    pub fn new(reader: Reader, setup: Setup) -> io::Result<Self> {
        let mut pump = pump(reader.header(), setup).judging();
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

    /// Start of the recording; `None` for an empty one.
    #[must_use]
    pub const fn start(&self) -> Option<BootTime> {
        self.start
    }

    /// Time of the latest observation read. After [`Playback::to_the_end`], the end of the recording.
    #[must_use]
    pub const fn end(&self) -> BootTime {
        self.end
    }

    /// Reader of the recording, for its end and its current file.
    #[must_use]
    pub const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Traced host.
    #[must_use]
    pub const fn header(&self) -> &sink::Header {
        self.pump.header()
    }

    /// Processes everything up to `at`. Returns true if more follows.
    ///
    /// # Errors
    /// A sink cannot write.
    pub fn to(&mut self, at: BootTime) -> io::Result<bool> {
        while !self.towards(at, usize::MAX)? {}
        Ok(!self.ahead.is_empty())
    }

    /// Processes at most `budget` observations up to `at`. Returns true if that was everything; callers with other work
    /// call it again.
    ///
    /// # Errors
    /// A sink cannot write.
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
            // Answers may be dated late, records of the kernel arrive within the window, and nothing is later than a
            // tick. Stop at the first record or tick beyond the window.
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
        // Observations read ahead keep their order of arrival.
        later.append(&mut self.ahead);
        self.ahead = later;
        if is_there {
            self.pump.reach(at)?;
        }
        Ok(is_there)
    }

    /// Processes the rest of the recording.
    ///
    /// # Errors
    /// A sink cannot write.
    pub fn to_the_end(&mut self) -> io::Result<()> {
        while let Some(seen) = self.ahead.pop_front().or_else(|| self.read()) {
            self.take(seen)?;
        }
        self.pump.reach(self.end)?;
        Ok(())
    }

    /// Time of the first evaluation so far that found a fault of a selected session.
    #[must_use]
    pub fn first_fault(&self) -> Option<BootTime> {
        self.pump.first_fault()
    }

    /// Time at which the first selected session became known.
    #[must_use]
    pub const fn first_session(&self) -> Option<BootTime> {
        self.pump.first_session()
    }

    /// State at this position: open sessions.
    #[must_use]
    pub fn status(&self) -> Status {
        self.pump.status()
    }

    /// State at this position: open and closed sessions.
    #[must_use]
    pub fn status_with_closed(&self) -> Status {
        self.pump.status_with_closed()
    }

    /// State of the whole recording: sessions open at its end and sessions that had a fault; with `at_all`, all known
    /// sessions.
    #[must_use]
    pub fn status_of_whole(&self, at_all: bool) -> Status {
        self.pump.status_of_whole(at_all)
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
