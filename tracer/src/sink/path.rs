//! The path of a session as lines of text, shared by the sinks that draw it.

use std::{borrow::Cow, net::SocketAddr};

use super::{
    Header, Style,
    color::Color,
    phrases::{NAME, TEXT, outcome},
    waterfall,
};
use crate::{
    escape,
    model::{BootTime, Confidence, Hop, Link, LinkKind, Role, Session},
};

/// Columns that lines keep to if they can.
pub(super) const WIDTH: usize = 100;
/// Columns of a label at the start of a line.
pub(super) const LABEL: usize = 10;
/// Columns of the bars of a start.
const BARS: usize = 24;
/// Columns of a command.
pub(super) const COMMAND: usize = WIDTH - 2 - LABEL;

/// An element of the drawn path.
#[derive(Clone, Copy)]
pub(super) enum Piece<'a> {
    /// An address outside of this host, with its side.
    Beyond(&'static str, SocketAddr),
    Hop(&'a Hop),
    Link(&'a Link),
    /// A missing link between the hop of this index and the next one.
    Hole(usize),
}

/// Elements of the path in drawing order, client first.
pub(super) fn pieces(session: &Session) -> Vec<Piece<'_>> {
    let beyond = |client: bool| {
        let ends = session.beyond.iter().filter(move |(side, _)| (*side == "client") == client);
        ends.map(|(side, address)| Piece::Beyond(side, *address))
    };
    let mut pieces = Vec::with_capacity(session.beyond.len() + session.links.len() + 2 * session.hops.len());
    pieces.extend(beyond(true));
    for (index, hop) in session.hops.iter().enumerate() {
        let branching = session.links.iter().filter(|link| link.to == index && branches(session, link));
        pieces.extend(branching.map(Piece::Link));
        pieces.push(Piece::Hop(hop));
        let from_here = |inside: bool| {
            let here = move |link: &&Link| link.from == index && (link.to == index) == inside;
            session.links.iter().filter(here).filter(|link| !branches(session, link))
        };
        pieces.extend(from_here(true).chain(from_here(false)).map(Piece::Link));
        let spanned = session.links.iter().any(|link| link.from <= index && link.to > index);
        if !spanned && index + 1 < session.hops.len() {
            pieces.push(Piece::Hole(index));
        }
    }
    pieces.extend(beyond(false));
    pieces
}

/// Draws paths as text.
#[derive(Default)]
pub(super) struct PathText {
    pub(super) style: Style,
    /// Names of hosts.
    pub(super) header: Header,
}

impl PathText {
    pub(super) fn paint<'a>(&self, color: Color, text: &'a str) -> Cow<'a, str> {
        color.paint(self.style, text)
    }

    /// Lines of one element.
    pub(super) fn lines(&self, session: &Session, piece: Piece<'_>) -> Vec<String> {
        match piece {
            Piece::Beyond(side, address) => vec![self.beyond(side, address)],
            Piece::Hop(hop) => self.hop(hop),
            Piece::Link(link) => self.link(session, link),
            Piece::Hole(index) => self.hole(session, index),
        }
    }

    /// Lines of the path, each element followed by the lines that `more` returns for it.
    pub(super) fn path_with(&self, session: &Session, more: &dyn Fn(Piece<'_>) -> Vec<String>) -> Vec<String> {
        pieces(session)
            .into_iter()
            .flat_map(|piece| self.lines(session, piece).into_iter().chain(more(piece)))
            .collect()
    }

    fn beyond(&self, side: &str, address: SocketAddr) -> String {
        let label = self.label(Color::Dim, "beyond");
        format!("  {label}{} at {address}, not on this host", escape::str(side, NAME))
    }

    fn hop(&self, hop: &Hop) -> Vec<String> {
        let mut line = format!("pid {}", hop.task.tgid);
        let comm = escape::text(hop.process.comm.as_bytes(), NAME);
        if !comm.is_empty() {
            line = format!("{comm} · {line}");
        }
        if let Some(host) = self.header.distinct(hop.task.host) {
            line = format!("{line} on {}", escape::str(host, NAME));
        }
        let mut lines = vec![format!("  {}{line}", self.label(Color::Bold, hop.role.token()))];
        // Command lines are shown for the client and the process alone: those of daemons are long and concern no
        // session.
        if matches!(hop.role, Role::Client | Role::Process) && !hop.process.argv.is_empty() {
            const MARGIN: usize = 2 + LABEL + 1;
            let command =
                escape::command(&hop.process.argv, hop.process.argv_truncated, WIDTH - MARGIN - "$ ".len() - 1);
            let used = MARGIN + escape::columns(&line) + escape::columns(" · ") + escape::columns(&command);
            if used <= WIDTH {
                lines[0].push_str(&self.paint(Color::Dim, &format!(" · {command}")));
            } else {
                lines.push(format!("{}{}", " ".repeat(MARGIN), self.paint(Color::Dim, &format!("$ {command}"))));
            }
        }
        lines
    }

    fn link(&self, session: &Session, link: &Link) -> Vec<String> {
        let inside = link.from == link.to;
        let mut what = match link.kind {
            LinkKind::Tcp => link.tcp.map(|ends| format!("{} → {}", ends.tuple.local, ends.tuple.remote)),
            LinkKind::Unix => link.unix.as_ref().map(|(path, ..)| escape::shortened(path)),
            LinkKind::Relay => Some("joined inside".to_owned()),
            LinkKind::Fifo | LinkKind::Fork | LinkKind::Exec => None,
        }
        .unwrap_or_default();
        if link.to > link.from + 1 {
            let (way, hop) = if branches(session, link) { ("from", link.from) } else { ("down to", link.to) };
            let role = session.hops.get(hop).map_or("another hop", |hop| hop.role.token());
            what.push_str(&format!("{}{way} {role}", if what.is_empty() { "" } else { ", " }));
        }
        if link.persistent {
            what.push_str(if what.is_empty() { "shared by sessions" } else { " (shared by sessions)" });
        }
        let rail = if inside { "  ┊ " } else { "  │ " };
        let kind = if inside { String::new() } else { format!("{:<6}", link.kind.token()) };
        let evidence: Vec<&str> = link.evidence.iter().map(|evidence| evidence.prose()).collect();
        let known = format!("{}: {}", link.confidence.token(), evidence.join("; "));
        let known = known.trim_end_matches(": ");
        let color = match link.confidence {
            Confidence::Exact => Color::Good,
            Confidence::Strong | Confidence::Weak => Color::Doubt,
        };

        let gap = if what.is_empty() { "" } else { "  " };
        let before = 4 + escape::columns(&kind) + escape::columns(&what) + gap.len();
        let start = format!("{}{}{what}", self.paint(Color::Dim, rail), self.paint(Color::Bold, &kind));
        if before + escape::columns(known) <= WIDTH {
            return vec![format!("{start}{gap}{}", self.paint(color, known))];
        }
        let more = format!("{}{}", self.paint(Color::Dim, rail), " ".repeat(escape::columns(&kind)));
        std::iter::once(start).chain(self.wrapped(color, &more, &more, known)).collect()
    }

    /// Two hops without a link: the drawing must not suggest one.
    fn hole(&self, session: &Session, index: usize) -> Vec<String> {
        let gap = session.gaps.iter().find(|gap| gap.between == Some((index, index + 1)));
        let text = gap
            .map_or_else(|| "no evidence of a link between these two".to_owned(), |gap| escape::str(&gap.text, TEXT));
        let rail = self.paint(Color::Dim, "  ┊ ");
        self.wrapped(Color::Doubt, &format!("{rail}? "), &format!("{rail}  "), &text)
    }

    pub(super) fn complete(&self, session: &Session) -> String {
        let (color, how) = match session.confidence() {
            Some(Confidence::Exact) => (Color::Good, "every link exact".to_owned()),
            Some(weakest) => (Color::Doubt, format!("its weakest link is {}", weakest.token())),
            None => (Color::Doubt, "no link".to_owned()),
        };
        let how = self.paint(color, &how);
        let what = if session.beyond.is_empty() { "the whole path" } else { "the part of the path on this host" };
        format!("  {} {what}, {how}", self.paint(Color::Good, "✓"))
    }

    /// Lines of a session's start: the time between each rung and the one above it. Empty if too few times are known.
    pub(super) fn start(&self, session: &Session) -> Vec<String> {
        let Some((title, rows)) = waterfall::start(session, BARS) else { return Vec::new() };
        let mut lines = vec![format!("  {}{title}", self.label(Color::Dim, "start"))];
        lines.extend(rows.into_iter().map(|row| {
            let bar = self.paint(if row.is_seen { Color::Good } else { Color::Doubt }, &row.bar).into_owned();
            let note = self.paint(if row.is_failed { Color::Bad } else { Color::Dim }, &row.note).into_owned();
            format!("    {:<18}  {bar}  {:>8}  {note}", row.label, row.lasted).trim_end().to_owned()
        }));
        lines
    }

    /// The last line of a closed session.
    pub(super) fn outcome(&self, session: &Session, now: BootTime) -> String {
        if let Some(whole) = &session.merged_into {
            return format!(
                "  {} a part of {}, which continues",
                self.paint(Color::Dim, "╰"),
                self.paint(Color::Bold, &escape::str(&whole.0, NAME))
            );
        }
        let (color, how) = outcome(session, now);
        let incomplete = if session.complete { "" } else { " · the path is not complete" };
        format!("  {} {}{}", self.paint(Color::Dim, "╰"), self.paint(color, &how), self.paint(Color::Doubt, incomplete))
    }

    pub(super) fn who(&self, label: &str, text: &str) -> Vec<String> {
        let more = format!("  {}", " ".repeat(LABEL + 1));
        self.wrapped(Color::Bold, &format!("  {}", self.label(Color::Dim, label)), &more, text)
    }

    pub(super) fn label(&self, color: Color, label: &str) -> String {
        format!("{}{}", self.paint(color, label), " ".repeat(LABEL.saturating_sub(escape::columns(label)).max(1) + 1))
    }

    /// Breaks text between words into lines of at most [`WIDTH`] columns.
    pub(super) fn wrapped(&self, color: Color, first: &str, more: &str, text: &str) -> Vec<String> {
        // Both starts are four to ten columns wide, apart from colour codes.
        const INDENT: usize = 10;
        let mut lines: Vec<String> = Vec::new();
        for word in text.split(' ') {
            match lines.last_mut() {
                Some(line) if escape::columns(line) + 1 + escape::columns(word) <= WIDTH - INDENT => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        let start = |index| if index == 0 { first } else { more };
        lines.iter().enumerate().map(|(index, line)| format!("{}{}", start(index), self.paint(color, line))).collect()
    }
}

/// True if the target of a link does not follow from the hop before it: a shim's second container, a forwarded port's
/// second connection.
fn branches(session: &Session, link: &Link) -> bool {
    let follows = |other: &Link| other.to == link.to && other.from + 1 == link.to;
    link.to > link.from + 1 && !session.links.iter().any(follows)
}
