//! Walks a session downstream, from the runtime to shim, runc and process, or to the target of a forwarded
//! stream.

use smallvec::smallvec;

use super::upstream::{Builder, link};
use crate::correlate::{
    limits::MAX_FORWARDED,
    state::{
        Dependency,
        anchor::{Anchor, AnchorKind, Facts},
        sockets::SocketIdx,
    },
};
use crate::model::{
    Confidence, Evidence, GapCode, Hop, Kind, Link, LinkKind, Proofs, Role, Runtime, TaskKey, Want, names_container,
};

impl Builder<'_> {
    /// Adds hops and links below the runtime.
    pub(in crate::correlate) fn add_downstream(&mut self, anchor: &Anchor, hops: &mut Vec<Hop>, links: &mut Vec<Link>) {
        match anchor.kind() {
            AnchorKind::Leg | AnchorKind::FurtherContainer => {}
            AnchorKind::ApiRequest => self.add_etcd(hops, links),
            AnchorKind::PendingRequest => self.add_open_calls(anchor, hops, links),
            AnchorKind::Stream => self.add_forwarded(anchor, hops, links),
            AnchorKind::Exec | AnchorKind::UnnamedExec | AnchorKind::LocalExec | AnchorKind::FirstContainer => {
                if anchor.runtime().is_some() {
                    self.add_command(anchor, hops, links);
                }
            }
        }
    }

    /// Adds a kubectl's connections to the API server, and a gap: none of them leads any farther. An attempt that is over
    /// states its failed rung instead.
    fn add_open_calls(&mut self, anchor: &Anchor, hops: &[Hop], links: &mut Vec<Link>) {
        let Some(client) = hops.iter().position(|hop| hop.role == Role::Client) else { return };
        let (Some(task), server) = (hops.get(client).map(|hop| hop.task), hops.get(client + 1).map(|hop| hop.task))
        else {
            return;
        };
        for near in self.state.open_calls(task) {
            self.dependencies.push(Dependency::Socket(near));
            let far = self.state.sockets.get(near).and_then(|near| self.state.sockets.get(near.peer?));
            let leg = self.leg(client, near);
            if server.is_some() && far.and_then(|far| far.owner) == server && !links.contains(&leg) {
                links.push(leg);
            }
        }
        if matches!(&anchor.facts, Facts::Kubectl(call) if call.is_attempt) {
            return;
        }
        let Some(last) = hops.iter().rposition(|hop| matches!(hop.role, Role::ApiServer | Role::Kubelet)) else {
            return;
        };
        let is_kubelet = hops.get(last).is_some_and(|hop| hop.role == Role::Kubelet);
        let text = match hops.first().and_then(|hop| self.state.kind_by_kubectl(hop)) {
            Some(Kind::Logs) => {
                "connection to the kubelet not attributed: many requests of the API server share it \
                                 for logs"
            }
            _ if is_kubelet => {
                "connection to the runtime not found: the kubelet has not connected for this request, or it was not \
                 observed"
            }
            _ => {
                "connection to a kubelet not found: the API server has not forwarded the request, or it was not \
                 observed"
            }
        };
        self.gap_at(GapCode::Unjoined, (last, last), text);
    }

    /// Adds shim, runc and process.
    fn add_command(&mut self, anchor: &Anchor, hops: &mut Vec<Hop>, links: &mut Vec<Link>) {
        let runtime = hops.len() - 1;
        // An exec that was seen from its start has its runc before anything else below the runtime.
        if anchor.runc().is_none() && !anchor.preexisting {
            self.gap_at(GapCode::RuncUnknown, (runtime, runtime), "the runtime has not started the command yet");
            return;
        }
        let (confidence, evidence) = stream_to_command(anchor);
        match anchor.shim() {
            Some(shim) if Some(shim) != anchor.runtime() => {
                // dockerd has containerd between itself and the shim. A start's path already contains
                // containerd.
                if let Some(between) = self
                    .intermediate_runtime(anchor.runtime(), shim)
                    .filter(|_| anchor.kind() != AnchorKind::FirstContainer)
                {
                    let hop = self.hop(between, Role::Runtime);
                    hops.push(hop);
                }
                let hop = self.hop(shim, Role::Shim);
                hops.push(hop);
                let to = hops.len() - 1;
                match anchor.kind() {
                    AnchorKind::FirstContainer | AnchorKind::UnnamedExec if self.has_forked(anchor.runtime(), shim) => {
                        links.push(link(runtime, to, LinkKind::Fork, Confidence::Exact, smallvec![Evidence::Fork]));
                    }
                    // The FIFOs of a foreign client's exec are not the runtime's. The runtime instructs the shim
                    // over their shared connection.
                    AnchorKind::LocalExec | AnchorKind::FirstContainer => {}
                    AnchorKind::Exec
                    | AnchorKind::UnnamedExec
                    | AnchorKind::Stream
                    | AnchorKind::Leg
                    | AnchorKind::PendingRequest
                    | AnchorKind::ApiRequest
                    | AnchorKind::FurtherContainer => {
                        links.push(link(runtime, to, LinkKind::Fifo, confidence, evidence))
                    }
                }
            }
            // CRI-O starts the OCI runtime itself.
            Some(_) => {}
            None => self.gap_at(GapCode::ShimUnknown, (runtime, runtime + 1), "parent of runc not observed"),
        }
        let parent = hops.len() - 1;
        self.add_runc(anchor, parent, hops, links);
        let state = self.state;
        // Further containers of the same shim hang below the same hop.
        for id in anchor.as_container().into_iter().flat_map(|container| &container.siblings) {
            self.dependencies.push(Dependency::Exec(id.clone()));
            if let Some(beside) = state.anchors.get(id) {
                self.add_runc(beside, parent, hops, links);
            }
        }
    }

    /// Adds runc and its process below hop `parent`.
    fn add_runc(&mut self, anchor: &Anchor, parent: usize, hops: &mut Vec<Hop>, links: &mut Vec<Link>) {
        if let Some(runc) = anchor.runc() {
            let hop = self.hop(runc, Role::Runc);
            hops.push(hop);
            let to = hops.len() - 1;
            let (confidence, evidence) = stream_to_command(anchor);
            // The link into runc: a fork by the shim, a fork by the runtime itself, or FIFOs alone.
            links.push(match anchor.shim() {
                Some(shim) if Some(shim) != anchor.runtime() => {
                    let is_observed = anchor.launch().is_some_and(|launch| launch.shim_forked);
                    let forked = if is_observed { Confidence::Exact } else { Confidence::Strong };
                    link(parent, to, LinkKind::Fork, forked, smallvec![Evidence::Fork])
                }
                Some(_) => {
                    let evidence = evidence.into_iter().chain([Evidence::Fork]).collect();
                    link(parent, to, LinkKind::Fork, confidence, evidence)
                }
                None => link(parent, to, LinkKind::Fifo, confidence, evidence),
            });
        }
        self.add_process(anchor, hops, links);
    }

    /// Adds the process in the container, or a gap with the reason why it is missing.
    fn add_process(&mut self, anchor: &Anchor, hops: &mut Vec<Hop>, links: &mut Vec<Link>) {
        let last = hops.len() - 1;
        let Some(process) = anchor.process() else {
            if anchor.start_failed().is_none() {
                let text = if self.missed.process {
                    "process of the command not attributed: records were lost, so the first one seen may be its child"
                } else if anchor.preexisting && anchor.runc().is_none() {
                    "process of the command not found: the pid in the runtime's pid file no longer exists"
                } else {
                    "the command has not started in the container yet"
                };
                self.gap_at(GapCode::ProcessUnknown, (last, last), text);
            }
            return;
        };
        let hop = self.hop(process, Role::Process);
        hops.push(hop);
        // If the cgroup was not read before the process exited, the fork by verified daemons is proof enough.
        let is_elsewhere = self.is_elsewhere(anchor, process);
        if is_elsewhere {
            let text = "container of this process not verified: its cgroup does not name the container";
            self.gap_at(GapCode::Unverified, (last + 1, last + 1), text);
        }
        let confidence = if is_elsewhere { Confidence::Strong } else { Confidence::Exact };
        let says_so = anchor.pid_file_says() == Some(process.tgid);
        let evidence = match anchor.runc() {
            Some(_) if says_so => smallvec![Evidence::Fork, Evidence::PidFile],
            // Its start was not seen: it is runc's child, in the right container.
            Some(_) if anchor.launch().is_none_or(|launch| launch.process_since.is_none()) => {
                smallvec![Evidence::Fork, Evidence::Cgroup]
            }
            Some(_) => smallvec![Evidence::Fork],
            // runc is gone: the process is the shim's child with the pid of the pid file, in the right
            // container.
            None => smallvec![Evidence::PidFile, Evidence::Cgroup],
        };
        links.push(link(last, last + 1, LinkKind::Exec, confidence, evidence));
    }

    /// True if the cgroup of the process is known and does not name the container. Runtimes on a socket path
    /// given by the user may use unknown cgroup layouts, so their processes never count.
    fn is_elsewhere(&self, anchor: &Anchor, process: TaskKey) -> bool {
        let cgroup = self.state.processes.get(process).and_then(|process| process.cgroup.as_ref());
        let Some(path) = cgroup else { return false };
        let path = path.as_str().unwrap_or_default();
        let runtime = anchor.runtime().and_then(|runtime| self.state.processes.get(runtime));
        let is_conventional =
            runtime.is_some_and(|runtime| runtime.serves_at.values().any(|path| Runtime::at_socket(path).is_some()));
        is_conventional && !names_container(path, &anchor.container)
    }

    /// containerd between dockerd and the shim, if there is exactly one such process. dockerd has it start the
    /// command.
    pub(in crate::correlate) fn intermediate_runtime(
        &self,
        runtime: Option<TaskKey>,
        shim: TaskKey,
    ) -> Option<TaskKey> {
        let runtime = runtime?;
        let connections = &self.state.daemon_connections;
        if connections.contains_key(&(runtime, shim)) {
            return None;
        }
        let mut found =
            connections.keys().filter(|(from, to)| *to == shim && connections.contains_key(&(runtime, *from)));
        let (found, second) = (found.next(), found.next());
        found.filter(|_| second.is_none()).map(|(from, _)| *from)
    }

    /// Adds the targets of a stream without an exec: connections that the runtime makes for it (port-forward).
    fn add_forwarded(&mut self, anchor: &Anchor, hops: &mut Vec<Hop>, links: &mut Vec<Link>) {
        let runtime = hops.len() - 1;
        let Some(stream) = anchor.stream() else { return };
        for near in self.state.forwarded_by(stream).into_iter().take(MAX_FORWARDED) {
            self.dependencies.push(Dependency::Socket(near));
            let far = self.state.sockets.get(near).and_then(|near| near.peer);
            match far.and_then(|far| self.state.sockets.get(far)).and_then(|far| far.owner) {
                Some(process) => {
                    let hop = self.hop(process, Role::Process);
                    hops.push(hop);
                    let to = hops.len() - 1;
                    links.push(Link { to, ..self.leg(runtime, near) });
                }
                None => self.ask_for_peer(near),
            }
        }
    }

    /// Requests the peer of a connection, unless a search has already failed.
    fn ask_for_peer(&mut self, near: SocketIdx) {
        let Some(socket) = self.state.sockets.get(near) else { return };
        if let (Some(tuple), false) = (socket.tuple, socket.peer_absent) {
            self.wants.push(Want::Peer { tuple, netns: socket.netns, isn: socket.isn });
        }
    }
}

/// Confidence and evidence of the step from stream to command. The same goroutine leads from the stream to FIFOs
/// named by the exec id; the same exec id leads from the FIFOs to runc's arguments.
fn stream_to_command(anchor: &Anchor) -> (Confidence, Proofs) {
    let mut evidence = Proofs::new();
    let mut confidence = Confidence::Exact;
    if let Some(stream) = anchor.as_exec().map(|exec| &exec.stream).filter(|stream| stream.socket.is_some()) {
        let by = stream.by.unwrap_or(Evidence::Thread);
        evidence.push(by);
        confidence = if by == Evidence::Goroutine || (by == Evidence::Memory && stream.copied) {
            Confidence::Exact
        } else if by == Evidence::Thread {
            // Threads may serve streams by turns, so the last receive can belong to another stream: only order in
            // time.
            Confidence::Weak
        } else {
            Confidence::Strong
        };
    }
    match anchor.kind() {
        AnchorKind::Exec if anchor.runc().is_none() => evidence.push(Evidence::Fifo),
        AnchorKind::Exec => evidence.extend([Evidence::ExecId, Evidence::RuncArgs]),
        AnchorKind::UnnamedExec
        | AnchorKind::LocalExec
        | AnchorKind::Stream
        | AnchorKind::Leg
        | AnchorKind::PendingRequest
        | AnchorKind::ApiRequest
        | AnchorKind::FirstContainer
        | AnchorKind::FurtherContainer => {}
    }
    (confidence, evidence)
}
