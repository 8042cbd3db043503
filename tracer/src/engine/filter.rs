//! Selection of the sessions to show.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use crate::model::{Change, Finding, Kind, Session, SessionId, State};

/// Kinds of session to show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kinds {
    /// Kinds started by people: all except those that the kubelet starts by itself.
    #[default]
    People,
    /// All kinds.
    All,
    /// One kind.
    Only(Kind),
}

impl Kinds {
    fn hold(self, kind: Kind) -> bool {
        match self {
            Self::All => true,
            Self::People => kind.is_of_people(),
            Self::Only(only) => kind == only,
        }
    }
}

/// Criteria for a session. Names match as a whole; a session with an unknown name does not match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Namespace of the pod.
    pub namespace: Option<String>,
    /// Name of the pod.
    pub pod: Option<String>,
    /// Name of the container.
    pub container: Option<String>,
    /// Address of the API server, with or without a port.
    pub server: Option<(IpAddr, Option<u16>)>,
    /// Kinds of session.
    pub kinds: Kinds,
}

impl Filter {
    /// True if the session meets all criteria.
    #[must_use]
    pub fn matches(&self, session: &Session) -> bool {
        let target = &session.target;
        let asked = |asked: &Option<String>, known: &Option<String>| asked.is_none() || asked == known;
        self.kinds.hold(session.kind)
            && asked(&self.namespace, &target.namespace)
            && asked(&self.pod, &target.pod)
            && asked(&self.container, &target.container)
            && self.server.is_none_or(|(address, port)| {
                session.server().is_some_and(|(ip, known)| ip == address && (port.is_none() || known == port))
            })
    }
}

/// Applies a filter over time. Names often become known only after a session has opened: the first matching change is
/// reported as the opening. A reported session is then reported to its end.
#[derive(Debug, Default)]
pub(super) struct Selection {
    pub(super) filter: Filter,
    pub(super) shown: BTreeSet<SessionId>,
}

impl Selection {
    pub(super) fn pass(&mut self, finding: Finding) -> Vec<Finding> {
        let at = finding.at;
        let (session, over) = match finding.change {
            Change::Opened(session) | Change::Changed(session) if !self.shown.contains(&session.id) => (session, false),
            Change::Closed(session) if !self.shown.contains(&session.id) => (session, true),
            change @ (Change::Opened(_) | Change::Changed(_) | Change::Loss { .. }) => {
                return vec![Finding { at, change }];
            }
            Change::Closed(session) => {
                self.shown.remove(&session.id);
                return vec![Finding { at, change: Change::Closed(session) }];
            }
        };
        if !self.filter.matches(&session) {
            return Vec::new();
        }
        // The closing change is the first match: report the opening along with it.
        if over {
            let opened = Session { state: State::Open, closed_at: None, exit: None, ..(*session).clone() };
            let opened = Finding { at, change: Change::Opened(Arc::new(opened)) };
            return vec![opened, Finding { at, change: Change::Closed(session) }];
        }
        self.shown.insert(session.id.clone());
        vec![Finding { at, change: Change::Opened(session) }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootTime, Target};

    fn session(pod: Option<&str>) -> Arc<Session> {
        Arc::new(Session {
            target: Arc::new(Target { pod: pod.map(str::to_owned), ..Target::default() }),
            ..Session::sample()
        })
    }

    fn names(selection: &mut Selection, change: Change) -> Vec<&'static str> {
        let findings = selection.pass(Finding { at: BootTime(2), change });
        let name = |finding: Finding| match finding.change {
            Change::Opened(_) => "opened",
            Change::Changed(_) => "changed",
            Change::Closed(_) => "closed",
            Change::Loss { .. } => "loss",
        };
        findings.into_iter().map(name).collect()
    }

    #[test]
    fn session_opens_in_output_when_it_first_matches() {
        let filter = Filter { pod: Some("web".into()), ..Filter::default() };
        let mut selection = Selection { filter, ..Selection::default() };
        assert!(names(&mut selection, Change::Opened(session(None))).is_empty());
        assert_eq!(names(&mut selection, Change::Changed(session(Some("web")))), ["opened"]);
        assert_eq!(names(&mut selection, Change::Changed(session(Some("web")))), ["changed"]);
        assert_eq!(names(&mut selection, Change::Closed(session(Some("web")))), ["closed"]);
        assert_eq!(names(&mut selection, Change::Closed(session(Some("web")))), ["opened", "closed"]);
        assert!(names(&mut selection, Change::Closed(session(Some("web-1")))).is_empty());
        assert_eq!(names(&mut selection, Change::Loss { what: "ring".into(), count: 1 }), ["loss"]);
    }

    #[test]
    fn probes_are_shown_on_request() {
        let mut probe = session(None);
        Arc::make_mut(&mut probe).kind = Kind::Probe;
        for (kinds, shown) in [(Kinds::People, false), (Kinds::Only(Kind::Probe), true), (Kinds::All, true)] {
            assert_eq!(Filter { kinds, ..Filter::default() }.matches(&probe), shown);
        }
    }
}
