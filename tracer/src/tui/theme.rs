//! Styles of the screen: colours, or weight and inversion alone.

use ratatui::style::{Color, Modifier, Style};

/// Use of colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Theme {
    /// True if colours are allowed.
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

    /// Less important text. A modifier rather than grey, which vanishes on some backgrounds.
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

    /// The selected row in the focused pane.
    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// The selected row in another pane.
    pub(super) fn selected_unfocused(self) -> Style {
        Style::new().add_modifier(Modifier::UNDERLINED)
    }
}
