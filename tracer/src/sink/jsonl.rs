//! JSON Lines, for programs: one line a change, each whole by itself, flushed at once.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use super::{Header, Sink, Target, escape, view};
use crate::model::{BootTime, Change, Finding, Report};

/// The sink.
pub struct Jsonl {
    target: Target,
    header: Header,
    /// When each counter of losses was reported last.
    losses: BTreeMap<String, BootTime>,
}

impl Jsonl {
    /// Writes to `target`.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target, header: Header::default(), losses: BTreeMap::new() }
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
        let session = view::Session::new(session, &self.header, finding.at);
        write_line(&mut self.target, kind, view::Change { at, session })
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        let at = view::moment(self.header.anchor, report.at);
        write_line(&mut self.target, "end", view::End { at, totals: view::Sums::new(&report.totals) })
    }
}

fn write_line(target: &mut dyn Write, kind: &'static str, body: impl Serialize) -> io::Result<()> {
    // Put together first: a reader never sees half a line, and a terminal gets one write.
    let mut line = Vec::with_capacity(2_048);
    view::Line::new(kind, body).serialize(&mut Serializer::with_formatter(&mut line, Visible))?;
    line.push(b'\n');
    target.write_all(&line)?;
    target.flush()
}

/// JSON may hold C1 controls and bidi overrides as they are, and JSON Lines are read on terminals too: these are written as
/// `\uXXXX`, which means the same.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some((at, hidden)) = rest.char_indices().find(|(_, character)| escape::is_hidden(*character)) {
            CompactFormatter.write_string_fragment(writer, &rest[..at])?;
            for unit in hidden.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = &rest[at + hidden.len_utf8()..];
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_escaped_and_read_back_the_same() {
        let text = "a\u{9b}31m\u{202e}b\u{e0041}\x7f\x1b\n\"日本";
        let mut line = Vec::new();
        text.serialize(&mut Serializer::with_formatter(&mut line, Visible)).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert!(!line.chars().any(escape::is_hidden), "{line:?}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }
}
