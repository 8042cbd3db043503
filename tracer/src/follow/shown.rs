//! What the reader of a trace was shown. Hosts join, leave and are late: then everything known is merged anew, and only the
//! differences are shown.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    engine::{Flow, Until},
    model::{BootTime, Change, Finding, Observation, Report, Session, SessionId, State},
    sink::{Header, Sink},
};

#[derive(Default)]
struct Inner {
    sinks: Vec<Box<dyn Sink>>,
    until: Until,
    is_reached: bool,
    header: Option<Header>,
    open: BTreeMap<SessionId, Arc<Session>>,
    /// Sessions that have ended; `None` for those that ended before the call, which are never shown.
    closed: BTreeMap<SessionId, Option<Arc<Session>>>,
    /// Sessions of a new merge, until it has reached the present; `None` afterwards.
    catching_up: Option<BTreeMap<SessionId, Arc<Session>>>,
    /// Set once the first merge has reached the present.
    has_begun: bool,
    sessions: u64,
}

/// The sinks of all merges of one call.
#[derive(Clone, Default)]
pub(super) struct Output(Arc<Mutex<Inner>>);

impl Output {
    pub(super) fn new(sinks: Vec<Box<dyn Sink>>, until: Until) -> Self {
        Self(Arc::new(Mutex::new(Inner { sinks, until, ..Inner::default() })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sink of the next merge. It shows nothing before [`Self::caught_up`].
    pub(super) fn sink(&self) -> Box<dyn Sink> {
        self.inner().catching_up = Some(BTreeMap::new());
        Box::new(self.clone())
    }

    /// Shows how the sessions differ from those that were shown before. The first time, sessions that have ended are left out.
    pub(super) fn caught_up(&self, at: BootTime) -> io::Result<()> {
        self.inner().caught_up(at)
    }

    /// Whether the condition for stopping is met.
    pub(super) fn flow(&self) -> Flow {
        if self.inner().is_reached { Flow::Stop } else { Flow::Continue }
    }

    /// Shows that nothing was seen.
    pub(super) fn finish_without_hosts(&self) -> io::Result<()> {
        let mut inner = self.inner();
        let header = Header::default();
        let is_first = inner.header.is_none();
        for sink in &mut inner.sinks {
            if is_first {
                sink.host(&header)?;
            }
            sink.finish(&Report::default())?;
        }
        Ok(())
    }

    /// Sessions shown so far.
    pub(super) fn sessions(&self) -> u64 {
        self.inner().sessions
    }
}

impl Inner {
    fn caught_up(&mut self, at: BootTime) -> io::Result<()> {
        let Some(now) = self.catching_up.take() else { return Ok(()) };
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let mut sessions: Vec<&Arc<Session>> = now.values().collect();
        sessions.sort_by_key(|session| session.opened_at);
        for session in sessions {
            let is_open = session.state == State::Open;
            let (open, closed) = (self.open.get(&session.id).cloned(), self.closed.get(&session.id).cloned());
            match (open, closed) {
                (_, Some(None)) => {}
                // A host that was late has more to say about a session that has ended.
                (None, Some(Some(before))) if is_open || is_same(&before, session) => {}
                (None, Some(Some(_))) => self.show(at, Change::Closed(Arc::clone(session)))?,
                (Some(before), _) if is_open && is_same(&before, session) => {}
                (Some(_), _) if is_open => self.show(at, Change::Changed(Arc::clone(session)))?,
                (Some(_), _) => self.show(at, Change::Closed(Arc::clone(session)))?,
                (None, None) if is_open => self.show(at, Change::Opened(Arc::clone(session)))?,
                (None, None) if is_first || session.merged_into.is_some() => {
                    self.closed.insert(session.id.clone(), None);
                }
                (None, None) => {
                    let opened = Session { state: State::Open, closed_at: None, exit: None, ..(**session).clone() };
                    self.show(at, Change::Opened(Arc::new(opened)))?;
                    self.show(at, Change::Closed(Arc::clone(session)))?;
                }
            }
        }
        let shown = self.open.values().chain(self.closed.values().flatten());
        let is_gone = |one: &&Arc<Session>| !now.contains_key(&one.id) && one.merged_into.is_none();
        let gone: Vec<Arc<Session>> = shown.filter(is_gone).cloned().collect();
        for session in gone {
            // A host that joined may have shown that this session is a part of another one.
            let is_whole = |other: &&Arc<Session>| has_same_client(other, &session) || has_same_relay(other, &session);
            if let Some(whole) = now.values().find(is_whole) {
                let whole = Some(whole.id.clone());
                let part =
                    Session { state: State::Closed, closed_at: Some(at), merged_into: whole, ..(*session).clone() };
                self.show(at, Change::Closed(Arc::new(part)))?;
            }
        }
        self.closed.retain(|id, _| now.contains_key(id));
        self.sinks.iter_mut().try_for_each(|sink| sink.passed(at))
    }

    fn show(&mut self, at: BootTime, change: Change) -> io::Result<()> {
        match &change {
            Change::Opened(session) | Change::Changed(session) => {
                if self.closed.contains_key(&session.id) {
                    return Ok(());
                }
                if self.open.insert(session.id.clone(), Arc::clone(session)).is_none() {
                    self.sessions += u64::from(!session.is_attempt_only());
                }
            }
            Change::Closed(session) => {
                self.open.remove(&session.id);
                let place = self.closed.entry(session.id.clone()).or_insert_with(|| Some(Arc::clone(session)));
                match place {
                    None => return Ok(()),
                    Some(shown) => *shown = Arc::clone(session),
                }
            }
            Change::Loss { .. } => {}
        }
        self.is_reached |= self.until.is_reached(&change);
        let finding = Finding { at, change };
        self.sinks.iter_mut().try_for_each(|sink| sink.change(&finding))
    }
}

/// True if two states of a session differ in times alone: with each merge, clocks are compared anew.
fn is_same(one: &Session, other: &Session) -> bool {
    let hops = |session: &Session| -> Vec<_> {
        session.hops.iter().map(|hop| (hop.role, hop.task.host, hop.task.tgid, hop.exit)).collect()
    };
    let (client, other_client) = (&one.client, &other.client);
    (one.kind, one.state, one.exit, one.complete) == (other.kind, other.state, other.exit, other.complete)
        && (client.address, &client.user, client.pending)
            == (other_client.address, &other_client.user, other_client.pending)
        && (&one.target, &one.command, &one.links, &one.gaps, &one.beyond, &one.merged_into)
            == (&other.target, &other.command, &other.links, &other.gaps, &other.beyond, &other.merged_into)
        && hops(one) == hops(other)
}

/// True if both sessions begin with the same process on the same host.
fn has_same_client(one: &Session, other: &Session) -> bool {
    let first = |session: &Session| session.hops.first().map(|hop| (hop.role, hop.task.host, hop.task.tgid));
    first(one).is_some() && first(one) == first(other)
}

/// True if both sessions go through the same two connections of a proxy, which carry one session alone.
fn has_same_relay(one: &Session, other: &Session) -> bool {
    let relays = |session: &Session| -> Vec<_> { session.links.iter().filter_map(|link| link.relay).collect() };
    let own = relays(one);
    relays(other).iter().any(|relay| own.contains(relay))
}

impl Sink for Output {
    fn needs_sessions(&self) -> bool {
        self.inner().sinks.iter().any(|sink| sink.needs_sessions())
    }

    fn host(&mut self, header: &Header) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.header.as_ref() == Some(header) {
            return Ok(());
        }
        inner.header = Some(header.clone());
        inner.sinks.iter_mut().try_for_each(|sink| sink.host(header))
    }

    fn passed(&mut self, now: BootTime) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.catching_up.is_some() {
            return Ok(());
        }
        inner.sinks.iter_mut().try_for_each(|sink| sink.passed(now))
    }

    fn change(&mut self, finding: &Finding) -> io::Result<()> {
        let mut inner = self.inner();
        let Some(sessions) = &mut inner.catching_up else { return inner.show(finding.at, finding.change.clone()) };
        if let Change::Opened(session) | Change::Changed(session) | Change::Closed(session) = &finding.change {
            sessions.insert(session.id.clone(), Arc::clone(session));
        }
        Ok(())
    }

    fn measured(&mut self, seen: &Observation) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.catching_up.is_some() {
            return Ok(());
        }
        inner.sinks.iter_mut().try_for_each(|sink| sink.measured(seen))
    }

    fn finish(&mut self, report: &Report) -> io::Result<()> {
        self.inner().sinks.iter_mut().try_for_each(|sink| sink.finish(report))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Confidence, Link, LinkKind, SocketId};

    /// Ids of the changes, each closed one with the session that it is a part of.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<String>>>);

    impl Sink for Seen {
        fn host(&mut self, _header: &Header) -> io::Result<()> {
            Ok(())
        }

        fn change(&mut self, finding: &Finding) -> io::Result<()> {
            let text = match &finding.change {
                Change::Opened(session) => format!("opened {}", session.id.0),
                Change::Changed(session) => format!("changed {}", session.id.0),
                Change::Closed(session) if session.merged_into.is_some() => {
                    format!("{} is a part of {}", session.id.0, session.merged_into.as_ref().unwrap().0)
                }
                Change::Closed(session) => format!("closed {}", session.id.0),
                Change::Loss { what, .. } => format!("lost {what}"),
            };
            self.0.lock().unwrap().push(text);
            Ok(())
        }

        fn finish(&mut self, _report: &Report) -> io::Result<()> {
            Ok(())
        }
    }

    /// A closed session through a proxy with these two sockets.
    fn closed(id: &str, inodes: [u64; 2]) -> Finding {
        let [inbound, outbound] = inodes.map(|inode| SocketId { inode: Some(inode), ..SocketId::default() });
        let relay = Link {
            from: 0,
            to: 0,
            kind: LinkKind::Relay,
            confidence: Confidence::Exact,
            evidence: Default::default(),
            persistent: false,
            tcp: None,
            relay: Some((inbound, outbound)),
            unix: None,
        };
        let session = Session {
            id: SessionId(id.into()),
            state: State::Closed,
            hops: Vec::new(),
            links: vec![relay],
            ..Session::sample()
        };
        Finding { at: BootTime(1), change: Change::Closed(Arc::new(session)) }
    }

    /// The changes that a merge with these sessions shows.
    fn merged(output: &Output, seen: &Seen, sessions: &[Finding]) -> Vec<String> {
        let mut sink = output.sink();
        sessions.iter().for_each(|finding| sink.change(finding).unwrap());
        output.caught_up(BootTime(2)).unwrap();
        std::mem::take(&mut seen.0.lock().unwrap())
    }

    #[test]
    fn closed_part_is_merged_into_later_whole() {
        let seen = Seen::default();
        let output = Output::new(vec![Box::new(seen.clone())], Until::default());
        assert_eq!(merged(&output, &seen, &[]), [""; 0]);
        let parts = [closed("a", [1, 2]), closed("b", [3, 4])];
        assert_eq!(merged(&output, &seen, &parts), ["opened a", "closed a", "opened b", "closed b"]);
        // Another host joins, and one of them is seen whole. The other one is merged no more, and stays as it was shown.
        let wholes = [closed("whole", [1, 2])];
        assert_eq!(merged(&output, &seen, &wholes), ["opened whole", "closed whole", "a is a part of whole"]);
        assert_eq!(merged(&output, &seen, &wholes), [""; 0]);
    }
}
