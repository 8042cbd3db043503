//! Output of a diagnosis: text for people, and the JSON array of the contract.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Header, Style,
    color::Color,
    json,
    path::WIDTH,
    phrases::{self, NAME, TEXT, folded},
    view,
};
use crate::{
    escape,
    model::{
        About, BootTime, ClockAnchor, Diagnosis, Health, RawText, Reading, Report, Session, Severity, State, Value,
        Verdict,
    },
};

/// Columns of a label, with its indentation.
const LABEL: usize = 10;
/// Longest command shown in full. Commands are for copying, so that they are never folded.
const COMMAND: usize = 400;

/// Sessions that a diagnosis for people prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Sessions with a fault or of unknown health; the others are counted.
    Trouble,
    /// Every session.
    Every,
}

/// Writes a diagnosis for people: sessions with faults, then faults without a session, then sessions of unknown health, then
/// the others, as `detail` says; last, a summary.
///
/// Sessions come from `report`, verdicts from `diagnosis`: filter both to hide some.
///
/// # Errors
/// When the writer fails.
pub fn text(
    out: &mut dyn Write,
    style: Style,
    header: &Header,
    report: &Report,
    diagnosis: &Diagnosis,
    detail: Detail,
) -> io::Result<()> {
    let page = Page { style, header, is_whole: diagnosis.is_whole };
    let mut ranked: [Vec<&Session>; 3] = Default::default();
    for session in &report.sessions {
        let [faulty, doubtful, well] = &mut ranked;
        let rank = if diagnosis.faults(&session.id).next().is_some() {
            faulty
        } else if health_of(diagnosis, session) == Health::Unknown {
            doubtful
        } else {
            well
        };
        rank.push(session);
    }
    let [faulty, doubtful, well] = ranked;
    page.sessions(out, &faulty, diagnosis)?;
    let left_over = diagnosis.of(None);
    if !left_over.is_empty() {
        writeln!(out, "{}", page.paint(Color::Bold, "without a session"))?;
    }
    for verdict in left_over {
        page.verdict(out, None, verdict)?;
    }
    page.sessions(out, &doubtful, diagnosis)?;
    if detail == Detail::Every {
        page.sessions(out, &well, diagnosis)?;
    }
    let faults = diagnosis.all().filter(|verdict| verdict.severity == Severity::Fault).count() as u64;
    let sessions = report.sessions.len() as u64;
    let faults = match faults {
        0 => page.paint(Color::Good, "no fault"),
        _ => page.paint(Color::Bad, &phrases::counted(faults, "fault")),
    };
    let mut summary = format!("{}, {faults}", phrases::counted(sessions, "session"));
    let counts = [(doubtful.len(), "in doubt"), (well.len(), "without a fault")];
    for (count, how) in counts.into_iter().filter(|(count, _)| *count > 0 && *count as u64 != sessions) {
        summary.push_str(&format!(", {count} {how}"));
    }
    if detail == Detail::Trouble && !well.is_empty() {
        summary.push_str(" (`--all` prints them)");
    }
    writeln!(out, "{summary}")?;
    out.flush()
}

/// Health of a session as the diagnosis has it.
fn health_of(diagnosis: &Diagnosis, session: &Session) -> Health {
    diagnosis.health.get(&session.id).copied().unwrap_or(Health::Unknown)
}

/// Writes all verdicts for programs, as one array.
///
/// # Errors
/// When the writer fails.
pub fn json(out: &mut dyn Write, header: &Header, diagnosis: &Diagnosis) -> io::Result<()> {
    let verdicts: Vec<View<'_>> = diagnosis.all().map(|verdict| View::new(verdict, header)).collect();
    out.write_all(&json::text(&verdicts)?)?;
    writeln!(out)?;
    out.flush()
}

struct Page<'a> {
    style: Style,
    header: &'a Header,
    /// True if a whole recording was evaluated.
    is_whole: bool,
}

impl Page<'_> {
    fn sessions(&self, out: &mut dyn Write, sessions: &[&Session], diagnosis: &Diagnosis) -> io::Result<()> {
        sessions.iter().try_for_each(|session| {
            let doubt = diagnosis.doubts.get(&session.id).map(String::as_str);
            self.session(out, session, health_of(diagnosis, session), doubt, &diagnosis.of(Some(&session.id)))
        })
    }

    fn paint(&self, color: Color, text: &str) -> String {
        color.paint(self.style, text).into_owned()
    }

    fn session(
        &self,
        out: &mut dyn Write,
        session: &Session,
        health: Health,
        doubt: Option<&str>,
        own: &[&Verdict],
    ) -> io::Result<()> {
        let mut head = self.paint(Color::Bold, &escape::str(&session.id.0, NAME));
        for part in phrases::into(session).into_iter().chain(phrases::command(session, WIDTH - 2 - LABEL)) {
            head.push_str(&format!("  {part}"));
        }
        writeln!(out, "{head}")?;
        let is_fault = |verdict: &&&Verdict| verdict.severity == Severity::Fault;
        if own.iter().any(|verdict| is_fault(&verdict)) {
            return own.iter().filter(is_fault).try_for_each(|verdict| self.verdict(out, Some(session), verdict));
        }
        match own.first() {
            Some(verdict) => {
                let pid = verdict.about.pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
                writeln!(out, "  {}{pid}\n", self.paint(Color::Good, &format!("{}: {}", verdict.code, verdict.name)))
            }
            None => {
                let (color, text) = match health {
                    Health::Ok => (Color::Good, "ok".to_owned()),
                    Health::Waiting => (Color::Good, "waiting for input".to_owned()),
                    Health::Unknown | Health::Fault { .. } => {
                        let doubt = doubt.unwrap_or("too few measurements to rule out a fault");
                        (Color::Doubt, format!("unknown: {}", escape::str(doubt, TEXT)))
                    }
                };
                for line in folded(&text, WIDTH - 2) {
                    writeln!(out, "  {}", self.paint(color, &line))?;
                }
                writeln!(out)
            }
        }
    }

    fn verdict(&self, out: &mut dyn Write, session: Option<&Session>, verdict: &Verdict) -> io::Result<()> {
        let color = if verdict.severity == Severity::Fault { Color::Bad } else { Color::Good };
        writeln!(out, "  {} {}", self.paint(color, verdict.code), self.paint(Color::Bold, verdict.name))?;
        for line in folded(verdict.means, WIDTH - 2) {
            writeln!(out, "  {line}")?;
        }
        let place = place(session, verdict);
        self.block(out, "where", if place.is_empty() { None } else { Some(place) })?;
        let since = verdict.since.map(|at| format!("{} or earlier", view::moment(self.header.anchor, at)));
        self.block(out, "since", since)?;
        let until = verdict.until.map(|at| view::moment(self.header.anchor, at));
        // The outcome of a closed session is a verdict without an end.
        let is_open = session.is_none_or(|session| session.state == State::Open);
        let lasts = self.is_whole && is_open && verdict.severity == Severity::Fault;
        let until = until.or_else(|| lasts.then(|| "until the end of the recording".to_owned()));
        self.block(out, "until", until)?;
        self.block(out, "seen", verdict.evidence.iter().map(reading))?;
        let apart =
            verdict.told_apart_from.iter().map(|other| format!("{} ({}): {}", other.code, other.name, other.by));
        self.block(out, "not", apart)?;
        self.block(out, "do", verdict.next.iter().map(|next| escape::str(next, TEXT)))?;
        for (number, command) in verdict.manual.iter().enumerate() {
            let label = if number == 0 { "by hand" } else { "" };
            let command = format!("$ {}", escape::str(command, COMMAND));
            writeln!(out, "  {label:LABEL$}{}", self.paint(Color::Dim, &command))?;
        }
        writeln!(out)
    }

    fn block(&self, out: &mut dyn Write, label: &str, items: impl IntoIterator<Item = String>) -> io::Result<()> {
        let mut label = label;
        for item in items {
            for (number, line) in folded(&item, WIDTH - LABEL - 4).into_iter().enumerate() {
                let indent = if number == 0 { "" } else { "  " };
                writeln!(out, "  {}{indent}{line}", self.paint(Color::Dim, &format!("{label:LABEL$}")))?;
                label = "";
            }
        }
        Ok(())
    }
}

/// Position of a fault: hop, leg, and further identifiers.
fn place(session: Option<&Session>, verdict: &Verdict) -> String {
    let mut parts = Vec::new();
    let hop = session.and_then(|session| session.hops.get(verdict.hop?));
    let About { pid, fd, inode, local, remote } = verdict.about;
    if let Some(hop) = hop {
        let comm = escape::text(hop.process.comm.as_bytes(), NAME);
        let comm = if comm.is_empty() { String::new() } else { format!("{comm}, ") };
        parts.push(format!("{} ({comm}pid {})", hop.role.token(), hop.task.tgid));
    }
    if let Some(pid) = pid.filter(|pid| hop.is_none_or(|hop| hop.task.tgid != *pid)) {
        parts.push(format!("pid {pid}"));
    }
    let link = session.and_then(|session| session.links.get(verdict.link?));
    if let Some(ends) = link.and_then(|link| link.tcp) {
        parts.push(format!("leg {} → {}", ends.tuple.local, ends.tuple.remote));
    } else if let (Some(local), Some(remote)) = (local, remote) {
        parts.push(format!("connection {local} → {remote}"));
    } else if let Some(remote) = remote {
        parts.push(format!("connection to {remote}"));
    }
    parts.extend(fd.map(|fd| format!("descriptor {fd}")));
    parts.extend(inode.map(|inode| format!("inode {inode}")));
    parts.join(", ")
}

pub(crate) fn reading(reading: &Reading) -> String {
    let what = escape::str(&reading.what, TEXT);
    let value = match &reading.value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => escape::text(text.as_bytes(), NAME),
    };
    let space = if reading.unit.is_empty() { "" } else { " " };
    format!("{what}: {value}{space}{}", reading.unit)
}

/// A verdict of `diagnose -o json`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct View<'a> {
    code: &'a str,
    name: &'a str,
    severity: &'static str,
    session: Option<&'a str>,
    hop: Option<usize>,
    link: Option<usize>,
    pid: Option<u32>,
    fd: Option<u32>,
    inode: Option<u64>,
    #[schemars(with = "Option<String>")]
    local: Option<SocketAddr>,
    #[schemars(with = "Option<String>")]
    remote: Option<SocketAddr>,
    since: Option<String>,
    /// Latest time at which the fault was over; null while it lasts.
    until: Option<String>,
    evidence: Vec<Evidence<'a>>,
    told_apart_from: Vec<&'a str>,
    next: &'a [String],
    manual: &'a [String],
}

#[derive(Debug, Serialize, JsonSchema)]
struct Evidence<'a> {
    what: &'a str,
    value: Read<'a>,
    unit: Option<&'a str>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
enum Read<'a> {
    Number(u64),
    Text(&'a RawText),
}

impl<'a> View<'a> {
    fn new(verdict: &'a Verdict, header: &Header) -> Self {
        let About { pid, fd, inode, local, remote } = verdict.about;
        let evidence = |reading: &'a Reading| Evidence {
            what: &reading.what,
            value: match &reading.value {
                Value::Number(number) => Read::Number(*number),
                Value::Text(text) => Read::Text(text),
            },
            unit: Some(reading.unit).filter(|unit| !unit.is_empty()),
        };
        Self {
            code: verdict.code,
            name: verdict.name,
            severity: verdict.severity.token(),
            session: verdict.session.as_ref().map(|id| &*id.0),
            hop: verdict.hop,
            link: verdict.link,
            pid,
            fd,
            inode,
            local,
            remote,
            since: verdict.since.map(|at| view::moment(header.anchor, at)),
            until: verdict.until.map(|at| view::moment(header.anchor, at)),
            evidence: verdict.evidence.iter().map(evidence).collect(),
            told_apart_from: verdict.told_apart_from.iter().map(|other| other.code).collect(),
            next: &verdict.next,
            manual: &verdict.manual,
        }
    }
}

/// A fault and its span of time on one line, for lists and pictures. `end` replaces the end of a fault that lasts.
#[must_use]
pub(crate) fn line(verdict: &Verdict, anchor: ClockAnchor, end: &str) -> String {
    let moment = |at: Option<BootTime>| at.map(|at| view::moment(anchor, at));
    let since = moment(verdict.since).map_or(String::new(), |since| format!(" since {since}"));
    let until = moment(verdict.until).map_or_else(|| end.to_owned(), |until| format!(" until {until}"));
    let pid = verdict.about.pid.map_or(String::new(), |pid| format!(" (pid {pid})"));
    format!("{} {}{pid}{since}{until}", verdict.code, verdict.name)
}
