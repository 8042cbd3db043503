//! What a part of the screen looks like: with colours, or, where none are wanted, by weight and inversion alone.

use ratatui::style::{Color, Modifier, Style};

/// Whether colours are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Theme {
    /// They are.
    pub color: bool,
}

impl Theme {
    fn with(self, color: Color, modifier: Modifier) -> Style {
        let style = Style::new().add_modifier(modifier);
        if self.color { style.fg(color) } else { style }
    }

    pub(super) fn bold(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What is there and matters less. Not a colour of its own: greys vanish on some grounds.
    pub(super) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn good(self) -> Style {
        self.with(Color::Green, Modifier::empty())
    }

    pub(super) fn doubt(self) -> Style {
        self.with(Color::Yellow, Modifier::empty())
    }

    pub(super) fn bad(self) -> Style {
        self.with(Color::Red, Modifier::BOLD)
    }

    pub(super) fn mark(self) -> Style {
        self.with(Color::Cyan, Modifier::BOLD)
    }

    /// The row that keys act on.
    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// The row that keys would act on, if its pane had the focus.
    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::UNDERLINED)
    }
}
