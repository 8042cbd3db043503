//! The path of a session, one line per step. Measured legs show the direction of their traffic.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{
    details::verdict_of,
    numbers::{Rate, bytes, rate},
    paint::paint,
    state::{Focus, State},
};
use crate::{
    escape,
    explain::{self, Step},
    model::{Confidence, Hop, Link, LinkKind, Measures, Report, Role, Session, Severity, SocketId, TcpState, Verdict},
    sink::phrases,
};

/// Columns of the moving traffic mark.
const TRACK: usize = 8;
/// Longest process name.
const COMM: usize = 20;
/// Longest command and path.
const TEXT: usize = 160;

pub(super) fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    let (Some(session), Some(report)) = (state.session(), &state.report) else { return };
    let verdict = verdict_of(session, report).filter(|verdict| verdict.severity == Severity::Fault);
    let height = usize::from(area.height);
    let shown = shown(state, session, height);
    let drawing = Drawing { state, session, report, verdict, folded: shown.folded };
    let count = explain::steps(session).len();
    let selected = state.step.min(count.saturating_sub(1));
    for ((index, step), line) in shown.steps.iter().zip(area.rows()) {
        paint(drawing.line(*step), line, buffer);
        if *index == selected {
            let style =
                if state.focus == Focus::Path { state.theme.selected() } else { state.theme.selected_unfocused() };
            buffer.set_style(line, style);
        }
    }
    // Without this line, a cut path would look like a whole one.
    if let (true, Some(last)) = (shown.cut > 0, area.rows().next_back()) {
        let text = format!(" … {} more: Enter, then ↓", phrases::counted(shown.cut as u64, "line"));
        paint(Line::from(Span::styled(text, state.theme.doubt())), last, buffer);
    }
}

/// The steps of a path that a pane shows.
pub(super) struct Shown {
    /// Steps with their numbers.
    pub(super) steps: Vec<(usize, Step)>,
    /// Set if joins inside a process are shown on the process's own line.
    folded: bool,
    /// Number of steps below that have no room. The last line of the pane shows it.
    cut: usize,
}

/// The steps that a pane of this height shows. While the path has the focus, it scrolls. Else it is shown as a whole: if
/// it is too long, without lines for joins inside a process, and then without those for processes that follow each
/// other.
pub(super) fn shown(state: &State, session: &Session, height: usize) -> Shown {
    let all: Vec<(usize, Step)> = explain::steps(session).into_iter().enumerate().collect();
    if all.len() <= height || state.focus != Focus::List {
        let steps = all.into_iter().skip(state.path_top).take(height).collect();
        return Shown { steps, folded: false, cut: 0 };
    }
    let kind = |step: Step| match step {
        Step::Link(index) => session.links.get(index).map(|link| link.kind),
        Step::Session | Step::Beyond(_) | Step::Hop(_) | Step::Gap(_) => None,
    };
    let without = |steps: Vec<(usize, Step)>, kinds: &[LinkKind]| -> Vec<(usize, Step)> {
        steps.into_iter().filter(|(_, step)| !kind(*step).is_some_and(|kind| kinds.contains(&kind))).collect()
    };
    let mut steps = without(all, &[LinkKind::Relay]);
    if steps.len() > height {
        steps = without(steps, &[LinkKind::Fork, LinkKind::Exec]);
    }
    let cut = if steps.len() > height { steps.len() + 1 - height } else { 0 };
    steps.truncate(if cut > 0 { height.saturating_sub(1) } else { height });
    Shown { steps, folded: true, cut }
}

struct Drawing<'a> {
    state: &'a State,
    session: &'a Session,
    report: &'a Report,
    /// Fault of the session.
    verdict: Option<&'a Verdict>,
    /// Set if joins inside a process are shown on the process's own line.
    folded: bool,
}

impl Drawing<'_> {
    fn line(&self, step: Step) -> Line<'static> {
        let session = self.session;
        let theme = self.state.theme;
        match step {
            Step::Session => self.head(),
            Step::Beyond(index) => session.beyond.get(index).map_or_else(Line::default, |(side, address)| {
                Line::from(vec![
                    Span::styled(format!(" {:<10} ", "beyond"), theme.dim()),
                    Span::raw(format!("{} at {address}, not on this host", escape::str(side, COMM))),
                ])
            }),
            Step::Hop(index) => session.hops.get(index).map_or_else(Line::default, |hop| self.hop(index, hop)),
            Step::Link(index) => session.links.get(index).map_or_else(Line::default, |link| self.link(index, link)),
            Step::Gap(index) => session.gaps.get(index).map_or_else(Line::default, |gap| {
                Line::from(Span::styled(format!(" ? {}", phrases::gap_words(session, gap)), theme.doubt()))
            }),
        }
    }

    /// Kind, target and command of the session, above its path.
    fn head(&self) -> Line<'static> {
        let theme = self.state.theme;
        let mut spans = vec![Span::styled(format!(" {}", self.session.kind.token()), theme.mark())];
        if let Some(into) = phrases::into(self.session) {
            spans.push(Span::styled(format!("  {into}"), theme.bold()));
        }
        if let Some(command) = phrases::command(self.session, TEXT) {
            spans.push(Span::styled("  $ ", theme.dim()));
            spans.push(Span::raw(command));
        }
        Line::from(spans)
    }

    fn sure(&self, confidence: Confidence) -> Style {
        match confidence {
            Confidence::Exact => self.state.theme.good(),
            Confidence::Strong | Confidence::Weak => self.state.theme.doubt(),
        }
    }

    fn hop(&self, index: usize, hop: &Hop) -> Line<'static> {
        let theme = self.state.theme;
        let comm = escape::text(hop.process.comm.as_bytes(), COMM);
        let mut spans = vec![
            Span::styled(format!(" {:<10} ", hop.role.token()), theme.bold()),
            Span::raw(if comm.is_empty() { String::new() } else { format!("{comm} · ") }),
            Span::raw(format!("pid {}", hop.task.tgid)),
        ];
        if let Some(series) = self.report.measures.process(hop.task).filter(|_| hop.exit.is_none()) {
            let state = series.last.state;
            let bad = matches!(state, 'D' | 'T' | 't' | 'Z' | 'X');
            spans.push(Span::styled(format!("  {state}"), if bad { theme.bad() } else { theme.dim() }));
        }
        let is_inside = |link: &&Link| link.kind == LinkKind::Relay && link.from == index;
        for inside in self.session.links.iter().filter(is_inside).filter(|_| self.folded) {
            spans.push(Span::styled(format!("  ┊ {}", inside.confidence.token()), self.sure(inside.confidence)));
        }
        if let Some(verdict) = self.verdict.filter(|verdict| verdict.hop == Some(index)) {
            spans.push(Span::styled(format!("  {}", verdict.code), theme.bad()));
        }
        if hop.exit.is_some() {
            spans.push(Span::styled("  gone", theme.dim()));
        } else if matches!(hop.role, Role::Client | Role::Process) && !hop.process.argv.is_empty() {
            let command = escape::command(&hop.process.argv, hop.process.argv_truncated, TEXT);
            spans.push(Span::styled(format!("  {command}"), theme.dim()));
        }
        Line::from(spans)
    }

    fn link(&self, index: usize, link: &Link) -> Line<'static> {
        let theme = self.state.theme;
        let known = self.sure(link.confidence);
        let moves = rate(link, &self.report.measures, self.report.now());
        let here = self.verdict.filter(|verdict| verdict.link == Some(index));
        let mark = here.map_or("", |verdict| verdict.code);
        let mut spans = vec![Span::styled(format!("{mark:<4}"), theme.bad())];
        spans.extend(self.track(link, moves));
        // Confidence and changing values first: a narrow screen cuts the end of the line.
        spans.push(Span::styled(format!(" {:<7}", link.confidence.token()), known));
        if let Some(trouble) = trouble(link, &self.report.measures) {
            spans.push(Span::styled(format!("{trouble}  "), theme.bad()));
        }
        if let Some(Rate { down, up }) = moves.filter(|rate| rate.down + rate.up > 0) {
            spans.push(Span::styled(format!("▸{} ◂{}  ", bytes(down), bytes(up)), theme.mark()));
        }
        let what = match link.kind {
            LinkKind::Relay => "joined inside".to_owned(),
            LinkKind::Tcp => {
                link.tcp.map_or_else(String::new, |ends| format!("{} → {}", ends.tuple.local, ends.tuple.remote))
            }
            LinkKind::Unix => link.unix.as_ref().map_or_else(String::new, |(path, ..)| escape::shortened(path)),
            LinkKind::Fifo => "stdin, stdout, stderr".to_owned(),
            LinkKind::Fork => "started".to_owned(),
            LinkKind::Exec => "became".to_owned(),
        };
        if link.kind != LinkKind::Relay {
            spans.push(Span::styled(format!("{:<5}", link.kind.token()), theme.dim()));
        }
        spans.push(Span::raw(what));
        Line::from(spans)
    }

    /// The traffic mark of a leg. Marks move right for traffic to the process, left for traffic to the client.
    fn track(&self, link: &Link, moves: Option<Rate>) -> Vec<Span<'static>> {
        let theme = self.state.theme;
        let Some(Rate { down, up }) = moves else {
            let sign = match link.kind {
                LinkKind::Relay => "·",
                LinkKind::Fifo => "═",
                LinkKind::Tcp | LinkKind::Unix => "╌",
                LinkKind::Fork | LinkKind::Exec => "│",
            };
            let width = if sign == "│" { 1 } else { TRACK };
            return vec![Span::styled(format!("{:TRACK$}", sign.repeat(width)), theme.dim())];
        };
        let ticks = usize::try_from(self.state.ticks % TRACK as u64).unwrap_or(0);
        let cell = |at: usize| {
            let (right, left) = (down > 0 && at == ticks, up > 0 && at == TRACK - 1 - ticks);
            match (right, left) {
                (true, true) => Span::styled("◆", theme.mark()),
                (true, false) => Span::styled("▸", theme.mark()),
                (false, true) => Span::styled("◂", theme.mark()),
                (false, false) => Span::styled("─", theme.dim()),
            }
        };
        (0..TRACK).map(cell).collect()
    }
}

/// The most important unusual condition of a leg.
fn trouble(link: &Link, measures: &Measures) -> Option<String> {
    let ends = link.tcp?;
    let of = |end: Option<SocketId>| measures.tcp(end?).map(|series| series.last);
    let ends = [of(ends.near), of(ends.far)];
    let odd = ends.iter().flatten().find(|end| end.state != TcpState::Established);
    let waits = ends.iter().flatten().map(|end| end.recv_q).max().unwrap_or(0);
    let unsent = ends.iter().flatten().map(|end| end.send_q).max().unwrap_or(0);
    match (odd, waits, unsent) {
        (Some(end), ..) => Some(end.state.token().to_owned()),
        (None, 0, 0) => None,
        (None, 0, unsent) => Some(format!("{} not sent", bytes(unsent.into()))),
        (None, waits, _) => Some(format!("{} not read", bytes(waits.into()))),
    }
}
