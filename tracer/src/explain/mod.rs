//! What each step of a path is and why it is there, in plain words, for who has never seen one; and how the same can be seen by
//! hand. Texts rest on the session alone: what it does not show is said to be unknown, not made up.
//!
//! Text of strangers (names, paths) is escaped for terminals already; commands are made of numbers and of quoted words.

use crate::model::Session;

mod gaps;
pub mod glossary;
mod hops;
mod kinds;
mod known;
mod links;
mod manual;
mod overview;
mod programs;
mod runtimes;
mod stories;

pub use manual::Manual;

/// What one thing on the path is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// In a few words, with its numbers.
    pub title: String,
    /// What it is and what it does here.
    pub what: String,
    /// Why it is there; may be empty.
    pub why: String,
    /// How it is known, of links: a sentence for each piece of evidence, then how sure it is.
    pub known: Vec<String>,
    /// What cannot be told of it, and why.
    pub unknown: Vec<String>,
    /// Commands that show the same without this program.
    pub manual: Vec<Manual>,
}

impl Explanation {
    /// Every text of it that is prose, in order.
    pub fn prose(&self) -> impl Iterator<Item = &str> {
        let own = [&self.title, &self.what, &self.why].into_iter();
        let more = self.known.iter().chain(&self.unknown).chain(self.manual.iter().map(|manual| &manual.shows));
        own.chain(more).map(String::as_str).filter(|text| !text.is_empty())
    }
}

/// A thing that can be explained; the number is its index in the session's list of its sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The session as a whole.
    Session,
    /// Where the path leaves this host.
    Beyond(usize),
    /// A process.
    Hop(usize),
    /// What joins two of them, or two connections inside one.
    Link(usize),
    /// What is not known.
    Gap(usize),
}

/// What a session has to be explained of, in the order of its path: the whole, then client to process, then the gaps.
#[must_use]
pub fn steps(session: &Session) -> Vec<Step> {
    let (mut above, mut below) = (vec![Step::Session], Vec::new());
    for (index, (side, _)) in session.beyond.iter().enumerate() {
        if *side == "client" { &mut above } else { &mut below }.push(Step::Beyond(index));
    }
    for hop in 0..session.hops.len() {
        above.push(Step::Hop(hop));
        let from_here = |inside: bool| {
            let links = session.links.iter().enumerate();
            links.filter(move |(_, link)| link.from == hop && (link.to == hop) == inside).map(|(at, _)| Step::Link(at))
        };
        above.extend(from_here(true).chain(from_here(false)));
    }
    above.extend(below);
    above.extend((0..session.gaps.len()).map(Step::Gap));
    above
}

/// Explains that step; `None` where the session has no such thing.
#[must_use]
pub fn explain(session: &Session, step: Step) -> Option<Explanation> {
    match step {
        Step::Session => Some(overview::session(session)),
        Step::Beyond(index) => overview::beyond(session, index),
        Step::Hop(index) => hops::hop(session, index),
        Step::Link(index) => links::link(session, index),
        Step::Gap(index) => gaps::gap(session, index),
    }
}

/// Explains a hop.
#[must_use]
pub fn hop(session: &Session, index: usize) -> Option<Explanation> {
    explain(session, Step::Hop(index))
}

/// Explains a link.
#[must_use]
pub fn link(session: &Session, index: usize) -> Option<Explanation> {
    explain(session, Step::Link(index))
}

/// Explains a gap.
#[must_use]
pub fn gap(session: &Session, index: usize) -> Option<Explanation> {
    explain(session, Step::Gap(index))
}
