//! The JSON contract, version 1. Sinks serialise these types instead of the model's, so that the model can change.
//! Unknown values are null, never 0.

use std::{collections::BTreeMap, net::SocketAddr};

use schemars::JsonSchema;
use serde::Serialize;

mod attempt;
mod client;
mod exit;
mod hop;
mod links;
mod parts;
mod piece;
mod time;

pub(super) use self::parts::Parts;
pub use self::time::moment;
use self::{
    attempt::Attempt,
    client::Client,
    exit::Exit,
    hop::{Hop, known},
    links::Link,
    parts::SessionParts,
    piece::Piece,
};
use super::Header;
use crate::model::{
    self, Ability, BootTime, Degraded, GapCode, Health, HostFacts, Measures, RawText, Report, Role, State, Totals,
};

/// Version of the contract. It increases when a field is removed or changes its meaning; new fields keep it.
pub const VERSION: u32 = 1;

/// A line of JSON Lines.
#[derive(Debug, Serialize)]
pub struct Line<T> {
    /// The contract version, [`VERSION`].
    pub v: u32,
    /// Type of the line.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Fields of this type.
    #[serde(flatten)]
    pub body: T,
}

impl<T> Line<T> {
    /// A line of the current version.
    pub const fn new(kind: &'static str, body: T) -> Self {
        Self { v: VERSION, kind, body }
    }
}

/// The first line: origin of the data.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Host<'a> {
    /// The host.
    #[serde(flatten)]
    pub machine: Machine<'a>,
    /// Further hosts of a merged recording.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<Machine<'a>>,
    /// Abilities of the tracer on this host.
    pub abilities: Vec<&'static str>,
    /// Abilities that the tracer lacks, with reasons.
    pub degraded: &'a [Degraded],
}

impl<'a> Host<'a> {
    /// The line for a header.
    #[must_use]
    pub fn new(header: &'a Header) -> Self {
        Self {
            machine: Machine::new(&header.host),
            others: header.others.iter().map(Machine::new).collect(),
            abilities: header.abilities.iter().map(|ability| Ability::token(*ability)).collect(),
            degraded: &header.degraded,
        }
    }
}

/// A host.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Machine<'a> {
    /// `uname -n`
    pub hostname: &'a str,
    /// `uname -r`
    pub kernel: &'a str,
    /// `uname -m`
    pub arch: &'a str,
    /// Identifies one boot of a host.
    pub boot_id: &'a str,
}

impl<'a> Machine<'a> {
    fn new(host: &'a HostFacts) -> Self {
        Self { hostname: &host.hostname, kernel: &host.kernel, arch: &host.arch, boot_id: &host.boot_id }
    }
}

/// A change of a session.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Change<'a> {
    /// Time at which the change became known.
    pub at: String,
    /// The whole session.
    pub session: Session<'a>,
}

/// Lost observations.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Loss<'a> {
    /// Time at which the loss became known.
    pub at: String,
    /// Name of the loss counter.
    pub what: &'a str,
    /// Number of lost observations, or milliseconds for a delay.
    pub count: u64,
    /// Time of this counter's last report; null for its first.
    pub since: Option<String>,
}

/// The last line.
#[derive(Debug, Serialize, JsonSchema)]
pub struct End<'a> {
    /// Boot-clock time of the end, as UTC.
    pub at: String,
    /// Totals over everything, regardless of filters.
    pub totals: Sums<'a>,
}

/// Totals of a run.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Sums<'a> {
    /// Number of processed observations.
    pub observations: u64,
    /// Number of observations that arrived too late to be ordered.
    pub late: u64,
    /// Number of opened sessions.
    pub opened: u64,
    /// Number of closed sessions.
    pub closed: u64,
    /// Losses by counter.
    pub lost: &'a BTreeMap<String, u64>,
}

impl<'a> Sums<'a> {
    /// The totals of a report.
    #[must_use]
    pub const fn new(totals: &'a Totals) -> Self {
        let Totals { observations, late, opened, closed, lost } = totals;
        Self { observations: *observations, late: *late, opened: *opened, closed: *closed, lost }
    }
}

/// A session.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Session<'a> {
    id: &'a str,
    kind: &'static str,
    state: &'static str,
    opened_at: String,
    closed_at: Option<String>,
    age_ms: u64,
    preexisting: bool,
    merged_into: Option<&'a str>,
    target: Target<'a>,
    #[schemars(with = "Client<'a>")]
    client: Piece<'a, Client<'a>>,
    command: Option<&'a [RawText]>,
    command_truncated: bool,
    tty: Option<bool>,
    stdin: Option<bool>,
    exec_id: Option<&'a str>,
    exit: Option<Exit>,
    /// How far the client's request came; absent if no client asked an API server.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Attempt<'a>>")]
    attempt: Option<Piece<'a, Attempt<'a>>>,
    idle_ms: Option<u64>,
    health: &'static str,
    /// Faults over the whole recording, if it was evaluated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    faults: Vec<Fault>,
    /// Reason of health `unknown`, for people; absent without a diagnosis.
    #[serde(skip_serializing_if = "Option::is_none")]
    health_reason: Option<&'a str>,
    #[schemars(with = "Vec<Hop<'a>>")]
    hops: Vec<Piece<'a, Hop<'a>>>,
    #[schemars(with = "Vec<Link<'a>>")]
    links: Vec<Piece<'a, Link<'a>>>,
    complete: bool,
    confidence: Option<&'static str>,
    beyond: Vec<Beyond>,
    gaps: Vec<Gap<'a>>,
}

/// Client, attempt, hops and links of a session.
type SessionViews<'a> =
    (Piece<'a, Client<'a>>, Option<Piece<'a, Attempt<'a>>>, Vec<Piece<'a, Hop<'a>>>, Vec<Piece<'a, Link<'a>>>);

impl<'a> Session<'a> {
    /// Builds the view of a session at boot time `now`. Measurements and health come from `report`.
    #[must_use]
    pub fn new(session: &'a model::Session, header: &'a Header, report: &'a Report, now: BootTime) -> Self {
        let measures = &report.measures;
        let hops = session.hops.iter().map(|hop| Piece::New(Hop::new(hop, header, measures))).collect();
        let links = session.links.iter().map(|link| Piece::New(Link::new(link, measures))).collect();
        let client = Piece::New(Client::new(session, header));
        let attempt = Attempt::new(session, |at| moment(header.anchor, at)).map(Piece::New);
        Self::of(session, header, report, now, (client, attempt, hops, links))
    }

    /// Like [`Session::new`], with parts that were serialised before.
    pub(super) fn with_parts(
        session: &'a model::Session,
        header: &'a Header,
        report: &'a Report,
        now: BootTime,
        parts: &'a SessionParts,
    ) -> Self {
        let (hops, links) = (parts.hops().map(Piece::Same).collect(), parts.links().map(Piece::Same).collect());
        let (client, attempt) = (Piece::Same(parts.client()), parts.attempt().map(Piece::Same));
        Self::of(session, header, report, now, (client, attempt, hops, links))
    }

    fn of(
        session: &'a model::Session,
        header: &'a Header,
        report: &'a Report,
        now: BootTime,
        (client, attempt, hops, links): SessionViews<'a>,
    ) -> Self {
        let measures = &report.measures;
        let when = |at| moment(header.anchor, at);
        let model::Target { namespace, pod, pod_uid, container, container_id, runtime, said_by_client } =
            &*session.target;
        Self {
            id: &session.id.0,
            kind: session.kind.token(),
            state: match session.state {
                State::Open => "open",
                State::Closed => "closed",
            },
            opened_at: when(session.opened_at),
            closed_at: session.closed_at.map(when),
            age_ms: age(session, now).as_millis(),
            preexisting: session.preexisting,
            merged_into: session.merged_into.as_ref().map(|id| &*id.0),
            target: Target {
                namespace: namespace.as_deref(),
                pod: pod.as_deref(),
                pod_uid: pod_uid.as_deref(),
                container: container.as_deref(),
                container_id: container_id.as_deref(),
                runtime: runtime.as_deref(),
                confidence: said_by_client.then(|| model::Confidence::Weak.token()),
                evidence: said_by_client.then_some([ARGV]),
            },
            client,
            command: known(&session.command),
            command_truncated: session.command_truncated,
            tty: session.tty,
            stdin: session.stdin,
            exec_id: session.exec_id.as_deref(),
            exit: Exit::of(session, when),
            attempt,
            idle_ms: idle(session, measures, now).map(model::Span::as_millis),
            health: health(session, report).token(),
            faults: faults(session, header, report),
            health_reason: doubt(session, report),
            hops,
            links,
            complete: session.complete,
            confidence: session.confidence().map(model::Confidence::token),
            beyond: session.beyond.iter().map(|(side, address)| Beyond { side, address: *address }).collect(),
            gaps: session
                .gaps
                .iter()
                .map(|gap| Gap {
                    code: GapCode::token(gap.code),
                    between: gap.between.map(|(from, to)| [from, to]),
                    text: &gap.text,
                })
                .collect(),
        }
    }
}

/// A fault over the time of a recording.
#[derive(Debug, Serialize, JsonSchema)]
struct Fault {
    code: &'static str,
    since: Option<String>,
    /// End of the fault; null if it lasts to the end of the recording.
    until: Option<String>,
}

fn faults(session: &model::Session, header: &Header, report: &Report) -> Vec<Fault> {
    if !report.diagnosis.is_whole {
        return Vec::new();
    }
    let when = |at: Option<BootTime>| at.map(|at| moment(header.anchor, at));
    let fault =
        |verdict: &model::Verdict| Fault { code: verdict.code, since: when(verdict.since), until: when(verdict.until) };
    report.diagnosis.faults(&session.id).map(fault).collect()
}

/// Health of a session; unknown without a diagnosis.
#[must_use]
pub fn health(session: &model::Session, report: &Report) -> Health {
    report.diagnosis.health.get(&session.id).copied().unwrap_or(Health::Unknown)
}

/// Reason of an unknown health, if the diagnosis gave one.
#[must_use]
pub fn doubt<'a>(session: &model::Session, report: &'a Report) -> Option<&'a str> {
    let is_unknown = health(session, report) == Health::Unknown;
    report.diagnosis.doubts.get(&session.id).filter(|_| is_unknown).map(String::as_str)
}

/// Age of a session at `now`, or its duration once closed.
#[must_use]
pub fn age(session: &model::Session, now: BootTime) -> model::Span {
    session.closed_at.unwrap_or(now).since(session.opened_at)
}

/// Least time without payload; heartbeats do not count. Sources are the exec's FIFOs on the node, else samples of the
/// session's own connections. `None` without measurements, or if heartbeats hide idleness from a single sample.
#[must_use]
pub fn idle(session: &model::Session, measures: &Measures, now: BootTime) -> Option<model::Span> {
    let ends = session.links.iter().filter(|link| !link.persistent).filter_map(|link| link.tcp);
    let ends: Vec<_> = ends.flat_map(|ends| [ends.near, ends.far]).flatten().collect();
    let activity = || ends.iter().filter_map(|socket| measures.activity(*socket));
    let payload = activity().filter_map(model::Activity::payload).max();
    let last = match fifos_used(session, measures) {
        Some(used) => payload.max(Some(used)),
        None if payload.is_some() => payload,
        // Samples over time: no end can have passed on payload since the earliest of these times.
        None => activity().filter_map(model::Activity::idle_since).min(),
    };
    Some(now.since(last?.max(session.opened_at)))
}

/// Time of the last write to the FIFOs of the session's exec, or of the container that it is attached to.
fn fifos_used(session: &model::Session, measures: &Measures) -> Option<BootTime> {
    let container = session.target.container_id.as_deref()?;
    let attached = matches!(session.kind, model::Kind::Attach | model::Kind::Debug).then_some(container);
    let shim = session.hops.iter().find(|hop| hop.role == Role::Shim).or(session.hops.last())?;
    measures.exec_used(shim.task.host, container, session.exec_id.as_deref().or(attached)?)
}

/// Evidence token for the client's arguments.
const ARGV: &str = "argv";

#[derive(Debug, Serialize, JsonSchema)]
struct Target<'a> {
    namespace: Option<&'a str>,
    pod: Option<&'a str>,
    pod_uid: Option<&'a str>,
    container: Option<&'a str>,
    container_id: Option<&'a str>,
    /// `weak` if only the client's arguments name the target; else absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<&'static str>,
    /// `argv` if only the client's arguments name the target; else absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<[&'static str; 1]>,
    runtime: Option<&'a str>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Beyond {
    side: &'static str,
    #[schemars(with = "String")]
    address: SocketAddr,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Gap<'a> {
    code: &'static str,
    between: Option<[usize; 2]>,
    text: &'a str,
}
