//! One merge of everything known, which goes on as messages come.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use super::pace::{Lag, Pace};
use crate::{
    engine::{self, Pump, Setup, Shown, Status},
    merge::Following,
    model::{BootTime, Fact, Observation, Source},
    record::Reader,
    stream::{Step, Tail},
};

/// A merge in progress.
pub(super) struct Epoch {
    following: Following,
    pump: Pump,
    /// What follows the recording of each host, and its number in the merge; `None` for a host that is not merged.
    tails: BTreeMap<String, (Option<usize>, Tail)>,
    pace: Pace,
    /// Hosts whose facts came after their time, or cannot be read on: nothing more of them is taken.
    left_out: BTreeSet<usize>,
    /// Set if a host was left out since the last look.
    has_late: bool,
    /// Merged time up to which everything was taken.
    at: BootTime,
    /// Set once everything that was known at the beginning was taken.
    is_present: bool,
}

impl Epoch {
    /// Begins with recordings, and what follows each of them with the time of its last message.
    pub(super) fn begin(following: Following, tails: Vec<(Tail, u64)>, setup: Setup) -> io::Result<Self> {
        let mut pace = Pace::default();
        let mut by_host = BTreeMap::new();
        for (tail, stored_ns) in tails {
            let name = tail.host().to_owned();
            let input = following.inputs().iter().position(|input| input.origin.name().as_os_str() == name.as_str());
            if let Some(input) = input {
                pace.heard(input, following.reached(input), stored_ns);
            }
            by_host.insert(name, (input, tail));
        }
        let mut pump = engine::pump(&following.header(), setup);
        pump.begin()?;
        let (left_out, at) = (BTreeSet::new(), BootTime::default());
        Ok(Self { following, pump, tails: by_host, pace, left_out, has_late: false, at, is_present: false })
    }

    /// Takes a message. Returns false if it can only be merged anew.
    pub(super) fn take(&mut self, host: &str, id: &str, stored_ns: u64, payload: &[u8]) -> bool {
        let Some((input, tail)) = self.tails.get_mut(host) else { return false };
        let (step, input) = (tail.take(id, payload), *input);
        let Some(input) = input else { return step != Step::Break };
        let is_taken = match step {
            Step::Nothing => true,
            Step::Break => false,
            Step::Lines(lines) => match tail.header().map(|header| observations(header, lines)) {
                Some(Some(seen)) => self.following.extend(input, seen),
                Some(None) | None => false,
            },
        };
        if !is_taken {
            self.left_out.insert(input);
        }
        self.pace.heard(input, self.following.reached(input), stored_ns);
        is_taken
    }

    /// Takes everything up to the present. Returns its merged time.
    pub(super) fn advance(&mut self, now_ns: u64) -> io::Result<BootTime> {
        let until = self.pace.watermark(now_ns).max(self.at);
        while let Some((input, at, seen)) = self.following.next(until) {
            // A host without facts keeps its ticks until there is one. They change nothing that is settled.
            if seen.fact == Fact::Tick && seen.at < self.pump.settled() && self.is_present {
                continue;
            }
            // Samples and answers are newer than the records before them.
            if at.max(seen.at) < self.pump.settled() && self.is_present && self.left_out.insert(input) {
                self.has_late = true;
                let late = self.pump.settled().since(at.max(seen.at));
                let name = self.following.inputs().get(input).map(|input| input.origin.name().display());
                tracing::debug!(host = name.map(tracing::field::display), late_ms = late.as_millis(), "late facts");
            }
            if self.left_out.contains(&input) {
                continue;
            }
            self.pump.take(seen)?;
            // The answers are in the recordings.
            drop(self.pump.wants());
        }
        self.is_present = true;
        if until > self.at {
            self.at = until;
            self.pump.take(Observation::new(until, Source::Engine, Fact::Tick))?;
        }
        Ok(until)
    }

    /// True if a host was left out since the last call.
    pub(super) fn has_late(&mut self) -> bool {
        std::mem::take(&mut self.has_late)
    }

    /// True if connections tell another clock of a host than the one that is used.
    pub(super) fn has_outdated_clock(&self) -> bool {
        self.following.has_outdated_clock()
    }

    /// Whether each host keeps up, by name.
    pub(super) fn lags(&self, now_ns: u64) -> BTreeMap<String, Lag> {
        let lag = |(host, (input, _)): (&String, &(Option<usize>, Tail))| {
            Some((host.clone(), self.pace.lag((*input)?, now_ns)))
        };
        self.tails.iter().filter_map(lag).collect()
    }

    /// State of the sessions.
    pub(super) fn status(&self) -> Status {
        self.pump.status()
    }

    /// Shows the final report.
    pub(super) fn finish(self) -> io::Result<Shown> {
        self.pump.finish()
    }
}

/// Observations in the lines of a message, checked like those of a file; `None` if the lines are damaged.
fn observations(header: &crate::record::Header, lines: Vec<u8>) -> Option<Vec<Observation>> {
    let mut bytes = serde_json::to_vec(header).ok()?;
    bytes.push(b'\n');
    bytes.extend(lines);
    let mut reader = Reader::new(Box::new(io::Cursor::new(bytes))).ok()?;
    let seen: Vec<Observation> = reader.by_ref().collect();
    let is_whole = !matches!(reader.end(), Some(crate::record::End::Damaged(_)));
    is_whole.then_some(seen)
}
