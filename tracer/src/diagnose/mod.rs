//! From a report to verdicts: the fault, its place, the evidence, and the actions to take. Start reading at
//! [`verdicts`].
//!
//! * `faults` has a file for each fault: the rule, every text, and fixtures that must or must not match;
//! * `ctx` wraps a session with its measurements, `host` has tables shared by all sessions, `queues` finds the reader
//!   that stopped; `legs` and `samples` below them read connections and pairs of samples;
//! * `well` gives the reason if a session without a fault is not reported as healthy;
//! * `fault` defines the data of a fault, `kinds` the sessions that can have it, `finding` a match of its rule, and
//!   `verdict` turns that into the result.
//!
//! A wrong verdict is worse than none: a rule without certainty returns nothing. No rule decides on the name of a
//! kernel function.
//!
//! A standstill needs two samples at least [`APART`] apart.

mod ctx;
mod fault;
pub mod faults;
mod finding;
#[cfg(test)]
mod fixture;
mod host;
mod kinds;
#[cfg(test)]
mod laws;
mod legs;
mod queues;
mod samples;
mod verdict;
mod well;

use std::collections::BTreeMap;

use self::{ctx::SessionCtx, fault::Rule, finding::RuleMatch, host::Host, verdict::verdict};
pub use self::{
    fault::{Apart, Fault, Made},
    faults::FAULTS,
    finding::Step,
    kinds::Kinds,
    samples::APART,
    verdict::shown,
};
use crate::model::{Diagnosis, Health, Report, Session, Severity, Verdict};

/// At most one fault per session, the cause rather than its consequences; then faults of no session.
#[must_use]
pub fn verdicts(report: &Report) -> Vec<Verdict> {
    diagnosis(report).verdicts
}

/// [`verdicts`], the health of every session, and the reason for each health that is unknown.
#[must_use]
pub fn diagnosis(report: &Report) -> Diagnosis {
    let host = Host::new(report);
    let mut own: Vec<Option<(&Fault, RuleMatch)>> =
        report.sessions.iter().map(|session| rule_of(&host, session)).collect();
    let mut left_over: Vec<(&Fault, RuleMatch)> = FAULTS.iter().flat_map(|fault| of_host(&host, fault)).collect();
    // Report a daemon's fault on every session that depends on the daemon. Only faults without such a session are left
    // over.
    left_over.retain(|(fault, found)| !share(&host, &mut own, fault, found));
    let (mut verdicts, mut health, mut doubts) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for (session, found) in report.sessions.iter().zip(own) {
        let ctx = SessionCtx::new(&host, session);
        let is_fault = found.as_ref().is_some_and(|(fault, _)| fault.severity == Severity::Fault);
        let idle = if is_fault { None } else { well::idle_hop(&ctx) };
        // A command that waits for input behind a stopped hop is not merely waiting. A fault elsewhere at one of the
        // daemons does not change that the command waits.
        let found = found.filter(|_| idle.is_none());
        let doubt = if is_fault { None } else { idle.or_else(|| well::trouble(&ctx, &left_over)) };
        let verdict = found.map(|(fault, found)| verdict(fault, Some(&ctx), found));
        let (word, doubt) = word(&ctx, verdict.as_ref(), doubt);
        health.insert(session.id.clone(), word);
        doubts.extend(doubt.map(|doubt| (session.id.clone(), doubt)));
        verdicts.extend(verdict);
    }
    well::name_other_halves(&host, &verdicts, &mut doubts);
    verdicts.extend(left_over.into_iter().map(|(fault, found)| verdict(fault, None, found)));
    Diagnosis { verdicts, health, doubts, ..Diagnosis::default() }
}

/// The first fault in decision order that matches this session.
fn rule_of(host: &Host<'_>, session: &Session) -> Option<(&'static Fault, RuleMatch)> {
    if session.kind.is_event() {
        return None;
    }
    let ctx = SessionCtx::new(host, session);
    FAULTS.iter().filter(|fault| ctx.is_of(fault.kinds)).find_map(|fault| match fault.rule {
        Rule::Session(rule) | Rule::Both(rule, _) | Rule::Daemon(rule, _) => rule(&ctx).map(|found| (fault, found)),
        Rule::Host(_) => None,
    })
}

fn of_host(host: &Host<'_>, fault: &'static Fault) -> Vec<(&'static Fault, RuleMatch)> {
    let found = match fault.rule {
        Rule::Host(rule) | Rule::Both(_, rule) | Rule::Daemon(_, rule) => rule(host),
        Rule::Session(_) => Vec::new(),
    };
    found.into_iter().map(|found| (fault, found)).collect()
}

/// Reports the fault of a shared daemon on each session that depends on the daemon and has no fault of its own. Returns
/// true if any session reports this fault, or a fault that follows from it.
fn share(
    host: &Host<'_>,
    own: &mut [Option<(&'static Fault, RuleMatch)>],
    fault: &'static Fault,
    found: &RuleMatch,
) -> bool {
    let Rule::Daemon(..) = fault.rule else { return false };
    let Some(daemon) = found.task else { return false };
    let mut is_told = false;
    for (session, own) in host.report.sessions.iter().zip(own) {
        let ctx = SessionCtx::new(host, session);
        let is_same = |own: &(&Fault, RuleMatch)| own.0.code == fault.code && own.1.task == found.task;
        let can_share = ctx.is_open() && !session.kind.is_event() && ctx.is_of(fault.kinds);
        if !can_share || !(own.as_ref().is_some_and(is_same) || ctx.hangs_on(daemon)) {
            continue;
        }
        if own.as_ref().is_none_or(|(own, _)| own.severity != Severity::Fault) {
            *own = Some((fault, RuleMatch { hop: ctx.place_of(daemon), ..found.clone() }));
        }
        is_told = true;
    }
    is_told
}

/// Health of a session, and the reason if it is unknown.
fn word(ctx: &SessionCtx<'_>, own: Option<&Verdict>, trouble: Option<String>) -> (Health, Option<String>) {
    match own {
        Some(verdict) if verdict.severity == Severity::Fault => {
            (Health::Fault { code: verdict.code, short: verdict.short }, None)
        }
        _ if !ctx.is_open() && ctx.session.is_attempt_only() => {
            (Health::Unknown, Some("the attempt failed before it reached a process".to_owned()))
        }
        _ if !ctx.is_open() => (Health::Ok, None),
        Some(verdict) if verdict.code == faults::WAITING && trouble.is_none() => (Health::Waiting, None),
        _ => match trouble.or_else(|| well::unmeasured(ctx)) {
            Some(doubt) => (Health::Unknown, Some(doubt)),
            None => (Health::Ok, None),
        },
    }
}
