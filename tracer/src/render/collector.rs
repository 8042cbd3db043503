//! Collects the findings of a replay, and keeps the time from which each part of a session was known.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    samples::Samples,
    timeline::{Edge, SessionTimeline, Timed, Timeline},
};
use crate::{
    model::{
        BootTime, Change, Finding, Gap, Health, Hop, Link, Observation, Report, Session, SessionId, Severity, State,
        Totals, Verdict,
    },
    sink::{Header, Sink, view},
};

/// Builds the data of all pictures from the findings of a replay.
#[derive(Default)]
pub struct Collector {
    header: Header,
    builders: BTreeMap<SessionId, SessionBuilder>,
    /// Session ids in the order of their first finding.
    order: Vec<SessionId>,
    faults: Vec<Verdict>,
    end: BootTime,
    totals: Totals,
    samples: Samples,
}

impl Collector {
    /// Returns a sink for a replay, and the collector that the sink fills.
    #[must_use]
    pub fn shared() -> (Box<dyn Sink>, Arc<Mutex<Self>>) {
        let kept = Arc::new(Mutex::new(Self::default()));
        (Box::new(CollectorSink(Arc::clone(&kept))), kept)
    }

    /// Returns the collected recording and leaves the collector empty.
    #[must_use]
    pub fn timeline(&mut self) -> Timeline {
        let mut builders = std::mem::take(&mut self.builders);
        // A session that was merged into another one is drawn as part of that session alone.
        let is_merged =
            |one: &SessionBuilder| one.session.merged_into.as_ref().is_some_and(|whole| builders.contains_key(whole));
        let merged: BTreeSet<SessionId> =
            builders.iter().filter(|(_, one)| is_merged(one)).map(|(id, _)| id.clone()).collect();
        builders.retain(|id, _| !merged.contains(id));
        Timeline {
            header: std::mem::take(&mut self.header),
            sessions: self.order.drain(..).filter_map(|id| Some(builders.remove(&id)?.finish())).collect(),
            faults: std::mem::take(&mut self.faults),
            end: self.end,
            totals: std::mem::take(&mut self.totals),
            samples: std::mem::take(&mut self.samples),
        }
    }

    fn apply(&mut self, session: &Session, at: BootTime) {
        let builder = self.builders.entry(session.id.clone()).or_insert_with(|| {
            self.order.push(session.id.clone());
            SessionBuilder::new(session, at)
        });
        builder.apply(session, at);
    }
}

/// The sink that the replay owns; it forwards to the shared collector.
struct CollectorSink(Arc<Mutex<Collector>>);

impl CollectorSink {
    fn collector(&self) -> MutexGuard<'_, Collector> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for CollectorSink {
    fn judges(&self) -> bool {
        true
    }

    fn host(&mut self, header: &Header) -> io::Result<()> {
        self.collector().header = header.clone();
        Ok(())
    }

    fn change(&mut self, finding: &Finding) -> io::Result<()> {
        match &finding.change {
            Change::Opened(session) | Change::Changed(session) | Change::Closed(session) => {
                self.collector().apply(session, finding.at);
            }
            Change::Loss { .. } => {}
        }
        Ok(())
    }

    fn measured(&mut self, seen: &Observation) -> io::Result<()> {
        self.collector().samples.take(seen);
        Ok(())
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        let mut kept = self.collector();
        (kept.end, kept.totals) = (report.now(), report.totals.clone());
        // Faults that belong to no session. Those of a session go to that session below.
        let of_none = report.diagnosis.of(None).into_iter().filter(|verdict| verdict.severity == Severity::Fault);
        kept.faults = of_none.cloned().collect();
        for session in &report.sessions {
            if let Some(builder) = kept.builders.get_mut(&session.id) {
                builder.health = view::health(session, report);
                builder.faults = report.diagnosis.faults(&session.id).cloned().collect();
            }
        }
        Ok(())
    }
}

/// A session while its findings arrive. An element keeps its index in `hops`, `links` and `gaps` for good. `order`
/// holds the order of the path, since a hop may be found after its successors.
struct SessionBuilder {
    session: Session,
    hops: Vec<Timed<Hop>>,
    order: Vec<usize>,
    links: Vec<Timed<Edge>>,
    gaps: Vec<Timed<Gap>>,
    reported: BootTime,
    ended: Option<BootTime>,
    health: Health,
    faults: Vec<Verdict>,
}

impl SessionBuilder {
    fn new(session: &Session, reported: BootTime) -> Self {
        Self {
            session: session.clone(),
            hops: Vec::new(),
            order: Vec::new(),
            links: Vec::new(),
            gaps: Vec::new(),
            reported,
            ended: None,
            health: Health::Unknown,
            faults: Vec::new(),
        }
    }

    fn apply(&mut self, session: &Session, at: BootTime) {
        let places = self.hop_indices(&session.hops, at);
        let place = |index: usize| places.get(index).copied();
        // Indices of the finding become indices into `hops`, which never change.
        let links = session.links.iter().filter_map(|link| {
            let (from, to) = (place(link.from)?, place(link.to)?);
            Some(Edge::new(Link { from, to, ..link.clone() }, at))
        });
        let gaps = session.gaps.iter().map(|gap| Gap {
            between: gap.between.and_then(|(from, to)| Some((place(from)?, place(to)?))),
            ..gap.clone()
        });
        merge(&mut self.links, links.collect(), at, is_same_link, Edge::update);
        merge(&mut self.gaps, gaps.collect(), at, PartialEq::eq, |gap, later| *gap = later);
        self.ended = (session.state == State::Closed).then_some(at);
        self.session = session.clone();
    }

    /// Returns the index in `hops` of each hop of the finding. A new hop is inserted behind its predecessor on the
    /// path; a hop that the finding lacks ends at `at`.
    fn hop_indices(&mut self, hops: &[Hop], at: BootTime) -> Vec<usize> {
        let mut places: Vec<usize> = Vec::with_capacity(hops.len());
        for hop in hops {
            // Role and task identify a hop. `places` excludes hops that were matched already: a task may be on the path
            // twice.
            let is_it = |kept: &Timed<Hop>| kept.holds() && kept.value.role == hop.role && kept.value.task == hop.task;
            let known = (0..self.hops.len()).find(|index| !places.contains(index) && is_it(&self.hops[*index]));
            let place = known.unwrap_or(self.hops.len());
            if known.is_none() {
                self.hops.push(Timed { value: hop.clone(), since: at, until: None });
                let before = places.last().and_then(|last| self.order.iter().position(|one| one == last));
                self.order.insert(before.map_or(0, |before| before + 1), place);
            }
            self.hops[place].value = hop.clone();
            places.push(place);
        }
        for (index, hop) in self.hops.iter_mut().enumerate() {
            if hop.holds() && !places.contains(&index) {
                hop.until = Some(at);
            }
        }
        places
    }

    fn finish(mut self) -> SessionTimeline {
        let place = |index: usize| self.order.iter().position(|one| *one == index).unwrap_or(index);
        // From here on, indices follow the order of the path.
        for link in &mut self.links {
            let link = &mut link.value.link;
            (link.from, link.to) = (place(link.from), place(link.to));
        }
        for gap in &mut self.gaps {
            gap.value.between = gap.value.between.map(|(from, to)| (place(from), place(to)));
        }
        self.links.sort_by_key(|edge| (edge.value.link.from, edge.value.link.to));
        (self.session.hops, self.session.links, self.session.gaps) = (Vec::new(), Vec::new(), Vec::new());
        SessionTimeline {
            hops: self.order.iter().map(|index| self.hops[*index].clone()).collect(),
            session: self.session,
            links: self.links,
            gaps: self.gaps,
            reported: self.reported,
            ended: self.ended,
            health: self.health,
            faults: self.faults,
        }
    }
}

/// Updates `kept` to the elements `now` that hold from `at` on: a known one learns its new state, a new one is added,
/// and a missing one ends at `at`.
fn merge<T>(
    kept: &mut Vec<Timed<T>>,
    now: Vec<T>,
    at: BootTime,
    is_same: impl Fn(&T, &T) -> bool,
    update: impl Fn(&mut T, T),
) {
    let mut held: Vec<usize> = (0..kept.len()).filter(|index| kept[*index].holds()).collect();
    for what in now {
        match held.iter().position(|index| is_same(&kept[*index].value, &what)) {
            Some(found) => update(&mut kept[held.remove(found)].value, what),
            None => kept.push(Timed { value: what, since: at, until: None }),
        }
    }
    for index in held {
        kept[index].until = Some(at);
    }
}

/// True if both describe the same link. Evidence and byte counts are left out, since both may have grown.
fn is_same_link(one: &Edge, other: &Edge) -> bool {
    let claim = |edge: &Edge| {
        let link = &edge.link;
        let tuple = link.tcp.map(|ends| ends.tuple);
        let path = link.unix.as_ref().map(|(path, ..)| path.clone());
        (link.from, link.to, link.kind, link.persistent, tuple, path)
    };
    claim(one) == claim(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Confidence, Evidence, GapCode, LinkKind, Role, TaskKey};

    fn hop(role: Role, pid: u32) -> Hop {
        Hop { role, task: TaskKey::from_ticks(pid, 1), process: Arc::default(), exit: None }
    }

    fn link(from: usize, to: usize, confidence: Confidence) -> Link {
        Link {
            from,
            to,
            kind: LinkKind::Tcp,
            confidence,
            evidence: [Evidence::SocketPair].into_iter().collect(),
            persistent: false,
            tcp: None,
            relay: None,
            unix: None,
        }
    }

    fn session(hops: Vec<Hop>, links: Vec<Link>, gaps: Vec<Gap>) -> Session {
        Session { hops, links, gaps, ..Session::sample() }
    }

    fn told(steps: Vec<Session>) -> SessionTimeline {
        let mut collector = Collector::default();
        for (at, session) in (1..).zip(&steps) {
            collector.apply(session, BootTime(at));
        }
        collector.timeline().sessions.remove(0)
    }

    #[test]
    fn late_hop_is_inserted_and_links_follow() {
        let (client, server, kubelet) = (hop(Role::Client, 1), hop(Role::ApiServer, 2), hop(Role::Kubelet, 3));
        let exact = Confidence::Exact;
        let last =
            session(vec![client, server.clone(), kubelet.clone()], vec![link(0, 1, exact), link(1, 2, exact)], vec![]);
        let history = told(vec![session(vec![server, kubelet], vec![link(0, 1, exact)], vec![]), last.clone()]);
        let roles: Vec<Role> = history.hops.iter().map(|hop| hop.value.role).collect();
        assert_eq!(roles, [Role::Client, Role::ApiServer, Role::Kubelet]);
        assert_eq!(history.hops.iter().map(|hop| hop.since.0).collect::<Vec<_>>(), [2, 1, 1]);
        assert_eq!(
            history.links.iter().map(|edge| (edge.value.link.from, edge.since.0)).collect::<Vec<_>>(),
            [(0, 2), (1, 1)]
        );
        assert_eq!(history.final_session(), last);
    }

    #[test]
    fn retracted_parts_keep_their_times_and_leave_last() {
        let gap = Gap { code: GapCode::Unjoined, between: Some((0, 1)), text: "why".into() };
        let (proxy, client, server) = (hop(Role::Proxy, 1), hop(Role::Client, 1), hop(Role::ApiServer, 2));
        let first = session(vec![proxy, server.clone()], vec![link(0, 1, Confidence::Weak)], vec![gap]);
        let last = session(vec![client, server], vec![link(0, 1, Confidence::Exact)], vec![]);
        let history = told(vec![first, last.clone()]);
        let hops: Vec<_> =
            history.hops.iter().map(|hop| (hop.value.role, hop.since.0, hop.until.map(|at| at.0))).collect();
        assert_eq!(hops, [(Role::Client, 2, None), (Role::Proxy, 1, Some(2)), (Role::ApiServer, 1, None)]);
        assert_eq!(history.gaps.iter().map(|gap| gap.until).collect::<Vec<_>>(), [Some(BootTime(2))]);
        let exact: Vec<_> = history.links.iter().map(|edge| (edge.value.link.confidence, edge.holds())).collect();
        assert_eq!(exact, [(Confidence::Exact, true), (Confidence::Weak, false)]);
        assert_eq!((history.final_session(), history.without_retracted().final_session()), (last.clone(), last));
        assert_eq!(history.without_retracted().hops.len(), 2);
    }

    #[test]
    fn growing_evidence_keeps_its_times() {
        let hops = vec![hop(Role::Client, 1), hop(Role::ApiServer, 2)];
        let with = |confidence| session(hops.clone(), vec![link(0, 1, confidence)], vec![]);
        let history = told(vec![with(Confidence::Strong), with(Confidence::Strong), with(Confidence::Exact)]);
        let proofs = &history.links[0].value.proofs;
        let known: Vec<_> = proofs.iter().map(|proof| (proof.since.0, proof.confidence)).collect();
        assert_eq!(known, [(1, Confidence::Strong), (3, Confidence::Exact)]);
        assert_eq!(history.links.len(), 1);
    }

    #[test]
    fn merged_session_is_drawn_only_in_its_whole() {
        let whole = session(vec![hop(Role::Client, 1)], vec![], vec![]);
        let part = Session {
            id: SessionId("s-2".into()),
            merged_into: Some(whole.id.clone()),
            state: State::Closed,
            ..whole.clone()
        };
        let mut collector = Collector::default();
        for (at, session) in (1..).zip([&part, &whole]) {
            collector.apply(session, BootTime(at));
        }
        let ids: Vec<_> =
            collector.timeline().sessions.iter().map(|history| Arc::clone(&history.session.id.0)).collect();
        assert_eq!(ids, ["s-1".into()]);
    }
}
