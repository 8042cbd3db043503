//! From a report to verdicts: what is wrong, where, how that is known, what to do. Start reading at [`verdicts`].
//!
//! * `faults` has a file for each fault: the rule, every text, and scenes in which it is named or must not be;
//! * `case` is a session with what was measured of it, `host` what sessions share, `queues` who stopped reading;
//! * `fault` says what a fault is made of.
//!
//! A wrong verdict is worse than none: a rule that is not sure is silent. Nothing is decided on the name of a kernel function.
//!
//! Standstill takes two samples: those that are less than [`APART`] apart show none.

mod case;
mod fault;
pub mod faults;
mod host;
#[cfg(test)]
mod laws;
mod queues;
#[cfg(test)]
mod scene;

use std::collections::BTreeMap;

use self::{case::Case, fault::Rule, host::Host};
pub use self::{
    fault::{Apart, Fault, Made, Step, shown},
    faults::FAULTS,
};
use crate::model::{Diagnosis, Health, Report, Session, SessionId, Severity, Span, State, Verdict};

/// How far apart two samples must be for "nothing moved" to mean something: kubectl's own pings, every 5 s, are not needed for
/// it, a scheduler under load delays less than this, and nobody waits longer for a command to answer.
pub const APART: Span = Span::from_secs(2);

/// What is wrong with each session, at most one thing, the cause and not what follows from it; then what belongs to none.
#[must_use]
pub fn verdicts(report: &Report) -> Vec<Verdict> {
    let host = Host::new(report);
    let of_sessions = report.sessions.iter().filter(|session| !session.kind.is_story()).filter_map(|session| {
        let case = Case::new(&host, session);
        // The table is in the order of the decision.
        FAULTS.iter().find_map(|fault| match fault.rule {
            Rule::Session(rule) | Rule::Both(rule, _) => rule(&case).map(|found| fault.verdict(Some(&case), found)),
            Rule::Host(_) => None,
        })
    });
    let of_none = FAULTS.iter().flat_map(|fault| match fault.rule {
        Rule::Host(rule) | Rule::Both(_, rule) => {
            rule(&host).into_iter().map(|found| fault.verdict(None, found)).collect()
        }
        Rule::Session(_) => Vec::new(),
    });
    of_sessions.chain(of_none).collect()
}

/// How a session is, in a word. `verdicts` are those of [`verdicts`] for this report.
#[must_use]
pub fn health(report: &Report, session: &Session, verdicts: &[Verdict]) -> Health {
    let own = verdicts.iter().find(|verdict| verdict.session.as_ref() == Some(&session.id));
    word(&Host::new(report), session, own)
}

/// Everything: [`verdicts`], and the [`health`] of every session.
#[must_use]
pub fn diagnosis(report: &Report) -> Diagnosis {
    let verdicts = verdicts(report);
    let own: BTreeMap<&SessionId, &Verdict> =
        verdicts.iter().filter_map(|verdict| Some((verdict.session.as_ref()?, verdict))).collect();
    let host = Host::new(report);
    let health = report
        .sessions
        .iter()
        .map(|session| (session.id.clone(), word(&host, session, own.get(&session.id).copied())))
        .collect();
    Diagnosis { verdicts, health, ..Diagnosis::default() }
}

fn word(host: &Host<'_>, session: &Session, own: Option<&Verdict>) -> Health {
    match own {
        Some(verdict) if verdict.severity == Severity::Fault => {
            Health::Fault { code: verdict.code, short: verdict.short }
        }
        Some(verdict) if verdict.code == faults::WAITING => Health::Waiting,
        _ if session.state == State::Closed => Health::Ok,
        _ if Case::new(host, session).is_vouched_for() => Health::Ok,
        _ => Health::Unknown,
    }
}
