//! Right or wrong: what was told of a session against what the oracle saw.

use std::net::SocketAddr;

use super::look::{Leg, Look};
use super::plan::Planned;
use super::told::{Link, Session, Tcp};

/// What of a session is judged: the rows of the table. Those up to `Target` have to be there for a session to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The process that asked.
    Client,
    /// TCP, client to API server.
    ToApiServer,
    /// Through the API server.
    InApiServer,
    /// TCP, API server to kubelet.
    ToKubelet,
    /// Through the kubelet.
    InKubelet,
    /// TCP, kubelet to the runtime's streaming server, or to itself.
    ToStreaming,
    /// The exec id: runtime to shim.
    ExecId,
    /// The shim.
    Shim,
    /// The process in the container.
    Process,
    /// The names of pod and container, and the container's id.
    Target,
}

impl Part {
    pub(super) const ALL: [Self; 10] = [
        Self::Client,
        Self::ToApiServer,
        Self::InApiServer,
        Self::ToKubelet,
        Self::InKubelet,
        Self::ToStreaming,
        Self::ExecId,
        Self::Shim,
        Self::Process,
        Self::Target,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::ToApiServer => "tcp to apiserver",
            Self::InApiServer => "relay in apiserver",
            Self::ToKubelet => "tcp to kubelet",
            Self::InKubelet => "relay in kubelet",
            Self::ToStreaming => "tcp to streaming",
            Self::ExecId => "exec id to shim",
            Self::Shim => "shim",
            Self::Process => "process",
            Self::Target => "container",
        }
    }
}

/// How it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    /// Why.
    Wrong(String),
    Missing,
    /// It was told before the oracle looked, of what was gone by then.
    Untold,
}

/// Who asked for a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) pid: u32,
    /// Its end of the connection, where one process has many.
    pub(super) address: Option<SocketAddr>,
}

/// One session: what was planned, and what the oracle saw.
pub(super) struct Case<'a> {
    pub(super) planned: &'a Planned,
    pub(super) client: Client,
    pub(super) look: &'a Look,
    /// Whether the saying is the last: then nothing of it may be gone.
    pub(super) last: bool,
}

fn compare<T: PartialEq + std::fmt::Debug>(told: Option<T>, truth: Option<&T>) -> Verdict {
    match (told, truth) {
        (None, _) => Verdict::Missing,
        (Some(told), Some(truth)) if told == *truth => Verdict::Right,
        (Some(told), truth) => Verdict::Wrong(format!("{told:?} was told, it is {truth:?}")),
    }
}

impl Case<'_> {
    /// Every part of it. A part that was told twice is judged twice.
    pub(super) fn judge(&self, session: &Session) -> Vec<(Part, Verdict)> {
        let process = self.look.processes.get(&self.planned.number);
        let pid = |role: &str| session.hop(role).map(|hop| hop.pid);
        let exec_id = process.and_then(|process| process.exec_id.clone());
        let mut parts = vec![
            (Part::Client, self.client(session)),
            (Part::ExecId, compare(session.exec_id.clone(), exec_id.as_ref())),
            (Part::Shim, compare(pid("shim"), process.map(|process| &process.parent))),
            (Part::Process, compare(pid("process"), process.map(|process| &process.pid))),
            (Part::Target, self.target(session)),
        ];
        for (part, kind, to) in [
            (Part::ToApiServer, "tcp", &["apiserver"][..]),
            (Part::InApiServer, "relay", &["apiserver"]),
            (Part::ToKubelet, "tcp", &["kubelet"]),
            (Part::InKubelet, "relay", &["kubelet"]),
            (Part::ToStreaming, "tcp", &["runtime"]),
        ] {
            let is = |link: &&Link| {
                link.kind == kind && session.hops.get(link.to).is_some_and(|hop| to.contains(&hop.role.as_str()))
            };
            let mut there = session.links.iter().filter(is).map(|link| (part, self.link(session, link))).peekable();
            if there.peek().is_none() {
                parts.push((part, Verdict::Missing));
            }
            parts.extend(there);
        }
        parts
    }

    fn client(&self, session: &Session) -> Verdict {
        let Some(hop) = session.hop("kubectl") else { return Verdict::Missing };
        if let Some(address) = self.client.address {
            let first = session.links.iter().find_map(|link| link.tcp.as_ref()).map(|tcp| tcp.local);
            let told = compare(first, Some(&address));
            return if told == Verdict::Right { compare(Some(hop.pid), Some(&self.client.pid)) } else { told };
        }
        match session.asked() {
            Some(number) if number != self.planned.number => {
                Verdict::Wrong(format!("this client asked for session {number}"))
            }
            Some(_) | None => compare(Some(hop.pid), Some(&self.client.pid)),
        }
    }

    fn target(&self, session: &Session) -> Verdict {
        let target = &session.target;
        let Some(id) = &target.container_id else { return Verdict::Missing };
        let process = self.look.processes.get(&self.planned.number);
        if !process.is_some_and(|process| process.cgroups.contains(id.as_str())) {
            return Verdict::Wrong(format!("its process is not in container {id}"));
        }
        let names = (target.pod.as_deref(), target.container.as_deref());
        match names {
            (None, _) | (_, None) => Verdict::Missing,
            (Some(pod), Some(container)) => {
                compare(Some((pod, container)), Some(&(self.planned.pod, self.planned.container)))
            }
        }
    }

    fn link(&self, session: &Session, link: &Link) -> Verdict {
        if let Some(tcp) = &link.tcp {
            return self.leg(session, link, tcp);
        }
        let Some(relay) = &link.relay else { return Verdict::Missing };
        let inbound = self.look.legs.values().find(|leg| Some(leg.far.inode) == relay.inbound_inode);
        let outbound = self
            .look
            .legs
            .values()
            .find(|leg| leg.near.as_ref().is_some_and(|near| Some(near.inode) == relay.outbound_inode));
        match (inbound, outbound) {
            (Some(inbound), Some(outbound)) => {
                let (one, other) = (self.owns(inbound), self.owns(outbound));
                if one == Verdict::Right { other } else { one }
            }
            (None, _) | (_, None) => self.gone("one of its connections"),
        }
    }

    fn leg(&self, session: &Session, link: &Link, tcp: &Tcp) -> Verdict {
        let Some(leg) = self.look.legs.get(&(tcp.remote, tcp.local)) else {
            return self.gone("this connection");
        };
        let owned = self.owns(leg);
        if owned != Verdict::Right {
            return owned;
        }
        let pid = |index: usize| session.hops.get(index).map(|hop| hop.pid);
        let ends = [(leg.near.as_ref(), pid(link.from), tcp.inode), (Some(&leg.far), pid(link.to), tcp.peer_inode)];
        for (end, pid, inode) in ends {
            let fits = end.is_some_and(|end| {
                inode.is_none_or(|inode| inode == end.inode) && pid.is_some_and(|pid| end.pids.contains(&pid))
            });
            if !fits {
                return Verdict::Wrong(format!("pid {pid:?} and inode {inode:?} were told of {end:?}"));
            }
        }
        Verdict::Right
    }

    fn owns(&self, leg: &Leg) -> Verdict {
        if leg.number == self.planned.number {
            return Verdict::Right;
        }
        let (ends, received) = ((leg.far.remote, leg.far.local), leg.received);
        let (sent, number) = (self.planned.bytes, leg.number);
        Verdict::Wrong(format!("{ends:?} carried {received} bytes, session {number}'s; this one was sent {sent}"))
    }

    /// What the oracle did not see cannot be a session's that it saw whole; before that it can have been a first attempt's.
    fn gone(&self, what: &str) -> Verdict {
        if self.last { Verdict::Wrong(format!("{what} carries no session's bytes")) } else { Verdict::Untold }
    }
}
