//! Explains each step of a path in plain words, for readers new to Kubernetes: its purpose, and commands that show the
//! same. Texts rest on the session alone; missing information is reported as unknown.
//!
//! Names and paths from the session are already escaped for terminals. Commands contain only numbers and quoted words.

use crate::model::Session;

mod explanation;
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
mod words;

pub use explanation::Explanation;
pub use manual::Manual;

/// A part of a session with an explanation. The number is the index in the session's list of that sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The session as a whole.
    Session,
    /// The place where the path leaves this host.
    Beyond(usize),
    /// A process.
    Hop(usize),
    /// A link between two processes, or between two connections inside one.
    Link(usize),
    /// A gap.
    Gap(usize),
}

/// The steps of a session in order of its path: the whole, then client to process, then the gaps.
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

/// Explains that step; `None` if the session has no such step.
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
