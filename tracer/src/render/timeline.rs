//! The growth of each session: every part that was ever reported, with the time it became known and the time it was
//! retracted. Pictures are drawn from this alone, so that they show no more than was reported, and nothing before it
//! was known.

use super::samples::Samples;
use crate::{
    model::{BootTime, Confidence, Gap, Health, Hop, Link, Proofs, Session, Totals, Verdict, matching},
    sink::Header,
};

/// A part of a session, and the time in which it was known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timed<T> {
    /// The part in its last reported state.
    pub value: T,
    /// Boot time from which the part was known.
    pub since: BootTime,
    /// Boot time at which the part was retracted; `None` while it holds.
    pub until: Option<BootTime>,
}

impl<T> Timed<T> {
    /// True if the part was never retracted.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.until.is_none()
    }
}

/// A link, and its evidence over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The link in its last reported state.
    pub link: Link,
    /// Proofs in order of time; the last one equals the link's own.
    pub proofs: Vec<Proof>,
}

/// Confidence and evidence of a link from some time on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Boot time from which this proof was known.
    pub since: BootTime,
    /// Confidence of the link.
    pub confidence: Confidence,
    /// Evidence of the link.
    pub evidence: Proofs,
}

impl Edge {
    pub(super) fn new(link: Link, since: BootTime) -> Self {
        let proof = Proof { since, confidence: link.confidence, evidence: link.evidence.clone() };
        Self { link, proofs: vec![proof] }
    }

    /// Takes a later state of the same link, and adds a proof if confidence or evidence changed.
    pub(super) fn update(&mut self, later: Self) {
        let is_new = self.link.confidence != later.link.confidence || self.link.evidence != later.link.evidence;
        self.proofs.extend(later.proofs.into_iter().filter(|_| is_new));
        self.link = later.link;
    }
}

/// A session over time. Links and gaps refer to hops by index in `hops`, which includes retracted ones.
#[derive(Clone, Debug)]
pub struct SessionTimeline {
    /// The session in its last reported state. Its hops, links and gaps are empty: they are in the fields below.
    pub session: Session,
    /// Hops in the order of the path.
    pub hops: Vec<Timed<Hop>>,
    /// Links in the order of the path.
    pub links: Vec<Timed<Edge>>,
    /// Gaps in the order of their first report.
    pub gaps: Vec<Timed<Gap>>,
    /// Boot time of its first report.
    pub reported: BootTime,
    /// Boot time at which its end was reported.
    pub ended: Option<BootTime>,
    /// Health over the whole recording.
    pub health: Health,
    /// Faults of the session, with their spans of time.
    pub faults: Vec<Verdict>,
}

impl SessionTimeline {
    /// Time at which a link came about. A connection may be older than its first report.
    #[must_use]
    pub fn link_start(&self, link: &Timed<Edge>) -> BootTime {
        link.value.link.tcp.and_then(|ends| ends.begun).map_or(link.since, |begun| begun.min(link.since))
    }

    /// Time at which a hop joined the path: the start of its first connection to another hop.
    #[must_use]
    pub fn hop_start(&self, hop: usize) -> BootTime {
        let touches = |link: &&Timed<Edge>| {
            link.value.link.from != link.value.link.to && [link.value.link.from, link.value.link.to].contains(&hop)
        };
        let known = self.hops.get(hop).map_or(self.reported, |hop| hop.since);
        self.links
            .iter()
            .filter(touches)
            .map(|link| self.link_start(link))
            .min()
            .map_or(known, |begun| begun.min(known))
    }

    /// End of the session, or of the recording (`end`) if the session is still open.
    #[must_use]
    pub fn until(&self, end: BootTime) -> BootTime {
        self.session.closed_at.map_or(end, |closed| closed.max(self.ended.unwrap_or(closed)))
    }

    /// The session with the parts that still hold, as a trace showed it last.
    #[must_use]
    pub fn final_session(&self) -> Session {
        let held: Vec<usize> = (0..self.hops.len()).filter(|index| self.hops[*index].holds()).collect();
        let place = |index: usize| held.iter().position(|one| *one == index);
        let mut session = self.session.clone();
        session.hops = held.iter().map(|index| self.hops[*index].value.clone()).collect();
        let links = self.links.iter().filter(|link| link.holds()).filter_map(|link| {
            let link = &link.value.link;
            Some(Link { from: place(link.from)?, to: place(link.to)?, ..link.clone() })
        });
        session.links = links.collect();
        let gaps = self.gaps.iter().filter(|gap| gap.holds()).map(|gap| Gap {
            between: gap.value.between.and_then(|(from, to)| Some((place(from)?, place(to)?))),
            ..gap.value.clone()
        });
        session.gaps = gaps.collect();
        session
    }

    /// A copy without retracted parts.
    #[must_use]
    pub fn without_retracted(&self) -> Self {
        let last = self.final_session();
        fn kept<T: Clone, U>(parts: &[Timed<T>], last: Vec<U>, put: fn(&mut T, U)) -> Vec<Timed<T>> {
            let mut held: Vec<Timed<T>> = parts.iter().filter(|part| part.holds()).cloned().collect();
            held.iter_mut().zip(last).for_each(|(part, what)| put(&mut part.value, what));
            held
        }
        Self {
            hops: kept(&self.hops, last.hops, |hop, last| *hop = last),
            links: kept(&self.links, last.links, |edge, last| edge.link = last),
            gaps: kept(&self.gaps, last.gaps, |gap, last| *gap = last),
            ..self.clone()
        }
    }
}

/// A whole recording, as pictures need it.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// The host and conditions of the recording.
    pub header: Header,
    /// Sessions in the order of their first report.
    pub sessions: Vec<SessionTimeline>,
    /// Faults that belong to no session, with their spans of time.
    pub faults: Vec<Verdict>,
    /// Boot time at the end of the recording.
    pub end: BootTime,
    /// Totals over the whole recording.
    pub totals: Totals,
    /// Measurements of connections over time.
    pub samples: Samples,
}

impl Timeline {
    /// Keeps the sessions that `id` matches, and drops all others.
    pub fn retain_matching(&mut self, id: &str) {
        let sessions: Vec<Session> = self.sessions.iter().map(SessionTimeline::final_session).collect();
        let meant = matching(&sessions, id);
        let mut index = 0;
        self.sessions.retain(|_tale| {
            index += 1;
            meant.contains(&(index - 1))
        });
    }
}
