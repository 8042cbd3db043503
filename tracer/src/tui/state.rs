//! What is on the screen, as data.

use super::{clock::Clock, list, theme::Theme};
use crate::{
    explain::{self, Step},
    model::{Report, Session, SessionId},
    sink::Header,
};
use ratatui::layout::Rect;

/// Which pane keys act on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    /// The list of sessions.
    #[default]
    List,
    /// The path of the one that is selected.
    Path,
    /// What is known of the selected part of it.
    Details,
}

/// By what the list is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// The newest first.
    #[default]
    Age,
    /// By kind.
    Kind,
    /// By pod.
    Into,
    /// By command.
    Command,
    /// By who began it.
    Client,
    /// The most silent first.
    Idle,
    /// Faults first.
    Health,
}

impl Sort {
    /// Every one, as the columns stand.
    pub const ALL: [Self; 7] =
        [Self::Age, Self::Kind, Self::Into, Self::Command, Self::Client, Self::Idle, Self::Health];

    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|one| *one == self).unwrap_or(0);
        Self::ALL.get(at + 1).copied().unwrap_or_default()
    }
}

/// The whole screen.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Where sessions come from.
    pub header: Header,
    /// What is known of them; `None` before anything was told.
    pub report: Option<Report>,
    /// How things stand meanwhile, where the screen is held still.
    pub(super) held: Option<Option<Box<Report>>>,
    /// Of a recording: where it stands.
    pub clock: Option<Clock>,
    /// Said in the title: that a recording was cut, that it is being searched.
    pub note: String,
    /// How it looks.
    pub theme: Theme,
    /// Size of the screen.
    pub size: Rect,
    /// Pictures so far: what moves moves by it.
    pub(super) beat: u64,
    pub(super) rows: Vec<usize>,
    pub(super) selected: Option<SessionId>,
    /// Row of it, when it was last seen: what takes its place is selected when it is gone.
    pub(super) cursor: usize,
    pub(super) top: usize,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) filter: String,
    pub(super) typing: bool,
    pub(super) without_closed: bool,
    pub(super) focus: Focus,
    /// Which step of the path is selected, and which line of it is the first that is shown.
    pub(super) step: usize,
    pub(super) path_top: usize,
    /// Lines of the details above the first that is shown.
    pub(super) scroll: usize,
    pub(super) help: bool,
}

impl State {
    /// Before anything is known.
    #[must_use]
    pub fn new(header: Header, theme: Theme, clock: Option<Clock>) -> Self {
        Self { header, theme, clock, ..Self::default() }
    }

    /// The pane that keys act on.
    #[must_use]
    pub const fn focus(&self) -> Focus {
        self.focus
    }

    /// Whether new sessions and numbers are kept back.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The session that is selected.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        let id = self.selected.as_ref()?;
        self.report.as_ref()?.sessions.iter().find(|session| session.id == *id)
    }

    /// The step of its path that is selected.
    #[must_use]
    pub(super) fn selected_step(&self) -> Option<Step> {
        let steps = explain::steps(self.session()?);
        steps.get(self.step).or(steps.last()).copied()
    }

    /// Row of the selected session.
    pub(super) fn row(&self) -> Option<usize> {
        let report = self.report.as_ref()?;
        let id = self.selected.as_ref()?;
        self.rows.iter().position(|index| report.sessions.get(*index).is_some_and(|session| session.id == *id))
    }

    /// Puts rows together anew. What was selected stays so; where it has gone, what took its place is.
    pub(super) fn refresh(&mut self) {
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
}
