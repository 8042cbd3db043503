//! The list of sessions: filter, order and columns. Only visible rows are built.

use std::sync::Arc;

use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::Style,
    text::{Line, Span},
    widgets::Widget,
};

use super::state::{Focus, Sort, State};
use crate::{
    escape,
    model::{Health, Report, Session, State as SessionState},
    sink::{
        list::{client, short},
        phrases, view,
    },
};

/// Longest text of a cell; the rest is never visible.
const CELL: usize = 200;

/// A column: its name, sort order, width for a screen width, and text.
struct Column {
    name: &'static str,
    sort: Option<Sort>,
    width: fn(u16) -> Constraint,
    cell: fn(&Session, &Report) -> String,
}

/// Screen width from which the client has a column.
const WIDE: u16 = 100;

const COLUMNS: [Column; 8] = [
    Column { name: "ID", sort: None, width: |_| Constraint::Length(12), cell: |one, _| escape::str(&one.id.0, CELL) },
    Column { name: "AGE", sort: Some(Sort::Age), width: |_| Constraint::Length(4), cell: age },
    Column {
        name: "KIND",
        sort: Some(Sort::Kind),
        width: |width| Constraint::Length(if width < WIDE { 6 } else { 12 }),
        cell: |one, _| one.kind.token().to_owned(),
    },
    Column {
        name: "INTO",
        sort: Some(Sort::Into),
        width: |_| Constraint::Fill(5),
        cell: |one, _| phrases::into(one).unwrap_or_else(unknown),
    },
    Column {
        name: "COMMAND",
        sort: Some(Sort::Command),
        width: |_| Constraint::Fill(5),
        cell: |one, _| phrases::command(one, CELL).unwrap_or_else(unknown),
    },
    Column {
        name: "CLIENT",
        sort: Some(Sort::Client),
        width: |width| if width < WIDE { Constraint::Length(0) } else { Constraint::Fill(4) },
        cell: |one, _| client(one),
    },
    Column { name: "IDLE", sort: Some(Sort::Idle), width: |_| Constraint::Length(4), cell: idle },
    Column { name: "HEALTH", sort: Some(Sort::Health), width: |_| Constraint::Length(12), cell: health },
];

fn unknown() -> String {
    "?".to_owned()
}

fn age(session: &Session, report: &Report) -> String {
    short(view::age(session, report.now()))
}

fn idle(session: &Session, report: &Report) -> String {
    view::idle(session, &report.measures, report.now()).map_or_else(unknown, short)
}

fn health(session: &Session, report: &Report) -> String {
    match (session.state, session.exit) {
        (SessionState::Open, _) => view::health(session, report).short().to_owned(),
        (SessionState::Closed, Some(exit)) => match (exit.code, exit.signal) {
            (Some(code), _) => format!("exit {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => exit.reason.token().to_owned(),
        },
        (SessionState::Closed, None) => "over".to_owned(),
    }
}

/// Indices of the sessions to show, in order.
pub(super) fn rows(report: &Report, state: &State) -> Vec<usize> {
    let words: Vec<String> = state.filter.to_lowercase().split_whitespace().map(str::to_owned).collect();
    let is_shown = |session: &Session| {
        session.merged_into.is_none()
            && !(state.hides_closed && session.state == SessionState::Closed)
            && (words.is_empty() || {
                let text = searchable_text(session, report);
                words.iter().all(|word| text.contains(word))
            })
    };
    let shown = report.sessions.iter().enumerate().filter(|(_, session)| is_shown(session));
    let mut rows: Vec<(SortKey, usize)> =
        shown.map(|(index, session)| (sort_key(session, report, state.sort), index)).collect();
    rows.sort();
    if state.reversed {
        rows.reverse();
    }
    rows.into_iter().map(|(_, index)| index).collect()
}

/// Text that a filter is matched against: every cell, user, parents and pids.
fn searchable_text(session: &Session, report: &Report) -> String {
    let cells = COLUMNS.iter().map(|column| (column.cell)(session, report));
    let pids = session.hops.iter().map(|hop| hop.task.tgid.to_string());
    let more = phrases::who(session).into_iter().chain(phrases::user(session)).chain(pids);
    cells.chain(more).collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Number and text of the sort order; equal rows are sorted newest first.
type SortKey = (u64, String, std::cmp::Reverse<u64>, Arc<str>);

fn sort_key(session: &Session, report: &Report, sort: Sort) -> SortKey {
    let newest = std::cmp::Reverse(session.opened_at.0);
    let id = Arc::clone(&session.id.0);
    let by_text = |text: String| (0, text);
    let (number, text) = match sort {
        Sort::Age => (0, String::new()),
        Sort::Kind => by_text(session.kind.token().to_owned()),
        Sort::Into => by_text(phrases::into(session).unwrap_or_default()),
        Sort::Command => by_text(phrases::command(session, CELL).unwrap_or_default()),
        Sort::Client => by_text(client(session)),
        Sort::Idle => {
            let idle = view::idle(session, &report.measures, report.now());
            (idle.map_or(u64::MAX, |idle| u64::MAX - 1 - idle.0.min(u64::MAX - 1)), String::new())
        }
        Sort::Health => match (session.state, view::health(session, report)) {
            (SessionState::Closed, _) => (4, String::new()),
            (SessionState::Open, Health::Fault { code, .. }) => (0, code.to_owned()),
            (SessionState::Open, Health::Unknown) => (1, String::new()),
            (SessionState::Open, Health::Waiting) => (2, String::new()),
            (SessionState::Open, Health::Ok) => (3, String::new()),
        },
    };
    (number, text, newest, id)
}

/// Visible columns and their positions.
fn columns(row: Rect) -> Vec<(&'static Column, Rect)> {
    let widths = COLUMNS.iter().map(|column| (column.width)(row.width));
    let (shown, widths): (Vec<&Column>, Vec<Constraint>) =
        COLUMNS.iter().zip(widths).filter(|(_, width)| *width != Constraint::Length(0)).unzip();
    let cells = Layout::horizontal(widths).spacing(1).split(row);
    shown.into_iter().zip(cells.iter().copied()).collect()
}

/// Sort order of the column at a click on the header.
pub(super) fn column_at(head: Rect, x: u16) -> Option<Sort> {
    let at = columns(head).into_iter().find(|(_, cell)| (cell.left()..cell.right()).contains(&x));
    at.and_then(|(column, _)| column.sort)
}

pub(super) fn draw(state: &State, head: Rect, area: Rect, buffer: &mut Buffer) {
    for (column, cell) in columns(head) {
        let sorted = column.sort == Some(state.sort);
        let arrow = if !sorted {
            ""
        } else if state.reversed {
            "▴"
        } else {
            "▾"
        };
        let name = Span::styled(
            format!("{}{arrow}", column.name),
            if sorted { state.theme.bold() } else { state.theme.dim() },
        );
        Line::from(name).render(cell, buffer);
    }
    let Some(report) = &state.report else { return };
    for (row, line) in state.rows.iter().skip(state.top).zip(area.rows()) {
        if let Some(session) = report.sessions.get(*row) {
            draw_row(state, session, report, line, buffer);
        }
    }
}

fn draw_row(state: &State, session: &Session, report: &Report, line: Rect, buffer: &mut Buffer) {
    let base = if session.state == SessionState::Closed { state.theme.dim() } else { Style::new() };
    for (column, cell) in columns(line) {
        let text = escape::str(&(column.cell)(session, report), usize::from(cell.width));
        let style = if column.name == "HEALTH" { health_style(state, session, report) } else { base };
        Line::from(Span::styled(text, style)).render(cell, buffer);
    }
    if state.selected.as_ref() == Some(&session.id) {
        let style = if state.focus == Focus::List { state.theme.selected() } else { state.theme.selected_unfocused() };
        buffer.set_style(line, style);
    }
}

fn health_style(state: &State, session: &Session, report: &Report) -> Style {
    match (session.state, view::health(session, report)) {
        (SessionState::Closed, _) => state.theme.dim(),
        (SessionState::Open, Health::Ok | Health::Waiting) => state.theme.good(),
        (SessionState::Open, Health::Fault { .. }) => state.theme.bad(),
        (SessionState::Open, Health::Unknown) => state.theme.dim(),
    }
}
