//! Lists of sessions: rows for people, JSON for programs. They show the final state rather than changes.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    io::{self, Write},
};

use tabled::{
    builder::Builder,
    grid::util::string::get_line_width,
    settings::{Padding, Style as Borders, Width, object::Columns},
};

use super::{
    Header, Sink, Style, Target,
    color::Color,
    diagnosis, json,
    jsonl::write_line,
    phrases::{self, NAME},
    view,
};
use crate::{
    escape,
    model::{ClockAnchor, Degraded, Health, Report, Role, Session, Severity, Span, Verdict},
};

/// Columns of a command and of a target: rows with common names fit 120 columns.
const COMMAND: usize = 32;
const INTO: usize = 40;

/// Columns of the wide table: whole text within the limits of a name and a line.
const WIDE: usize = 200;

/// The table: one row per session.
pub struct Table {
    is_wide: bool,
    target: Target,
    style: Style,
    columns: Option<u16>,
    degraded: Vec<Degraded>,
    anchor: ClockAnchor,
}

/// Columns between two cells.
const GAP: usize = 2;

impl Table {
    /// Writes to `target`.
    #[must_use]
    pub fn new(target: Target, style: Style) -> Self {
        Self { is_wide: false, target, style, columns: None, degraded: Vec::new(), anchor: ClockAnchor::default() }
    }

    /// Writes to `target`, with more columns and whole text, whatever the width of the terminal.
    #[must_use]
    pub fn wide(target: Target, style: Style) -> Self {
        Self { is_wide: true, ..Self::new(target, style) }
    }
}

type Row = Vec<String>;

const HEAD: [&str; 9] = ["ID", "AGE", "KIND", "INTO", "COMMAND", "CLIENT", "PID", "IDLE", "HEALTH"];
/// Further columns of the wide table.
const MORE: [&str; 3] = ["SERVER", "USER", "CONTAINER ID"];

impl Sink for Table {
    fn fit(&mut self, columns: u16) {
        self.columns = Some(columns).filter(|_| !self.is_wide);
    }

    fn host(&mut self, header: &Header) -> io::Result<()> {
        self.degraded.clone_from(&header.degraded);
        self.anchor = header.anchor;
        Ok(())
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        if report.sessions.is_empty() {
            writeln!(self.target, "no session is open")?;
        } else {
            let rows: Vec<Row> = report.sessions.iter().map(|session| row(session, report, self.is_wide)).collect();
            let more = MORE.iter().filter(|_| self.is_wide);
            let head: Row = HEAD.iter().chain(more).map(|name| (*name).to_owned()).collect();
            let mut table = Builder::from_iter([&head].into_iter().chain(&rows)).build();
            table.with(Borders::empty()).with(Padding::new(0, GAP, 0, 0));
            if let Some(columns) = self.columns {
                for (column, width) in GIVING.into_iter().zip(widths(&head, &rows, columns.into())) {
                    table.modify(Columns::one(column), Width::truncate(width).suffix("…"));
                }
            }
            for (index, line) in table.to_string().lines().enumerate() {
                let line = line.trim_end();
                let shown = if index == 0 { Color::Dim.paint(self.style, line) } else { line.into() };
                writeln!(self.target, "{shown}")?;
            }
            if let Some(columns) = self.columns.filter(|_| rows.len() > SCREEN) {
                for line in phrases::folded(&summary(report), columns.into()) {
                    writeln!(self.target, "{}", Color::Bold.paint(self.style, &line))?;
                }
            }
        }
        for line in faults(report, self.anchor) {
            writeln!(self.target, "{}", Color::Bad.paint(self.style, &line))?;
        }
        self.target.write_all(phrases::degraded(self.style, &self.degraded).as_bytes())?;
        self.target.flush()
    }
}

/// Faults of a whole recording, one per line: a table column has no room for their times.
fn faults(report: &Report, anchor: ClockAnchor) -> Vec<String> {
    let diagnosis = &report.diagnosis;
    if !diagnosis.is_whole {
        return Vec::new();
    }
    let line =
        |whose: &str, verdict: &Verdict| format!("{whose}  {}", diagnosis::line(verdict, anchor, ", to the end"));
    let of_sessions = report.sessions.iter().flat_map(|session| {
        let id = escape::str(&session.id.0, NAME);
        diagnosis.faults(&session.id).map(|verdict| line(&id, verdict)).collect::<Vec<_>>()
    });
    let of_none = diagnosis.of(None).into_iter().filter(|verdict| verdict.severity == Severity::Fault);
    of_sessions.chain(of_none.map(|verdict| line("no session", verdict))).collect()
}

/// Most rows that fit a common screen. A longer list gets a summary, since faults at its top scroll away.
const SCREEN: usize = 20;

/// Number of sessions, and their health; faults first.
fn summary(report: &Report) -> String {
    let mut counts: BTreeMap<Health, u64> = BTreeMap::new();
    for session in &report.sessions {
        *counts.entry(view::health(session, report)).or_default() += 1;
    }
    let mut counts: Vec<(Health, u64)> = counts.into_iter().collect();
    counts.sort_by_key(|(health, count)| (!matches!(health, Health::Fault { .. }), Reverse(*count)));
    let all = phrases::counted(counts.iter().map(|(_, count)| count).sum(), "session");
    let how: Vec<String> = counts.iter().map(|(health, count)| format!("{} {count}", health.short())).collect();
    format!("{all}: {}", how.join(", "))
}

/// Columns that shrink on a narrow terminal: target, command, client. Ids keep their full length, since `show` needs
/// them.
const GIVING: [usize; 3] = [3, 4, 5];
/// Least width of these columns: shorter text is useless.
const LEAST: usize = 4;

/// Widths of the shrinking columns, so that rows fit `columns`.
fn widths(head: &Row, rows: &[Row], columns: usize) -> [usize; GIVING.len()] {
    let natural = |column: usize| {
        let cells = [head].into_iter().chain(rows).filter_map(|row| row.get(column));
        cells.map(|cell| get_line_width(cell)).max().unwrap_or(0)
    };
    let stay: usize = (0..HEAD.len()).filter(|column| !GIVING.contains(column)).map(natural).sum();
    let left = columns.saturating_sub(stay + GAP * (HEAD.len() - 1));
    let mut widths = GIVING.map(natural);
    // Shrink the widest column first.
    while widths.iter().sum::<usize>() > left {
        let Some(widest) = widths.iter_mut().filter(|width| **width > LEAST).max() else { break };
        *widest -= 1;
    }
    widths
}

fn row(session: &Session, report: &Report, is_wide: bool) -> Row {
    let (into, command) = if is_wide { (WIDE, WIDE) } else { (INTO, COMMAND) };
    let at = report.now();
    let unknown = || "?".to_owned();
    let process = session.hops.iter().rev().find(|hop| hop.role == Role::Process);
    let mut row = vec![
        escape::str(&session.id.0, NAME),
        short(view::age(session, at)),
        session.kind.token().to_owned(),
        phrases::into(session).map_or_else(unknown, |text| escape::str(&text, into)),
        phrases::command(session, command).unwrap_or_else(unknown),
        client(session),
        process.map_or_else(unknown, |hop| hop.task.tgid.to_string()),
        view::idle(session, &report.measures, at).map_or_else(unknown, short),
        view::health(session, report).short().to_owned(),
    ];
    if is_wide {
        let id = session.target.container_id.as_ref().map(|id| escape::str(id, WIDE));
        row.extend([phrases::server(session), user(session), id].map(|text| text.unwrap_or_else(unknown)));
    }
    row
}

/// The Kubernetes user if the audit log names one, else the login user or the user of the client's process.
fn user(session: &Session) -> Option<String> {
    let client = &session.client;
    let name = client.user.as_ref().map(|known| &known.user.name);
    let name = name.or(client.login_name.as_ref()).or(client.uid_name.as_ref()).map(|name| escape::str(name, NAME));
    name.or_else(|| client.login_uid.or(client.uid).map(|uid| format!("uid {uid}")))
}

/// The client: its process if it runs on this host, else its address.
pub(crate) fn client(session: &Session) -> String {
    let hop = session.hops.first().filter(|hop| hop.role == Role::Client);
    match (hop, session.client.address) {
        (Some(hop), _) => {
            let comm = escape::text(hop.process.comm.as_bytes(), 16);
            let uid = hop.process.uid.map(|uid| format!(" uid {uid}")).unwrap_or_default();
            format!("{comm} {}{uid}", hop.task.tgid)
        }
        (None, Some(address)) => address.to_string(),
        (None, None) => "?".to_owned(),
    }
}

/// Formats a duration in at most four characters, as kubectl does for ages.
pub(crate) fn short(span: Span) -> String {
    let seconds = span.as_millis() / 1_000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// The sink of ids, one per line.
pub struct Names {
    target: Target,
}

impl Names {
    /// Writes to `target`.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target }
    }
}

impl Sink for Names {
    fn host(&mut self, _header: &Header) -> io::Result<()> {
        Ok(())
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        for session in &report.sessions {
            writeln!(self.target, "{}", escape::str(&session.id.0, NAME))?;
        }
        self.target.flush()
    }
}

/// The sink of all sessions as one array.
pub struct Json {
    target: Target,
    header: Header,
}

impl Json {
    /// Writes to `target`.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target, header: Header::default() }
    }
}

impl Sink for Json {
    fn host(&mut self, header: &Header) -> io::Result<()> {
        self.header = header.clone();
        Ok(())
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        let at = report.now();
        let view = |session| view::Session::new(session, &self.header, report, at);
        let sessions: Vec<view::Session<'_>> = report.sessions.iter().map(view).collect();
        let mut text = json::text(&sessions)?;
        text.push(b'\n');
        self.target.write_all(&text)?;
        self.target.flush()
    }
}

/// The sink of the host and one session per line.
pub struct Lines {
    target: Target,
    header: Header,
}

impl Lines {
    /// Writes to `target`.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target, header: Header::default() }
    }
}

impl Sink for Lines {
    fn host(&mut self, header: &Header) -> io::Result<()> {
        self.header = header.clone();
        write_line(&mut self.target, "host", view::Host::new(header))
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        let at = report.now();
        for session in &report.sessions {
            let view = view::Session::new(session, &self.header, report, at);
            let change = view::Change { at: view::moment(self.header.anchor, at), session: view };
            write_line(&mut self.target, "session", change)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        for (seconds, text) in [(0, "0s"), (119, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_800, "2d")]
        {
            assert_eq!(short(Span::from_secs(seconds)), text);
        }
    }
}
