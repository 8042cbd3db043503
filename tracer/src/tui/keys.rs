//! Key bindings. They follow less, top, htop and mail readers.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// Meaning of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    Back,
    Help,
    Filter,
    Sort,
    Reverse,
    Closed,
    Pause,
    Enter,
    NextPane,
    LastPane,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Playback(Playback),
    Redraw,
}

/// Playback action of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Playback {
    Skip {
        forward: bool,
        fine: bool,
    },
    /// To the end of the recording, or to its beginning.
    End {
        last: bool,
    },
    Slower,
    Faster,
}

/// Keys and their effects, for the help.
pub const HELP: &[(&str, &str)] = &[
    ("↑ ↓  k j", "up and down"),
    ("PgUp PgDn", "a page"),
    ("Home End  g G", "first and last"),
    ("Enter", "next level: sessions, path, details"),
    ("Tab", "next pane"),
    ("Esc", "back; drops the filter"),
    ("/", "filter: any part of a row"),
    ("s S", "sort by the next column; reverse the order"),
    ("c", "show or hide closed sessions"),
    ("Space", "pause; in a recording: play"),
    ("← →  h l", "in a recording: back and forward; Shift: small steps"),
    ("[ ]", "in a recording: its beginning and its end"),
    ("- +", "in a recording: slower and faster"),
    ("?", "this help"),
    ("q  Ctrl-C", "quit"),
];

/// Action of a key outside of text input.
#[expect(clippy::wildcard_enum_match_arm, reason = "keys that mean nothing here")]
pub(super) fn action(key: KeyEvent) -> Option<Action> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let fine = key.modifiers.contains(KeyModifiers::SHIFT);
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Some(Action::Quit),
            KeyCode::Char('l') => Some(Action::Redraw),
            KeyCode::Char('b') => Some(Action::PageUp),
            KeyCode::Char('f') => Some(Action::PageDown),
            _ => None,
        };
    }
    Some(match key.code {
        KeyCode::Char('q') => Action::Quit,
        KeyCode::Esc => Action::Back,
        KeyCode::Char('?') | KeyCode::F(1) => Action::Help,
        KeyCode::Char('/') => Action::Filter,
        KeyCode::Char('s') => Action::Sort,
        KeyCode::Char('S') => Action::Reverse,
        KeyCode::Char('c') => Action::Closed,
        KeyCode::Char(' ') => Action::Pause,
        KeyCode::Enter => Action::Enter,
        KeyCode::Tab => Action::NextPane,
        KeyCode::BackTab => Action::LastPane,
        KeyCode::Up | KeyCode::Char('k') => Action::Up,
        KeyCode::Down | KeyCode::Char('j') => Action::Down,
        KeyCode::PageUp => Action::PageUp,
        KeyCode::PageDown => Action::PageDown,
        KeyCode::Home | KeyCode::Char('g') => Action::First,
        KeyCode::End | KeyCode::Char('G') => Action::Last,
        KeyCode::Left => skip(false, fine),
        KeyCode::Right => skip(true, fine),
        KeyCode::Char('h') => skip(false, false),
        KeyCode::Char('l') => skip(true, false),
        KeyCode::Char('H') => skip(false, true),
        KeyCode::Char('L') => skip(true, true),
        KeyCode::Char('[') => Action::Playback(Playback::End { last: false }),
        KeyCode::Char(']') => Action::Playback(Playback::End { last: true }),
        KeyCode::Char('-') => Action::Playback(Playback::Slower),
        KeyCode::Char('+' | '=') => Action::Playback(Playback::Faster),
        _ => return None,
    })
}

const fn skip(forward: bool, fine: bool) -> Action {
    Action::Playback(Playback::Skip { forward, fine })
}
