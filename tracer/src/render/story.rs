//! How each session grew: every part of it that was ever told, from when it was known, and until when where it was taken back.
//! Pictures are made of this, so that nothing is drawn that was not told, and nothing earlier than it was known.

use super::samples::Samples;
use crate::{
    model::{BootTime, Confidence, Gap, Health, Hop, Link, Proofs, Session, Totals, Verdict, matching},
    sink::Header,
};

/// A part of a session, and when it was known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<T> {
    /// What, as it was told last.
    pub what: T,
    /// Core time from which it was known.
    pub since: BootTime,
    /// Core time from which it was known no more: something else was learnt. `None` of what was never taken back.
    pub until: Option<BootTime>,
}

impl<T> Part<T> {
    /// Whether it still holds.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.until.is_none()
    }
}

/// A link, and what it rested on when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tie {
    /// As it was told last.
    pub link: Link,
    /// From when which proof was known, in order of time; the last one is the link's own.
    pub proofs: Vec<Proof>,
}

/// How sure a link was from some time on, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// From when.
    pub since: BootTime,
    /// How sure.
    pub confidence: Confidence,
    /// By what.
    pub evidence: Proofs,
}

impl Tie {
    pub(super) fn new(link: Link, since: BootTime) -> Self {
        let proof = Proof { since, confidence: link.confidence, evidence: link.evidence.clone() };
        Self { link, proofs: vec![proof] }
    }

    /// Takes in a later word of the same link.
    pub(super) fn learn(&mut self, later: Self) {
        let is_new = self.link.confidence != later.link.confidence || self.link.evidence != later.link.evidence;
        self.proofs.extend(later.proofs.into_iter().filter(|_| is_new));
        self.link = later.link;
    }
}

/// A session and how it grew. Links and gaps name hops by their place in `hops`, those that were taken back included.
#[derive(Clone, Debug)]
pub struct Tale {
    /// As it was told last; its own lists of hops, links and gaps are empty: they are the tale's.
    pub session: Session,
    /// In the order of the path.
    pub hops: Vec<Part<Hop>>,
    /// In the order of the path.
    pub links: Vec<Part<Tie>>,
    /// In the order in which they were told.
    pub gaps: Vec<Part<Gap>>,
    /// When it was first told.
    pub told: BootTime,
    /// When its end was told.
    pub over: Option<BootTime>,
    /// How it was, over the whole recording.
    pub health: Health,
    /// What was wrong with it, and when.
    pub faults: Vec<Verdict>,
}

impl Tale {
    /// When a link came about, as far as that was seen: a connection may be older than what is known of it.
    #[must_use]
    pub fn begun(&self, link: &Part<Tie>) -> BootTime {
        link.what.link.tcp.and_then(|ends| ends.begun).map_or(link.since, |begun| begun.min(link.since))
    }

    /// When a hop came onto the path: with the first of its connections to others.
    #[must_use]
    pub fn joined(&self, hop: usize) -> BootTime {
        let touches = |link: &&Part<Tie>| {
            link.what.link.from != link.what.link.to && [link.what.link.from, link.what.link.to].contains(&hop)
        };
        let known = self.hops.get(hop).map_or(self.told, |hop| hop.since);
        self.links.iter().filter(touches).map(|link| self.begun(link)).min().map_or(known, |begun| begun.min(known))
    }

    /// When it was over, or the recording was, at `end`.
    #[must_use]
    pub fn until(&self, end: BootTime) -> BootTime {
        self.session.closed_at.map_or(end, |closed| closed.max(self.over.unwrap_or(closed)))
    }

    /// The session with the parts that still hold: what a trace showed last.
    #[must_use]
    pub fn last(&self) -> Session {
        let held: Vec<usize> = (0..self.hops.len()).filter(|index| self.hops[*index].holds()).collect();
        let place = |index: usize| held.iter().position(|one| *one == index);
        let mut session = self.session.clone();
        session.hops = held.iter().map(|index| self.hops[*index].what.clone()).collect();
        let links = self.links.iter().filter(|link| link.holds()).filter_map(|link| {
            let link = &link.what.link;
            Some(Link { from: place(link.from)?, to: place(link.to)?, ..link.clone() })
        });
        session.links = links.collect();
        let gaps = self.gaps.iter().filter(|gap| gap.holds()).map(|gap| Gap {
            between: gap.what.between.and_then(|(from, to)| Some((place(from)?, place(to)?))),
            ..gap.what.clone()
        });
        session.gaps = gaps.collect();
        session
    }

    /// The same tale without what was taken back.
    #[must_use]
    pub fn settled(&self) -> Self {
        let last = self.last();
        fn kept<T: Clone, U>(parts: &[Part<T>], last: Vec<U>, put: fn(&mut T, U)) -> Vec<Part<T>> {
            let mut held: Vec<Part<T>> = parts.iter().filter(|part| part.holds()).cloned().collect();
            held.iter_mut().zip(last).for_each(|(part, what)| put(&mut part.what, what));
            held
        }
        Self {
            hops: kept(&self.hops, last.hops, |hop, last| *hop = last),
            links: kept(&self.links, last.links, |tie, last| tie.link = last),
            gaps: kept(&self.gaps, last.gaps, |gap, last| *gap = last),
            ..self.clone()
        }
    }
}

/// A whole recording.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// Where it was made.
    pub header: Header,
    /// Sessions in the order in which they were told.
    pub tales: Vec<Tale>,
    /// What was wrong and belongs to no session, and when.
    pub faults: Vec<Verdict>,
    /// Core time at its end.
    pub end: BootTime,
    /// Sums over all of it.
    pub totals: Totals,
    /// Numbers of connections over time.
    pub samples: Samples,
}

impl Story {
    /// Keeps the session that `id` means; several that are meant are all kept.
    pub fn choose(&mut self, id: &str) {
        let sessions: Vec<Session> = self.tales.iter().map(Tale::last).collect();
        let meant = matching(&sessions, id);
        let mut index = 0;
        self.tales.retain(|_tale| {
            index += 1;
            meant.contains(&(index - 1))
        });
    }
}
