//! The state: everything known from observations, before sessions are built from it. Its tables know neither the
//! driver nor sessions.

pub(in crate::correlate) mod anchor;
pub(in crate::correlate) mod anchor_id;
pub(in crate::correlate) mod anchors;
pub(in crate::correlate) mod audit;
pub(in crate::correlate) mod coverage;
pub(in crate::correlate) mod dependents;
pub(in crate::correlate) mod dials;
pub(in crate::correlate) mod ends;
pub(in crate::correlate) mod hosts;
pub(in crate::correlate) mod kubectl;
pub(in crate::correlate) mod losses;
pub(in crate::correlate) mod memory_pairs;
pub(in crate::correlate) mod pairing;
pub(in crate::correlate) mod peers;
pub(in crate::correlate) mod processes;
pub(in crate::correlate) mod sockets;
pub(in crate::correlate) mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(in crate::correlate) use self::dependents::Dependency;
use self::{
    anchor::{Anchor, AnchorKind},
    anchor_id::AnchorId,
    anchors::Anchors,
    audit::Audits,
    dependents::Dependents,
    dials::Dials,
    hosts::Hosts,
    losses::{Losses, Refused},
    pairing::{Pair, PairResult, Pairings},
    processes::Processes,
    sockets::{Socket, SocketIdx, Sockets},
};
use crate::correlate::limits::{Caps, STREAM_GONE_AFTER, STREAM_WITHIN};
use crate::model::{
    BootTime, Endpoints, FileKind, HostFacts, HostNo, Kind, Measures, Pairing, RawText, Role, SessionId, SocketId,
    SocketRole, Target, TaskKey, Tuple, is_shim_socket, parse_pid_file,
};

pub(in crate::correlate) struct State {
    /// Hosts of the recording.
    pub(in crate::correlate) hosts: Hosts,
    /// Ports and socket paths of the path.
    pub(in crate::correlate) endpoints: Endpoints,
    pub(in crate::correlate) processes: Processes,
    pub(in crate::correlate) sockets: Sockets,
    pub(in crate::correlate) pairings: Pairings,
    pub(in crate::correlate) anchors: Anchors,
    /// Connections that may lead to a streaming server, by accepting process.
    pub(in crate::correlate) streams: BTreeMap<TaskKey, BTreeSet<SocketIdx>>,
    /// Unix connections between daemons (CRI, ttrpc), by connecting and accepting process. All sessions share
    /// them.
    pub(in crate::correlate) daemon_connections: BTreeMap<(TaskKey, TaskKey), DaemonConnection>,
    /// Connections to API servers, by connecting process.
    pub(in crate::correlate) calls: BTreeMap<TaskKey, Vec<SocketIdx>>,
    /// Connections that processes began, by cause.
    pub(in crate::correlate) dials: Dials,
    /// Hosts whose tracer reports dials from their beginning. Others report established connections alone.
    pub(in crate::correlate) reports_dials: BTreeSet<HostNo>,
    /// API servers that have connected to a kubelet's port themselves, not through a tunnel.
    pub(in crate::correlate) dials_kubelets: BTreeSet<TaskKey>,
    /// Connections of API servers to etcd, by connecting process.
    pub(in crate::correlate) stores: BTreeMap<TaskKey, Vec<SocketIdx>>,
    /// First containers, by the shim that started them.
    pub(in crate::correlate) pods: BTreeMap<TaskKey, AnchorId>,
    /// Names of containers, by id. `None`: a search found no names.
    pub(in crate::correlate) containers: BTreeMap<String, Option<Arc<Target>>>,
    /// Times at which a runtime first had the OCI runtime kill a container, by its id.
    pub(in crate::correlate) stops: BTreeMap<String, BootTime>,
    /// Times at which records or table entries were lost.
    pub(in crate::correlate) losses: Losses,
    /// Refused entries that no finding has reported yet.
    pub(in crate::correlate) refused: Refused,
    pub(in crate::correlate) caps: Caps,
    pub(in crate::correlate) audits: Audits,
    /// Hosts with snapshots that verify listeners. On these hosts only verified processes count as daemons.
    pub(in crate::correlate) verified: BTreeSet<HostNo>,
    /// Measurements of sockets, processes and files. They change no link.
    pub(in crate::correlate) measures: Measures,
    /// Sessions that depend on each object. Written by the sessions alone; tables keep what a session depends on.
    pub(in crate::correlate) dependents: Dependents,
    /// Processes that the tracer follows, or was asked to follow.
    pub(in crate::correlate) watched: BTreeSet<TaskKey>,
    /// Pids that listen on a runtime's socket, until the process behind them is described.
    pub(in crate::correlate) expected_daemons: BTreeSet<(HostNo, u32)>,
    /// Ends of unix connections with an owner that is known by pid alone, by that pid.
    pub(in crate::correlate) unowned: BTreeMap<(HostNo, u32), Vec<SocketIdx>>,
    /// Number of unix connections from before the tracer's start, which are never discarded.
    pub(in crate::correlate) older_unix: usize,
    /// Provisional sessions that consist of one leg to a kubelet, by the leg's connecting end.
    pub(in crate::correlate) legs: BTreeMap<SocketIdx, AnchorId>,
    /// Provisional sessions that consist of a kubectl's own connection, by kubectl.
    pub(in crate::correlate) pending_requests: BTreeMap<TaskKey, AnchorId>,
    /// Clients of sessions: a kubectl among them needs no provisional session.
    pub(in crate::correlate) served: BTreeSet<TaskKey>,
    /// Time from which refusals of full tables may be reported again.
    pub(in crate::correlate) next_refusal: BootTime,
    /// Time from which a full socket table may be searched again for entries to drop.
    pub(in crate::correlate) next_room: BootTime,
}

impl State {
    /// Empty tables. `host` gives the boot id that session ids are made of.
    pub(in crate::correlate) fn new(host: &HostFacts, endpoints: Endpoints, pairing: Pairing) -> Self {
        Self {
            hosts: Hosts::new(host),
            endpoints,
            processes: Processes::default(),
            sockets: Sockets::new(pairing),
            pairings: Pairings::default(),
            anchors: Anchors::default(),
            streams: BTreeMap::new(),
            calls: BTreeMap::new(),
            dials: Dials::default(),
            reports_dials: BTreeSet::new(),
            dials_kubelets: BTreeSet::new(),
            stores: BTreeMap::new(),
            pods: BTreeMap::new(),
            daemon_connections: BTreeMap::new(),
            containers: BTreeMap::new(),
            stops: BTreeMap::new(),
            losses: Losses::default(),
            refused: Refused::default(),
            caps: Caps::default(),
            audits: Audits::default(),
            verified: BTreeSet::new(),
            measures: Measures::default(),
            dependents: Dependents::default(),
            watched: BTreeSet::new(),
            expected_daemons: BTreeSet::new(),
            unowned: BTreeMap::new(),
            older_unix: 0,
            legs: BTreeMap::new(),
            pending_requests: BTreeMap::new(),
            served: BTreeSet::new(),
            next_refusal: BootTime::default(),
            next_room: BootTime::default(),
        }
    }

    /// Moves the refused and discarded entries of each table to [`State::refused`].
    pub(in crate::correlate) fn collect_refused(&mut self) {
        let (sockets, addresses) = self.sockets.take_refused();
        let (fifos, forks) = self.anchors.take_discarded();
        let counts = [
            ("processes-full", self.processes.take_discarded()),
            ("sockets-full", sockets),
            ("addresses-full", addresses),
            ("fifos-full", fifos),
            ("forks-full", forks),
        ];
        for (what, count) in counts {
            self.refused.add(what, count);
        }
        self.refused.add_undoubted("requests-full", self.audits.take_discarded());
    }

    /// Anchor with this id, made if new. `None` if the id belongs to another container.
    pub(in crate::correlate) fn anchor(
        &mut self,
        host: HostNo,
        id: &AnchorId,
        container: &str,
        at: BootTime,
    ) -> Option<&mut Anchor> {
        self.anchors.entry(&self.hosts, host, id, container, at)
    }

    /// Id of an anchor's session.
    pub(in crate::correlate) fn session_id(&self, id: &AnchorId) -> SessionId {
        let unknown = || id.session(&self.hosts, HostNo::default(), None);
        self.anchors.get(id).map_or_else(unknown, |anchor| anchor.session.clone())
    }

    /// Exec of a pid file: named by runc's arguments, or by the path at which a shim keeps the file.
    pub(in crate::correlate) fn exec_of_pid_file(&self, host: HostNo, path: &RawText) -> Option<&AnchorId> {
        self.anchors.by_pid_file(path).or_else(|| {
            let (container, anchor) = path.as_str().and_then(parse_pid_file)?;
            self.anchors.newest(host, &container, &anchor)
        })
    }

    /// Forgets connections that are closed, and those of processes that are gone.
    pub(in crate::correlate) fn forget_stores(&mut self) {
        let (processes, sockets) = (&self.processes, &self.sockets);
        self.stores.retain(|task, stores| {
            stores.retain(|idx| sockets.get(*idx).is_some_and(|socket| socket.closed.is_none()));
            processes.get(*task).is_some() && !stores.is_empty()
        });
    }

    /// True if acts of this process count as a daemon's. Recordings of formats 1 to 3 verify no process.
    pub(in crate::correlate) fn may_be_daemon(&self, task: TaskKey) -> bool {
        !self.verified.contains(&task.host)
            || self.processes.get(task).is_some_and(|process| !process.serves_at.is_empty())
    }

    /// True for sockets of processes that start containers. Forks of their listeners are followed.
    pub(in crate::correlate) fn is_daemon_socket(&self, path: &RawText) -> bool {
        self.endpoints.is_runtime_socket(path) || is_shim_socket(path)
    }

    /// Pairs an outbound connection with the inbound one of the same process.
    ///
    /// Every hop of a session's path that passes bytes on is found by this rule: the client's end of the inbound
    /// connection belongs to the next process upstream.
    pub(in crate::correlate) fn inbound_of(&self, outbound: SocketIdx) -> PairResult {
        let socket = self.sockets.get(outbound);
        // A connection to dockerd's API can only be a hijacked one: it is paired by output alone.
        if socket.is_some_and(|socket| socket.unix.is_some()) {
            return self.stream_of_hijacked(outbound);
        }
        // Any other connection is paired by acts of goroutines, or of threads outside of Go.
        let owner = socket.and_then(|socket| socket.owner);
        let is_go = owner.is_some_and(|owner| self.processes.is_go(owner));
        self.pairings.inbound_of(outbound, &self.sockets, is_go, &self.losses)
    }

    /// Pairs a hijacked connection to dockerd's API (`POST /exec/ID/start`), which carries the bytes of one
    /// exec, with the stream that it serves.
    ///
    /// Another goroutine serves the stream, and none copies both ways. So output decides: a goroutine received
    /// on this connection and sent on the stream, or copies while it waits to receive. `cargo xtask lab truth
    /// --runtime docker` measures this rule.
    fn stream_of_hijacked(&self, hijacked: SocketIdx) -> PairResult {
        let is_stream = |idx: &SocketIdx| self.sockets.get(*idx).is_some_and(|socket| socket.tuple.is_some());
        let (mut streams, evidence) = self.pairings.outlets(hijacked, &self.sockets);
        streams.retain(is_stream);
        // Exactly one stream must receive the output.
        let [stream] = streams[..] else {
            return if streams.is_empty() { PairResult::Unknown } else { PairResult::Ambiguous };
        };
        // Pooled connections answer many requests and send to many streams. Only connections of execs are
        // rivals.
        let rivals = self.pairings.inlets(stream, &self.sockets);
        let is_rival = |idx: &SocketIdx| *idx != hijacked && self.exec_of_hijacked(*idx).is_some();
        if rivals.iter().any(is_rival) {
            return PairResult::Ambiguous;
        }
        PairResult::Paired(Pair::exact(stream, evidence))
    }

    /// The exec whose FIFOs dockerd made for this connection. `near` is the connecting end.
    pub(in crate::correlate) fn exec_of_hijacked(&self, near: SocketIdx) -> Option<&AnchorId> {
        let near = self.sockets.get(near).filter(|socket| socket.unix.is_some())?;
        self.anchors.by_stream(near.peer?)
    }

    /// True if the socket was accepted by a streaming server of the path: a runtime with a kubelet as the
    /// client, or the kubelet itself (dockershim).
    pub(in crate::correlate) fn is_stream(&self, idx: SocketIdx) -> bool {
        let Some(socket) = self.sockets.get(idx) else { return false };
        let Some((owner, tuple)) = socket.owner.zip(socket.tuple) else { return false };
        let dialler = socket.peer.and_then(|peer| self.sockets.get(peer)).and_then(|peer| peer.owner);
        let is_runtime = self.processes.get(owner).is_some_and(|process| process.is_runtime);
        let by_kubelet = dialler.is_some_and(|dialler| self.is_kubelet(dialler));
        !self.endpoints.is_path_port(tuple.local.port()) && by_kubelet && (is_runtime || dialler == Some(owner))
    }

    /// Streams of a runtime that may be a port-forward's: no exec has claimed them, and no kubectl with another command began
    /// them. None if the runtime serves them in this network namespace. Among them are connections whose other end is
    /// unknown, and those that closed just before `at`: a goroutine may still act for them.
    pub(in crate::correlate) fn unclaimed_streams(&self, runtime: TaskKey, netns: u32, at: BootTime) -> Vec<SocketIdx> {
        let process = self.processes.get(runtime).filter(|process| process.is_runtime);
        if self.is_kubelet(runtime) || process.is_none_or(|process| process.coverage.is_scan_pending()) {
            return Vec::new();
        }
        let is_past = |closed: BootTime| at.since(closed) >= STREAM_GONE_AFTER;
        let may_be_stream = |idx: &SocketIdx| {
            let Some(socket) = self.sockets.get(*idx).filter(|socket| !socket.closed.is_some_and(is_past)) else {
                return false;
            };
            let anchor = self.anchors.by_stream(*idx).and_then(|id| self.anchors.get(id));
            let is_claimed = anchor.is_some_and(|anchor| anchor.kind() != AnchorKind::Stream);
            let may_be_forward = || self.kubectl_behind(*idx).is_none_or(|kind| kind == Kind::PortForward);
            !is_claimed && (socket.peer.is_none() || self.is_stream(*idx)) && may_be_forward()
        };
        let streams = self.streams.get(&runtime).into_iter().flatten().copied();
        let streams: Vec<SocketIdx> = streams.filter(may_be_stream).collect();
        let is_elsewhere = |idx: &SocketIdx| {
            let own = self.sockets.get(*idx).and_then(|socket| socket.netns);
            own.is_some_and(|own| own != netns)
        };
        if streams.iter().all(is_elsewhere) { streams } else { Vec::new() }
    }

    /// Connections that the runtime made for a port-forward's stream. A goroutine for each passes their bytes on
    /// to the stream.
    pub(in crate::correlate) fn forwarded_by(&self, stream: SocketIdx) -> Vec<SocketIdx> {
        let found = self.pairings.inlets(stream, &self.sockets);
        let mut found: Vec<SocketIdx> = found.into_iter().collect();
        found.retain(|idx| {
            self.sockets.get(*idx).is_some_and(|socket| socket.tuple.is_some() && socket.closed.is_none())
        });
        found
    }

    /// True if the exec has stdin or a terminal. Probes have neither.
    pub(in crate::correlate) fn reads(&self, anchor: &Anchor) -> bool {
        anchor.reads() || self.has_input(anchor)
    }

    /// True if the process of an older exec has a pipe or a terminal as stdin. The FIFO itself may be gone.
    pub(in crate::correlate) fn has_input(&self, anchor: &Anchor) -> bool {
        let process = anchor.process().filter(|_| anchor.preexisting).and_then(|task| self.processes.get(task));
        let stdin = process.and_then(|process| process.info.stdin);
        stdin.is_some_and(|stdin| matches!(stdin, FileKind::Pipe | FileKind::Fifo | FileKind::Pty))
    }

    /// True if the exec may be a probe of dockershim, or an exec with a still unknown stream. Their connections
    /// to dockerd look the same. So do those of all execs from before the tracer's start. A probe reads nothing
    /// and has no terminal.
    pub(in crate::correlate) fn may_be_probe_or_exec(&self, anchor: &Anchor) -> bool {
        if anchor.is_foreground() {
            return false;
        }
        if anchor.preexisting && anchor.stream().is_none() {
            return !anchor.reads() || anchor.shim().is_none();
        }
        let Some(near) = anchor
            .stream()
            .and_then(|far| self.sockets.get(far))
            .filter(|far| far.unix.is_some())
            .and_then(|far| far.peer)
        else {
            return false;
        };
        let by_kubelet = self.sockets.get(near).and_then(|near| near.owner).is_some_and(|owner| self.is_kubelet(owner));
        by_kubelet
            && !anchor.reads()
            && matches!(self.stream_of_hijacked(near), PairResult::Unknown)
            && self.has_unserved_stream(anchor)
    }

    /// True if the exec's client has a stream that serves no known exec. The stream must not be older than the
    /// exec by more than [`STREAM_WITHIN`].
    pub(in crate::correlate) fn has_unserved_stream(&self, anchor: &Anchor) -> bool {
        let asking =
            anchor.stream().and_then(|far| self.sockets.get(far)?.peer).and_then(|near| self.sockets.get(near)?.owner);
        let Some(streams) = asking.and_then(|asking| self.streams.get(&asking)) else { return false };
        let fits = |idx: SocketIdx| {
            let socket = self.sockets.get(idx);
            socket.is_some_and(|socket| {
                socket.since <= anchor.since
                    && anchor.since.since(socket.since) <= STREAM_WITHIN
                    && socket.closed.is_none_or(|closed| closed >= anchor.since)
            })
        };
        streams.iter().any(|idx| fits(*idx) && self.is_stream(*idx) && !self.is_served(*idx))
    }

    /// True if a known exec's connection to dockerd serves this stream.
    pub(in crate::correlate) fn is_served(&self, stream: SocketIdx) -> bool {
        self.pairings.inlets(stream, &self.sockets).iter().any(|near| self.exec_of_hijacked(*near).is_some())
    }

    /// True if a kubelet connected to this accepted socket, on a port that is not one of the path. A process
    /// that serves it by a connection to a runtime is itself a runtime (cri-dockerd).
    pub(in crate::correlate) fn is_of_kubelet(&self, accepted: &Socket) -> bool {
        let is_path_port = accepted.tuple.is_none_or(|tuple| self.endpoints.is_path_port(tuple.local.port()));
        let dialler = accepted.peer.and_then(|peer| self.sockets.get(peer)).and_then(|peer| peer.owner);
        // dockershim: the kubelet connects to itself.
        !is_path_port && dialler.is_some_and(|dialler| Some(dialler) != accepted.owner && self.is_kubelet(dialler))
    }

    /// True if a connection to dockerd's API may serve a kubelet. A kubelet connected to another port shortly
    /// before, the acceptor is unknown, and this process was already a client of dockerd.
    pub(in crate::correlate) fn may_serve_kubelet(&self, near: &Socket) -> bool {
        let was_client = |before: BootTime| {
            self.sockets.iter().any(|(_, other)| {
                other.unix.is_some() && other.owner.is_some() && other.owner == near.owner && other.since < before
            })
        };
        let is_open_leg = |socket: &Socket| {
            socket.role == Some(SocketRole::Connected)
                && socket.closed.is_none()
                && socket.since <= near.since
                && near.since.since(socket.since) <= STREAM_WITHIN
                && socket.tuple.is_some_and(|tuple| !self.endpoints.is_path_port(tuple.remote.port()))
                && socket.owner.is_some_and(|owner| owner.host == near.id.host && self.is_kubelet(owner))
                && socket.peer.and_then(|peer| self.sockets.get(peer)).is_none_or(|peer| peer.owner.is_none())
        };
        near.unix.is_some() && self.sockets.iter().any(|(_, socket)| is_open_leg(socket) && was_client(socket.since))
    }

    /// True if the process listens on a kubelet's port and may be one.
    pub(in crate::correlate) fn is_kubelet(&self, task: TaskKey) -> bool {
        let process = self.processes.get(task);
        process.is_some_and(|process| process.ports.iter().any(|port| self.endpoints.is_kubelet_port(*port)))
            && self.processes.may_be_kubelet(task)
    }

    /// Role that the port implies, for a process that cannot be verified to have it.
    pub(in crate::correlate) fn unverified_role(&self, task: TaskKey, port: u16) -> Option<Role> {
        if self.endpoints.is_kubelet_port(port) && !self.processes.may_be_kubelet(task) {
            Some(Role::Kubelet)
        } else if self.endpoints.is_apiserver_port(port) && !self.processes.may_be_apiserver(task) {
            Some(Role::ApiServer)
        } else {
            None
        }
    }

    /// The process that would accept this connection: it listens on the port, and has accepted another
    /// connection at the same address from the same network namespace.
    ///
    /// `None` if several processes qualify, because namespaces may have equal addresses. `None` also before a
    /// search for the peer, and if the record of the accept may be lost.
    pub(in crate::correlate) fn listener_of(&self, near: &Socket) -> Option<TaskKey> {
        if !near.peer_absent || self.losses.since(near.since) {
            return None;
        }
        let tuple = near.tuple?;
        // A late record may have brought the peer: the connection was accepted.
        if self.sockets.iter().any(|(_, socket)| socket.tuple == Some(tuple.mirrored())) {
            return None;
        }
        let address = tuple.remote;
        let is_like = |socket: &Socket| {
            let peer = socket.peer.and_then(|peer| self.sockets.get(peer));
            socket.role == Some(SocketRole::Accepted)
                && socket.tuple.is_some_and(|tuple| tuple.local == address)
                && peer.is_some_and(|peer| near.netns.is_some() && peer.netns == near.netns)
        };
        let owners = self.sockets.iter().filter(|(_, socket)| is_like(socket)).filter_map(|(_, socket)| socket.owner);
        let listens = |task: &TaskKey| {
            let process = self.processes.get(*task);
            process.is_some_and(|process| process.exit.is_none() && process.ports.contains(&address.port()))
        };
        let mut owners = owners.filter(listens);
        let first = owners.next()?;
        owners.all(|other| other == first).then_some(first)
    }

    /// True if only a kubelet listens at the remote port.
    pub(in crate::correlate) fn leads_to_kubelet(&self, tuple: Option<Tuple>) -> bool {
        tuple.is_some_and(|tuple| self.endpoints.is_kubelet_port(tuple.remote.port()))
    }
}

/// A unix connection between two daemons.
#[derive(Clone, Debug)]
pub(in crate::correlate) struct DaemonConnection {
    /// Path of the socket.
    pub(in crate::correlate) path: RawText,
    /// Connecting end.
    pub(in crate::correlate) near: SocketId,
    /// Accepting end.
    pub(in crate::correlate) far: SocketId,
}
