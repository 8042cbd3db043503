//! Errors with a hint about the remedy.

use std::fmt::Display;

/// Builds an error with a second line, `hint: …`.
///
/// It must be the root cause of its chain: context is put in front, so the hint stays the last line.
pub(crate) fn hinted(what: impl Display, hint: impl Display) -> anyhow::Error {
    anyhow::anyhow!("{what}\nhint: {hint}")
}

#[cfg(test)]
mod tests {
    use super::hinted;

    #[test]
    fn hint_stays_last_line_under_context() {
        let error = hinted("no runc", "apt-get install runc").context("cannot start");
        assert_eq!(format!("{error:#}"), "cannot start: no runc\nhint: apt-get install runc");
    }
}
