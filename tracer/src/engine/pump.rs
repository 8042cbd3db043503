//! The pump. The same for a live trace and a replay.

use std::{collections::BTreeMap, io};

use super::{
    filter::{Filter, Selection},
    history::History,
    recording::Recording,
};
use crate::{
    correlate::{Correlator, Options},
    diagnose,
    model::{BootTime, Change, Depth, Fact, MapFill, Observation, Report, Scope, Session, State, Want},
    record::{REFUSED, Writer, Written},
    redact::Redactor,
    sink::{self, Sink},
};

/// Decision to continue or stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Continue.
    Continue,
    /// The stop condition is met.
    Stop,
}

impl Flow {
    /// `Stop` if either side is `Stop`.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        match self {
            Self::Stop => self,
            Self::Continue => other,
        }
    }
}

/// Counts of shown sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Sessions that passed the filter.
    pub sessions: u64,
    /// All sessions.
    pub of: u64,
    /// Set if a live trace ended because its duration had passed.
    pub timed_out: bool,
    /// Size of the recording; `None` without one.
    pub written: Option<Written>,
    /// Lost events and delays, by name.
    pub lost: BTreeMap<String, u64>,
}

/// State at one moment: report and diagnosis.
#[derive(Clone, Debug)]
pub struct Status {
    /// Traced host.
    pub header: sink::Header,
    /// Selected sessions with measurements and diagnosis.
    pub report: Report,
}

impl Status {
    /// Open sessions of a report that pass the filter. The diagnosis uses all sessions: comparing sessions separates a
    /// fault of one from a fault of all, and leftovers belong to sessions that have ended.
    #[must_use]
    pub fn of(header: sink::Header, report: Report, filter: &Filter) -> Self {
        let mut status = Self::of_any(header, report, filter);
        status.report.sessions.retain(|session| session.state == State::Open);
        status
    }

    /// Open and remembered closed sessions of a report that pass the filter.
    #[must_use]
    pub fn of_any(header: sink::Header, mut report: Report, filter: &Filter) -> Self {
        report.diagnosis = diagnose::diagnosis(&report);
        report.sessions.retain(|session| filter.matches(session));
        Self { header, report }
    }
}

/// Scope of the next measurement. A list measures the selected open sessions briefly; a diagnosis measures everything,
/// including connections without a session.
#[must_use]
pub fn to_measure(report: &Report, depth: Depth, filter: &Filter) -> Scope {
    let deep = depth == Depth::Whole;
    // A diagnosis compares sessions, so it measures the unselected ones as well.
    let is_measured = |session: &&Session| session.state == State::Open && (deep || filter.matches(session));
    let measured: Vec<Session> = report.sessions.iter().filter(is_measured).cloned().collect();
    let scope = Scope::of(&measured, depth).with_ends(report);
    if deep { scope.with_others(report) } else { scope }
}

/// Condition for stopping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// Never; the caller decides.
    #[default]
    Never,
    /// A session has closed or is complete (`--once`). Execs that may be probes do not count.
    Complete,
    /// A session has closed.
    Closed,
}

/// Configuration of a pump.
#[derive(Default)]
pub struct Setup {
    /// Sessions to show.
    pub filter: Filter,
    /// Rules for removing secrets from arguments.
    pub redactor: Redactor,
    /// Stop condition.
    pub until: Until,
    /// Outputs.
    pub sinks: Vec<Box<dyn Sink>>,
    /// Sinks that receive every session, whatever the filter, and its evaluations: metrics, traces.
    pub exporters: Vec<Box<dyn Sink>>,
}

/// Feeds observations to the correlator and its results to the sinks.
pub struct Pump {
    correlator: Correlator,
    selection: Selection,
    redactor: Redactor,
    until: Until,
    sinks: Vec<Box<dyn Sink>>,
    exporters: Vec<Box<dyn Sink>>,
    recorder: Option<Recording>,
    /// Observations that the recording left out, as the exporters know it.
    unrecorded: u64,
    header: sink::Header,
    /// Faults over time; `None` unless a recording is evaluated as a whole.
    history: Option<History>,
    /// Set once the header has been shown.
    begun: bool,
    shown: u64,
    reported: u64,
    /// Time at which the first session was shown.
    first_shown: Option<BootTime>,
}

impl Pump {
    /// Creates a pump. Sinks receive nothing before [`Pump::begin`].
    #[must_use]
    pub fn new(setup: Setup, header: sink::Header, options: &Options, recorder: Option<Writer>) -> Self {
        let Setup { filter, redactor, until, sinks, exporters } = setup;
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
            exporters,
            recorder,
            unrecorded: 0,
            header,
            history,
            begun: false,
            shown: 0,
            reported: 0,
            first_shown: None,
        }
    }

    /// Tracks start and end of each fault from now on.
    #[must_use]
    pub fn judging(mut self) -> Self {
        self.history = Some(History::default());
        self
    }

    /// Marks the recording as a continuation of an earlier file.
    #[must_use]
    pub fn started_before(mut self) -> Self {
        self.correlator = self.correlator.started_before();
        self
    }

    /// Shows the header, then the findings so far. Later findings are shown as they come. Readers of a live trace may
    /// rely on the header: everything that happens after it is observed.
    ///
    /// # Errors
    /// A sink cannot write.
    pub fn begin(&mut self) -> io::Result<Flow> {
        if !self.begun {
            self.begun = true;
            for sink in self.sinks.iter_mut().chain(&mut self.exporters) {
                sink.host(&self.header)?;
            }
        }
        self.show()
    }

    /// Processes one observation.
    ///
    /// # Errors
    /// A sink or the recording cannot be written.
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
                self.judge();
            }
        }
        // Start a new file only when no fact is pending and all findings have been reported.
        if let (Some(recorder), true) = (&mut self.recorder, is_tick && self.correlator.is_reported()) {
            recorder.go_on(at, &self.correlator)?;
        }
        if is_tick {
            self.show_unrecorded();
        }
        self.show()
    }

    /// New questions of the correlator. Their answers come back as observations.
    pub fn wants(&mut self) -> Vec<Want> {
        self.correlator.wants()
    }

    /// True if records of FIFO reads would help.
    #[must_use]
    pub fn needs_reads(&self) -> bool {
        self.correlator.needs_reads()
    }

    /// Processes all pending observations and advances the clock to `at`. Valid only if no earlier observation can
    /// follow, as in a recording.
    ///
    /// # Errors
    /// A sink cannot write.
    pub fn reach(&mut self, at: BootTime) -> io::Result<Flow> {
        self.correlator.reach(at);
        let flow = self.show();
        self.judge();
        flow
    }

    /// Time up to which all observations have been processed.
    #[must_use]
    pub fn settled(&self) -> BootTime {
        self.correlator.settled()
    }

    /// True if more observations wait in the reordering window than memory allows.
    #[must_use]
    pub const fn is_overfull(&self) -> bool {
        self.correlator.is_overfull()
    }

    /// True if a tick should follow soon because a timer is pending.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.correlator.is_waiting()
    }

    /// True if a tick should follow within [`BATCH_EVERY`](crate::record::BATCH_EVERY), because facts wait for their batch.
    #[must_use]
    pub fn has_batch(&self) -> bool {
        self.recorder.as_ref().is_some_and(Recording::has_batch)
    }

    /// Traced host.
    #[must_use]
    pub const fn header(&self) -> &sink::Header {
        &self.header
    }

    /// State now: open sessions.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut status = Status::of(self.header.clone(), self.correlator.report(), &self.selection.filter);
        if let Some(history) = &self.history {
            history.complete(&mut status.report.diagnosis);
        }
        status
    }

    /// State now: open and closed sessions.
    #[must_use]
    pub fn status_with_closed(&self) -> Status {
        let mut status = Status::of_any(self.header.clone(), self.correlator.report(), &self.selection.filter);
        if let Some(history) = &self.history {
            history.complete(&mut status.report.diagnosis);
        }
        status
    }

    /// State of the whole run so far: open sessions and sessions that had a fault; with `at_all`, all closed sessions
    /// as well.
    #[must_use]
    pub fn status_of_whole(&self, at_all: bool) -> Status {
        let mut status = self.status_with_closed();
        let Some(history) = &self.history else { return status };
        history.complete_whole(&mut status.report);
        let filter = &self.selection.filter;
        status.report.sessions.retain(|session| {
            filter.matches(session) && (at_all || session.state == State::Open || history.had_fault(&session.id))
        });
        status
    }

    /// Time of the first evaluation so far that found a fault of a selected session.
    #[must_use]
    pub fn first_fault(&self) -> Option<BootTime> {
        self.history.as_ref().and_then(History::first)
    }

    /// Time at which the first selected session became known.
    #[must_use]
    pub const fn first_session(&self) -> Option<BootTime> {
        self.first_shown
    }

    /// Number of changes shown. [`Pump::status`] returns a new result whenever it has grown.
    #[must_use]
    pub const fn reported(&self) -> u64 {
        self.reported
    }

    /// True if any session is open, selected or not.
    #[must_use]
    pub fn is_anything_open(&self) -> bool {
        self.correlator.is_anything_open()
    }

    /// Scope of the next measurement for a diagnosis.
    #[must_use]
    pub fn to_measure(&self) -> Scope {
        to_measure(&self.correlator.report(), Depth::Whole, &self.selection.filter)
    }

    /// True if [`Pump::evaluate`] has a reader.
    #[must_use]
    pub fn has_exporters(&self) -> bool {
        !self.exporters.is_empty()
    }

    /// Shows the state of all sessions, with its diagnosis, to the exporters.
    ///
    /// # Errors
    /// An exporter cannot go on.
    pub fn evaluate(&mut self) -> io::Result<()> {
        if self.has_exporters() {
            let mut report = self.correlator.report();
            report.diagnosis = diagnose::diagnosis(&report);
            self.exporters.iter_mut().try_for_each(|exporter| exporter.evaluated(&report))?;
        }
        Ok(())
    }

    /// Shows the fill of the kernel's maps to the exporters.
    pub fn fill(&mut self, maps: &[MapFill]) {
        self.exporters.iter_mut().for_each(|exporter| exporter.filled(maps));
    }

    /// Shows the remaining findings and ends the recording. The last observation should have been [`Fact::Stopped`].
    ///
    /// # Errors
    /// A sink or the recording cannot be written.
    pub fn finish(mut self) -> io::Result<Shown> {
        self.correlator.flush();
        self.begin()?;
        self.show_unrecorded();
        self.judge();
        let needs_sessions = self.sinks.iter().any(|sink| sink.needs_sessions());
        let report = if needs_sessions { self.final_report() } else { self.correlator.summary() };
        let of = report.totals.opened;
        for sink in self.sinks.iter_mut().chain(&mut self.exporters) {
            sink.finish(&report)?;
        }
        let written = self.recorder.map(Recording::finish).transpose()?;
        Ok(Shown { sessions: self.shown, of, timed_out: false, written, lost: report.totals.lost })
    }

    /// Shows the number of observations that the recording left out to the exporters, if it has grown.
    fn show_unrecorded(&mut self) {
        let refused = self.recorder.as_ref().map_or(0, Recording::refused);
        let more = refused - std::mem::replace(&mut self.unrecorded, refused);
        if more > 0 {
            self.exporters.iter_mut().for_each(|exporter| exporter.unrecorded(REFUSED, more));
        }
    }

    fn final_report(&mut self) -> Report {
        let header = std::mem::take(&mut self.header);
        let Status { mut report, .. } = Status::of_any(header, self.correlator.report(), &self.selection.filter);
        if let Some(history) = &self.history {
            history.complete(&mut report.diagnosis);
            history.complete_whole(&mut report);
            report.sessions.retain(|session| self.selection.filter.matches(session));
        }
        report
    }

    /// Evaluates the present state, if faults are tracked.
    fn judge(&mut self) {
        if let Some(history) = &mut self.history {
            history.judge(&self.correlator.report(), |session| self.selection.filter.matches(session));
        }
    }

    fn show(&mut self) -> io::Result<Flow> {
        let mut flow = Flow::Continue;
        if !self.begun {
            return Ok(flow);
        }
        for finding in self.correlator.drain() {
            if let Some(history) = &mut self.history {
                history.change(finding.at, matches!(finding.change, Change::Closed(_)));
            }
            for exporter in &mut self.exporters {
                exporter.change(&finding)?;
            }
            for finding in self.selection.pass(finding) {
                self.reported += 1;
                self.first_shown = self.first_shown.or(Some(finding.at));
                self.shown += u64::from(matches!(&finding.change, Change::Opened(one) if !one.is_attempt_only()));
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
    /// True if a change meets the condition.
    #[must_use]
    pub fn is_reached(self, change: &Change) -> bool {
        match (self, change) {
            (Self::Never, _) | (_, Change::Loss { .. }) => false,
            // An attempt that failed is no session. An exec that was starting when the trace began may be a probe.
            (_, Change::Opened(one) | Change::Changed(one) | Change::Closed(one))
                if one.is_attempt_only() || one.may_be_probe() =>
            {
                false
            }
            (Self::Complete | Self::Closed, Change::Closed(_)) => true,
            (Self::Complete, Change::Opened(session) | Change::Changed(session)) => {
                session.complete && !session.client.pending
            }
            (Self::Closed, Change::Opened(_) | Change::Changed(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Gap, GapCode, Session};

    #[test]
    fn exec_that_may_be_probe_does_not_stop_trace() {
        let closed = Session { state: State::Closed, ..Session::sample() };
        assert!(Until::Complete.is_reached(&Change::Closed(Arc::new(closed.clone()))));
        let gaps = vec![Gap { code: GapCode::KindUnknown, between: None, text: String::new() }];
        assert!(!Until::Complete.is_reached(&Change::Closed(Arc::new(Session { gaps, ..closed }))));
    }
}
