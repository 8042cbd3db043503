//! State of the screen.

use super::{clock::Clock, theme::Theme};
use crate::{
    explain::{self, Step},
    model::{Report, Session, SessionId},
    sink::Header,
};
use ratatui::layout::Rect;

/// The pane that keys act on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    /// The list of sessions.
    #[default]
    List,
    /// The path of the selected session.
    Path,
    /// The details of the selected step.
    Details,
}

/// Sort order of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Newest first.
    #[default]
    Age,
    /// By kind.
    Kind,
    /// By target.
    Into,
    /// By command.
    Command,
    /// By client.
    Client,
    /// Longest idle first.
    Idle,
    /// Faults first.
    Health,
}

impl Sort {
    /// All orders, in the order of the columns.
    pub const ALL: [Self; 7] =
        [Self::Age, Self::Kind, Self::Into, Self::Command, Self::Client, Self::Idle, Self::Health];

    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|one| *one == self).unwrap_or(0);
        Self::ALL.get(at + 1).copied().unwrap_or_default()
    }
}

/// State of the whole screen.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Origin of the sessions.
    pub header: Header,
    /// Sessions and measurements; `None` before the first report.
    pub report: Option<Report>,
    /// Set while the screen is paused: the latest report that is not shown, if one arrived.
    pub(super) paused: Option<Option<Box<Report>>>,
    /// Position in a recording; `None` for a live trace.
    pub clock: Option<Clock>,
    /// Note in the title, such as that a recording was cut.
    pub note: String,
    /// Colours.
    pub theme: Theme,
    /// Size of the screen.
    pub size: Rect,
    /// Number of ticks; the phase of animations.
    pub(super) ticks: u64,
    pub(super) rows: Vec<usize>,
    pub(super) selected: Option<SessionId>,
    /// Row of the selected session when it last existed. If the session disappears, this row is selected.
    pub(super) cursor: usize,
    pub(super) top: usize,
    pub(super) sort: Sort,
    pub(super) reversed: bool,
    pub(super) filter: String,
    pub(super) typing: bool,
    pub(super) hides_closed: bool,
    pub(super) focus: Focus,
    /// Index of the selected step of the path, and of its first visible one.
    pub(super) step: usize,
    pub(super) path_top: usize,
    /// Number of detail lines scrolled out above.
    pub(super) scroll: usize,
    pub(super) help: bool,
}

impl State {
    /// State before the first report.
    #[must_use]
    pub fn new(header: Header, theme: Theme, clock: Option<Clock>) -> Self {
        Self { header, theme, clock, ..Self::default() }
    }

    /// The pane that keys act on.
    #[must_use]
    pub const fn focus(&self) -> Focus {
        self.focus
    }

    /// True while new reports are held back.
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// The selected session.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        let id = self.selected.as_ref()?;
        self.report.as_ref()?.sessions.iter().find(|session| session.id == *id)
    }

    /// The selected step of its path.
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
}
