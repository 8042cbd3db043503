//! What colours say, and how terminals show them.

use std::borrow::Cow;

use super::Style;

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ink {
    Bold,
    Dim,
    Good,
    Doubt,
    Bad,
    Mark,
}

impl Ink {
    /// Text in that colour, if there are any.
    pub(crate) fn on(self, style: Style, text: &str) -> Cow<'_, str> {
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
