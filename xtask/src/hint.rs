//! Errors that say what to do about them.

use std::fmt::Display;

/// An error whose message has a second line, `hint: …`.
///
/// It has to be the root cause of its chain: context goes in front of it, so the hint stays the last line.
pub(crate) fn hinted(what: impl Display, hint: impl Display) -> anyhow::Error {
    anyhow::anyhow!("{what}\nhint: {hint}")
}

#[cfg(test)]
mod tests {
    use super::hinted;

    #[test]
    fn the_hint_is_the_last_line_whatever_context_is_added() {
        let error = hinted("no runc", "apt-get install runc").context("cannot start");
        assert_eq!(format!("{error:#}"), "cannot start: no runc\nhint: apt-get install runc");
    }
}
