//! The default: draws each path as one would on a whiteboard, client above, process below, while it happens.
//!
//! Lines are only ever appended, so that a pipe and a log file show the same as a terminal. A block of lines belongs to one
//! session and begins with its id; when something turns up in a part of the path that was drawn already, the whole path is
//! drawn again. Width is fixed, not asked for: a replay prints what the live run printed.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
    net::SocketAddr,
    sync::Arc,
};

use super::{
    Header, Sink, Style, Target, escape,
    ink::Ink,
    view,
    words::{self, NAME, TEXT, command, counted, gap_words, into, lasted, outcome, user, who},
};
use crate::model::{
    BootTime, Change, Confidence, Finding, GapCode, Hop, Link, LinkKind, RawText, Report, Role, Session, SessionId,
    SocketId, Span, State, TaskKey, Tuple,
};

/// Columns that lines keep to where they can.
pub(super) const WIDTH: usize = 100;
/// Columns of the first word of a line.
pub(super) const LABEL: usize = 10;
/// A path that comes up is full of holes for an instant: holes that time will fill are told when they are older than this.
/// Legs of one exec follow each other within tens of milliseconds.
const SETTLED: Span = Span::from_secs(1);
/// While a path comes up, what is new of others waits until it is whole, or so old: two that are drawn in turns are hard to read.
const HELD: Span = Span::from_secs(5);
/// Columns of a command.
const COMMAND: usize = WIDTH - 2 - LABEL;

/// The sink.
pub struct Tree {
    target: Target,
    style: Style,
    header: Header,
    /// What was drawn of the sessions that are open.
    drawn: BTreeMap<SessionId, Drawn>,
    /// Sessions that are not drawn yet, because another comes up and so do they.
    held: BTreeMap<SessionId, Arc<Session>>,
    /// What is whole, or was drawn before, and would break into the path that comes up.
    waiting: BTreeMap<SessionId, Arc<Session>>,
    /// Whose block the last line belongs to.
    current: Option<SessionId>,
    /// Whether the last line says how a session ended, or that it is open, and nothing else.
    is_brief: bool,
    seen: u64,
}

#[derive(Default)]
struct Drawn {
    /// As it was then.
    session: Option<Arc<Session>>,
    named: Named,
    path: Vec<Key>,
    complete: bool,
    gaps: BTreeSet<String>,
}

/// What is told of a session beside its path.
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

/// Whether all that [`Named`] is made of is the same.
fn are_named_alike(one: &Session, other: &Session) -> bool {
    one.target == other.target
        && one.client == other.client
        && (&one.command, one.command_truncated) == (&other.command, other.command_truncated)
        && one.hops.first() == other.hops.first()
}

/// A part of the path.
#[derive(Clone, Copy)]
pub(super) enum Piece<'a> {
    /// An end that leaves this host.
    Beyond(&'static str, SocketAddr),
    Hop(&'a Hop),
    Link(&'a Link),
    /// Nothing joins the hop of this index to the next.
    Hole(usize),
}

/// Tells a part of the path from others: names in its lines may still change.
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

/// The path, client first.
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

    /// Draws what is new of a session.
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
            // The line that opens a block names both.
            self.current = None;
        }
        for piece in path.iter().skip(drawn.path.len()) {
            lines.extend(self.lines(session, *piece));
        }
        if !first && !again && !is_alike {
            let Named { into, command, who, user } = &named;
            let before = &drawn.named;
            let into = into.as_ref().filter(|_| *into != before.into).map(|into| ("into", into));
            // The line of the process says it too, unless that is another program by now.
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
        // What it did not tell the other one does.
        let settled = (closed && session.merged_into.is_none()) || view::age(session, now) >= SETTLED;
        for gap in session.gaps.iter().filter(|gap| settled || stays(gap.code)) {
            let text = gap_words(session, gap);
            if drawn.gaps.insert(text.clone()) {
                lines.extend(self.wrapped(Ink::Doubt, "  ? ", "    ", &text));
            }
        }
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

    /// Whether to wait for the top of the path: the question who has the other end is answered within milliseconds, and then
    /// the drawing begins where people begin to read.
    fn is_early(&self, session: &Session, now: BootTime) -> bool {
        let asked = session.gaps.iter().any(|gap| gap.code == GapCode::PeerUnknown);
        let new = !self.drawn.contains_key(&session.id) && view::age(session, now) < SETTLED;
        asked && new && session.state == State::Open
    }

    /// Whether the path that is being drawn still comes up, so that the lines of another would break into it.
    fn is_busy(&self, now: BootTime) -> bool {
        let drawn = self.current.as_ref().and_then(|id| self.drawn.get(id));
        let is_coming_up = |drawn: &Drawn| {
            let is_young = |session: &Arc<Session>| view::age(session, now) < HELD;
            !drawn.complete && drawn.session.as_ref().is_some_and(is_young)
        };
        drawn.is_some_and(is_coming_up)
    }

    /// Puts a session back that would break into another's path; whether it did.
    fn is_crowded_out(&mut self, session: &Arc<Session>, now: BootTime) -> bool {
        let is_busy = self.current.as_ref() != Some(&session.id) && self.is_busy(now);
        let is_coming = session.state == State::Open
            && !session.complete
            && view::age(session, now) < HELD
            && !self.drawn.contains_key(&session.id);
        // Once held back, it is drawn when it is whole.
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

    /// Draws what waited for the path before, if that does not come up any more.
    fn release(&mut self, now: BootTime) -> io::Result<()> {
        if self.waiting.is_empty() || self.is_busy(now) {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        waiting.values().try_for_each(|session| self.draw(session, now))
    }

    /// How a session ended that was drawn, or that it did not, in a line.
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

    /// The lines of a part of the path.
    fn lines(&self, session: &Session, piece: Piece<'_>) -> Vec<String> {
        match piece {
            Piece::Beyond(side, address) => vec![self.beyond(side, address)],
            Piece::Hop(hop) => self.hop(hop),
            Piece::Link(link) => self.link(session, link),
            Piece::Hole(index) => self.hole(session, index),
        }
    }

    /// The path, with more lines below what `more` has something to say of.
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
        // What was typed and what it became; the arguments of daemons are long and tell nothing of this session.
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

    /// Two hops that nothing joins: they must not look as if something did.
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

    /// Text in lines of at most [`WIDTH`], broken between words.
    pub(super) fn wrapped(&self, ink: Ink, first: &str, more: &str, text: &str) -> Vec<String> {
        // Both starts are four to ten columns wide; colour codes in them do not count.
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
                // A part of another, which nobody has seen.
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
        // The report may have forgotten what is over.
        let waiting = std::mem::take(&mut self.waiting);
        waiting
            .values()
            .filter(|session| session.state == State::Closed)
            .try_for_each(|session| self.draw(session, report.at))?;
        let mut open = 0_u64;
        for session in report.sessions.iter().filter(|session| session.state == State::Open) {
            open += 1;
            // Holes that time could have filled did not get it.
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

/// Gaps that no waiting fills.
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

/// Whether what it leads to does not hang on the hop before: a shim's second container, a forwarded port's second connection.
fn branches(session: &Session, link: &Link) -> bool {
    let follows = |other: &Link| other.to == link.to && other.from + 1 == link.to;
    link.to > link.from + 1 && !session.links.iter().any(follows)
}
