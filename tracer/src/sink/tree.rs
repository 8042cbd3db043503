//! The default sink: draws each path from client to process while the path becomes known.
//!
//! Lines are only appended, so that pipes and log files show the same as a terminal. A block of lines belongs to one
//! session and begins with its id. If a part appears above drawn lines, the whole path is drawn again. The width is
//! fixed, so that a replay prints the same as the live run.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
};

use super::{
    Header, Sink, Style, Target,
    ink::Ink,
    view,
    words::{self, NAME, TEXT, command, counted, gap_words, into, lasted, outcome, user, who},
};
use crate::{
    escape,
    model::{
        BootTime, Change, Confidence, Finding, GapCode, Hop, Link, LinkKind, RawText, Report, Role, Session, SessionId,
        SocketId, Span, State, TaskKey, Tuple,
    },
};

/// Columns that lines keep to if they can.
pub(super) const WIDTH: usize = 100;
/// Columns of a label at the start of a line.
pub(super) const LABEL: usize = 10;
/// Age from which gaps are drawn that time may still fill: a new path is full of them. Legs of one exec follow each
/// other within tens of milliseconds.
const SETTLED: Span = Span::from_secs(1);
/// Longest time that other sessions wait while a path is being drawn: alternating blocks are hard to read.
const HELD: Span = Span::from_secs(5);
/// Columns of a command.
const COMMAND: usize = WIDTH - 2 - LABEL;

/// The sink.
pub struct Tree {
    target: Target,
    style: Style,
    header: Header,
    /// Drawn state of each open session.
    drawn: BTreeMap<SessionId, Drawn>,
    /// New, incomplete sessions that are not drawn yet, since another path is being drawn.
    held: BTreeMap<SessionId, Arc<Session>>,
    /// Sessions with news that wait for the path being drawn: complete ones, closed ones, and those drawn before.
    waiting: BTreeMap<SessionId, Arc<Session>>,
    /// Session of the block with the last line.
    current: Option<SessionId>,
    /// True if the last line is a single-line block: the outcome of a session, or that it is still open.
    is_brief: bool,
    seen: u64,
}

#[derive(Default)]
struct Drawn {
    /// The session in its last drawn state.
    session: Option<Arc<Session>>,
    named: Named,
    path: Vec<Key>,
    complete: bool,
    gaps: BTreeSet<String>,
}

/// Texts of a session's head, beside its path.
#[derive(Default)]
struct Named {
    into: Option<String>,
    command: Option<String>,
    who: Option<String>,
    user: Option<String>,
}

impl Named {
    fn of(session: &Session) -> Self {
        Self { into: into(session), command: command(session, COMMAND), who: who(session), user: user(session) }
    }
}

/// True if [`Named`] is equal for both; cheaper than building it.
fn are_named_alike(one: &Session, other: &Session) -> bool {
    one.target == other.target
        && one.client == other.client
        && (&one.command, one.command_truncated) == (&other.command, other.command_truncated)
        && one.hops.first() == other.hops.first()
}

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

/// Identity of a piece. Two pieces with equal keys may still differ in names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Beyond(&'static str, SocketAddr),
    Hop(Role, TaskKey),
    Link {
        kind: LinkKind,
        hops: (usize, usize),
        confidence: Confidence,
        tuple: Option<Tuple>,
        path: Option<RawText>,
        relay: Option<(SocketId, SocketId)>,
    },
    Hole(usize),
}

impl Key {
    fn of(piece: Piece<'_>) -> Self {
        match piece {
            Piece::Beyond(side, address) => Self::Beyond(side, address),
            Piece::Hop(hop) => Self::Hop(hop.role, hop.task),
            Piece::Link(link) => Self::Link {
                kind: link.kind,
                hops: (link.from, link.to),
                confidence: link.confidence,
                tuple: link.tcp.map(|ends| ends.tuple),
                path: link.unix.as_ref().map(|(path, ..)| path.clone()),
                relay: link.relay,
            },
            Piece::Hole(index) => Self::Hole(index),
        }
    }
}

/// Elements of the path in drawing order, client first.
fn pieces(session: &Session) -> Vec<Piece<'_>> {
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

impl Tree {
    /// Draws to `target`.
    #[must_use]
    pub fn new(target: Target, style: Style) -> Self {
        Self {
            target,
            style,
            header: Header::default(),
            drawn: BTreeMap::new(),
            held: BTreeMap::new(),
            waiting: BTreeMap::new(),
            current: None,
            is_brief: false,
            seen: 0,
        }
    }

    fn ink<'a>(&self, ink: Ink, text: &'a str) -> Cow<'a, str> {
        ink.on(self.style, text)
    }

    /// Draws the news of a session.
    fn draw(&mut self, session: &Arc<Session>, now: BootTime) -> io::Result<()> {
        if self.is_early(session, now) {
            return Ok(());
        }
        self.held.remove(&session.id);
        self.waiting.remove(&session.id);
        let known = self.drawn.remove(&session.id);
        let first = known.is_none();
        self.seen += u64::from(first);
        let mut drawn = known.unwrap_or_default();
        let path = pieces(session);
        // If a drawn element changed or another was inserted, the whole path must be drawn again.
        let is_there = |(at, key): (usize, &Key)| path.get(at).is_some_and(|piece| Key::of(*piece) == *key);
        let appended = drawn.path.iter().enumerate().all(is_there);
        let again = !appended && !first;
        if again {
            drawn = Drawn::default();
        }
        let mut lines = Vec::new();
        let is_alike = drawn.session.as_ref().is_some_and(|old| are_named_alike(old, session));
        let named = if is_alike { std::mem::take(&mut drawn.named) } else { Named::of(session) };
        if first || again {
            // The opening line of a block contains all names.
            self.current = None;
        }
        for piece in path.iter().skip(drawn.path.len()) {
            lines.extend(self.lines(session, *piece));
        }
        // Names that became known since the block was opened.
        if !first && !again && !is_alike {
            let Named { into, command, who, user } = &named;
            let before = &drawn.named;
            let into = into.as_ref().filter(|_| *into != before.into).map(|into| ("into", into));
            // The line of the process shows the command already, unless the process runs another program by now.
            let is_it = |hop: &Hop| hop.role == Role::Process && *hop.process.argv == *session.command;
            let told = session.hops.iter().any(is_it);
            let command = command.as_ref().filter(|_| !told && *command != before.command);
            for (label, text) in into.into_iter().chain(command.map(|command| ("command", command))) {
                lines.push(format!("  {}{text}", self.label(Ink::Dim, label)));
            }
            if let Some(who) = who.as_ref().filter(|_| *who != before.who) {
                lines.extend(self.who("who", who));
            }
            if *user != before.user {
                let user = user.as_deref().unwrap_or("not known any more: requests of others fit as well");
                lines.extend(self.who("user", user));
            }
        }
        if session.complete && !drawn.complete {
            lines.push(self.complete(session));
        }
        if session.merged_into.is_some() {
            self.seen = self.seen.saturating_sub(1);
        }
        let closed = session.state == State::Closed;
        let nothing_new = lines.is_empty();
        // A merged session leaves its gaps to the session that it is part of.
        let settled = (closed && session.merged_into.is_none()) || view::age(session, now) >= SETTLED;
        for gap in session.gaps.iter().filter(|gap| settled || stays(gap.code)) {
            let text = gap_words(session, gap);
            if drawn.gaps.insert(text.clone()) {
                lines.extend(self.wrapped(Ink::Doubt, "  ? ", "    ", &text));
            }
        }
        // The end alone does not need a block.
        if closed && nothing_new && lines.is_empty() && self.current.as_ref() != Some(&session.id) {
            return self.brief(session, &self.outcome(session, now));
        }
        if closed {
            lines.push(self.outcome(session, now));
        }

        if first || again || (!lines.is_empty() && self.current.as_ref() != Some(&session.id)) {
            self.open_block(session, first, again)?;
        }
        for line in &lines {
            writeln!(self.target, "{line}")?;
        }
        if !closed {
            drawn.session = Some(Arc::clone(session));
            drawn.named = named;
            let new = path.iter().skip(drawn.path.len());
            drawn.path.extend(new.copied().map(Key::of));
            drawn.complete = session.complete;
            self.drawn.insert(session.id.clone(), drawn);
        }
        Ok(())
    }

    /// True while the client's end may still be found. The answer arrives within milliseconds, and then the drawing can
    /// begin at the client.
    fn is_early(&self, session: &Session, now: BootTime) -> bool {
        let asked = session.gaps.iter().any(|gap| gap.code == GapCode::PeerUnknown);
        let new = !self.drawn.contains_key(&session.id) && view::age(session, now) < SETTLED;
        asked && new && session.state == State::Open
    }

    /// True while the current path is still growing, so that other lines would interrupt it.
    fn is_busy(&self, now: BootTime) -> bool {
        let drawn = self.current.as_ref().and_then(|id| self.drawn.get(id));
        let is_coming_up = |drawn: &Drawn| {
            let is_young = |session: &Arc<Session>| view::age(session, now) < HELD;
            !drawn.complete && drawn.session.as_ref().is_some_and(is_young)
        };
        drawn.is_some_and(is_coming_up)
    }

    /// Delays a session that would interrupt the current path; returns true if it was delayed.
    fn is_crowded_out(&mut self, session: &Arc<Session>, now: BootTime) -> bool {
        let is_busy = self.current.as_ref() != Some(&session.id) && self.is_busy(now);
        let is_coming = session.state == State::Open
            && !session.complete
            && view::age(session, now) < HELD
            && !self.drawn.contains_key(&session.id);
        // A delayed session is drawn once it is complete.
        let is_held = is_coming && (is_busy || self.held.contains_key(&session.id));
        if is_held {
            self.waiting.remove(&session.id);
            self.held.insert(session.id.clone(), Arc::clone(session));
        } else if is_busy {
            self.held.remove(&session.id);
            self.waiting.insert(session.id.clone(), Arc::clone(session));
        }
        is_held || is_busy
    }

    /// Draws the waiting sessions once the current path no longer grows.
    fn release(&mut self, now: BootTime) -> io::Result<()> {
        if self.waiting.is_empty() || self.is_busy(now) {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        waiting.values().try_for_each(|session| self.draw(session, now))
    }

    /// Writes a single-line block: the outcome of a session, or that it is still open.
    fn brief(&mut self, session: &Session, how: &str) -> io::Result<()> {
        let id = escape::str(&session.id.0, NAME);
        let id = self.ink(Ink::Mark, &id);
        let into = into(session).map_or_else(String::new, |into| format!("  {}", self.ink(Ink::Bold, &into)));
        let mark = self.ink(Ink::Mark, "▸");
        let before = if self.is_brief { "" } else { "\n" };
        writeln!(self.target, "{before}{mark} {id}  {}{into}{how}", session.kind.token())?;
        self.current = None;
        self.is_brief = true;
        Ok(())
    }

    fn open_block(&mut self, session: &Session, first: bool, again: bool) -> io::Result<()> {
        let id = escape::str(&session.id.0, NAME);
        let mut line = format!("{} {}  {}", self.ink(Ink::Mark, "▸"), self.ink(Ink::Mark, &id), session.kind.token());
        if let Some(into) = into(session) {
            line.push_str("  ");
            line.push_str(&self.ink(Ink::Bold, &into));
        }
        let note = match (first, again) {
            (true, _) | (_, true) => view::moment(self.header.anchor, session.opened_at),
            (false, false) => "(continued)".to_owned(),
        };
        line.push_str("  ");
        line.push_str(&self.ink(Ink::Dim, &note));
        let note = match (again, first && session.preexisting) {
            (true, _) => "  (more is known: drawn again)",
            (false, true) => "  (older than this trace)",
            (false, false) => "",
        };
        line.push_str(&self.ink(Ink::Dim, note));
        writeln!(self.target, "\n{line}")?;
        if let Some(command) = command(session, COMMAND).filter(|_| first || again) {
            writeln!(self.target, "  {} {command}", self.ink(Ink::Dim, "$"))?;
        }
        for (label, text) in [("who", who(session)), ("user", user(session))] {
            let lines = text.filter(|_| first || again).map(|text| self.who(label, &text));
            for line in lines.into_iter().flatten() {
                writeln!(self.target, "{line}")?;
            }
        }
        self.current = Some(session.id.clone());
        self.is_brief = false;
        Ok(())
    }

    /// Lines of one element.
    fn lines(&self, session: &Session, piece: Piece<'_>) -> Vec<String> {
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
        let label = self.label(Ink::Dim, "beyond");
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
        let mut lines = vec![format!("  {}{line}", self.label(Ink::Bold, hop.role.token()))];
        // Command lines are shown for the client and the process alone: those of daemons are long and concern no
        // session.
        if matches!(hop.role, Role::Client | Role::Process) && !hop.process.argv.is_empty() {
            const MARGIN: usize = 2 + LABEL + 1;
            let command =
                escape::command(&hop.process.argv, hop.process.argv_truncated, WIDTH - MARGIN - "$ ".len() - 1);
            let used = MARGIN + line.chars().count() + " · ".chars().count() + command.chars().count();
            if used <= WIDTH {
                lines[0].push_str(&self.ink(Ink::Dim, &format!(" · {command}")));
            } else {
                lines.push(format!("{}{}", " ".repeat(MARGIN), self.ink(Ink::Dim, &format!("$ {command}"))));
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
        let ink = match link.confidence {
            Confidence::Exact => Ink::Good,
            Confidence::Strong | Confidence::Weak => Ink::Doubt,
        };

        let gap = if what.is_empty() { "" } else { "  " };
        let before = 4 + kind.chars().count() + what.chars().count() + gap.len();
        let start = format!("{}{}{what}", self.ink(Ink::Dim, rail), self.ink(Ink::Bold, &kind));
        if before + known.chars().count() <= WIDTH {
            return vec![format!("{start}{gap}{}", self.ink(ink, known))];
        }
        let more = format!("{}{}", self.ink(Ink::Dim, rail), " ".repeat(kind.chars().count()));
        std::iter::once(start).chain(self.wrapped(ink, &more, &more, known)).collect()
    }

    /// Two hops without a link: the drawing must not suggest one.
    fn hole(&self, session: &Session, index: usize) -> Vec<String> {
        let gap = session.gaps.iter().find(|gap| gap.between == Some((index, index + 1)));
        let text =
            gap.map_or_else(|| "no link between these two is proved".to_owned(), |gap| escape::str(&gap.text, TEXT));
        let rail = self.ink(Ink::Dim, "  ┊ ");
        self.wrapped(Ink::Doubt, &format!("{rail}? "), &format!("{rail}  "), &text)
    }

    pub(super) fn complete(&self, session: &Session) -> String {
        let (ink, how) = match session.confidence() {
            Some(Confidence::Exact) => (Ink::Good, "every link exact".to_owned()),
            Some(weakest) => (Ink::Doubt, format!("its weakest link is {}", weakest.token())),
            None => (Ink::Doubt, "no link".to_owned()),
        };
        let how = self.ink(ink, &how);
        let what = if session.beyond.is_empty() { "the whole path" } else { "all of the path that is on this host" };
        format!("  {} {what}, {how}", self.ink(Ink::Good, "✓"))
    }

    fn outcome(&self, session: &Session, now: BootTime) -> String {
        if let Some(whole) = &session.merged_into {
            return format!(
                "  {} a part of {}, which goes on",
                self.ink(Ink::Dim, "╰"),
                self.ink(Ink::Bold, &escape::str(&whole.0, NAME))
            );
        }
        let (ink, how) = outcome(session, now);
        let incomplete = if session.complete { "" } else { " · the path is not complete" };
        format!("  {} {}{}", self.ink(Ink::Dim, "╰"), self.ink(ink, &how), self.ink(Ink::Doubt, incomplete))
    }

    pub(super) fn who(&self, label: &str, text: &str) -> Vec<String> {
        let more = format!("  {}", " ".repeat(LABEL + 1));
        self.wrapped(Ink::Bold, &format!("  {}", self.label(Ink::Dim, label)), &more, text)
    }

    pub(super) fn label(&self, ink: Ink, label: &str) -> String {
        format!("{}{}", self.ink(ink, label), " ".repeat(LABEL.saturating_sub(label.chars().count()).max(1) + 1))
    }

    /// Breaks text between words into lines of at most [`WIDTH`] columns.
    pub(super) fn wrapped(&self, ink: Ink, first: &str, more: &str, text: &str) -> Vec<String> {
        // Both starts are four to ten columns wide, apart from colour codes.
        const INDENT: usize = 10;
        let mut lines: Vec<String> = Vec::new();
        for word in text.split(' ') {
            match lines.last_mut() {
                Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH - INDENT => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.to_owned()),
            }
        }
        let start = |index| if index == 0 { first } else { more };
        lines.iter().enumerate().map(|(index, line)| format!("{}{}", start(index), self.ink(ink, line))).collect()
    }
}

impl Sink for Tree {
    fn host(&mut self, header: &Header) -> io::Result<()> {
        self.header = header.clone();
        for host in header.hosts() {
            let words: Vec<String> =
                [&host.hostname, &host.kernel, &host.arch].iter().map(|word| escape::str(word, NAME)).collect();
            let line = format!("on {}, Linux {}, {}", words[0], words[1], words[2]);
            writeln!(self.target, "{}", self.ink(Ink::Dim, &line))?;
        }
        for degraded in &header.degraded {
            let text = format!("{} [{}]", escape::str(&degraded.text, TEXT), escape::str(&degraded.code, NAME));
            for line in self.wrapped(Ink::Doubt, "! ", "  ", &text) {
                writeln!(self.target, "{line}")?;
            }
            writeln!(self.target, "  hint: {}", escape::str(&degraded.hint, TEXT))?;
        }
        self.target.flush()
    }

    fn interrupted(&mut self) {
        (self.current, self.is_brief) = (None, false);
    }

    fn change(&mut self, finding: &Finding) -> io::Result<()> {
        match &finding.change {
            Change::Opened(session) | Change::Changed(session) | Change::Closed(session) => {
                self.release(finding.at)?;
                // Part of another session, and never drawn: show the whole session only.
                if session.merged_into.is_some() && self.holds(&session.id) && !self.drawn.contains_key(&session.id) {
                    self.held.remove(&session.id);
                    self.waiting.remove(&session.id);
                    return Ok(());
                }
                if self.is_crowded_out(session, finding.at) {
                    return Ok(());
                }
                self.draw(session, finding.at)?;
            }
            Change::Loss { what, count } => {
                self.interrupted();
                let text = words::loss(what, *count);
                writeln!(self.target, "\n{}", self.ink(Ink::Bad, &format!("! {text}")))?;
            }
        }
        self.target.flush()
    }

    fn holds(&self, session: &SessionId) -> bool {
        self.held.contains_key(session) || self.waiting.contains_key(session)
    }

    fn passed(&mut self, now: BootTime) -> io::Result<()> {
        let is_due = |_: &SessionId, session: &mut Arc<Session>| now.since(session.opened_at) >= HELD;
        self.waiting.extend(self.held.extract_if(.., is_due));
        self.release(now)?;
        self.target.flush()
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        // The report may have dropped closed sessions.
        let waiting = std::mem::take(&mut self.waiting);
        waiting
            .values()
            .filter(|session| session.state == State::Closed)
            .try_for_each(|session| self.draw(session, report.at))?;
        let mut open = 0_u64;
        for session in report.sessions.iter().filter(|session| session.state == State::Open) {
            open += 1;
            // No more time: draw the gaps that time could have filled.
            let settled = session.opened_at.plus(SETTLED).max(report.at);
            self.draw(&Arc::new(session.clone()), settled)?;
            let lasted = lasted(view::age(session, report.at));
            let how = format!("  {} still open after {lasted}", self.ink(Ink::Dim, "…"));
            if self.current.as_ref() == Some(&session.id) {
                writeln!(self.target, "{how}")?;
            } else {
                self.brief(session, &how)?;
            }
        }
        let lost = match words::losses(&report.totals.lost) {
            lost if lost.is_empty() => "no event lost".to_owned(),
            lost => self.ink(Ink::Bad, &lost).into_owned(),
        };
        writeln!(self.target, "\n{} seen, {open} still open, {lost}", counted(self.seen, "session"))?;
        self.target.flush()
    }
}

/// True for gaps that time cannot fill.
const fn stays(code: GapCode) -> bool {
    match code {
        GapCode::LostEvents
        | GapCode::Ambiguous
        | GapCode::ProcessLeftRunning
        | GapCode::KindUnknown
        | GapCode::Unverified => true,
        GapCode::Unjoined
        | GapCode::PeerUnknown
        | GapCode::ShimUnknown
        | GapCode::RuncUnknown
        | GapCode::ProcessUnknown
        | GapCode::NamesUnknown => false,
    }
}

/// True if the target of a link does not follow from the hop before it: a shim's second container, a forwarded port's
/// second connection.
fn branches(session: &Session, link: &Link) -> bool {
    let follows = |other: &Link| other.to == link.to && other.from + 1 == link.to;
    link.to > link.from + 1 && !session.links.iter().any(follows)
}
