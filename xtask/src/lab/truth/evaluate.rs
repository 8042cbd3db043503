//! Evaluation: compares a reported session with the oracle's observations.

use std::net::SocketAddr;

use super::inspect::{Leg, Observed};
use super::plan::Planned;
use super::reported::{Link, Session, Tcp};
use crate::lab::state::Runtime;

/// The evaluated parts of a session: the rows of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The client process.
    Client,
    /// TCP, client to API server.
    ToApiServer,
    /// Relay in the API server.
    InApiServer,
    /// TCP, API server to kubelet.
    ToKubelet,
    /// Relay in the kubelet.
    InKubelet,
    /// TCP, kubelet to the runtime's streaming server, or to the kubelet's own.
    ToStreaming,
    /// Relay in the kubelet's own streaming server, to docker's socket. Unix connections have no byte counters, so
    /// only the inbound end is evaluated.
    InDockershim,
    /// The exec id: runtime to shim.
    ExecId,
    /// The shim.
    Shim,
    /// The process in the container.
    Process,
    /// Names of pod and container, and the container's id.
    Target,
}

impl Part {
    /// Parts of a session through this runtime.
    pub(super) fn of(runtime: Runtime) -> impl Iterator<Item = Self> {
        let all = [
            Self::Client,
            Self::ToApiServer,
            Self::InApiServer,
            Self::ToKubelet,
            Self::InKubelet,
            Self::ToStreaming,
            Self::InDockershim,
            Self::ExecId,
            Self::Shim,
            Self::Process,
            Self::Target,
        ];
        all.into_iter().filter(move |part| *part != Self::InDockershim || runtime == Runtime::Docker)
    }

    /// Classifies a link by the roles of its ends.
    fn of_link(session: &Session, link: &Link) -> Option<Self> {
        let role = |index: usize| session.hops.get(index).map(|hop| hop.role.as_str());
        let streams_to_itself = || link.from.checked_sub(1).is_some_and(|before| role(before) == Some("kubelet"));
        match (link.kind.as_str(), role(link.from)?, role(link.to)?) {
            ("tcp", _, "apiserver") => Some(Self::ToApiServer),
            ("tcp", "kubelet", "kubelet" | "runtime") => Some(Self::ToStreaming),
            ("tcp", _, "kubelet") => Some(Self::ToKubelet),
            ("relay", "apiserver", _) => Some(Self::InApiServer),
            ("relay", "kubelet", _) if streams_to_itself() => Some(Self::InDockershim),
            ("relay", "kubelet", _) => Some(Self::InKubelet),
            _ => None,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::ToApiServer => "tcp to apiserver",
            Self::InApiServer => "relay in apiserver",
            Self::ToKubelet => "tcp to kubelet",
            Self::InKubelet => "relay in kubelet",
            Self::ToStreaming => "tcp to streaming",
            Self::InDockershim => "relay in dockershim",
            Self::ExecId => "exec id to shim",
            Self::Shim => "shim",
            Self::Process => "process",
            Self::Target => "container",
        }
    }
}

/// Result for one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PartResult {
    Right,
    /// The reason.
    Wrong(String),
    Missing,
    /// The report is older than the oracle's observation and may describe a connection that was gone by then.
    Unobserved,
}

/// The client that opened a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client {
    pub(super) pid: u32,
    /// The client's end of the connection, if one process opens many.
    pub(super) address: Option<SocketAddr>,
}

/// One session: the plan, and the oracle's observations.
pub(super) struct SessionCtx<'a> {
    pub(super) runtime: Runtime,
    pub(super) planned: &'a Planned,
    pub(super) client: Client,
    pub(super) observed: &'a Observed,
    /// True for a last report: all its connections must still exist.
    pub(super) last: bool,
}

fn compare<T: PartialEq + std::fmt::Debug>(reported: Option<T>, truth: Option<&T>) -> PartResult {
    match (reported, truth) {
        (None, _) => PartResult::Missing,
        (Some(reported), Some(truth)) if reported == *truth => PartResult::Right,
        (Some(reported), truth) => PartResult::Wrong(format!("reported {reported:?}, the oracle has {truth:?}")),
    }
}

impl SessionCtx<'_> {
    /// Evaluates every part. A part that was reported twice is evaluated twice.
    pub(super) fn evaluate(&self, session: &Session) -> Vec<(Part, PartResult)> {
        let process = self.observed.processes.get(&self.planned.number);
        let pid = |role: &str| session.hop(role).map(|hop| hop.pid);
        let exec_id = process.and_then(|process| process.exec_id.clone());
        let mut parts = vec![
            (Part::Client, self.client(session)),
            (Part::ExecId, compare(session.exec_id.clone(), exec_id.as_ref())),
            (Part::Shim, compare(pid("shim"), process.map(|process| &process.parent))),
            (Part::Process, compare(pid("process"), process.map(|process| &process.pid))),
            (Part::Target, self.target(session)),
        ];
        let links = session.links.iter().filter_map(|link| Some((Part::of_link(session, link)?, link)));
        parts.extend(links.map(|(part, link)| (part, self.link(session, part, link))));
        for part in Part::of(self.runtime) {
            if !parts.iter().any(|(there, _)| *there == part) {
                parts.push((part, PartResult::Missing));
            }
        }
        parts
    }

    /// Explains a claim about the whole session that is not true, or returns `None`.
    pub(super) fn overstated(&self, session: &Session) -> Option<String> {
        if let Some(kind) = session.kind.as_deref().filter(|kind| *kind != "exec") {
            return Some(format!("reported as kind {kind}"));
        }
        let results = self.evaluate(session);
        let missing = results.iter().find(|(_, result)| *result == PartResult::Missing)?;
        session.complete.then(|| format!("reported as complete, but missing: {}", missing.0.name()))
    }

    fn client(&self, session: &Session) -> PartResult {
        let Some(hop) = session.hop("kubectl") else { return PartResult::Missing };
        if let Some(address) = self.client.address {
            let first = session.links.iter().find_map(|link| link.tcp.as_ref()).map(|tcp| tcp.local);
            let reported = compare(first, Some(&address));
            return if reported == PartResult::Right {
                compare(Some(hop.pid), Some(&self.client.pid))
            } else {
                reported
            };
        }
        match session.requested() {
            Some(number) if number != self.planned.number => {
                PartResult::Wrong(format!("this client opened session {number}"))
            }
            Some(_) | None => compare(Some(hop.pid), Some(&self.client.pid)),
        }
    }

    fn target(&self, session: &Session) -> PartResult {
        let target = &session.target;
        let Some(id) = &target.container_id else { return PartResult::Missing };
        let process = self.observed.processes.get(&self.planned.number);
        if !process.is_some_and(|process| process.cgroups.contains(id.as_str())) {
            return PartResult::Wrong(format!("the process is not in container {id}"));
        }
        let names = (target.pod.as_deref(), target.container.as_deref());
        match names {
            (None, _) | (_, None) => PartResult::Missing,
            (Some(pod), Some(container)) => {
                compare(Some((pod, container)), Some(&(self.planned.pod, self.planned.container)))
            }
        }
    }

    fn link(&self, session: &Session, part: Part, link: &Link) -> PartResult {
        if let Some(tcp) = &link.tcp {
            return self.leg(session, link, tcp);
        }
        let Some(relay) = &link.relay else { return PartResult::Missing };
        let inbound = self.observed.legs.values().find(|leg| Some(leg.far.inode) == relay.inbound_inode);
        let outbound = self
            .observed
            .legs
            .values()
            .find(|leg| leg.near.as_ref().is_some_and(|near| Some(near.inode) == relay.outbound_inode));
        match (inbound, outbound) {
            (Some(inbound), _) if part == Part::InDockershim => self.owns(inbound),
            (Some(inbound), Some(outbound)) => {
                let (one, other) = (self.owns(inbound), self.owns(outbound));
                if one == PartResult::Right { other } else { one }
            }
            (None, _) | (_, None) => self.unmatched("a connection of this relay"),
        }
    }

    fn leg(&self, session: &Session, link: &Link, tcp: &Tcp) -> PartResult {
        let Some(leg) = self.observed.legs.get(&(tcp.remote, tcp.local)) else {
            return self.unmatched("this connection");
        };
        let owned = self.owns(leg);
        if owned != PartResult::Right {
            return owned;
        }
        let pid = |index: usize| session.hops.get(index).map(|hop| hop.pid);
        let ends = [(leg.near.as_ref(), pid(link.from), tcp.inode), (Some(&leg.far), pid(link.to), tcp.peer_inode)];
        for (end, pid, inode) in ends {
            let fits = end.is_some_and(|end| {
                inode.is_none_or(|inode| inode == end.inode) && pid.is_some_and(|pid| end.pids.contains(&pid))
            });
            if !fits {
                return PartResult::Wrong(format!("reported pid {pid:?} and inode {inode:?}, the oracle has {end:?}"));
            }
        }
        PartResult::Right
    }

    fn owns(&self, leg: &Leg) -> PartResult {
        if leg.number == self.planned.number {
            return PartResult::Right;
        }
        let (ends, received) = ((leg.far.remote, leg.far.local), leg.received);
        let (sent, number) = (self.planned.bytes, leg.number);
        PartResult::Wrong(format!(
            "{ends:?} carried {received} bytes of session {number}; this session was sent {sent}"
        ))
    }

    /// A connection without any session's bytes is wrong in a last report. An earlier report may describe a first
    /// attempt.
    fn unmatched(&self, what: &str) -> PartResult {
        if self.last {
            PartResult::Wrong(format!("{what} carries the bytes of no session"))
        } else {
            PartResult::Unobserved
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::{Client, Part, PartResult, SessionCtx};
    use crate::lab::network::Host;
    use crate::lab::state::Runtime;
    use crate::lab::truth::inspect::{End, Leg, Observed, Process};
    use crate::lab::truth::plan::Planned;
    use crate::lab::truth::reported::Session;

    /// Ports of a session's legs, at the ends nearer to the client.
    fn ports(number: u32) -> [u16; 3] {
        [1, 2, 3].map(|leg| u16::try_from(leg * 1_000 + number).expect("a port"))
    }

    fn ends(number: u32, leg: usize) -> (String, String) {
        let servers = ["10.0.0.2:6443", "10.0.0.3:10250", "127.0.0.1:4000"];
        let clients = ["10.0.0.1", "10.0.0.2", "127.0.0.1"];
        (format!("{}:{}", clients[leg], ports(number)[leg]), servers[leg].to_owned())
    }

    fn leg(number: u32, at: usize) -> Leg {
        let (client, server) = ends(number, at);
        let (client, server) = (client.parse().expect("an address"), server.parse().expect("an address"));
        let inode = u64::from(ports(number)[at]);
        let pids = [100 + number, 10, 20, 30];
        let near = End {
            local: client,
            remote: server,
            inode,
            pids: vec![pids[at]],
            received: 0,
            host: Host::Client,
            programs: String::new(),
        };
        let far =
            End { local: server, remote: client, inode: inode + 10_000, pids: vec![pids[at + 1]], ..near.clone() };
        Leg { number, received: 0, near: Some(near), far }
    }

    fn observed() -> Observed {
        let legs = [1, 2].into_iter().flat_map(|number| (0..3).map(move |at| leg(number, at)));
        let processes = [1, 2].map(|number| {
            let (cgroups, exec_id) = ("0::/pod/c0ffee\n".to_owned(), Some(format!("exec-{number}")));
            (number, Process { pid: 500 + number, parent: 40, cgroups, exec_id })
        });
        Observed {
            legs: legs.map(|leg| ((leg.far.local, leg.far.remote), leg)).collect(),
            processes: BTreeMap::from(processes),
            gap: None,
        }
    }

    fn tcp(number: u32, at: usize) -> Value {
        let ((local, remote), inode) = (ends(number, at), u64::from(ports(number)[at]));
        let tcp = json!({"local": local, "remote": remote, "inode": inode, "peer_inode": inode + 10_000});
        json!({"from": at, "to": at + 1, "kind": "tcp", "confidence": "exact", "tcp": tcp})
    }

    fn relay(inbound: u32, outbound: u32, at: usize) -> Value {
        let relay = json!({
            "inbound_inode": ports(inbound)[at - 1] + 10_000,
            "outbound_inode": ports(outbound)[at],
        });
        json!({"from": at, "to": at, "kind": "relay", "confidence": "exact", "relay": relay})
    }

    /// Session 1, as a flawless tracer reports it.
    fn reported() -> Value {
        let planned = Planned::new(1, 1, 1_000);
        let hop = |role: &str, pid: u32| json!({"role": role, "pid": pid, "argv": ["x"]});
        let argv = [vec!["kubectl".to_owned(), "exec".to_owned()], planned.command().to_vec()].concat();
        json!({
            "id": "s-1", "kind": "exec", "state": "open", "complete": true, "confidence": "exact",
            "target": {"pod": planned.pod, "container": planned.container, "container_id": "c0ffee"},
            "command": planned.command(), "exec_id": "exec-1",
            "hops": [
                {"role": "kubectl", "pid": 101, "argv": argv},
                hop("apiserver", 10), hop("kubelet", 20), hop("runtime", 30), hop("shim", 40), hop("process", 501),
            ],
            "links": [tcp(1, 0), relay(1, 1, 1), tcp(1, 1), relay(1, 1, 2), tcp(1, 2)],
            "gaps": [],
        })
    }

    /// Parts that are not right; true if wrong, false if missing.
    fn flaws(reported: Value, client: Client, last: bool) -> Vec<(Part, bool)> {
        let session: Session = serde_json::from_value(reported).expect("a session");
        let (planned, observed) = (Planned::new(1, 1, 1_000), observed());
        assert_eq!(session.number(), Some(1));
        let case = SessionCtx { runtime: Runtime::Containerd, planned: &planned, client, observed: &observed, last };
        let results = case.evaluate(&session).into_iter();
        let mut flaws: Vec<(Part, bool)> = results
            .filter(|(_, result)| *result != PartResult::Right)
            .map(|(part, result)| (part, matches!(result, PartResult::Wrong(_))))
            .collect();
        flaws.sort();
        flaws
    }

    const KUBECTL: Client = Client { pid: 101, address: None };

    #[test]
    fn flawless_report_is_right() {
        assert_eq!(flaws(reported(), KUBECTL, true), []);
        let driver = Client { pid: 101, address: Some("10.0.0.1:1001".parse().expect("an address")) };
        assert_eq!(flaws(reported(), driver, true), []);
    }

    #[test]
    fn leg_of_another_session_is_wrong_everywhere() {
        for (index, at, part) in [(0, 0, Part::ToApiServer), (2, 1, Part::ToKubelet), (4, 2, Part::ToStreaming)] {
            let mut reported = reported();
            reported["links"][index] = tcp(2, at);
            assert_eq!(flaws(reported, KUBECTL, true), [(part, true)]);
        }
        for (index, at, part) in [(1, 1, Part::InApiServer), (3, 2, Part::InKubelet)] {
            for (inbound, outbound) in [(1, 2), (2, 1), (2, 2)] {
                let mut reported = reported();
                reported["links"][index] = relay(inbound, outbound, at);
                assert_eq!(flaws(reported, KUBECTL, true), [(part, true)]);
            }
        }
    }

    #[test]
    fn end_held_by_another_process_is_wrong() {
        let mut reported = reported();
        reported["links"][2]["tcp"]["peer_inode"] = json!(1);
        assert_eq!(flaws(reported, KUBECTL, true), [(Part::ToKubelet, true)]);
    }

    #[test]
    fn other_client_process_id_shim_or_container_is_wrong() {
        for (pointer, value, part) in [
            ("/hops/4/pid", json!(41), Part::Shim),
            ("/hops/5/pid", json!(502), Part::Process),
            ("/exec_id", json!("exec-2"), Part::ExecId),
            ("/target/container_id", json!("decaf"), Part::Target),
            ("/target/container", json!("another"), Part::Target),
        ] {
            let mut reported = reported();
            *reported.pointer_mut(pointer).expect("pointer exists") = value;
            assert_eq!(flaws(reported, KUBECTL, true), [(part, true)], "{pointer}");
        }
        assert_eq!(flaws(reported(), Client { pid: 102, address: None }, true), [(Part::Client, true)]);
        let driver = Client { pid: 101, address: Some("10.0.0.1:1002".parse().expect("an address")) };
        assert_eq!(flaws(reported(), driver, true), [(Part::Client, true)]);
        let mut reported = reported();
        reported["hops"][0]["argv"] = json!(["kubectl", "exec", "x", "--", Planned::new(2, 1, 1_000).command()[2]]);
        assert_eq!(flaws(reported, KUBECTL, true), [(Part::Client, true)]);
    }

    #[test]
    fn unreported_part_is_missing_not_wrong() {
        let mut reported = reported();
        reported["links"] = json!([tcp(1, 0)]);
        reported["exec_id"] = Value::Null;
        let missing = [Part::InApiServer, Part::ToKubelet, Part::InKubelet, Part::ToStreaming, Part::ExecId];
        assert_eq!(flaws(reported, KUBECTL, true), missing.map(|part| (part, false)));
    }

    #[test]
    fn kubelet_streaming_to_itself_has_two_hops() {
        let mut reported = reported();
        reported["hops"] = json!([
            reported["hops"][0], reported["hops"][1], reported["hops"][2], {"role": "kubelet", "pid": 30, "argv": ["x"]},
            {"role": "runtime", "pid": 35, "argv": ["x"]}, reported["hops"][4], reported["hops"][5],
        ]);
        let into = |session: u32| {
            let relay = json!({"inbound_inode": ports(session)[2] + 10_000, "outbound_inode": 1});
            json!({"from": 3, "to": 3, "kind": "relay", "confidence": "exact", "relay": relay})
        };
        let flaws = |reported: &Value| {
            let session: Session = serde_json::from_value(reported.clone()).expect("a session");
            let (planned, observed) = (Planned::new(1, 1, 1_000), observed());
            let case = SessionCtx {
                runtime: Runtime::Docker,
                planned: &planned,
                client: KUBECTL,
                observed: &observed,
                last: true,
            };
            let results = case.evaluate(&session).into_iter();
            results.filter(|(_, result)| *result != PartResult::Right).map(|(part, _)| part).collect::<Vec<_>>()
        };
        assert_eq!(flaws(&reported), [Part::InDockershim], "missing");
        let links = reported["links"].clone();
        for (session, expected) in [(1, &[][..]), (2, &[Part::InDockershim])] {
            reported["links"] = links.clone();
            reported["links"].as_array_mut().expect("links").push(into(session));
            assert_eq!(flaws(&reported), expected);
        }
    }

    #[test]
    fn incomplete_session_or_wrong_kind_is_overstated() {
        let (planned, observed) = (Planned::new(1, 1, 1_000), observed());
        let case = SessionCtx {
            runtime: Runtime::Containerd,
            planned: &planned,
            client: KUBECTL,
            observed: &observed,
            last: true,
        };
        let overstated =
            |reported: Value| case.overstated(&serde_json::from_value(reported).expect("a session")).is_some();
        assert!(!overstated(reported()));
        let mut lacks = reported();
        lacks["links"] = json!([]);
        assert!(overstated(lacks.clone()));
        lacks["complete"] = json!(false);
        assert!(!overstated(lacks));
        let mut probe = reported();
        probe["kind"] = json!("probe");
        assert!(overstated(probe));
    }

    #[test]
    fn connection_without_bytes_is_wrong_in_last_report_only() {
        let mut reported = reported();
        reported["links"][0] = tcp(3, 0);
        assert_eq!(flaws(reported.clone(), KUBECTL, true), [(Part::ToApiServer, true)]);
        assert_eq!(flaws(reported, KUBECTL, false), [(Part::ToApiServer, false)], "it may be that of a first attempt");
    }
}
