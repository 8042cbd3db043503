//! Everything the correlator knows, before it is put together into sessions.

pub(in crate::correlate) mod anchor_id;
pub(in crate::correlate) mod anchors;
pub(in crate::correlate) mod audit;
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

use self::{
    anchor_id::AnchorId,
    anchors::{Exec, Execs, What},
    audit::Audits,
    hosts::Hosts,
    losses::{Losses, Refused},
    pairing::{Pair, PairResult, Pairings},
    processes::{Looked, Processes},
    sockets::{Socket, SocketIdx, Sockets},
};
use crate::correlate::limits::{Caps, STREAM_WITHIN};
use crate::model::{
    BootTime, FileKind, HostNo, Places, RawText, Role, SessionId, SocketId, SocketRole, Target, TaskKey, Tuple,
};

pub(in crate::correlate) struct State {
    pub(in crate::correlate) hosts: Hosts,
    pub(in crate::correlate) places: Places,
    pub(in crate::correlate) processes: Processes,
    pub(in crate::correlate) sockets: Sockets,
    pub(in crate::correlate) pairings: Pairings,
    pub(in crate::correlate) execs: Execs,
    /// Connections that may be to a streaming server, by who accepted them.
    pub(in crate::correlate) streams: BTreeMap<TaskKey, BTreeSet<SocketIdx>>,
    /// Standing unix connections (CRI, ttrpc) by connecting and accepting process. Sessions share them.
    pub(in crate::correlate) daemon_connections: BTreeMap<(TaskKey, TaskKey), DaemonConnection>,
    /// Connections to API servers, by who made them.
    pub(in crate::correlate) calls: BTreeMap<TaskKey, Vec<SocketIdx>>,
    /// Connections of API servers to etcd, by who made them.
    pub(in crate::correlate) stores: BTreeMap<TaskKey, Vec<SocketIdx>>,
    /// First containers, by the shim that started them.
    pub(in crate::correlate) pods: BTreeMap<TaskKey, AnchorId>,
    /// `None`: asked for, and not known.
    pub(in crate::correlate) containers: BTreeMap<String, Option<Arc<Target>>>,
    pub(in crate::correlate) losses: Losses,
    /// Of those, the ones that hid what an actor did before: an absent connection then proves nothing.
    pub(in crate::correlate) blind: Losses,
    /// What full tables refused since the last finding about that.
    pub(in crate::correlate) refused: Refused,
    pub(in crate::correlate) caps: Caps,
    pub(in crate::correlate) audits: Audits,
    /// Hosts whose snapshots verify who listens: nobody else counts as a daemon there.
    pub(in crate::correlate) verified: BTreeSet<HostNo>,
}

impl State {
    /// Moves what each table refused or discarded into [`State::refused`].
    pub(in crate::correlate) fn collect_refused(&mut self) {
        let (sockets, addresses) = self.sockets.take_refused();
        let (fifos, forks) = self.execs.take_discarded();
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

    /// The anchor of that id, made where it is new. `None` where the id is already that of another container.
    pub(in crate::correlate) fn exec(
        &mut self,
        host: HostNo,
        id: &AnchorId,
        container: &str,
        at: BootTime,
    ) -> Option<&mut Exec> {
        self.execs.entry(&self.hosts, host, id, container, at)
    }

    /// Id of the session.
    pub(in crate::correlate) fn session_id(&self, id: &AnchorId) -> SessionId {
        let unknown = || id.session(&self.hosts, HostNo::default(), None);
        self.execs.get(id).map_or_else(unknown, |exec| exec.session.clone())
    }

    /// Whether what that process does counts as a daemon's. Recordings of formats 1 to 3 verify nobody.
    pub(in crate::correlate) fn may_be_daemon(&self, task: TaskKey) -> bool {
        !self.verified.contains(&task.host)
            || self.processes.get(task).is_some_and(|process| !process.serves_at.is_empty())
    }

    /// Whether who listens there starts containers: what it forks is then followed.
    pub(in crate::correlate) fn is_daemon_socket(&self, path: &RawText) -> bool {
        self.places.is_runtime_socket(path) || self.places.is_shim_socket(path)
    }

    /// The inbound connection that belongs to an outbound one of the same process.
    pub(in crate::correlate) fn inbound_of(&self, outbound: SocketIdx) -> PairResult {
        let socket = self.sockets.get(outbound);
        if socket.is_some_and(|socket| socket.unix.is_some()) {
            return self.stream_of(outbound);
        }
        let owner = socket.and_then(|socket| socket.owner);
        let is_go = owner.is_some_and(|owner| self.processes.is_go(owner));
        self.pairings.inbound_of(outbound, &self.sockets, is_go, &self.losses)
    }

    /// The stream that a connection to dockerd's API serves, which carries one exec's bytes (hijacked: `POST /exec/ID/start`).
    /// Another goroutine serves the stream and none copies both ways, so it is joined by output: the goroutine that
    /// received on the one sent on the other, or copies while it waits to receive. `cargo xtask lab truth --runtime docker` measures it.
    fn stream_of(&self, hijacked: SocketIdx) -> PairResult {
        let is_stream = |idx: &SocketIdx| self.sockets.get(*idx).is_some_and(|socket| socket.tuple.is_some());
        let (mut streams, evidence) = self.pairings.outlets(hijacked, &self.sockets);
        streams.retain(is_stream);
        let [stream] = streams[..] else {
            return if streams.is_empty() { PairResult::Unknown } else { PairResult::Ambiguous };
        };
        // Pooled connections answer many requests, and send to many streams; only those of an exec are rivals.
        let rivals = self.pairings.inlets(stream, &self.sockets);
        let is_rival = |idx: &SocketIdx| *idx != hijacked && self.exec_of_hijacked(*idx).is_some();
        if rivals.iter().any(is_rival) {
            return PairResult::Ambiguous;
        }
        PairResult::Paired(Pair::exact(stream, evidence))
    }

    /// The exec whose FIFOs dockerd made for that connection, by its connecting end.
    pub(in crate::correlate) fn exec_of_hijacked(&self, near: SocketIdx) -> Option<&AnchorId> {
        let near = self.sockets.get(near).filter(|socket| socket.unix.is_some())?;
        self.execs.by_stream(near.peer?)
    }

    /// Whether that accepted connection is one of a streaming server of the path: a runtime's to which a kubelet connected, or
    /// a kubelet's own (dockershim).
    pub(in crate::correlate) fn is_stream(&self, idx: SocketIdx) -> bool {
        let Some(socket) = self.sockets.get(idx) else { return false };
        let Some((owner, tuple)) = socket.owner.zip(socket.tuple) else { return false };
        let dialler = socket.peer.and_then(|peer| self.sockets.get(peer)).and_then(|peer| peer.owner);
        let is_runtime = self.processes.get(owner).is_some_and(|process| process.is_runtime);
        let by_kubelet = dialler.is_some_and(|dialler| self.is_kubelet(dialler));
        !self.places.is_path_port(tuple.local.port()) && by_kubelet && (is_runtime || dialler == Some(owner))
    }

    /// Connections that the runtime made for what came in on a stream (port-forward): one goroutine for each passes on what
    /// they send.
    pub(in crate::correlate) fn forwarded_by(&self, stream: SocketIdx) -> Vec<SocketIdx> {
        let found = self.pairings.inlets(stream, &self.sockets);
        let mut found: Vec<SocketIdx> = found.into_iter().collect();
        found.retain(|idx| {
            self.sockets.get(*idx).is_some_and(|socket| socket.tuple.is_some() && socket.closed.is_none())
        });
        found
    }

    /// Whether it has stdin or a terminal, which no probe has.
    pub(in crate::correlate) fn reads(&self, exec: &Exec) -> bool {
        exec.reads() || self.has_input(exec)
    }

    /// Whether the process of an exec older than the tracer has a pipe or a terminal as its input: the FIFO may be gone by then.
    pub(in crate::correlate) fn has_input(&self, exec: &Exec) -> bool {
        let process = exec.process.filter(|_| exec.preexisting).and_then(|task| self.processes.get(task));
        let stdin = process.and_then(|process| process.info.stdin);
        stdin.is_some_and(|stdin| matches!(stdin, FileKind::Pipe | FileKind::Fifo | FileKind::Pty))
    }

    /// Whether its runtime came to be watched while at work with it, and what it has open is still to be told: a stream, maybe.
    pub(in crate::correlate) fn is_being_looked_at(&self, exec: &Exec) -> bool {
        let runtime = exec.runtime.and_then(|runtime| self.processes.get(runtime));
        exec.what == What::Exec
            && !exec.preexisting
            && exec.stream.is_none()
            && runtime.is_some_and(|runtime| matches!(runtime.looked, Looked::Watched(_)))
    }

    /// Whether that is a probe of dockershim's, or an exec whose stream is not known yet: their connections to dockerd look the
    /// same, and so do all that were under way when the tracer started. A probe reads nothing and has no terminal.
    pub(in crate::correlate) fn may_be_either(&self, exec: &Exec) -> bool {
        if exec.is_foreground() {
            return false;
        }
        if exec.preexisting && exec.stream.is_none() {
            return !exec.reads() || exec.shim.is_none();
        }
        let Some(near) =
            exec.stream.and_then(|far| self.sockets.get(far)).filter(|far| far.unix.is_some()).and_then(|far| far.peer)
        else {
            return false;
        };
        let by_kubelet = self.sockets.get(near).and_then(|near| near.owner).is_some_and(|owner| self.is_kubelet(owner));
        by_kubelet
            && !exec.reads()
            && matches!(self.stream_of(near), PairResult::Unknown)
            && self.has_unserved_stream(exec)
    }

    /// Whether there is a stream of that process of which nobody has said whom it serves, and which is not older than this
    /// exec by more than a client may take.
    pub(in crate::correlate) fn has_unserved_stream(&self, exec: &Exec) -> bool {
        let asking =
            exec.stream.and_then(|far| self.sockets.get(far)?.peer).and_then(|near| self.sockets.get(near)?.owner);
        let Some(streams) = asking.and_then(|asking| self.streams.get(&asking)) else { return false };
        let fits = |idx: SocketIdx| {
            let socket = self.sockets.get(idx);
            socket.is_some_and(|socket| {
                socket.since <= exec.since
                    && exec.since.since(socket.since) <= STREAM_WITHIN
                    && socket.closed.is_none_or(|closed| closed >= exec.since)
            })
        };
        streams.iter().any(|idx| fits(*idx) && self.is_stream(*idx) && !self.is_served(*idx))
    }

    /// Whether an exec's connection to dockerd is known to serve that stream.
    pub(in crate::correlate) fn is_served(&self, stream: SocketIdx) -> bool {
        self.pairings.inlets(stream, &self.sockets).iter().any(|near| self.exec_of_hijacked(*near).is_some())
    }

    /// Whether a kubelet connected there, to another port than the path's: whoever serves that and passes it on to a runtime is
    /// one, too (cri-dockerd).
    pub(in crate::correlate) fn is_of_kubelet(&self, accepted: &Socket) -> bool {
        let is_path_port = accepted.tuple.is_none_or(|tuple| self.places.is_path_port(tuple.local.port()));
        let dialler = accepted.peer.and_then(|peer| self.sockets.get(peer)).and_then(|peer| peer.owner);
        // dockershim: the kubelet connects to itself.
        !is_path_port && dialler.is_some_and(|dialler| Some(dialler) != accepted.owner && self.is_kubelet(dialler))
    }

    /// Whether a connection to dockerd's API may serve a kubelet: a kubelet connected to another port shortly before, nobody is known
    /// to have accepted that, and this client of dockerd was one before.
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
                && socket.tuple.is_some_and(|tuple| !self.places.is_path_port(tuple.remote.port()))
                && socket.owner.is_some_and(|owner| owner.host == near.id.host && self.is_kubelet(owner))
                && socket.peer.and_then(|peer| self.sockets.get(peer)).is_none_or(|peer| peer.owner.is_none())
        };
        near.unix.is_some() && self.sockets.iter().any(|(_, socket)| is_open_leg(socket) && was_client(socket.since))
    }

    pub(in crate::correlate) fn is_kubelet(&self, task: TaskKey) -> bool {
        let process = self.processes.get(task);
        process.is_some_and(|process| process.ports.iter().any(|port| self.places.is_kubelet_port(*port)))
            && self.processes.may_be_kubelet(task)
    }

    /// What a process is that listens on that port, where its being so cannot be verified.
    pub(in crate::correlate) fn unverified_role(&self, task: TaskKey, port: u16) -> Option<Role> {
        if self.places.is_kubelet_port(port) && !self.processes.may_be_kubelet(task) {
            Some(Role::Kubelet)
        } else if self.places.is_apiserver_port(port) && !self.processes.may_be_apiserver(task) {
            Some(Role::ApiServer)
        } else {
            None
        }
    }

    /// The process that would accept this connection: it listens on the port, and has accepted a connection at the same address from
    /// the same network namespace. `None` where several do: namespaces may have equal addresses. `None`, too, where that no process has
    /// the other end was not looked for, or the record that it was accepted may be lost.
    pub(in crate::correlate) fn listener_of(&self, near: &Socket) -> Option<TaskKey> {
        if !near.peer_absent || self.losses.since(near.since) {
            return None;
        }
        let tuple = near.tuple?;
        // What came late may be this connection's other end: then it was accepted.
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

    /// Whether nothing else than a kubelet listens there.
    pub(in crate::correlate) fn leads_to_kubelet(&self, tuple: Option<Tuple>) -> bool {
        tuple.is_some_and(|tuple| self.places.is_kubelet_port(tuple.remote.port()))
    }
}

/// A unix connection between two daemons.
#[derive(Clone, Debug)]
pub(in crate::correlate) struct DaemonConnection {
    pub(in crate::correlate) path: RawText,
    pub(in crate::correlate) near: SocketId,
    pub(in crate::correlate) far: SocketId,
}

/// Something that a session was put together from: when it changes, the session is put together again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::correlate) enum Dependency {
    Task(TaskKey),
    Socket(SocketIdx),
    Exec(AnchorId),
    Container(Arc<str>),
}
