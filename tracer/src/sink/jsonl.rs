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
}

impl Jsonl {
    /// Writes to `target`.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target, header: Header::default(), losses: BTreeMap::new(), unmeasured: Report::default() }
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
            Change::Opened(session) => ("session.opened", session),
            Change::Changed(session) => ("session.changed", session),
            Change::Closed(session) => ("session.closed", session),
            Change::Loss { what, count } => {
                let since = self.losses.insert(what.clone(), finding.at);
                let since = since.map(|since| view::moment(self.header.anchor, since));
                return write_line(&mut self.target, "loss", view::Loss { at, what, count: *count, since });
            }
        };
        let session = view::Session::new(session, &self.header, &self.unmeasured, finding.at);
        write_line(&mut self.target, kind, view::Change { at, session })
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        let at = view::moment(self.header.anchor, report.at);
        write_line(&mut self.target, "end", view::End { at, totals: view::Sums::new(&report.totals) })
    }
}

pub(super) fn write_line(target: &mut dyn Write, kind: &'static str, body: impl Serialize) -> io::Result<()> {
    // Serialise first: a reader never sees half a line, and a terminal gets one write.
    let mut line = json::text(&view::Line::new(kind, body))?;
    line.push(b'\n');
    target.write_all(&line)?;
    target.flush()
}
