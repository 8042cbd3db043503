//! Findings and reports to series. Labels are tokens of the vocabulary: no name of a pod, no command and no user is in any series.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    series::{Labels, Series},
    table::{
        ACTIVE, AGE_SECONDS, ATTEMPTS, DEGRADED, DELAY_SECONDS, DURATION_SECONDS, ENDED, EVALUATIONS, Family, GAPS,
        IDLE_SECONDS, LOST, MAP_CAPACITY, MAP_ENTRIES, NONE, OBSERVATIONS, OPEN, OPENED, START_SECONDS, TOTAL,
        UNSUPPORTED, UP, VERDICTS,
    },
};
use crate::{
    model::{
        About, Attempt, BootTime, Change, Degraded, ExitReason, Finding, Kind, MapFill, Report, Rung, RungState,
        Session, SessionId, Span, State, Totals, Unit, Verdict, errno_name, unit_of_loss,
    },
    sink::{Header, view},
};

/// Most sessions whose opening is remembered. More are counted as they open and end, but not as open. The correlator holds fewer.
const MAX_OPEN: usize = 100_000;
/// Most verdicts that are remembered as begun.
const MAX_ACTIVE: usize = 10_000;
/// Most observations of histograms that wait for [`Fold::observed`].
const MAX_OBSERVED: usize = 10_000;

/// An observation of a histogram, with the session as its exemplar.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// Name of the family.
    pub family: &'static str,
    /// Labels, after their bound.
    pub labels: Labels,
    /// Seconds.
    pub seconds: f64,
    /// Session behind the observation.
    pub session: SessionId,
}

/// What is remembered of an open session.
#[derive(Clone, Copy)]
struct OpenSession {
    kind: Kind,
    /// Set once the latency of its start was observed.
    is_started: bool,
    /// Set if the session opened in an earlier trace of this process, and not yet in the present one.
    is_of_before: bool,
}

/// Identity of a verdict.
type VerdictKey = (Option<SessionId>, &'static str, About);

/// The consumer of sessions behind all metrics.
#[derive(Default)]
pub struct Fold {
    series: Series,
    open: BTreeMap<SessionId, OpenSession>,
    /// Number of open sessions of each kind.
    counts: BTreeMap<Kind, u32>,
    active: BTreeSet<VerdictKey>,
    /// Totals of the earlier traces of this process, and of the present one.
    before: u64,
    observations: u64,
    observed: Vec<Observed>,
    begun: Vec<Verdict>,
}

/// Seconds of a span.
#[expect(clippy::cast_precision_loss, reason = "exact enough: 104 days have 2^53 nanoseconds")]
fn seconds(span: Span) -> f64 {
    span.0 as f64 / 1e9
}

impl Fold {
    /// All series as they are now.
    #[must_use]
    pub const fn series(&self) -> &Series {
        &self.series
    }

    /// All series, for numbers that others count.
    pub const fn series_mut(&mut self) -> &mut Series {
        &mut self.series
    }

    /// Observations of histograms since the last call.
    pub fn observed(&mut self) -> Vec<Observed> {
        std::mem::take(&mut self.observed)
    }

    /// Verdicts that began since the last call.
    pub fn begun(&mut self) -> Vec<Verdict> {
        std::mem::take(&mut self.begun)
    }

    /// Notes the start of a trace.
    pub fn begin(&mut self, header: &Header) {
        self.series.zero(&UNSUPPORTED);
        self.series.zero(&DEGRADED);
        self.series.set(&UP, &[], 1.0);
        for degraded in &header.degraded {
            self.series.set(&DEGRADED, &[degraded.code.clone().into()], 1.0);
        }
        self.before = self.before.saturating_add(std::mem::take(&mut self.observations));
        for session in self.open.values_mut() {
            session.is_of_before = true;
        }
        for kind in Kind::ALL {
            self.series.add(&OPENED, &[kind.token().into()], 0);
            self.count(kind, 0);
        }
    }

    /// Notes that this host cannot be traced.
    pub fn refuse(&mut self, degraded: &Degraded) {
        self.series.set(&UP, &[], 0.0);
        self.series.zero(&UNSUPPORTED);
        self.series.set(&UNSUPPORTED, &[degraded.code.clone().into()], 1.0);
    }

    /// Counts a change.
    pub fn change(&mut self, finding: &Finding) {
        match &finding.change {
            Change::Opened(session) if !session.is_attempt_only() => self.opened(session),
            Change::Opened(_) => {}
            Change::Changed(session) => self.changed(session),
            Change::Closed(session) => self.closed(session, finding.at),
            Change::Loss { what, count } => self.lost(what, *count),
        }
    }

    fn opened(&mut self, session: &Session) {
        if let Some(known) = self.open.get_mut(&session.id) {
            known.is_of_before = false;
            return self.changed(session);
        }
        self.series.add(&OPENED, &[session.kind.token().into()], 1);
        if self.open.len() < MAX_OPEN {
            let open = OpenSession { kind: session.kind, is_started: session.preexisting, is_of_before: false };
            self.open.insert(session.id.clone(), open);
            self.count(session.kind, 1);
        }
        self.changed(session);
    }

    fn changed(&mut self, session: &Session) {
        let Some(open) = self.open.get_mut(&session.id) else { return };
        let (before, is_started) = (std::mem::replace(&mut open.kind, session.kind), open.is_started);
        if before != session.kind {
            self.count(before, -1);
            self.count(session.kind, 1);
        }
        if !is_started && self.observe_start(session) {
            self.open.entry(session.id.clone()).and_modify(|open| open.is_started = true);
        }
    }

    fn closed(&mut self, session: &Session, at: BootTime) {
        if let Some(attempt) = &session.attempt {
            self.attempt(attempt);
        }
        if session.is_attempt_only() {
            return;
        }
        self.changed(session);
        if self.open.remove(&session.id).is_some() {
            self.count(session.kind, -1);
        }
        let kind = Cow::Borrowed(session.kind.token());
        self.series.add(&ENDED, &[kind.clone(), outcome(session).into()], 1);
        if session.merged_into.is_none() {
            self.observe(&DURATION_SECONDS, kind, view::age(session, at), &session.id);
        }
        for gap in &session.gaps {
            self.series.add(&GAPS, &[gap.code.token().into()], 1);
        }
    }

    fn attempt(&mut self, attempt: &Attempt) {
        let reached = attempt.reached().map_or(NONE, |seen| seen.rung.token());
        let error = match attempt.failed() {
            None => NONE,
            Some(failed) => failed.errno.and_then(errno_name).unwrap_or("unnamed"),
        };
        self.series.add(&ATTEMPTS, &[reached.into(), error.into()], 1);
    }

    /// Observes the latency of each stage once the command is executed. Returns true if it was.
    fn observe_start(&mut self, session: &Session) -> bool {
        let stages = stages(session);
        let Some(last) = stages.iter().position(|(rung, _)| *rung == Rung::Executed) else { return false };
        let stages = &stages[..=last];
        for pair in stages.windows(2) {
            let [(_, before), (rung, at)] = pair else { continue };
            self.observe(&START_SECONDS, rung.token().into(), at.since(*before), &session.id);
        }
        if let ([(_, first), .., (_, last)], true) = (stages, stages.len() > 1) {
            self.observe(&START_SECONDS, TOTAL.into(), last.since(*first), &session.id);
        }
        true
    }

    fn observe(&mut self, family: &'static Family, label: Cow<'static, str>, span: Span, session: &SessionId) {
        let seconds = seconds(span);
        let labels = self.series.observe(family, &[label], seconds);
        if self.observed.len() < MAX_OBSERVED {
            self.observed.push(Observed { family: family.name, labels, seconds, session: session.clone() });
        }
    }

    /// Counts a loss: events, or milliseconds of a delay, by its name.
    pub fn lost(&mut self, what: &str, count: u64) {
        let source = [what.to_owned().into()];
        match unit_of_loss(what) {
            Unit::Events => self.series.add(&LOST, &source, count),
            Unit::Milliseconds => self.series.raise(&DELAY_SECONDS, &source, seconds(Span::from_millis(count))),
        }
    }

    /// Changes the number of open sessions of a kind.
    fn count(&mut self, kind: Kind, by: i32) {
        let count = self.counts.entry(kind).or_default();
        *count = count.saturating_add_signed(by);
        self.series.set(&OPEN, &[kind.token().into()], f64::from(*count));
    }

    /// Takes in the state of all sessions, with its measurements and diagnosis.
    pub fn evaluate(&mut self, report: &Report) {
        self.series.add(&EVALUATIONS, &[], 1);
        let now = report.now();
        for session in report.sessions.iter().filter(|session| session.state == State::Open) {
            let kind = Cow::Borrowed(session.kind.token());
            self.observe(&AGE_SECONDS, kind.clone(), view::age(session, now), &session.id);
            if let Some(idle) = view::idle(session, &report.measures, now) {
                self.observe(&IDLE_SECONDS, kind, idle, &session.id);
            }
        }
        self.judge(report);
        let Totals { observations, .. } = report.totals;
        self.observations = observations;
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
        self.series.set(&OBSERVATIONS, &[], self.before.saturating_add(observations) as f64);
        self.forget_ended(report);
    }

    /// Counts verdicts that began, and those that hold now.
    fn judge(&mut self, report: &Report) {
        self.series.zero(&ACTIVE);
        let mut active = BTreeSet::new();
        for verdict in &report.diagnosis.verdicts {
            let code = [Cow::Borrowed(verdict.code)];
            let now = self.series.number(&ACTIVE, &[verdict.code]) + 1.0;
            self.series.set(&ACTIVE, &code, now);
            let key = (verdict.session.clone(), verdict.code, verdict.about);
            if !self.active.contains(&key) {
                self.series.add(&VERDICTS, &code, 1);
                if self.begun.len() < MAX_ACTIVE {
                    self.begun.push(verdict.clone());
                }
            }
            if active.len() < MAX_ACTIVE {
                active.insert(key);
            }
        }
        self.active = active;
    }

    /// Ends sessions of an earlier trace that the present one did not find.
    fn forget_ended(&mut self, report: &Report) {
        if !self.open.values().any(|open| open.is_of_before) {
            return;
        }
        let is_open =
            |id: &SessionId| report.sessions.iter().any(|session| session.id == *id && session.state == State::Open);
        let gone: Vec<(SessionId, Kind)> = self
            .open
            .iter()
            .filter(|(id, open)| open.is_of_before && !is_open(id))
            .map(|(id, open)| (id.clone(), open.kind))
            .collect();
        for (id, kind) in gone {
            self.open.remove(&id);
            self.count(kind, -1);
            self.series.add(&ENDED, &[kind.token().into(), "unknown".into()], 1);
        }
        self.open.values_mut().for_each(|open| open.is_of_before = false);
    }

    /// Takes in the fill of the kernel's maps.
    pub fn fill(&mut self, maps: &[MapFill]) {
        for map in maps {
            let label = [Cow::Borrowed(map.name)];
            self.series.set(&MAP_ENTRIES, &label, f64::from(map.entries));
            self.series.set(&MAP_CAPACITY, &label, f64::from(map.capacity));
        }
    }
}

/// Reached stages of a start with their times, in the order of the path.
fn stages(session: &Session) -> Vec<(Rung, BootTime)> {
    let rungs = session.attempt.iter().flat_map(|attempt| &attempt.rungs);
    rungs.filter(|seen| seen.state == RungState::Reached).filter_map(|seen| Some((seen.rung, seen.at?))).collect()
}

/// Result of an ended session.
fn outcome(session: &Session) -> &'static str {
    if session.merged_into.is_some() {
        return "merged";
    }
    match session.exit {
        Some(exit) => match exit.reason {
            ExitReason::Exited if exit.code == Some(0) => "success",
            ExitReason::Exited => "failure",
            ExitReason::Signalled => "signalled",
            ExitReason::StartFailed => "start-failed",
            ExitReason::Unknown => "unknown",
        },
        None => "unknown",
    }
}
