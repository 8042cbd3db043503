//! The pump: observations → (recorder) → correlator → filter → sinks. The same for a live trace and a replay, which is why
//! both print the same.

mod filter;
mod history;
mod playback;
mod recording;

use std::io;

use self::{filter::Selection, history::History, recording::Recording};
pub use self::{
    filter::{Filter, Kinds},
    playback::{Playback, replay},
};
use crate::{
    correlate::{Correlator, Options},
    diagnose,
    model::{BootTime, Change, Depth, Fact, Observation, Report, Scope, Session, State, Want},
    record::Writer,
    redact::Redactor,
    sink::{self, Sink},
};

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Enough was seen.
    Stop,
}

impl Flow {
    /// Stops when either does.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        match self {
            Self::Stop => self,
            Self::Continue => other,
        }
    }
}

/// What was shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Sessions that passed the filter.
    pub sessions: u64,
    /// Sessions that there were.
    pub of: u64,
    /// Whether a live trace ended because its duration had passed.
    pub timed_out: bool,
}

/// How things stand.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Where.
    pub header: sink::Header,
    /// Sessions that are open and asked for, what they rest on, what was measured of it, and what is wrong.
    pub report: Report,
}

impl Seen {
    /// Of a report, what is open and asked for. What is wrong is decided on all that is known: one's fault is told from everybody's
    /// by the others, and what a session left behind by that session, which is over.
    #[must_use]
    pub fn of(header: sink::Header, report: Report, filter: &Filter) -> Self {
        let mut seen = Self::of_any(header, report, filter);
        seen.report.sessions.retain(|session| session.state == State::Open);
        seen
    }

    /// The same with those that are over, as many as are remembered.
    #[must_use]
    pub fn of_any(header: sink::Header, mut report: Report, filter: &Filter) -> Self {
        report.diagnosis = diagnose::diagnosis(&report);
        report.sessions.retain(|session| filter.matches(session));
        Self { header, report }
    }
}

/// What to measure of the sessions that are open: for a list briefly, those asked for; for a diagnosis whole, all of them and
/// what belongs to none.
#[must_use]
pub fn to_measure(report: &Report, depth: Depth, filter: &Filter) -> Scope {
    let deep = depth == Depth::Whole;
    // A diagnosis tells one's fault from everybody's by what it sees of the others.
    let is_measured = |session: &&Session| session.state == State::Open && (deep || filter.matches(session));
    let measured: Vec<Session> = report.sessions.iter().filter(is_measured).cloned().collect();
    let scope = Scope::of(&measured, depth).with_ends(report);
    if deep { scope.with_others(report) } else { scope }
}

/// When enough was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// Never: somebody else says when.
    #[default]
    Told,
    /// A session closed or is complete (`--once`).
    Complete,
    /// A session closed.
    Closed,
}

/// What a pump is made of.
pub struct Setup {
    /// Which sessions to show.
    pub filter: Filter,
    /// What to take out of arguments.
    pub redactor: Redactor,
    /// When to stop.
    pub until: Until,
    /// Where to show it.
    pub sinks: Vec<Box<dyn Sink>>,
}

/// Takes observations in, and shows what follows.
pub struct Pump {
    correlator: Correlator,
    selection: Selection,
    redactor: Redactor,
    until: Until,
    sinks: Vec<Box<dyn Sink>>,
    recorder: Option<Recording>,
    header: sink::Header,
    /// Faults so far, where a recording is judged as a whole.
    history: Option<History>,
    /// Whether the header was shown.
    begun: bool,
    shown: u64,
    told: u64,
}

impl Pump {
    /// Ready to pump. Nothing is shown before [`Pump::begin`].
    #[must_use]
    pub fn new(setup: Setup, header: sink::Header, options: &Options, recorder: Option<Writer>) -> Self {
        let Setup { filter, redactor, until, sinks } = setup;
        let correlator = Correlator::new(&header.host, options).with(&header.others);
        let selection = Selection { filter, ..Selection::default() };
        let recorder = recorder.map(Recording::new);
        let history = None;
        Self {
            correlator,
            selection,
            redactor,
            until,
            sinks,
            recorder,
            header,
            history,
            begun: false,
            shown: 0,
            told: 0,
        }
    }

    /// Keeps from now on since when and until when each fault lasts.
    #[must_use]
    pub fn judging(mut self) -> Self {
        self.history = Some(History::default());
        self
    }

    /// For a recording whose start lies in an earlier file.
    #[must_use]
    pub fn started_before(mut self) -> Self {
        self.correlator = self.correlator.started_before();
        self
    }

    /// Shows the header, then what was found so far; from now on findings are shown as they come. A reader of a live trace
    /// may rely on it: what happens after the header was shown is seen.
    ///
    /// # Errors
    /// When a sink cannot write.
    pub fn begin(&mut self) -> io::Result<Flow> {
        if !self.begun {
            self.begun = true;
            for sink in &mut self.sinks {
                sink.host(&self.header)?;
            }
        }
        self.show()
    }

    /// Takes in one observation.
    ///
    /// # Errors
    /// When a sink or the recording cannot be written.
    pub fn take(&mut self, mut seen: Observation) -> io::Result<Flow> {
        self.redactor.redact(&mut seen);
        if let Some(recorder) = &mut self.recorder {
            recorder.write(&seen)?;
        }
        let is_measure = seen.fact.is_measure();
        if is_measure {
            for sink in &mut self.sinks {
                sink.measured(&seen)?;
            }
        }
        let (at, is_tick) = (seen.at, seen.fact == Fact::Tick);
        self.correlator.ingest(seen);
        if let Some(history) = &mut self.history {
            if is_measure {
                history.measure(at);
            }
            if is_tick && history.is_due(self.correlator.settled()) {
                history.judge(&self.correlator.report());
            }
        }
        // A file ends where nothing goes on, and what is known was told.
        if let (Some(recorder), true) = (&mut self.recorder, is_tick && self.correlator.is_told()) {
            recorder.go_on(at, &self.correlator)?;
        }
        self.show()
    }

    /// Questions that came up: to be answered by observations.
    pub fn wants(&mut self) -> Vec<Want> {
        self.correlator.wants()
    }

    /// Whether reads of FIFOs would tell something.
    #[must_use]
    pub fn needs_reads(&self) -> bool {
        self.correlator.needs_reads()
    }

    /// Takes in everything that was told, and lets time pass up to then: of a recording nothing earlier follows.
    ///
    /// # Errors
    /// When a sink cannot write.
    pub fn reach(&mut self, at: BootTime) -> io::Result<Flow> {
        self.correlator.reach(at);
        let flow = self.show();
        self.judge();
        flow
    }

    /// Up to when everything was taken in that will come.
    #[must_use]
    pub fn settled(&self) -> BootTime {
        self.correlator.settled()
    }

    /// Whether more observations waited for their turn than memory allows.
    #[must_use]
    pub const fn is_overfull(&self) -> bool {
        self.correlator.is_overfull()
    }

    /// Whether time should be told soon: something waits for it.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.correlator.is_waiting()
    }

    /// Where it comes from.
    #[must_use]
    pub const fn header(&self) -> &sink::Header {
        &self.header
    }

    /// How things stand now, by what was taken in.
    #[must_use]
    pub fn seen(&self) -> Seen {
        let mut seen = Seen::of(self.header.clone(), self.correlator.report(), &self.selection.filter);
        if let Some(history) = &self.history {
            history.tell(&mut seen.report.diagnosis);
        }
        seen
    }

    /// The same with what is over.
    #[must_use]
    pub fn seen_at_all(&self) -> Seen {
        let mut seen = Seen::of_any(self.header.clone(), self.correlator.report(), &self.selection.filter);
        if let Some(history) = &self.history {
            history.tell(&mut seen.report.diagnosis);
        }
        seen
    }

    /// Everything up to now, judged as a whole: sessions that are open and those that had a fault, or `at_all` those that are over, too.
    #[must_use]
    pub fn seen_whole(&self, at_all: bool) -> Seen {
        let mut seen = self.seen_at_all();
        let Some(history) = &self.history else { return seen };
        history.tell_whole(&mut seen.report);
        let filter = &self.selection.filter;
        seen.report.sessions.retain(|session| {
            filter.matches(session) && (at_all || session.state == State::Open || history.had_fault(&session.id))
        });
        seen
    }

    /// How many changes were shown: where it grows, [`Pump::seen`] has something new.
    #[must_use]
    pub const fn told(&self) -> u64 {
        self.told
    }

    /// Whether a session is open, asked for or not.
    #[must_use]
    pub fn is_anything_open(&self) -> bool {
        self.correlator.is_anything_open()
    }

    /// What to measure, for a diagnosis.
    #[must_use]
    pub fn to_measure(&self) -> Scope {
        to_measure(&self.correlator.report(), Depth::Whole, &self.selection.filter)
    }

    /// Shows the rest and ends the recording. The last observation should have been [`Fact::Stopped`].
    ///
    /// # Errors
    /// When a sink or the recording cannot be written.
    pub fn finish(mut self) -> io::Result<Shown> {
        self.correlator.flush();
        self.begin()?;
        self.judge();
        let report = self.correlator.report();
        let of = report.totals.opened;
        let Seen { mut report, .. } = Seen::of_any(self.header, report, &self.selection.filter);
        if let Some(history) = &self.history {
            history.tell(&mut report.diagnosis);
            history.tell_whole(&mut report);
            report.sessions.retain(|session| self.selection.filter.matches(session));
        }
        for sink in &mut self.sinks {
            sink.finish(&report)?;
        }
        if let Some(recorder) = self.recorder {
            recorder.finish()?;
        }
        Ok(Shown { sessions: self.shown, of, timed_out: false })
    }

    /// Judges this moment, where faults are kept.
    fn judge(&mut self) {
        if let Some(history) = &mut self.history {
            history.judge(&self.correlator.report());
        }
    }

    fn show(&mut self) -> io::Result<Flow> {
        let mut flow = Flow::Continue;
        if !self.begun {
            return Ok(flow);
        }
        for finding in self.correlator.drain() {
            if let Some(history) = &mut self.history {
                history.change(finding.at);
            }
            for finding in self.selection.pass(finding) {
                self.told += 1;
                self.shown += u64::from(matches!(finding.change, Change::Opened(_)));
                for sink in &mut self.sinks {
                    sink.change(&finding)?;
                }
                if self.until.is_reached(&finding.change) {
                    flow = Flow::Stop;
                }
            }
        }
        for sink in &mut self.sinks {
            sink.passed(self.correlator.settled())?;
        }
        Ok(flow)
    }
}

impl Until {
    fn is_reached(self, change: &Change) -> bool {
        match (self, change) {
            (Self::Told, _) | (_, Change::Loss { .. }) => false,
            (Self::Complete | Self::Closed, Change::Closed(_)) => true,
            (Self::Complete, Change::Opened(session) | Change::Changed(session)) => {
                session.complete && !session.client.pending
            }
            (Self::Closed, Change::Opened(_) | Change::Changed(_)) => false,
        }
    }
}
