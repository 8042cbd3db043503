//! Walks a session upstream: from the runtime back to the client, connection by connection, and builds the
//! session from the result.
//!
//! Only proved steps are taken. A connection that leads nowhere, such as kubectl's idle GET, is therefore never
//! on the path.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc};

use smallvec::{SmallVec, smallvec};

use super::roles::{RoleFacts, role_of};
use crate::correlate::{
    limits::MAX_HOPS,
    state::{
        Dependency, State,
        anchor::{Anchor, AnchorKind, Call, Facts},
        anchor_id::AnchorId,
        audit::UserQuery,
        coverage::Missed,
        pairing::{Pair, PairResult},
        sockets::SocketIdx,
    },
};
use crate::model::{
    BootTime, Confidence, Evidence, Gap, GapCode, Hop, Link, LinkKind, Proofs, Role, Session, TaskKey, TcpEnds, Want,
};

/// A session as of now, with its dependencies.
pub(in crate::correlate) struct Built {
    pub(in crate::correlate) session: Session,
    /// Objects that the session rests on; sorted, without duplicates.
    pub(in crate::correlate) dependencies: Vec<Dependency>,
    pub(in crate::correlate) wants: Vec<Want>,
    /// Time for the next rebuild if no dependency changes before.
    pub(in crate::correlate) again_at: Option<BootTime>,
    /// Query for the user in the audit log.
    pub(in crate::correlate) user_query: Option<UserQuery>,
}

/// One process on the path. Nodes are listed from the runtime to the client.
pub(in crate::correlate) struct Node {
    pub(in crate::correlate) task: TaskKey,
    pub(in crate::correlate) role: Role,
    /// Connection on which the process was reached; `None` at the client, or if unknown.
    pub(in crate::correlate) inbound: Option<SocketIdx>,
    /// Evidence that `inbound` and `outbound` belong together.
    pub(in crate::correlate) pair: Option<Pair>,
    /// Connection to the next node towards the runtime.
    pub(in crate::correlate) outbound: Option<SocketIdx>,
}

impl State {
    /// Builds the session of an anchor. Reads the state only; the caller decides what to publish.
    pub(in crate::correlate) fn build(&self, id: &AnchorId, anchor: &Anchor, now: BootTime) -> Built {
        let (stream, process) = (anchor.stream().map(Dependency::Socket), anchor.process().map(Dependency::Task));
        let missed = self.missed(anchor);
        let sure = without_doubtful_facts(anchor, missed);
        let anchor = sure.as_ref().unwrap_or(anchor);
        let mut builder = Builder {
            state: self,
            missed,
            dependencies: Vec::from([
                Dependency::Exec(id.clone()),
                Dependency::Container(Arc::clone(&anchor.container)),
            ]),
            wants: Vec::new(),
            gaps: Vec::new(),
            beyond: Vec::new(),
            far_gap: None,
        };
        builder.dependencies.extend(stream.into_iter().chain(process));
        let up = builder.upstream(anchor);
        let (hops, links) = builder.path(anchor, &up);
        builder.finish(id, anchor, now, &up, hops, links)
    }
}

/// Copy of the anchor without the facts that are in doubt; `None` if nothing is in doubt.
fn without_doubtful_facts(anchor: &Anchor, missed: Missed) -> Option<Anchor> {
    if !missed.stream && !missed.process {
        return None;
    }
    let mut sure = anchor.clone();
    if let Some(exec) = sure.as_exec_mut().filter(|_| missed.stream) {
        exec.stream.socket = None;
    }
    if let Some(launch) = sure.launch_mut().filter(|_| missed.process) {
        (launch.process, launch.exit, launch.command_truncated) = (None, None, false);
        launch.command = Arc::default();
    }
    Some(sure)
}

pub(in crate::correlate) struct Builder<'a> {
    pub(in crate::correlate) state: &'a State,
    /// Facts that are in doubt. Doubtful stream and process are already removed from the anchor.
    pub(in crate::correlate) missed: Missed,
    pub(in crate::correlate) dependencies: Vec<Dependency>,
    pub(in crate::correlate) wants: Vec<Want>,
    pub(in crate::correlate) gaps: Vec<Gap>,
    pub(in crate::correlate) beyond: Vec<(&'static str, SocketAddr)>,
    /// Index of the gap at the far end of the path; its hops are set when the path is known. The flag is true if
    /// the listening process is the last hop.
    far_gap: Option<(usize, bool)>,
}

/// Role of the process that serves a leg without a continuation.
const fn served_as(to_kubelet: bool) -> Role {
    if to_kubelet { Role::Kubelet } else { Role::ApiServer }
}

impl Builder<'_> {
    /// Nodes from the runtime to the client.
    fn upstream(&mut self, anchor: &Anchor) -> Vec<Node> {
        let mut up = Vec::new();
        if let Some(runtime) = anchor.runtime() {
            // dockershim serves the stream inside the kubelet.
            let is_runtime = self.state.processes.get(runtime).is_none_or(|process| process.is_runtime);
            let role = if is_runtime || !self.state.is_kubelet(runtime) { Role::Runtime } else { Role::Kubelet };
            up.push(Node { task: runtime, role, inbound: anchor.stream(), pair: None, outbound: None });
        } else if let Some(leg) = self.state.leaves_by(anchor) {
            up.extend(self.leg_nodes(leg));
        } else if let Facts::Kubectl(Call { task: Some(task), .. }) = anchor.facts {
            // No connection came about yet.
            up.push(Node { task, role: Role::Client, inbound: None, pair: None, outbound: None });
        }
        if anchor.kind() == AnchorKind::FirstContainer {
            self.add_requesters(anchor, &mut up);
        }
        if self.missed.stream {
            let text = "connection not attributed: records were lost, so the match may belong to another session";
            self.gap(GapCode::Ambiguous, Some((0, 0)), text);
        } else if anchor.as_exec().is_some_and(|exec| exec.stream.ambiguous) {
            self.gap(GapCode::Ambiguous, Some((0, 0)), "connection not attributed: more than one fits this exec");
        }
        while let Some(far) = up.last().and_then(|node| node.inbound) {
            if up.len() >= MAX_HOPS {
                self.gap(GapCode::PeerUnknown, Some((0, 0)), "path not followed further: too many proxies");
                break;
            }
            let Some(node) = self.node_before(far) else { break };
            up.push(node);
        }
        // The API server is the one next to the kubelet. Other listeners on its port balance load in front of
        // it. A connection of the API server to itself is a tunnel (k3s: CONNECT).
        if let Some(server) = up.iter().find(|node| node.role == Role::ApiServer).map(|node| node.task) {
            let mut reached = false;
            for node in up.iter_mut().rev().filter(|node| node.role == Role::ApiServer) {
                if node.task != server || reached {
                    node.role = Role::Proxy;
                }
                reached |= node.task == server;
            }
        }
        up
    }

    /// Nodes of a leg without a continuation: the acceptor (the kubelet, or the API server of a kubectl) if
    /// known, else the connecting process. A connection that no process has accepted yet gets the listener of
    /// its address as a node before the connecting one.
    fn leg_nodes(&mut self, leg: SocketIdx) -> SmallVec<[Node; 2]> {
        let mut nodes = SmallVec::new();
        let Some(near) = self.state.sockets.get(leg) else { return nodes };
        let far = near.peer.and_then(|idx| Some((idx, self.state.sockets.get(idx)?.owner?)));
        let to_kubelet = self.state.leads_to_kubelet(near.tuple);
        if let Some((inbound, task)) = far {
            let port = near.tuple.map(|tuple| tuple.remote.port()).unwrap_or_default();
            let role = if self.is_unverified(task, port) { Role::Proxy } else { served_as(to_kubelet) };
            nodes.push(Node { task, role, inbound: Some(inbound), pair: None, outbound: None });
            return nodes;
        }
        if let (Some(tuple), false) = (near.tuple, near.peer_absent) {
            self.wants.push(Want::Peer { tuple, netns: near.netns, isn: near.isn });
        }
        match near.tuple {
            Some(tuple) if self.state.sockets.stays_here(tuple) => match self.state.listener_of(near) {
                Some(task) => {
                    let text = "connection not accepted yet by the process that listens at this address";
                    self.gap(GapCode::PeerUnknown, None, text);
                    self.far_gap = Some((self.gaps.len() - 1, true));
                    nodes.push(Node { task, role: served_as(to_kubelet), inbound: None, pair: None, outbound: None });
                }
                None => {
                    self.gap_peer_gone();
                    self.far_gap = Some((self.gaps.len() - 1, false));
                }
            },
            Some(tuple) => self.beyond.push((if to_kubelet { "node" } else { "apiserver" }, tuple.remote)),
            None => {}
        }
        nodes.extend(self.dialler(leg));
        nodes
    }

    fn gap_peer_gone(&mut self) {
        let text = "other end of this connection is on this host but held by no process: not accepted yet, or closed";
        self.gap(GapCode::PeerUnknown, Some((0, 0)), text);
    }

    /// The process at the connecting end of an accepted connection, with the connection that it serves by it.
    fn node_before(&mut self, far: SocketIdx) -> Option<Node> {
        self.dependencies.push(Dependency::Socket(far));
        let socket = self.state.sockets.get(far)?;
        let Some(near_idx) = socket.peer else {
            match (socket.peer_absent, socket.tuple) {
                (_, Some(_)) if self.state.sockets.is_ambiguous(far) => {
                    let text = "other end not attributed: more than one connection on this host has these addresses";
                    self.gap(GapCode::Ambiguous, Some((0, 0)), text);
                }
                (true, Some(tuple)) if self.state.sockets.stays_here(tuple) => self.gap_peer_gone(),
                (true, Some(tuple)) => self.beyond.push(("client", tuple.remote)),
                (false, Some(tuple)) => {
                    self.wants.push(Want::Peer { tuple, netns: socket.netns, isn: socket.isn });
                    self.gap(
                        GapCode::PeerUnknown,
                        Some((0, 0)),
                        "process at the other end of this connection not identified yet",
                    );
                }
                (_, None) => self.gap(GapCode::PeerUnknown, Some((0, 0)), "addresses of this connection not known"),
            }
            return None;
        };
        self.dialler(near_idx)
    }

    /// The owner of a connecting end, with the inbound connection that it serves by it.
    fn dialler(&mut self, near_idx: SocketIdx) -> Option<Node> {
        self.dependencies.push(Dependency::Socket(near_idx));
        let near = self.state.sockets.get(near_idx)?;
        let Some(task) = near.owner else {
            self.gap(GapCode::PeerUnknown, Some((0, 0)), "process at the other end of this connection not known");
            return None;
        };
        let forwards = self.forwards_into(near_idx);
        // Clients of `kubectl port-forward` travel inside the connection that kubectl made for itself.
        let result = if forwards { PairResult::Unknown } else { self.state.inbound_of(near_idx) };
        let pair = match &result {
            PairResult::Paired(pair) => Some(pair.clone()),
            PairResult::Ambiguous | PairResult::Unknown => None,
        };
        let inbound = pair.as_ref().map(|pair| pair.inbound);
        let mut role = self.role(task, inbound, near_idx);
        if role == Role::Client && result == PairResult::Unknown && self.state.may_serve_kubelet(near) {
            role = Role::Proxy;
            let text = "requested by a kubelet or by another client of the runtime: undecided yet";
            self.gap(GapCode::KindUnknown, None, text);
        }
        if role == Role::Proxy || role == Role::Client {
            let ports = process_ports(self.state, task, inbound);
            let _has_gap = ports.into_iter().any(|port| self.is_unverified(task, port));
        }
        // The process passes the connection on, for an unknown client.
        if role == Role::Client && result == PairResult::Ambiguous {
            role = Role::Proxy;
        }
        let process = self.state.processes.get(task);
        // A connection from before the process served anyone is its own: `kubectl port-forward` listens last.
        let serves_since = process.and_then(|process| process.serves_since);
        let serves = serves_since.is_some_and(|since| near.begun.is_none_or(|begun| since <= begun))
            || self.state.pairings.is_for_unknown(near_idx);
        match result {
            PairResult::Paired(_) => {}
            PairResult::Ambiguous => self.gap(
                GapCode::Ambiguous,
                Some((0, 0)),
                "inbound connection not attributed: more than one fits this outbound connection",
            ),
            PairResult::Unknown if role == Role::Client && (forwards || !serves) => {}
            PairResult::Unknown if role == Role::Client => self.gap(
                GapCode::Unjoined,
                Some((0, 0)),
                "origin not known: this process also accepts connections, so it may forward this one for another \
                 client",
            ),
            PairResult::Unknown => {
                self.gap(GapCode::Unjoined, Some((0, 0)), "inbound connection not attributed yet: waiting for traffic")
            }
        }
        Some(Node { task, role, inbound, pair, outbound: Some(near_idx) })
    }

    /// True if this connection to an API server belongs to a `kubectl port-forward`, a listener with clients of
    /// its own. A process that serves an API server's port is not kubectl, whatever its name.
    fn forwards_into(&self, near: SocketIdx) -> bool {
        let Some(socket) = self.state.sockets.get(near) else { return false };
        let Some((task, tuple)) = socket.owner.zip(socket.tuple) else { return false };
        let Some(process) = self.state.processes.get(task) else { return false };
        let endpoints = &self.state.endpoints;
        endpoints.is_apiserver_port(tuple.remote.port())
            && !process.ports.iter().any(|port| endpoints.is_path_port(*port))
            && self.state.kubectl(task, &process.info).is_some_and(|call| call.word == "port-forward")
    }

    /// True if the process listens on a port of kubelet or API server but cannot be verified as one. Adds a gap
    /// in this case.
    fn is_unverified(&mut self, task: TaskKey, port: u16) -> bool {
        let Some(role) = self.state.unverified_role(task, port) else { return false };
        let text = if role == Role::Kubelet {
            "not accepted as a kubelet: this process listens on a kubelet's port but is not root on the host"
        } else {
            "not accepted as an API server: this process listens on its port from a user namespace of its own"
        };
        self.gap(GapCode::Unverified, None, text);
        true
    }

    /// Role of a process that passes `inbound` on, or began `outbound`.
    fn role(&self, task: TaskKey, inbound: Option<SocketIdx>, outbound: SocketIdx) -> Role {
        let socket = |idx: SocketIdx| self.state.sockets.get(idx);
        let inbound = inbound.and_then(socket);
        let process = self.state.processes.get(task);
        let no_ports = BTreeSet::new();
        let from_itself =
            inbound.and_then(|inbound| inbound.peer).and_then(socket).is_some_and(|peer| peer.owner == Some(task));
        role_of(
            &self.state.endpoints,
            &RoleFacts {
                inbound_port: inbound.and_then(|socket| socket.tuple).map(|tuple| tuple.local.port()),
                from_itself,
                ports: process.map_or(&no_ports, |process| &process.ports),
                may_be_apiserver: self.state.processes.may_be_apiserver(task),
                may_be_kubelet: self.state.processes.may_be_kubelet(task),
                is_runtime: process.is_some_and(|process| process.is_runtime)
                    || (inbound.is_some_and(|inbound| self.state.is_of_kubelet(inbound))
                        && socket(outbound).is_some_and(|outbound| outbound.unix.is_some())),
                dialled_port: socket(outbound).and_then(|socket| socket.tuple).map(|tuple| tuple.remote.port()),
            },
        )
    }

    pub(in crate::correlate) fn hop(&mut self, task: TaskKey, role: Role) -> Hop {
        self.dependencies.push(Dependency::Task(task));
        let process = self.state.processes.get(task);
        Hop {
            role,
            task,
            process: process.map(|process| Arc::clone(&process.info)).unwrap_or_default(),
            exit: process.and_then(|process| process.exit).map(|(_, status)| status),
        }
    }

    /// Hops and links from client to process.
    fn path(&mut self, anchor: &Anchor, up: &[Node]) -> (Vec<Hop>, Vec<Link>) {
        let mut hops: Vec<Hop> = Vec::with_capacity(up.len() + 3);
        let mut links = Vec::with_capacity(2 * up.len() + 3);
        for (index, node) in up.iter().rev().enumerate() {
            let hop = self.hop(node.task, node.role);
            hops.push(hop);
            if let Some(pair) = &node.pair {
                links.push(self.relay(index, pair, node));
            }
            // A leg that leaves this host has no next hop.
            if let (Some(near), true) = (node.outbound, index + 1 < up.len()) {
                links.push(self.leg(index, near));
            }
        }
        if let (Some((gap, has_listener)), Some(last)) = (self.far_gap, hops.len().checked_sub(1)) {
            let from = if has_listener { last.saturating_sub(1) } else { last };
            self.gaps[gap].between = Some((from, last));
        }
        self.add_downstream(anchor, &mut hops, &mut links);
        // A connection of the session's own makes the shared connection between the same hops redundant.
        let own: BTreeSet<usize> =
            links.iter().filter(|link| link.kind == LinkKind::Unix).map(|link| link.from).collect();
        let shared: Vec<Link> = (1..hops.len())
            .filter(|to| !own.contains(&(to - 1)))
            .filter_map(|to| self.shared_connection(&hops, to))
            .collect();
        links.extend(shared);
        // Path order. Inside a hop comes before leaving it.
        links.sort_by_key(|link| (link.from, link.to));
        (hops, links)
    }

    fn relay(&self, hop: usize, pair: &Pair, node: &Node) -> Link {
        let id = |idx: Option<SocketIdx>| {
            idx.and_then(|idx| self.state.sockets.get(idx)).map(|socket| socket.id).unwrap_or_default()
        };
        Link {
            relay: Some((id(Some(pair.inbound)), id(node.outbound))),
            ..link(hop, hop, LinkKind::Relay, pair.confidence, pair.evidence.clone())
        }
    }

    /// Link for the connection of `near_no`, from hop `from` to the next one.
    pub(in crate::correlate) fn leg(&self, from: usize, near_idx: SocketIdx) -> Link {
        let near = self.state.sockets.get(near_idx);
        let far = near.and_then(|near| near.peer).and_then(|idx| self.state.sockets.get(idx));
        if let (Some(near), Some(far)) = (near, far)
            && let Some(path) = near.unix.clone()
        {
            return Link {
                unix: Some((path, near.id, far.id)),
                ..link(from, from + 1, LinkKind::Unix, Confidence::Exact, smallvec![Evidence::UnixPeer])
            };
        }
        let ends = near.and_then(|near| {
            Some(TcpEnds {
                tuple: near.tuple?,
                near: Some(near.id),
                far: far.map(|far| far.id),
                begun: near.begun.or_else(|| far?.begun),
                // Each end's sent bytes are the other end's received bytes. A FIN may count as a byte on the
                // sending side, so the receivers' counters are reported.
                sent: far.and_then(|far| far.received),
                received: near.received,
            })
        });
        let (confidence, evidence) = match near.zip(far) {
            Some((near, far)) => self.state.sockets.proof(near, far),
            // Not accepted yet: the far end belongs to no process.
            None => (Confidence::Strong, smallvec![Evidence::Listener]),
        };
        Link { tcp: ends, ..link(from, from + 1, LinkKind::Tcp, confidence, evidence) }
    }

    /// Link for the connection over which one daemon calls the next (CRI, ttrpc). All sessions share it.
    fn shared_connection(&self, hops: &[Hop], to: usize) -> Option<Link> {
        let (near, far) = (hops.get(to - 1)?.task, hops.get(to)?.task);
        let shared = self.state.daemon_connections.get(&(near, far))?;
        Some(Link {
            persistent: true,
            unix: Some((shared.path.clone(), shared.near, shared.far)),
            ..link(to - 1, to, LinkKind::Unix, Confidence::Exact, smallvec![Evidence::UnixPeer])
        })
    }

    pub(in crate::correlate) fn gap(&mut self, code: GapCode, between: Option<(usize, usize)>, text: &str) {
        self.gaps.push(Gap { code, between, text: text.to_owned() });
    }

    pub(in crate::correlate) fn gap_at(&mut self, code: GapCode, between: (usize, usize), text: &str) {
        self.gap(code, Some(between), text);
    }
}

/// Ports by which a process may be API server or kubelet: its listeners, and the local port of `inbound`.
fn process_ports(state: &State, task: TaskKey, inbound: Option<SocketIdx>) -> BTreeSet<u16> {
    let own = state.processes.get(task).map(|process| process.ports.clone()).unwrap_or_default();
    let inbound = inbound.and_then(|idx| state.sockets.get(idx)).and_then(|socket| socket.tuple);
    own.into_iter().chain(inbound.map(|tuple| tuple.local.port())).collect()
}

pub(in crate::correlate) fn link(
    from: usize,
    to: usize,
    kind: LinkKind,
    confidence: Confidence,
    evidence: Proofs,
) -> Link {
    Link { from, to, kind, confidence, evidence, persistent: false, tcp: None, relay: None, unix: None }
}
