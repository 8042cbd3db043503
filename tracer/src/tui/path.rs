//! The path of a session, one line per step. Measured legs show the direction of their traffic.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
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
    let drawing = Drawing { state, session, report, verdict };
    let steps = explain::steps(session);
    let selected = state.step.min(steps.len().saturating_sub(1));
    for ((index, step), line) in steps.iter().enumerate().skip(state.path_top).zip(area.rows()) {
        paint(drawing.line(*step), line, buffer);
        if index == selected {
            let style =
                if state.focus == Focus::Path { state.theme.selected() } else { state.theme.selected_unfocused() };
            buffer.set_style(line, style);
        }
    }
}

struct Drawing<'a> {
    state: &'a State,
    session: &'a Session,
    report: &'a Report,
    /// Fault of the session.
    verdict: Option<&'a Verdict>,
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
        let known = match link.confidence {
            Confidence::Exact => theme.good(),
            Confidence::Strong | Confidence::Weak => theme.doubt(),
        };
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
