//! Faults over the time of a recording, each with start and end.
//!
//! During a replay the diagnosis is evaluated after each round of measurements, and in each second with a change, by
//! the rules for a single moment. Consecutive equal verdicts form one fault that lasts from the first to the last of
//! them. A fault between two evaluations lasted less than a second and is not actionable.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    diagnose,
    model::{About, BootTime, Diagnosis, Health, Report, Session, SessionId, Severity, Span, State, Verdict},
};

/// Interval of evaluations without measurements. The correlator changes sessions each millisecond, and an evaluation
/// examines all of them.
const EVERY: Span = Span::from_secs(1);

/// Maximum of ended faults. The newest are kept: a recurring fault must not take all memory.
const MAX_OVER: usize = 10_000;

/// Maximum of closed sessions with a fault, of some kilobytes each. The newest are kept.
const MAX_SESSIONS: usize = 10_000;

/// Closed sessions after which an evaluation is due without delay. The correlator's report has the newest 1,000.
const MANY_CLOSED: usize = 500;

/// Identity of a fault: session and code. A fault without a session is also identified by its object.
type Key = (Option<SessionId>, &'static str, About);

/// Faults found so far.
#[derive(Default)]
pub(super) struct History {
    /// Faults of the latest evaluation.
    lasting: BTreeMap<Key, Verdict>,
    /// Ended faults, ordered by end.
    over: Vec<Verdict>,
    /// Closed sessions with a fault, as of their latest evaluation.
    closed: BTreeMap<SessionId, Session>,
    /// Ended faults that were dropped to make room.
    dropped: u64,
    /// Sessions that closed since the latest evaluation.
    closings: usize,
    /// Time of the latest evaluation.
    judged: Option<BootTime>,
    /// Time of the latest change since then.
    changed: Option<BootTime>,
    measured: Option<BootTime>,
    /// Time of the first evaluation that found a fault of a selected session.
    first: Option<BootTime>,
}

impl History {
    /// Notes a change of a session, or its end.
    pub(super) fn change(&mut self, at: BootTime, is_end: bool) {
        self.changed = self.changed.max(Some(at));
        self.closings += usize::from(is_end);
    }

    /// Notes a measurement.
    pub(super) fn measure(&mut self, at: BootTime) {
        self.measured = self.measured.max(Some(at));
    }

    /// True if an evaluation is due at this tick. Everything up to `settled` has been processed; an incomplete round of
    /// measurements is not evaluated.
    pub(super) fn is_due(&self, settled: BootTime) -> bool {
        if self.measured.is_some_and(|at| at < settled) {
            return true;
        }
        let long_ago = self.closings >= MANY_CLOSED || self.judged.is_none_or(|judged| settled.since(judged) >= EVERY);
        self.measured.is_none() && long_ago && self.changed.is_some_and(|at| at < settled)
    }

    /// Evaluates a report. `is_selected` returns true for the sessions that are shown.
    pub(super) fn judge(&mut self, report: &Report, is_selected: impl Fn(&Session) -> bool) {
        let diagnosis = diagnose::diagnosis(report);
        let at_fault = |session: &Session| matches!(diagnosis.health.get(&session.id), Some(Health::Fault { .. }));
        if self.first.is_none() && report.sessions.iter().any(|session| at_fault(session) && is_selected(session)) {
            self.first = Some(report.now());
        }
        self.take(report, &diagnosis);
    }

    /// Time of the first evaluation that found a fault of a selected session. The fault may have begun before.
    pub(super) const fn first(&self) -> Option<BootTime> {
        self.first
    }

    /// Merges the diagnosis of a report into the history.
    fn take(&mut self, report: &Report, diagnosis: &Diagnosis) {
        let now = report.now();
        (self.judged, self.changed, self.measured, self.closings) = (Some(now), None, None, 0);
        // Faults of this moment continue those of the latest evaluation, or begin now.
        let mut before = std::mem::take(&mut self.lasting);
        for verdict in diagnosis.verdicts.iter().filter(|verdict| verdict.severity == Severity::Fault) {
            let key = key(verdict);
            let since = match before.remove(&key) {
                Some(known) => known.since,
                None => Some(self.reopened(&key, verdict).unwrap_or(now)),
            };
            let since = since.into_iter().chain(verdict.since).min();
            let session = report.sessions.iter().find(|session| Some(&session.id) == verdict.session.as_ref());
            let closed = session.filter(|session| session.state == State::Closed);
            if let Some(session) = closed {
                self.closed.insert(session.id.clone(), session.clone());
            }
            self.lasting.insert(key, Verdict { since, ..verdict.clone() });
        }
        // The rest of the latest evaluation has ended by now. The correlator may have forgotten a closed session: its fault
        // ended with the session, or when it was found.
        let present: BTreeSet<&SessionId> = report.sessions.iter().map(|session| &session.id).collect();
        for verdict in before.into_values() {
            let forgotten = verdict.session.as_ref().filter(|id| !present.contains(id));
            let closed_at = forgotten.and_then(|id| self.closed.get(id)?.closed_at);
            let until = closed_at.map_or(now, |closed| verdict.since.map_or(closed, |since| since.max(closed)));
            self.over.push(Verdict { until: Some(until), ..verdict });
        }
        // Keep closed sessions with an ended fault: the correlator forgets them.
        let faulty: BTreeSet<&SessionId> = self.over.iter().filter_map(|verdict| verdict.session.as_ref()).collect();
        let is_faulty = |session: &&Session| session.state == State::Closed && faulty.contains(&session.id);
        for session in report.sessions.iter().filter(is_faulty) {
            self.closed.insert(session.id.clone(), session.clone());
        }
        self.bound(MAX_OVER, MAX_SESSIONS);
    }

    /// Drops the oldest ended faults and the oldest closed sessions beyond these maxima. A session goes with its faults, and
    /// the dropped faults are counted.
    fn bound(&mut self, faults: usize, sessions: usize) {
        let excess = self.over.len().saturating_sub(faults);
        self.over.drain(..excess);
        self.dropped += excess as u64;
        if self.closed.len() > sessions {
            let mut by_end: Vec<_> =
                self.closed.values().map(|session| (session.closed_at, session.id.clone())).collect();
            by_end.sort();
            by_end.truncate(self.closed.len() - sessions);
            let gone: BTreeSet<SessionId> = by_end.into_iter().map(|(_, id)| id).collect();
            self.closed.retain(|id, _| !gone.contains(id));
            let before = self.over.len();
            self.over.retain(|verdict| verdict.session.as_ref().is_none_or(|id| !gone.contains(id)));
            self.dropped += (before - self.over.len()) as u64;
        }
    }

    /// Start of an ended fault that this verdict continues: the rule was silent for a while but reports that the fault
    /// lasted throughout. Removes the ended fault.
    fn reopened(&mut self, key: &Key, verdict: &Verdict) -> Option<BootTime> {
        let last = self.over.iter().rposition(|over| self::key(over) == *key)?;
        if verdict.since? > self.over.get(last)?.until? {
            return None;
        }
        self.over.remove(last).since
    }

    /// Adds start times and ended faults to the diagnosis of a report of the same moment.
    pub(super) fn complete(&self, diagnosis: &mut Diagnosis) {
        for verdict in &mut diagnosis.verdicts {
            if let Some(known) = self.lasting.get(&key(verdict)).filter(|_| verdict.severity == Severity::Fault) {
                verdict.since = known.since;
            }
        }
        diagnosis.over.clone_from(&self.over);
        diagnosis.dropped = self.dropped;
    }

    /// Extends a report of the recording's end to the whole recording. Adds closed sessions with a fault and sets their
    /// health.
    pub(super) fn complete_whole(&self, report: &mut Report) {
        let present: BTreeSet<&SessionId> = report.sessions.iter().map(|session| &session.id).collect();
        let added: Vec<Session> =
            self.closed.iter().filter(|(id, _)| !present.contains(id)).map(|(_, one)| one.clone()).collect();
        report.sessions.extend(added);
        report.sessions.sort_by(|a, b| (a.opened_at, &a.id).cmp(&(b.opened_at, &b.id)));
        let Diagnosis { health, over, is_whole, .. } = &mut report.diagnosis;
        *is_whole = true;
        for verdict in over {
            let Some(id) = &verdict.session else { continue };
            if !health.get(id).is_some_and(|health| matches!(health, Health::Fault { .. })) {
                health.insert(id.clone(), Health::Fault { code: verdict.code, short: verdict.short });
            }
        }
    }

    /// True if the session has or had a fault.
    pub(super) fn had_fault(&self, session: &SessionId) -> bool {
        self.lasting.values().chain(&self.over).any(|verdict| verdict.session.as_ref() == Some(session))
    }
}

fn key(verdict: &Verdict) -> Key {
    let about = if verdict.session.is_some() { About::default() } else { verdict.about };
    (verdict.session.clone(), verdict.code, about)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(code: &'static str, pid: u32, since: Option<u64>) -> Verdict {
        Verdict {
            code,
            name: "",
            short: "",
            severity: Severity::Fault,
            means: "",
            session: None,
            hop: None,
            link: None,
            about: About { pid: Some(pid), ..About::default() },
            since: since.map(BootTime),
            until: None,
            evidence: Vec::new(),
            told_apart_from: Vec::new(),
            next: Vec::new(),
            manual: Vec::new(),
        }
    }

    fn judged(moments: &[(u64, &[Verdict])]) -> Vec<(&'static str, u64, Option<u64>)> {
        let mut history = History::default();
        for (at, verdicts) in moments {
            let report = Report { at: BootTime(*at), ..Report::default() };
            history.take(&report, &Diagnosis { verdicts: verdicts.to_vec(), ..Diagnosis::default() });
        }
        let all = history.over.iter().chain(history.lasting.values());
        all.map(|one| (one.code, one.since.unwrap_or_default().0, one.until.map(|at| at.0))).collect()
    }

    #[test]
    fn equal_verdicts_in_a_row_are_one_fault_with_a_span() {
        let (one, other) = (verdict("F09", 1, None), verdict("F09", 2, None));
        let both = [one.clone(), other.clone()];
        let spans = judged(&[(1, &[]), (2, std::slice::from_ref(&one)), (3, &both), (5, std::slice::from_ref(&other))]);
        assert_eq!(spans, [("F09", 2, Some(5)), ("F09", 3, None)]);
        // A recurring fault is a new fault.
        let spans = judged(&[(2, std::slice::from_ref(&one)), (3, &[]), (4, std::slice::from_ref(&one))]);
        assert_eq!(spans, [("F09", 2, Some(3)), ("F09", 4, None)]);
    }

    #[test]
    fn start_known_by_the_rule_counts() {
        let early = verdict("F09", 1, Some(1));
        assert_eq!(judged(&[(4, std::slice::from_ref(&early)), (6, &[])]), [("F09", 1, Some(6))]);
        // The fault lasted throughout, although the rule was silent in between.
        let spans = judged(&[(4, std::slice::from_ref(&early)), (6, &[]), (7, std::slice::from_ref(&early))]);
        assert_eq!(spans, [("F09", 1, None)]);
    }

    #[test]
    fn incomplete_round_of_measurements_is_not_evaluated() {
        let mut history = History::default();
        assert!(!history.is_due(BootTime(9)), "nothing happened");
        history.measure(BootTime(10));
        assert!(!history.is_due(BootTime(10)) && history.is_due(BootTime(11)));
        history.judge(&Report { at: BootTime(11), ..Report::default() }, |_| true);
        history.change(BootTime(12), false);
        assert!(!history.is_due(BootTime(13)), "within a second of the last judgement");
        assert!(history.is_due(BootTime(11).plus(EVERY)));
        (0..MANY_CLOSED).for_each(|_| history.change(BootTime(12), true));
        assert!(history.is_due(BootTime(13)), "the report may forget sessions");
    }

    /// A closed session and its fault.
    fn faulty(number: u64) -> (Session, Verdict) {
        let id = SessionId(format!("s-{number:06}").into());
        let (opened_at, closed_at) = (BootTime(number), Some(BootTime(number + 1)));
        let session = Session { id: id.clone(), opened_at, closed_at, state: State::Closed, ..Session::sample() };
        (session, Verdict { session: Some(id), ..verdict("F41", 1, Some(number)) })
    }

    /// Evaluates a report of these closed sessions, each with a fault.
    fn judge(history: &mut History, at: u64, numbers: std::ops::Range<u64>) {
        let (sessions, verdicts) = numbers.map(faulty).unzip();
        let report = Report { at: BootTime(at), sessions, ..Report::default() };
        history.take(&report, &Diagnosis { verdicts, ..Diagnosis::default() });
    }

    #[test]
    fn faults_of_forgotten_sessions_keep_their_spans() {
        let mut history = History::default();
        for first in (0..3_000).step_by(1_000) {
            judge(&mut history, first + 1_000, first..first + 1_000);
        }
        let mut report = Report { at: BootTime(3_001), ..Report::default() };
        judge(&mut history, 3_001, 0..0);
        history.complete(&mut report.diagnosis);
        history.complete_whole(&mut report);
        assert_eq!((report.sessions.len(), report.diagnosis.over.len(), report.diagnosis.dropped), (3_000, 3_000, 0));
        for (number, session) in (0..).zip(&report.sessions) {
            let faults = report.diagnosis.of(Some(&session.id));
            let [fault] = faults[..] else { panic!("{faults:?}") };
            assert_eq!((fault.since, fault.until), (Some(BootTime(number)), Some(BootTime(number + 1))));
        }
    }

    #[test]
    fn dropped_faults_are_counted() {
        let mut history = History::default();
        judge(&mut history, 100, 0..100);
        judge(&mut history, 101, 0..0);
        history.bound(90, 100);
        assert_eq!((history.over.len(), history.closed.len(), history.dropped), (90, 100, 10));
        history.bound(90, 80);
        assert_eq!((history.over.len(), history.closed.len(), history.dropped), (80, 80, 20));
        assert!(history.had_fault(&faulty(20).0.id) && !history.had_fault(&faulty(19).0.id));
    }
}
