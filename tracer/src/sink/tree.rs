//! The default sink: draws each path from client to process while the path becomes known.
//!
//! Lines are only appended, so that pipes and log files show the same as a terminal. A block of lines belongs to one
//! session and begins with its id. If a part appears above drawn lines, the whole path is drawn again. The width is
//! fixed, so that a replay prints the same as the live run.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
};

use super::{
    Header, Sink, Style, Target,
    color::Color,
    path::{COMMAND, PathText, Piece, pieces},
    phrases::{self, NAME, TEXT, command, counted, gap_words, into, lasted, user, who},
    view,
};
use crate::{
    escape,
    model::{
        BootTime, Change, Confidence, Finding, GapCode, Hop, LinkKind, RawText, Report, Role, Session, SessionId,
        SocketId, Span, State, TaskKey, Tuple,
    },
};

/// Age from which gaps are drawn that time may still fill: a new path is full of them. Legs of one exec follow each
/// other within tens of milliseconds.
const SETTLED: Span = Span::from_secs(1);
/// Longest time that other sessions wait while a path is being drawn: alternating blocks are hard to read.
const MAX_DELAY: Span = Span::from_secs(5);

/// The sink.
pub struct Tree {
    target: Target,
    text: PathText,
    /// Drawn state of each open session.
    drawn: BTreeMap<SessionId, Drawn>,
    /// New, incomplete sessions that are not drawn yet, since another path is being drawn.
    delayed: BTreeMap<SessionId, Arc<Session>>,
    /// Sessions with news that wait for the path being drawn: complete ones, closed ones, and those drawn before.
    waiting: BTreeMap<SessionId, Arc<Session>>,
    /// Session of the block with the last line.
    current: Option<SessionId>,
    /// True if the last line is a single-line block: the outcome of a session, or that it is still open.
    is_brief: bool,
    /// True if each session's start is drawn in its parts.
    is_detailed: bool,
    /// True while the final report is drawn.
    is_last: bool,
    seen: u64,
}

#[derive(Default)]
struct Drawn {
    /// The session in its last drawn state.
    session: Option<Arc<Session>>,
    head: Head,
    path: Vec<PieceKey>,
    complete: bool,
    /// Set once the start was drawn.
    start: bool,
    gaps: BTreeSet<String>,
    /// Set while `head` lacks a known user: a line in the middle of a growing path would split it.
    holds_who: bool,
}

/// Texts of a session's head, beside its path.
#[derive(Default)]
struct Head {
    into: Option<String>,
    command: Option<String>,
    who: Option<String>,
    user: Option<String>,
}

impl Head {
    fn of(session: &Session) -> Self {
        Self { into: into(session), command: command(session, COMMAND), who: who(session), user: user(session) }
    }
}

/// True if [`Head`] is equal for both; cheaper than building it.
fn have_equal_heads(one: &Session, other: &Session) -> bool {
    one.target == other.target
        && one.client == other.client
        && (&one.command, one.command_truncated) == (&other.command, other.command_truncated)
        && one.hops.first() == other.hops.first()
}

/// Identity of a piece. Two pieces with equal keys may still differ in names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum PieceKey {
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

impl PieceKey {
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

impl Tree {
    /// Draws to `target`.
    #[must_use]
    pub fn new(target: Target, style: Style) -> Self {
        Self {
            target,
            text: PathText { style, header: Header::default() },
            drawn: BTreeMap::new(),
            delayed: BTreeMap::new(),
            waiting: BTreeMap::new(),
            current: None,
            is_brief: false,
            is_detailed: false,
            is_last: false,
            seen: 0,
        }
    }

    /// Draws the news of a session.
    fn draw(&mut self, session: &Arc<Session>, now: BootTime) -> io::Result<()> {
        if self.is_early(session, now) {
            return Ok(());
        }
        self.delayed.remove(&session.id);
        self.waiting.remove(&session.id);
        let known = self.drawn.remove(&session.id);
        let first = known.is_none();
        self.seen += u64::from(first && !session.is_attempt_only());
        let mut drawn = known.unwrap_or_default();
        let path = pieces(session);
        // If a drawn element changed or another was inserted, the whole path must be drawn again.
        let is_there = |(at, key): (usize, &PieceKey)| path.get(at).is_some_and(|piece| PieceKey::of(*piece) == *key);
        let appended = drawn.path.iter().enumerate().all(is_there);
        let again = !appended && !first;
        if again {
            drawn = Drawn::default();
        }
        let is_alike = drawn.session.as_ref().is_some_and(|old| have_equal_heads(old, session)) && !drawn.holds_who;
        let mut head = if is_alike { std::mem::take(&mut drawn.head) } else { Head::of(session) };
        if first || again {
            // The opening line of a block contains the whole head.
            self.current = None;
        }
        let is_growing = !session.complete && session.state == State::Open && view::age(session, now) < SETTLED;
        drawn.holds_who = !is_alike && !first && !again && is_growing && head.who != drawn.head.who;
        if drawn.holds_who {
            head.who.clone_from(&drawn.head.who);
        }
        let new = path.iter().skip(drawn.path.len());
        let mut lines: Vec<String> = new.flat_map(|piece| self.text.lines(session, *piece)).collect();
        if !first && !again && !is_alike {
            lines.extend(self.head_changes(session, &drawn.head, &head));
        }
        if session.complete && !drawn.complete {
            lines.push(self.text.complete(session));
        }
        let start = self.start(session, drawn.start);
        drawn.start |= !start.is_empty();
        lines.extend(start);
        if session.merged_into.is_some() {
            self.seen = self.seen.saturating_sub(1);
        }
        let closed = session.state == State::Closed;
        let nothing_new = lines.is_empty();
        // A merged session leaves its gaps to the session that it is part of.
        let settled = (closed && session.merged_into.is_none()) || view::age(session, now) >= SETTLED;
        for gap in session.gaps.iter().filter(|gap| settled || is_permanent(gap.code)) {
            let text = gap_words(session, gap);
            if drawn.gaps.insert(text.clone()) {
                lines.extend(self.text.wrapped(Color::Doubt, "  ? ", "    ", &text));
            }
        }
        // The end alone does not need a block.
        if closed && nothing_new && lines.is_empty() && self.current.as_ref() != Some(&session.id) {
            return self.brief(session, &self.text.outcome(session, now));
        }
        if closed {
            lines.push(self.text.outcome(session, now));
        }

        if first || again || (!lines.is_empty() && self.current.as_ref() != Some(&session.id)) {
            self.open_block(session, first, again)?;
        }
        for line in &lines {
            writeln!(self.target, "{line}")?;
        }
        if !closed {
            drawn.session = Some(Arc::clone(session));
            drawn.head = head;
            let new = path.iter().skip(drawn.path.len());
            drawn.path.extend(new.copied().map(PieceKey::of));
            drawn.complete = session.complete;
            self.drawn.insert(session.id.clone(), drawn);
        }
        Ok(())
    }

    /// Lines of a session's start, once nothing of it is missing or nothing more follows.
    fn start(&self, session: &Session, is_drawn: bool) -> Vec<String> {
        let is_known = session.complete || session.state == State::Closed || self.is_last;
        let is_due = self.is_detailed && !is_drawn && is_known && session.merged_into.is_none();
        if is_due { self.text.start(session) } else { Vec::new() }
    }

    /// Lines for names that became known since the block was opened.
    fn head_changes(&self, session: &Session, before: &Head, now: &Head) -> Vec<String> {
        let mut lines = Vec::new();
        let Head { into, command, who, user } = now;
        let into = into.as_ref().filter(|_| *into != before.into).map(|into| ("into", into));
        // The line of the process shows the command already, unless the process runs another program by now.
        let shows_command = |hop: &Hop| hop.role == Role::Process && *hop.process.argv == *session.command;
        let is_shown = session.hops.iter().any(shows_command);
        let command = command.as_ref().filter(|_| !is_shown && *command != before.command);
        for (label, text) in into.into_iter().chain(command.map(|command| ("command", command))) {
            lines.push(format!("  {}{text}", self.text.label(Color::Dim, label)));
        }
        if let Some(who) = who.as_ref().filter(|_| *who != before.who) {
            lines.extend(self.text.who("who", who));
        }
        if *user != before.user {
            let user = user.as_deref().unwrap_or("no longer attributed: more than one request fits");
            lines.extend(self.text.who("user", user));
        }
        lines
    }

    /// True while the client's end may still be found. The answer arrives within milliseconds, and then the drawing can
    /// begin at the client.
    fn is_early(&self, session: &Session, now: BootTime) -> bool {
        let may_be_found = session.gaps.iter().any(|gap| gap.code == GapCode::PeerUnknown);
        let new = !self.drawn.contains_key(&session.id) && view::age(session, now) < SETTLED;
        may_be_found && new && session.state == State::Open
    }

    /// True while the current path is still growing, so that other lines would interrupt it.
    fn is_busy(&self, now: BootTime) -> bool {
        let drawn = self.current.as_ref().and_then(|id| self.drawn.get(id));
        let is_growing = |drawn: &Drawn| {
            let is_young = |session: &Arc<Session>| view::age(session, now) < MAX_DELAY;
            !drawn.complete && drawn.session.as_ref().is_some_and(is_young)
        };
        drawn.is_some_and(is_growing)
    }

    /// Delays a session that would interrupt the current path; returns true if it was delayed.
    fn delay_if_busy(&mut self, session: &Arc<Session>, now: BootTime) -> bool {
        let is_busy = self.current.as_ref() != Some(&session.id) && self.is_busy(now);
        let is_new = session.state == State::Open
            && !session.complete
            && view::age(session, now) < MAX_DELAY
            && !self.drawn.contains_key(&session.id);
        // A delayed session is drawn once it is complete.
        let is_delayed = is_new && (is_busy || self.delayed.contains_key(&session.id));
        if is_delayed {
            self.waiting.remove(&session.id);
            self.delayed.insert(session.id.clone(), Arc::clone(session));
        } else if is_busy {
            self.delayed.remove(&session.id);
            self.waiting.insert(session.id.clone(), Arc::clone(session));
        }
        is_delayed || is_busy
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
        let id = self.text.paint(Color::Mark, &id);
        let into = into(session).map_or_else(String::new, |into| format!("  {}", self.text.paint(Color::Bold, &into)));
        let mark = self.text.paint(Color::Mark, "▸");
        let before = if self.is_brief { "" } else { "\n" };
        writeln!(self.target, "{before}{mark} {id}  {}{into}{how}", session.kind.token())?;
        self.current = None;
        self.is_brief = true;
        Ok(())
    }

    fn open_block(&mut self, session: &Session, first: bool, again: bool) -> io::Result<()> {
        let id = escape::str(&session.id.0, NAME);
        let mut line = format!(
            "{} {}  {}",
            self.text.paint(Color::Mark, "▸"),
            self.text.paint(Color::Mark, &id),
            session.kind.token()
        );
        if let Some(into) = into(session) {
            line.push_str("  ");
            line.push_str(&self.text.paint(Color::Bold, &into));
        }
        let note = match (first, again) {
            (true, _) | (_, true) => view::moment(self.text.header.anchor, session.opened_at),
            (false, false) => "(continued)".to_owned(),
        };
        line.push_str("  ");
        line.push_str(&self.text.paint(Color::Dim, &note));
        let note = match (again, first && session.preexisting) {
            (true, _) => "  (more is known: drawn again)",
            (false, true) => "  (older than this trace)",
            (false, false) => "",
        };
        line.push_str(&self.text.paint(Color::Dim, note));
        writeln!(self.target, "\n{line}")?;
        if let Some(command) = command(session, COMMAND).filter(|_| first || again) {
            writeln!(self.target, "  {} {command}", self.text.paint(Color::Dim, "$"))?;
        }
        for (label, text) in [("who", who(session)), ("user", user(session))] {
            let lines = text.filter(|_| first || again).map(|text| self.text.who(label, &text));
            for line in lines.into_iter().flatten() {
                writeln!(self.target, "{line}")?;
            }
        }
        self.current = Some(session.id.clone());
        self.is_brief = false;
        Ok(())
    }
}

impl Sink for Tree {
    fn detailed(&mut self) {
        self.is_detailed = true;
    }

    fn host(&mut self, header: &Header) -> io::Result<()> {
        self.text.header = header.clone();
        for host in header.hosts() {
            let words: Vec<String> =
                [&host.hostname, &host.kernel, &host.arch].iter().map(|word| escape::str(word, NAME)).collect();
            let line = format!("on {}, Linux {}, {}", words[0], words[1], words[2]);
            writeln!(self.target, "{}", self.text.paint(Color::Dim, &line))?;
        }
        for degraded in &header.degraded {
            let text = format!("{} [{}]", escape::str(&degraded.text, TEXT), escape::str(&degraded.code, NAME));
            for line in self.text.wrapped(Color::Doubt, "! ", "  ", &text) {
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
                    self.delayed.remove(&session.id);
                    self.waiting.remove(&session.id);
                    return Ok(());
                }
                if self.delay_if_busy(session, finding.at) {
                    return Ok(());
                }
                self.draw(session, finding.at)?;
            }
            Change::Loss { what, count } => {
                self.interrupted();
                let text = phrases::loss(what, *count);
                writeln!(self.target, "\n{}", self.text.paint(Color::Bad, &format!("! {text}")))?;
            }
        }
        self.target.flush()
    }

    fn holds(&self, session: &SessionId) -> bool {
        self.delayed.contains_key(session) || self.waiting.contains_key(session)
    }

    fn passed(&mut self, now: BootTime) -> io::Result<()> {
        let is_due = |_: &SessionId, session: &mut Arc<Session>| now.since(session.opened_at) >= MAX_DELAY;
        self.waiting.extend(self.delayed.extract_if(.., is_due));
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
        self.is_last = true;
        let mut open = 0_u64;
        for session in report.sessions.iter().filter(|session| session.state == State::Open) {
            open += 1;
            // No more time: draw the gaps that time could have filled.
            let settled = session.opened_at.plus(SETTLED).max(report.at);
            self.draw(&Arc::new(session.clone()), settled)?;
            let lasted = lasted(view::age(session, report.at));
            let how = format!("  {} still open after {lasted}", self.text.paint(Color::Dim, "…"));
            if self.current.as_ref() == Some(&session.id) {
                writeln!(self.target, "{how}")?;
            } else {
                self.brief(session, &how)?;
            }
        }
        let lost = match phrases::losses(&report.totals.lost) {
            lost if lost.is_empty() => "no event lost".to_owned(),
            lost => self.text.paint(Color::Bad, &lost).into_owned(),
        };
        writeln!(self.target, "\n{} seen, {open} still open, {lost}", counted(self.seen, "session"))?;
        self.target.flush()
    }
}

/// True for gaps that time cannot fill.
const fn is_permanent(code: GapCode) -> bool {
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
