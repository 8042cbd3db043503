//! The explanation of one step, as every file of this module builds it.

use super::manual::Manual;

/// The explanation of one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Title with the numbers of the step.
    pub title: String,
    /// Definition, and the part that it plays here.
    pub what: String,
    /// Purpose; may be empty.
    pub why: String,
    /// Evidence of a link: a sentence for each piece, then one for the confidence. Empty for other steps.
    pub known: Vec<String>,
    /// Missing information, with the reason.
    pub unknown: Vec<String>,
    /// Commands that show the same without execpath.
    pub manual: Vec<Manual>,
}

impl Explanation {
    /// Every prose text, in order.
    pub fn prose(&self) -> impl Iterator<Item = &str> {
        let own = [&self.title, &self.what, &self.why].into_iter();
        let more = self.known.iter().chain(&self.unknown).chain(self.manual.iter().map(|manual| &manual.shows));
        own.chain(more).map(String::as_str).filter(|text| !text.is_empty())
    }
}
