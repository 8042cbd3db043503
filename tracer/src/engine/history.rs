//! Faults over the time of a recording: what was wrong, since when, until when.
//!
//! A recording is judged while it is played, by the rules that judge one moment: after each round of measurements, and in each second
//! in which something changed. Equal verdicts one after the other are one fault, and the time from the first to the last of them is
//! its span. A fault that is seen in no such moment lasted less than a second, and is none that anybody can act on.

use std::collections::BTreeMap;

use crate::{
    diagnose,
    model::{About, BootTime, Diagnosis, Health, Report, Session, SessionId, Severity, Span, State, Verdict},
};

/// Time between two judgements where nothing was measured: the correlator changes sessions each millisecond, a judgement looks at all.
const EVERY: Span = Span::from_secs(1);

/// Faults that are over and kept, the newest: a fault that comes and goes must not take all memory.
const MAX_OVER: usize = 10_000;

/// Closed sessions with a fault that are kept, the newest.
const MAX_SESSIONS: usize = 1_000;

/// Which fault: of a session it is the code, of what belongs to no session also what it is about.
type Key = (Option<SessionId>, &'static str, About);

/// What was wrong so far.
#[derive(Default)]
pub(super) struct History {
    /// Faults that the last judgement named, by what they are.
    lasting: BTreeMap<Key, Verdict>,
    /// Faults that were over by then, in the order in which they ended.
    over: Vec<Verdict>,
    /// Closed sessions that had a fault, as they were when they were judged last.
    closed: BTreeMap<SessionId, Session>,
    /// When it was judged last.
    judged: Option<BootTime>,
    /// When something changed or was measured since.
    changed: Option<BootTime>,
    measured: Option<BootTime>,
}

impl History {
    /// Something changed.
    pub(super) fn change(&mut self, at: BootTime) {
        self.changed = self.changed.max(Some(at));
    }

    /// Something was measured.
    pub(super) fn measure(&mut self, at: BootTime) {
        self.measured = self.measured.max(Some(at));
    }

    /// Whether to judge at a tick, where everything up to `settled` is taken in: half a round of measurements shows no moment.
    pub(super) fn is_due(&self, settled: BootTime) -> bool {
        if self.measured.is_some_and(|at| at < settled) {
            return true;
        }
        let long_ago = self.judged.is_none_or(|judged| settled.since(judged) >= EVERY);
        self.measured.is_none() && long_ago && self.changed.is_some_and(|at| at < settled)
    }

    /// Judges the moment of that report.
    pub(super) fn judge(&mut self, report: &Report) {
        self.take(report, &diagnose::diagnosis(report));
    }

    /// Takes in what was said of that report.
    fn take(&mut self, report: &Report, diagnosis: &Diagnosis) {
        let now = report.now();
        (self.judged, self.changed, self.measured) = (Some(now), None, None);
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
        let ended = before.into_values().map(|verdict| Verdict { until: Some(now), ..verdict });
        self.over.extend(ended);
        self.over.drain(..self.over.len().saturating_sub(MAX_OVER));
        for session in report.sessions.iter().filter(|session| session.state == State::Closed) {
            if self.over.iter().any(|verdict| verdict.session.as_ref() == Some(&session.id)) {
                self.closed.insert(session.id.clone(), session.clone());
            }
        }
        while self.closed.len() > MAX_SESSIONS {
            let oldest = self.closed.values().min_by_key(|session| session.closed_at).map(|session| session.id.clone());
            oldest.and_then(|id| self.closed.remove(&id));
        }
    }

    /// A rule that was silent for a moment, and knows that it was so all the time: the same fault goes on. Tells since when.
    fn reopened(&mut self, key: &Key, verdict: &Verdict) -> Option<BootTime> {
        let last = self.over.iter().rposition(|over| self::key(over) == *key)?;
        if verdict.since? > self.over.get(last)?.until? {
            return None;
        }
        self.over.remove(last).since
    }

    /// Completes the diagnosis of a report of the same moment: since when each fault lasts, and those that are over.
    pub(super) fn tell(&self, diagnosis: &mut Diagnosis) {
        for verdict in &mut diagnosis.verdicts {
            if let Some(known) = self.lasting.get(&key(verdict)).filter(|_| verdict.severity == Severity::Fault) {
                verdict.since = known.since;
            }
        }
        diagnosis.over.clone_from(&self.over);
    }

    /// Makes of a report of the end of the recording one about the whole of it: with the closed sessions that had a fault, whose
    /// health that is.
    pub(super) fn tell_whole(&self, report: &mut Report) {
        let missing = |id: &SessionId| report.sessions.iter().all(|session| session.id != *id);
        let added: Vec<Session> =
            self.closed.iter().filter(|(id, _)| missing(id)).map(|(_, one)| one.clone()).collect();
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

    /// Whether that session had a fault.
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
        // A fault that comes back is another one.
        let spans = judged(&[(2, std::slice::from_ref(&one)), (3, &[]), (4, std::slice::from_ref(&one))]);
        assert_eq!(spans, [("F09", 2, Some(3)), ("F09", 4, None)]);
    }

    #[test]
    fn a_rule_that_knows_since_when_counts() {
        let early = verdict("F09", 1, Some(1));
        assert_eq!(judged(&[(4, std::slice::from_ref(&early)), (6, &[])]), [("F09", 1, Some(6))]);
        // It was so all the time, though the rule was silent in between.
        let spans = judged(&[(4, std::slice::from_ref(&early)), (6, &[]), (7, std::slice::from_ref(&early))]);
        assert_eq!(spans, [("F09", 1, None)]);
    }

    #[test]
    fn half_a_round_of_measurements_is_not_judged() {
        let mut history = History::default();
        assert!(!history.is_due(BootTime(9)), "nothing happened");
        history.measure(BootTime(10));
        assert!(!history.is_due(BootTime(10)) && history.is_due(BootTime(11)));
        history.judge(&Report { at: BootTime(11), ..Report::default() });
        history.change(BootTime(12));
        assert!(!history.is_due(BootTime(13)), "within a second of the last judgement");
        assert!(history.is_due(BootTime(11).plus(EVERY)));
    }
}
