//! JSON Lines for programs. Each line is one change and complete by itself; each is flushed at once.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;

use super::{Header, Sink, Target, json, view};
use crate::model::{BootTime, Change, Finding, Report};

/// The sink.
pub struct Jsonl {
    target: Target,
    header: Header,
    /// Time of the last report of each loss counter.
    losses: BTreeMap<String, BootTime>,
    /// An empty report: changes carry no measurements.
    unmeasured: Report,
    parts: view::Parts,
    /// Buffer of the lines of changes.
    line: Vec<u8>,
}

impl Jsonl {
    /// Writes to `target`.
    #[must_use]
    pub fn new(target: Target) -> Self {
        let (header, losses, unmeasured) = (Header::default(), BTreeMap::new(), Report::default());
        Self { target, header, losses, unmeasured, parts: view::Parts::default(), line: Vec::new() }
    }
}

impl Sink for Jsonl {
    fn host(&mut self, header: &Header) -> io::Result<()> {
        self.header = header.clone();
        write_line(&mut self.target, "host", view::Host::new(header))
    }

    fn change(&mut self, finding: &Finding) -> io::Result<()> {
        let at = view::moment(self.header.anchor, finding.at);
        let (kind, session) = match &finding.change {
            Change::Opened(session) if session.is_attempt_only() => ("attempt.started", session),
            Change::Closed(session) if session.is_attempt_only() => ("attempt.failed", session),
            Change::Opened(session) => ("session.opened", session),
            Change::Changed(session) => ("session.changed", session),
            Change::Closed(session) => ("session.closed", session),
            Change::Loss { what, count } => {
                let since = self.losses.insert(what.clone(), finding.at);
                let since = since.map(|since| view::moment(self.header.anchor, since));
                return write_line(&mut self.target, "loss", view::Loss { at, what, count: *count, since });
            }
        };
        let parts = self.parts.update(session, &self.header)?;
        let view = view::Session::with_parts(session, &self.header, &self.unmeasured, finding.at, parts);
        write_through(&mut self.line, &mut self.target, kind, view::Change { at, session: view })?;
        if matches!(finding.change, Change::Closed(_)) {
            self.parts.forget(&session.id);
        }
        Ok(())
    }

    fn needs_sessions(&self) -> bool {
        false
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        let at = view::moment(self.header.anchor, report.at);
        write_line(&mut self.target, "end", view::End { at, totals: view::Sums::new(&report.totals) })
    }
}

pub(super) fn write_line(target: &mut dyn Write, kind: &'static str, body: impl Serialize) -> io::Result<()> {
    write_through(&mut Vec::new(), target, kind, body)
}

/// Writes a line by way of `line`, whose content is replaced.
fn write_through(
    line: &mut Vec<u8>,
    target: &mut dyn Write,
    kind: &'static str,
    body: impl Serialize,
) -> io::Result<()> {
    // Serialise first: a reader never sees half a line, and a terminal gets one write.
    line.clear();
    json::append(line, &view::Line::new(kind, body))?;
    line.push(b'\n');
    target.write_all(line)?;
    target.flush()
}
