//! Paints the state. Equal states give equal screens.

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::{Alignment, Rect},
    text::{Line, Span},
    widgets::{Block, Clear, Paragraph, Widget},
};

use super::{
    area::{Areas, LEAST, areas},
    details::{self, verdict_of},
    keys::HELP,
    list,
    paint::paint,
    path,
    state::{Focus, State},
};
use crate::{
    escape,
    model::{Health, Session, SessionId, Severity, State as SessionState, Verdict},
    sink::{phrases, view},
};

/// Longest host name and note.
const NAME: usize = 63;

/// Paints the whole screen.
pub fn draw(state: &State, frame: &mut Frame<'_>) {
    let screen = frame.area();
    let buffer = frame.buffer_mut();
    if screen.width < LEAST.0 || screen.height < LEAST.1 {
        let text = format!("too small: {}×{} at least", LEAST.0, LEAST.1);
        Paragraph::new(text).render(screen, buffer);
        return;
    }
    let areas = areas(screen, state);
    title(state, areas.title, buffer);
    list::draw(state, areas.head, areas.rows, buffer);
    if state.rows.is_empty() {
        empty(state, areas.rows, buffer);
    }
    verdict(state, areas.verdict, buffer);
    path::draw(state, areas.path, buffer);
    let shown: Vec<Line<'_>> = details::lines(state, areas.details.width).into_iter().skip(state.scroll).collect();
    for (line, row) in shown.into_iter().zip(areas.details.rows()) {
        paint(line, row, buffer);
    }
    timeline(state, areas.timeline, buffer);
    footer(state, &areas, buffer);
    if state.help {
        help(state, screen, buffer);
    }
}

fn title(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let names: Vec<&str> = state.header.hosts().map(|host| host.hostname.as_str()).collect();
    let host = escape::str(&names.join(", "), NAME);
    let mut left = vec![Span::styled("execpath", theme.mark()), Span::raw(format!("  {host}  "))];
    if let Some(report) = &state.report {
        let open = report.sessions.iter().filter(|one| one.state == SessionState::Open).count() as u64;
        let is_shown = |id: &SessionId| report.sessions.iter().any(|session| session.id == *id);
        let faults = report.diagnosis.verdicts.iter().filter(|one| one.severity == Severity::Fault);
        let (of_sessions, left_over): (Vec<&Verdict>, Vec<&Verdict>) =
            faults.filter(|one| one.session.as_ref().is_none_or(is_shown)).partition(|one| one.session.is_some());
        let (faults, left_over) = (of_sessions.len() as u64, left_over.len());
        left.push(Span::raw(format!("{} open", phrases::counted(open, "session"))));
        if faults > 0 {
            left.push(Span::styled(format!(", {}", phrases::counted(faults, "fault")), theme.bad()));
        }
        if left_over > 0 {
            left.push(Span::styled(format!(", {left_over} left over: `execpath diagnose`"), theme.doubt()));
        }
        let lost = phrases::losses(&report.totals.lost);
        if !lost.is_empty() {
            left.push(Span::styled(format!(", {lost}"), theme.bad()));
        }
    }
    if !state.note.is_empty() {
        left.push(Span::styled(format!("  {}", escape::str(&state.note, NAME)), theme.doubt()));
    }
    let how = match (&state.clock, state.is_paused()) {
        (Some(_), _) => Span::styled("recording", theme.dim()),
        (None, true) => Span::styled("paused: Space continues", theme.doubt()),
        (None, false) => Span::styled("live", theme.good()),
    };
    let when = state.report.as_ref().map(|report| view::moment(state.header.anchor, report.now()));
    let clock = when.and_then(|when| when.get(11..19).map(|time| format!("  {time}Z"))).unwrap_or_default();
    let right = Line::from(vec![how, Span::raw(clock)]).alignment(Alignment::Right);
    let width = u16::try_from(right.width()).unwrap_or(u16::MAX).min(area.width);
    paint(Line::from(left), Rect { width: area.width.saturating_sub(width + 1), ..area }, buffer);
    right.render(area, buffer);
}

fn empty(state: &State, area: Rect, buffer: &mut Buffer) {
    let known = state.report.as_ref().map(|report| report.sessions.len());
    let text = match known {
        None if state.clock.is_some() => "looking for the first fault … ] shows the end",
        None => "looking …",
        Some(0) if state.clock.is_some() => "no session at this moment of the recording: → moves forward",
        Some(0) => "no session is open; new ones appear here",
        Some(_) if !state.filter.is_empty() => "no session matches the filter; Esc drops it",
        Some(_) => "all sessions are closed; c shows them",
    };
    paint(Line::from(Span::styled(text, state.theme.dim())), area, buffer);
}

/// The line between list and path: the verdict of the selected session.
fn verdict(state: &State, area: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let mut spans = vec![Span::styled("── ", theme.dim())];
    if let (Some(session), Some(report)) = (state.session(), &state.report) {
        spans.push(Span::styled(format!("{} ", escape::str(&session.id.0, NAME)), theme.bold()));
        spans.push(match (verdict_of(session, report), view::health(session, report)) {
            _ if session.state == SessionState::Closed => Span::styled(outcome(session), theme.dim()),
            (Some(verdict), _) => {
                let style = if verdict.severity == Severity::Fault { theme.bad() } else { theme.good() };
                Span::styled(format!("{} {}: {}", verdict.code, verdict.name, verdict.means), style)
            }
            (None, Health::Ok) => Span::styled("ok: nothing is stuck", theme.good()),
            (None, _) => {
                let doubt = view::doubt(session, report).map_or_else(
                    || "too few measurements to rule out a fault".to_owned(),
                    |doubt| format!("unknown: {}", escape::str(doubt, phrases::TEXT)),
                );
                Span::styled(doubt, theme.dim())
            }
        });
    }
    let mut line = Line::from(spans);
    let left = usize::from(area.width).saturating_sub(line.width() + 1);
    if left > 0 {
        line.push_span(Span::styled(format!(" {}", "─".repeat(left)), theme.dim()));
    }
    paint(line, area, buffer);
}

fn outcome(session: &Session) -> String {
    match session.exit.map(|exit| (exit.code, exit.signal)) {
        Some((Some(code), _)) => format!("closed: exited with code {code}"),
        Some((None, Some(signal))) => format!("closed: killed by signal {signal}"),
        Some((None, None)) | None => "over".to_owned(),
    }
}

fn timeline(state: &State, area: Rect, buffer: &mut Buffer) {
    let Some(clock) = &state.clock else { return };
    let theme = state.theme;
    let width = u64::from(area.width.saturating_sub(1));
    let at = u16::try_from(clock.share() * width / 1_000).unwrap_or(0).min(area.width.saturating_sub(1));
    for x in 0..area.width {
        let (symbol, style) = match x.cmp(&at) {
            std::cmp::Ordering::Less => ("━", theme.mark()),
            std::cmp::Ordering::Equal => ("●", theme.mark()),
            std::cmp::Ordering::Greater => ("─", theme.dim()),
        };
        buffer.set_string(area.x + x, area.y, symbol, style);
    }
}

fn footer(state: &State, areas: &Areas, buffer: &mut Buffer) {
    let theme = state.theme;
    if state.typing {
        let text = escape::str(&state.filter, NAME);
        let found = phrases::counted(state.rows.len() as u64, "row");
        let spans = [Span::styled("/", theme.mark()), Span::raw(format!("{text}▏ ")), Span::styled(found, theme.dim())];
        return paint(Line::from(spans.to_vec()), areas.footer, buffer);
    }
    let mut spans = Vec::new();
    if let Some(clock) = &state.clock {
        let (at, length) = (clock.at.since(clock.from), clock.length());
        let sign = if clock.playing { "▶" } else { "‖" };
        let text = format!("{sign} {} of {} ×{}  ", phrases::lasted(at), phrases::lasted(length), clock.speed());
        spans.push(Span::styled(text, theme.mark()));
    }
    if !state.filter.is_empty() {
        spans.push(Span::styled(format!("filter: {}  ", escape::str(&state.filter, NAME)), theme.doubt()));
    }
    let keys = match (state.focus, state.clock.is_some()) {
        (Focus::List, false) => "↑↓ session  Enter path  / filter  s sort  Space pause  ? help  q quit",
        (Focus::List, true) => "←→ time  Space play  ↑↓ session  Enter path  / filter  ? help  q quit",
        (Focus::Path, _) => "↑↓ step  Enter details  Esc sessions  ? help  q quit",
        (Focus::Details, _) => "↑↓ scroll  Esc path  ? help  q quit",
    };
    spans.push(Span::styled(keys, theme.dim()));
    paint(Line::from(spans), areas.footer, buffer);
}

fn help(state: &State, screen: Rect, buffer: &mut Buffer) {
    let theme = state.theme;
    let keys = HELP
        .iter()
        .map(|(key, does)| Line::from(vec![Span::styled(format!(" {key:<15} "), theme.bold()), Span::raw(*does)]));
    let mut lines: Vec<Line<'_>> = keys.collect();
    lines.extend([
        Line::default(),
        Line::from(" ▸ bytes to the process  ◂ bytes back  ─ still  ╌ not measured"),
        Line::from(Span::styled(" A click selects, on a column it sorts; the wheel scrolls.", theme.dim())),
    ]);
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2).min(screen.height);
    let width = 66.min(screen.width);
    let area = Rect::new((screen.width - width) / 2, (screen.height - height) / 2, width, height);
    Clear.render(area, buffer);
    Paragraph::new(lines).block(Block::bordered().title(" keys ")).render(area, buffer);
}
