//! The true sessions of a generated scenario, and the differences of the correlator's sessions from them.

use std::collections::{BTreeMap, BTreeSet};

use execpath::model::{BootTime, Change, GapCode, Kind, LinkKind, Observation, Role, Session, SocketId, TaskKey};

use crate::run::{correlator, settle};

/// The true connections and processes of one exec.
#[derive(Clone, Debug, Default)]
pub(super) struct TrueSession {
    /// Connecting and accepting end, by cookie.
    pub(super) legs: BTreeSet<(u64, u64)>,
    /// The client's idle connection, on no session's path.
    pub(super) idle: BTreeSet<(u64, u64)>,
    /// Inbound and outbound end, by cookie.
    pub(super) relays: BTreeSet<(u64, u64)>,
    /// Neighbours on the path.
    pub(super) steps: BTreeSet<(TaskKey, TaskKey)>,
    pub(super) hops: Vec<(Role, TaskKey)>,
    /// True if the session was fully set up before a restart cut it.
    pub(super) whole: bool,
    pub(super) stream: bool,
}

/// Differences from the true sessions. A stream or leg without exec id must fit one of the execs.
pub(super) fn wrong(session: &Session, truth: &BTreeMap<String, TrueSession>) -> Vec<String> {
    let Some(id) = &session.exec_id else {
        let is_of = |expected: &TrueSession| expected.stream && unknown(session, expected).is_empty();
        let fits = !session.complete && truth.values().any(is_of);
        return if fits { Vec::new() } else { vec![format!("idx exec's: {session:?}")] };
    };
    let Some(expected) = truth.get(&**id) else {
        return vec![format!("idx such exec: {session:?}")];
    };
    let mut wrong = unknown(session, expected);
    let says_kind = session.gaps.iter().all(|gap| gap.code != GapCode::KindUnknown);
    if session.kind == Kind::Exec && !expected.stream && says_kind {
        wrong.push("a stream for a probe".to_owned());
    }
    if session.kind == Kind::Probe && expected.stream && session.complete {
        wrong.push(format!("an exec is a whole probe: {session:?}"));
    }
    if session.kind == Kind::Local && says_kind {
        wrong.push(format!("a local exec was reported, but none was made: {session:?}"));
    }
    wrong
}

/// Links that the true session does not have.
pub(super) fn unknown(session: &Session, expected: &TrueSession) -> Vec<String> {
    let mut wrong = Vec::new();
    let cookie = |id: SocketId| id.cookie.expect("a cookie");
    for link in &session.links {
        let tasks = (session.hops[link.from].task, session.hops[link.to].task);
        let ends = link.tcp.and_then(|ends| Some((cookie(ends.near?), cookie(ends.far?))));
        let relay = link.relay.map(|(inbound, outbound)| (cookie(inbound), cookie(outbound)));
        // The link skips an unknown hop, and a gap reports this.
        let is_over =
            |gap: &execpath::model::Gap| gap.code == GapCode::ShimUnknown && gap.between == Some((link.from, link.to));
        let known = match link.kind {
            // An unserved request of kubectl is reported with all its connections.
            LinkKind::Tcp => {
                let is_leg = |ends| {
                    expected.legs.contains(&ends) || (session.exec_id.is_none() && expected.idle.contains(&ends))
                };
                ends.is_none_or(is_leg) && expected.steps.contains(&tasks)
            }
            LinkKind::Relay => relay.is_some_and(|relay| expected.relays.contains(&relay)),
            LinkKind::Unix | LinkKind::Fifo | LinkKind::Fork | LinkKind::Exec => {
                expected.steps.contains(&tasks) || session.gaps.iter().any(is_over)
            }
        };
        if !known {
            wrong.push(format!("{link:?} of {:?} in {expected:?}", session.exec_id));
        }
    }
    wrong
}

/// Sessions at the end, and wrong links at any time.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) sessions: BTreeMap<String, Session>,
    pub(super) wrong: Vec<String>,
}

pub(super) fn correlate<'a>(
    facts: impl IntoIterator<Item = &'a Observation>,
    truth: &BTreeMap<String, TrueSession>,
) -> Outcome {
    let mut correlator = correlator();
    let mut found = Outcome::default();
    let mut last = BootTime::default();
    for seen in facts {
        last = last.max(seen.at);
        correlator.ingest(seen.clone());
        for finding in correlator.drain() {
            if let Change::Opened(session) | Change::Changed(session) | Change::Closed(session) = finding.change {
                found.wrong.extend(wrong(&session, truth));
            }
        }
    }
    settle(&mut correlator, last);
    let report = correlator.report();
    found.wrong.extend(report.sessions.iter().flat_map(|session| wrong(session, truth)));
    let by_id = |session: Session| {
        Some((session.exec_id.as_deref()?.to_owned(), Session { last_seen: BootTime(0), ..session }))
    };
    found.sessions = report.sessions.into_iter().filter_map(by_id).collect();
    found
}

/// True sessions that were not found completely.
pub(super) fn missing(found: &Outcome, truth: &BTreeMap<String, TrueSession>) -> Vec<String> {
    let mut missing = Vec::new();
    for (id, expected) in truth.iter().filter(|(_, expected)| expected.whole) {
        let Some(session) = found.sessions.get(id) else {
            missing.push(format!("{id} is not found"));
            continue;
        };
        let hops: Vec<(Role, TaskKey)> = session.hops.iter().map(|hop| (hop.role, hop.task)).collect();
        let kind = if expected.stream { Kind::Exec } else { Kind::Probe };
        if !session.complete || hops != expected.hops || session.kind != kind {
            missing.push(format!("{id} is not whole: {:?} {:?} instead of {:?}", session.gaps, hops, expected.hops));
        }
    }
    missing
}
