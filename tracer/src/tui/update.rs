//! Updates the state from messages.

use ratatui::{
    crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind},
    layout::{Position, Rect},
};

use super::{
    area::{Areas, areas},
    details,
    keys::{Action, Playback, action},
    list, path,
    state::{Focus, State},
};
use crate::{
    explain,
    model::{BootTime, Report, SessionId, Span},
    sink::Header,
};

/// Longest filter in characters.
const FILTER: usize = 100;
/// Rows per turn of the wheel.
const WHEEL: usize = 3;

/// Input of the state.
#[derive(Clone, Debug)]
pub enum Msg {
    /// A key.
    Key(KeyEvent),
    /// A mouse event.
    Mouse(MouseEvent),
    /// New size of the screen: columns and lines.
    Resize(u16, u16),
    /// A new report.
    Report(Box<Report>),
    /// Time since the last tick.
    Tick(Span),
    /// The hosts have changed.
    Header(Box<Header>),
    /// New note for the title; empty to remove it.
    Note(String),
    /// The moment of a recording that reports are about from now on, chosen by the caller.
    Moment(BootTime),
}

/// Request to the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// End the program.
    Quit,
    /// Show the recording at this moment.
    Seek(BootTime),
    /// Repaint everything, since other output went to the terminal.
    Redraw,
}

impl State {
    /// Handles a message; returns a request to the caller.
    pub fn update(&mut self, msg: Msg) -> Option<Effect> {
        match msg {
            Msg::Key(key) if self.typing => self.edit_filter(key),
            Msg::Key(key) => action(key).and_then(|action| self.act(action)),
            Msg::Mouse(mouse) => self.mouse(mouse),
            Msg::Resize(width, height) => {
                self.size = Rect::new(0, 0, width, height);
                self.scroll_to_selection();
                None
            }
            Msg::Report(report) => {
                match &mut self.paused {
                    Some(paused) => *paused = Some(report),
                    None => self.show(*report),
                }
                None
            }
            Msg::Tick(span) => {
                self.ticks = self.ticks.wrapping_add(1);
                let clock = self.clock.as_mut().filter(|clock| clock.playing)?;
                clock.pass(span);
                Some(Effect::Seek(clock.at))
            }
            Msg::Header(header) => {
                self.header = *header;
                None
            }
            Msg::Note(note) => {
                self.note = note;
                None
            }
            Msg::Moment(at) => {
                self.clock.iter_mut().for_each(|clock| clock.go(at));
                None
            }
        }
    }

    /// Rebuilds the rows. The selection stays on its session; if that disappeared, the session at the same row is
    /// selected.
    fn refresh(&mut self) {
        let Some(report) = &self.report else { return };
        self.rows = list::rows(report, self);
        let id =
            |row: usize| self.rows.get(row).and_then(|index| report.sessions.get(*index)).map(|one| one.id.clone());
        let there =
            |id: &SessionId| self.rows.iter().any(|index| report.sessions.get(*index).is_some_and(|one| one.id == *id));
        if !self.selected.as_ref().is_some_and(there) {
            let last = self.rows.len().saturating_sub(1);
            self.selected = id(self.cursor.min(last));
            (self.step, self.path_top, self.scroll) = (0, 0, 0);
        }
    }

    fn show(&mut self, report: Report) {
        self.report = Some(report);
        self.refresh();
        self.scroll_to_selection();
    }

    /// Handles a key while the filter is edited.
    #[expect(clippy::wildcard_enum_match_arm, reason = "keys that mean nothing here")]
    fn edit_filter(&mut self, key: KeyEvent) -> Option<Effect> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Some(Effect::Quit),
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => self.filter.clear(),
            KeyCode::Char(_) if key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {}
            KeyCode::Char(character) if self.filter.chars().count() < FILTER => self.filter.push(character),
            KeyCode::Backspace => {
                self.typing &= self.filter.pop().is_some();
            }
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => {
                self.typing = false;
                self.filter.clear();
            }
            _ => {}
        }
        self.refresh();
        self.scroll_to_selection();
        None
    }

    fn act(&mut self, action: Action) -> Option<Effect> {
        let help = std::mem::take(&mut self.help);
        match action {
            Action::Quit => return Some(Effect::Quit),
            Action::Redraw => return Some(Effect::Redraw),
            Action::Help => self.help = !help,
            Action::Back if help => {}
            Action::Back => self.back(),
            Action::Filter => {
                self.typing = true;
                self.focus = Focus::List;
            }
            Action::Sort => self.sort = self.sort.next(),
            Action::Reverse => self.reversed = !self.reversed,
            Action::Closed => self.hides_closed = !self.hides_closed,
            Action::Enter | Action::NextPane => self.focus = self.pane(1, action == Action::NextPane),
            Action::LastPane => self.focus = self.pane(2, true),
            Action::Up => self.go(|at| at.saturating_sub(1)),
            Action::Down => self.go(|at| at.saturating_add(1)),
            Action::PageUp => self.page(false),
            Action::PageDown => self.page(true),
            Action::First => self.go(|_| 0),
            Action::Last => self.go(|_| usize::MAX),
            Action::Pause => return self.pause(),
            Action::Playback(playback) => return self.control(playback),
        }
        self.refresh();
        self.scroll_to_selection();
        None
    }

    /// The pane `by` places further. With `around`, the first pane follows the last; else the last one stays.
    fn pane(&self, by: usize, around: bool) -> Focus {
        const PANES: [Focus; 3] = [Focus::List, Focus::Path, Focus::Details];
        let at = PANES.iter().position(|pane| *pane == self.focus).unwrap_or(0) + by;
        if self.session().is_none() {
            return Focus::List;
        }
        PANES[if around { at % PANES.len() } else { at.min(PANES.len() - 1) }]
    }

    fn back(&mut self) {
        match self.focus {
            Focus::Details => self.focus = Focus::Path,
            Focus::Path => self.focus = Focus::List,
            Focus::List => self.filter.clear(),
        }
    }

    fn pause(&mut self) -> Option<Effect> {
        if let Some(clock) = &mut self.clock {
            clock.toggle();
            return Some(Effect::Seek(clock.at));
        }
        match self.paused.take() {
            None => self.paused = Some(None),
            Some(None) => {}
            Some(Some(report)) => self.show(*report),
        }
        None
    }

    fn control(&mut self, playback: Playback) -> Option<Effect> {
        let clock = self.clock.as_mut()?;
        match playback {
            Playback::Slower => clock.slower(),
            Playback::Faster => clock.faster(),
            Playback::Skip { forward, fine } => clock.skip(forward, fine),
            Playback::End { last } => clock.go_to_end(last),
        }
        Some(Effect::Seek(clock.at))
    }

    fn page(&mut self, down: bool) {
        let areas = areas(self.size, self);
        let height = match self.focus {
            Focus::List => areas.rows.height,
            Focus::Path => areas.path.height,
            Focus::Details => areas.details.height,
        };
        let page = usize::from(height.saturating_sub(1)).max(1);
        self.go(|at| if down { at.saturating_add(page) } else { at.saturating_sub(page) });
    }

    /// Moves the selection or scroll position of the focused pane.
    fn go(&mut self, to: impl FnOnce(usize) -> usize) {
        match self.focus {
            Focus::List => self.select(to(self.row().unwrap_or(0))),
            Focus::Path => self.select_step(to(self.step)),
            Focus::Details => self.scroll = to(self.scroll),
        }
    }

    fn select(&mut self, row: usize) {
        let row = row.min(self.rows.len().saturating_sub(1));
        let id =
            self.rows.get(row).and_then(|index| self.report.as_ref()?.sessions.get(*index)).map(|one| one.id.clone());
        if id != self.selected {
            self.selected = id;
            (self.step, self.path_top, self.scroll) = (0, 0, 0);
        }
    }

    fn select_step(&mut self, step: usize) {
        let count = self.session().map_or(0, |session| explain::steps(session).len());
        self.step = step.min(count.saturating_sub(1));
        self.scroll = 0;
    }

    /// Scrolls so that the selection is visible and no pane is scrolled past its end.
    fn scroll_to_selection(&mut self) {
        let Areas { rows, path, details, .. } = areas(self.size, self);
        let height = usize::from(rows.height).max(1);
        let row = self.row().unwrap_or(0);
        self.cursor = row;
        self.top = self.top.clamp((row + 1).saturating_sub(height), row).min(self.rows.len().saturating_sub(height));
        // Each step has one line.
        let height = usize::from(path.height).max(1);
        self.path_top = self.path_top.clamp((self.step + 1).saturating_sub(height), self.step);
        let all = details::lines(self, details.width).len();
        self.scroll = self.scroll.min(all.saturating_sub(usize::from(details.height)));
    }

    fn mouse(&mut self, mouse: MouseEvent) -> Option<Effect> {
        let areas = areas(self.size, self);
        let at = Position::new(mouse.column, mouse.row);
        let down = match mouse.kind {
            MouseEventKind::ScrollDown => Some(true),
            MouseEventKind::ScrollUp => Some(false),
            MouseEventKind::Down(_)
            | MouseEventKind::Up(_)
            | MouseEventKind::Drag(_)
            | MouseEventKind::Moved
            | MouseEventKind::ScrollLeft
            | MouseEventKind::ScrollRight => None,
        };
        if let Some(down) = down {
            self.focus = pane_at(&areas, at).unwrap_or(self.focus);
            self.go(|at| if down { at.saturating_add(WHEEL) } else { at.saturating_sub(WHEEL) });
            self.scroll_to_selection();
            return None;
        }
        let clicked = matches!(mouse.kind, MouseEventKind::Down(MouseButton::Left));
        let dragged = matches!(mouse.kind, MouseEventKind::Drag(MouseButton::Left));
        if (clicked || dragged) && areas.timeline.contains(at) {
            let clock = self.clock.as_mut()?;
            let width = u64::from(areas.timeline.width.saturating_sub(1)).max(1);
            clock.go_to_share(u64::from(at.x - areas.timeline.x) * 1_000 / width);
            return Some(Effect::Seek(clock.at));
        }
        if !clicked {
            return None;
        }
        self.help = false;
        if areas.head.contains(at) {
            if let Some(sort) = list::column_at(areas.head, at.x) {
                self.reversed = sort == self.sort && !self.reversed;
                self.sort = sort;
            }
            self.refresh();
        } else if areas.rows.contains(at) {
            self.focus = Focus::List;
            let row = self.top + usize::from(at.y - areas.rows.y);
            if row < self.rows.len() {
                self.select(row);
            }
        } else if areas.path.contains(at) && self.session().is_some() {
            let row = usize::from(at.y - areas.path.y);
            let height = usize::from(areas.path.height);
            let step = self.session().and_then(|session| path::shown(self, session, height).steps.get(row).copied());
            self.focus = Focus::Path;
            self.select_step(step.map_or(usize::MAX, |(number, _)| number));
        } else if areas.details.contains(at) && self.session().is_some() {
            self.focus = Focus::Details;
        }
        self.scroll_to_selection();
        None
    }
}

fn pane_at(areas: &Areas, at: Position) -> Option<Focus> {
    let panes = [(areas.rows, Focus::List), (areas.path, Focus::Path), (areas.details, Focus::Details)];
    panes.into_iter().find(|(area, _)| area.contains(at)).map(|(_, focus)| focus)
}
