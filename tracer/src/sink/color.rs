//! Meanings of colours, and their escape codes for terminals.

use std::borrow::Cow;

use super::Style;

/// Meaning of a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Color {
    Bold,
    Dim,
    Good,
    Doubt,
    Bad,
    Mark,
}

impl Color {
    /// Wraps text in the escape code of this colour; leaves it unchanged if the style has no colours.
    pub(crate) fn paint(self, style: Style, text: &str) -> Cow<'_, str> {
        if !style.color || text.is_empty() {
            return Cow::Borrowed(text);
        }
        let code = match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Doubt => "33",
            Self::Bad => "1;31",
            Self::Mark => "1;36",
        };
        Cow::Owned(format!("\x1b[{code}m{text}\x1b[0m"))
    }
}
