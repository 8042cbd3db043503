//! Layout of the screen, shared by painting and the mouse.

use ratatui::layout::{Constraint, Layout, Rect};

use super::state::{Focus, State};

/// Least usable size: columns and lines.
pub(super) const LEAST: (u16, u16) = (40, 10);
/// Width from which details are beside the path. On narrower screens, they replace the path while focused.
const WIDE: u16 = 110;
/// Lines of a path from kubectl to the process: the session, seven processes, and a line for each of eight links.
const PATH: u16 = 16;

/// Panes of the screen. A hidden pane is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Areas {
    pub(super) title: Rect,
    /// The line with the column names.
    pub(super) head: Rect,
    pub(super) rows: Rect,
    pub(super) verdict: Rect,
    pub(super) path: Rect,
    pub(super) details: Rect,
    pub(super) timeline: Rect,
    pub(super) footer: Rect,
}

pub(super) fn areas(screen: Rect, state: &State) -> Areas {
    let replay = u16::from(state.clock.is_some());
    let [title, body, timeline, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(replay),
        Constraint::Length(1),
    ])
    .areas(screen);
    // A third for the list, and less if a path would not have its room below the line of the verdict. Three sessions are
    // always in sight.
    let most = (body.height / 3).max(5).min(body.height.saturating_sub(PATH + 1)).max(4);
    let wanted = u16::try_from(state.rows.len()).unwrap_or(u16::MAX).saturating_add(1);
    let list = wanted.clamp(2, most).min(body.height);
    let [list, verdict, below] =
        Layout::vertical([Constraint::Length(list), Constraint::Length(1), Constraint::Min(0)]).areas(body);
    let [head, rows] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(list);
    let (path, details) = if screen.width >= WIDE {
        let [path, _gap, details] =
            Layout::horizontal([Constraint::Percentage(54), Constraint::Length(2), Constraint::Min(0)]).areas(below);
        (path, details)
    } else if state.focus == Focus::Details {
        (Rect::default(), below)
    } else {
        (below, Rect::default())
    };
    Areas { title, head, rows, verdict, path, details, timeline, footer }
}
