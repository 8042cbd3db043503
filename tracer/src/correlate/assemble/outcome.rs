//! Outcome of building a session: its kind, its target, and its end.

use std::sync::Arc;

use super::upstream::{Builder, Built, Node};
use crate::correlate::{
    limits::{CLOSE_GRACE, LONG_PROBE, STOPPED_WITHIN},
    state::{
        State,
        anchor::{Anchor, AnchorKind, Call, Exec, Facts},
        anchor_id::AnchorId,
        kubectl::is_kubectl,
        sockets::{Socket, SocketIdx},
    },
};
use crate::model::{
    BootTime, ExitReason, GapCode, Hop, Killed, Kind, Link, LinkKind, RawText, Role, Session, SessionExit, SocketId,
    State as SessionState, Target, parse_cgroup,
};

impl State {
    /// Adds facts from after the close: exit status of the client, and byte counts of the other connections. A
    /// session counts as closed as soon as its first connection and its command have ended.
    pub(in crate::correlate) fn add_late(&self, session: &mut Session) {
        if let Some(client) = session.hops.first_mut().filter(|hop| hop.role == Role::Client) {
            let exit = self.processes.get(client.task).and_then(|process| process.exit);
            client.exit = client.exit.or(exit.map(|(_, status)| status));
            if let Some(attempt) = &mut session.attempt {
                attempt.client_ended = attempt.client_ended.or(exit.map(|(at, _)| at));
            }
        }
        let received = |end: Option<SocketId>| self.sockets.get(self.sockets.find(end?)?)?.received;
        for ends in session.links.iter_mut().filter_map(|link| link.tcp.as_mut()) {
            ends.sent = ends.sent.or_else(|| received(ends.far));
            ends.received = ends.received.or_else(|| received(ends.near));
        }
    }
}

impl Builder<'_> {
    /// Completes the session from its hops and links.
    pub(in crate::correlate) fn finish(
        mut self,
        id: &AnchorId,
        anchor: &Anchor,
        now: BootTime,
        up: &[Node],
        mut hops: Vec<Hop>,
        links: Vec<Link>,
    ) -> Built {
        self.forget_later_ends(anchor, &mut hops);
        let kind = self.kind(anchor, &hops, &links);
        let mut outcome = self.outcome(anchor, up, now);
        // Complete: every hop of this host is there, and neither losses nor a late attach put the kind in doubt.
        let complete = self.is_complete(anchor, kind, &hops)
            && !self.missed.kind_by_loss
            && !self.missed.kind_by_attach
            && self.gaps.iter().all(|gap| gap.code == GapCode::KindUnknown);
        if !complete && (self.missed.since_start || self.missed.kind_by_loss) {
            self.gap(GapCode::LostEvents, None, "records were lost while this session was open");
        }
        let target = self.target(anchor);
        // An end waits until the audit log can have named the user.
        let user_query = self.user_query(anchor, up, &hops, kind, &target, now);
        if let Some(user_query) = &user_query {
            let held =
                outcome.closed_at.map(|closed| self.held_until(id, user_query, closed)).filter(|until| now < *until);
            if held.is_some() {
                outcome = Outcome { closed_at: None, exit: None, again_at: None };
            }
            let due = user_query.due.filter(|due| now < *due);
            outcome.again_at = outcome.again_at.into_iter().chain(held).chain(due).min();
        }
        self.gap_process_left(anchor, &outcome, &hops);
        let attempt = self.attempt(anchor, kind, up, outcome.closed_at.is_some()).map(Box::new);
        let first_leg = up.last().and_then(|node| node.outbound).and_then(|idx| self.state.sockets.get(idx));
        let client = hops.first().filter(|hop| hop.role == Role::Client);
        // Local address of the client's connection. A proxy's address is not the client's: its client is
        // unknown.
        let client_end = first_leg.filter(|_| client.is_some()).and_then(|near| near.tuple).map(|tuple| tuple.local);
        let beyond_end = self.beyond.iter().find(|(side, _)| *side == "client").map(|(_, address)| *address);
        let opened_at = self.opened_at(anchor, first_leg, client);
        let (command, command_truncated) = self.command(anchor, client);
        let target =
            if anchor.container.is_empty() { self.target_by_kubectl(anchor, client).unwrap_or(target) } else { target };
        let stdin = self.stdin(anchor, client);
        let client = self.client(client, beyond_end.or(client_end));
        let session = Session {
            id: anchor.session.clone(),
            kind,
            state: if outcome.closed_at.is_some() { SessionState::Closed } else { SessionState::Open },
            opened_at,
            // A close before the open stems from a damaged recording, or from a clock that was set.
            closed_at: outcome.closed_at.map(|closed| closed.max(opened_at)),
            last_seen: now,
            preexisting: anchor.preexisting,
            merged_into: None,
            target,
            client,
            command,
            command_truncated,
            command_pid: anchor.pid_file_says(),
            tty: anchor.tty(),
            stdin,
            exec_id: anchor.exec_id(id),
            exit: outcome.exit,
            killed: outcome.exit.and_then(|exit| self.killed(anchor, exit)).map(Box::new),
            attempt,
            hops,
            links,
            beyond: self.beyond,
            gaps: self.gaps,
            complete,
        };
        let mut dependencies = self.dependencies;
        dependencies.sort_unstable();
        dependencies.dedup();
        Built { session, dependencies, wants: self.wants, again_at: outcome.again_at, user_query }
    }

    /// Removes the exits of daemons that ended after the client or the command: they are none of the session's.
    fn forget_later_ends(&self, anchor: &Anchor, hops: &mut [Hop]) {
        let exit = |task| self.state.processes.get(task).and_then(|process| process.exit).map(|(at, _)| at);
        let client = hops.first().filter(|hop| hop.role == Role::Client).and_then(|hop| exit(hop.task));
        let Some(over) = client.into_iter().chain(anchor.exit().map(|(at, _)| at)).min() else { return };
        let daemons = hops.iter_mut().filter(|hop| hop.exit.is_some() && hop.role.is_daemon());
        for hop in daemons.filter(|hop| exit(hop.task).is_some_and(|at| at > over)) {
            hop.exit = None;
        }
    }

    /// Sender of the signal that ended the process.
    fn killed(&self, anchor: &Anchor, exit: SessionExit) -> Option<Killed> {
        let (at, signal) = anchor.launch()?.signal.as_ref().filter(|(_, signal)| Some(signal.number) == exit.signal)?;
        let stopped = self.state.stops.get(&*anchor.container).copied();
        let stopped = stopped.filter(|stopped| *stopped <= *at && at.since(*stopped) <= STOPPED_WITHIN);
        Some(Killed { at: *at, signal: signal.clone(), stopped })
    }

    /// Adds a gap if the session has ended and its process is still running.
    fn gap_process_left(&mut self, anchor: &Anchor, outcome: &Outcome, hops: &[Hop]) {
        let runs_on = anchor.process().filter(|_| anchor.exit().is_none() && self.process_gone(anchor).is_none());
        if let (Some(_), Some(process)) = (outcome.closed_at, runs_on) {
            let at = hops.len().saturating_sub(1);
            let text =
                format!("the connections are closed, but process {} is still running in the container", process.tgid);
            self.gap_at(GapCode::ProcessLeftRunning, (at, at), &text);
        }
    }

    /// Time at which the session began: its first connection, or the first fact about its anchor.
    fn opened_at(&self, anchor: &Anchor, first_leg: Option<&Socket>, client: Option<&Hop>) -> BootTime {
        let first_fact = first_leg.map_or(anchor.since, |near| near.since.min(anchor.since));
        if !anchor.preexisting {
            return first_fact;
        }
        // The beginning was not observed. Command, runc and kubectl are as old as the session, to the clock tick. Another
        // kind of client may have run for months.
        let kubectl = client.filter(|hop| is_kubectl(&hop.process) || self.state.kind_by_kubectl(hop).is_some());
        let kubectl = kubectl.map(|hop| hop.task);
        let tasks = anchor.process().into_iter().chain(anchor.runc()).chain(kubectl);
        tasks.map(|task| BootTime(task.start_ns())).fold(first_fact, BootTime::min)
    }

    /// Requested command, and whether it was cut. A process may have run another program since, unless its first
    /// execve was observed. Arguments of kubectl stay.
    fn command(&self, anchor: &Anchor, client: Option<&Hop>) -> (Arc<[RawText]>, bool) {
        if let Some(kubectl) = client.filter(|_| anchor.kind() == AnchorKind::ApiRequest) {
            // A request runs nothing but kubectl.
            return (kubectl.process.argv.as_slice().into(), kubectl.process.argv_truncated);
        }
        let (command, command_truncated) = anchor.command();
        let is_seen = !command.is_empty() && !anchor.preexisting;
        let may_be_asked = matches!(
            anchor.kind(),
            AnchorKind::Exec | AnchorKind::UnnamedExec | AnchorKind::PendingRequest | AnchorKind::Leg
        ) && !self.missed.process;
        let waits = anchor.process().is_none() && matches!(anchor.kind(), AnchorKind::Exec | AnchorKind::UnnamedExec);
        let call = client.and_then(|client| Some((client, self.state.kubectl(client.task, &client.process)?)));
        match call.filter(|(_, call)| may_be_asked && !is_seen && !waits && !call.command.is_empty()) {
            Some((client, call)) => (call.command.into(), client.process.argv_truncated),
            None => (command, command_truncated),
        }
    }

    /// Target of a path that leaves this host before its container, from kubectl's arguments.
    fn target_by_kubectl(&self, anchor: &Anchor, client: Option<&Hop>) -> Option<Arc<Target>> {
        let client = client.filter(|_| matches!(anchor.kind(), AnchorKind::PendingRequest | AnchorKind::Leg))?;
        let call = self.state.kubectl(client.task, &client.process)?;
        let names = [call.namespace, call.pod, call.container].map(|name| name.map(str::to_owned));
        let [namespace, pod, container] = names;
        let known = namespace.is_some() || pod.is_some() || container.is_some();
        known.then(|| Arc::new(Target { namespace, pod, container, said_by_client: true, ..Target::default() }))
    }

    /// True if every hop from client to process that can be on this host is there.
    fn is_complete(&self, anchor: &Anchor, kind: Kind, hops: &[Hop]) -> bool {
        let ends = anchor.process().is_some() || anchor.start_failed().is_some();
        match anchor.kind() {
            AnchorKind::Exec
            | AnchorKind::UnnamedExec
            | AnchorKind::LocalExec
            | AnchorKind::FirstContainer
            | AnchorKind::FurtherContainer => anchor.shim().is_some() && ends,
            AnchorKind::Leg => {
                anchor.leaves_by().is_some_and(|leg| self.state.sockets.get(leg).is_some_and(|leg| leg.peer.is_none()))
            }
            AnchorKind::ApiRequest => hops.iter().any(|hop| hop.role == Role::Etcd),
            // If the API server is on another host, kubectl and its connection are the whole path.
            AnchorKind::PendingRequest => self
                .state
                .leaves_by(anchor)
                .is_some_and(|leg| self.state.sockets.get(leg).is_some_and(|leg| leg.peer_absent)),
            // Forwarded connections come and go.
            AnchorKind::Stream => kind == Kind::PortForward,
        }
    }

    /// Kind of the session. Adds a gap where the facts leave several kinds.
    fn kind(&mut self, anchor: &Anchor, hops: &[Hop], links: &[Link]) -> Kind {
        // kubectl's own arguments decide, if the client is a kubectl on this host.
        let client = hops.first().filter(|hop| hop.role == Role::Client);
        let kind_by_kubectl = client.and_then(|client| self.state.kind_by_kubectl(client));
        match anchor.kind() {
            // Without FIFOs of the runtime the exec was requested by another client, unless FIFOs may have been
            // missed.
            AnchorKind::LocalExec if self.missed.kind_by_loss => {
                self.kind_unknown("local or kubelet's exec: undecided, records of the runtime may be lost")
            }
            AnchorKind::LocalExec if self.missed.kind_by_attach => {
                self.kind_unknown("local or kubelet's exec: undecided, it was starting when the tracer attached")
            }
            AnchorKind::LocalExec => Kind::Local,
            AnchorKind::PendingRequest => kind_by_kubectl.unwrap_or(Kind::Exec),
            AnchorKind::ApiRequest => Kind::Request,
            AnchorKind::FirstContainer | AnchorKind::FurtherContainer => Kind::Start,
            // Only one leg is on this host.
            AnchorKind::Leg => kind_by_kubectl.unwrap_or_else(|| {
                self.kind_unknown("exec, attach or port-forward: undecided, only the node sees the process")
            }),
            // Forwarded connections prove a port-forward, a container's own output proves an attach.
            AnchorKind::Stream
                if links.iter().any(|link| link.kind == LinkKind::Tcp && self.is_forwarded(hops, link)) =>
            {
                Kind::PortForward
            }
            AnchorKind::Stream if !anchor.container.is_empty() => {
                self.first_process_unknown(hops);
                kind_by_kubectl.filter(|kind| *kind == Kind::Debug).unwrap_or(Kind::Attach)
            }
            AnchorKind::Stream => match kind_by_kubectl {
                Some(Kind::PortForward) => Kind::PortForward,
                Some(kind @ (Kind::Attach | Kind::Debug)) => {
                    self.first_process_unknown(hops);
                    kind
                }
                Some(kind) => {
                    let last = hops.len().saturating_sub(1);
                    let stream = anchor.stream().and_then(|idx| self.state.sockets.get(idx));
                    let text = if stream.is_some_and(|stream| stream.closed.is_some()) {
                        "process not identified: no output was seen that connects this closed connection to a process"
                    } else {
                        "process not identified yet: waiting for the next output"
                    };
                    self.gap_at(GapCode::ProcessUnknown, (last, last), text);
                    kind
                }
                // A runtime connects to a pod's port for a port-forward alone.
                None if self.forward_failed(anchor).is_some() => Kind::PortForward,
                None if anchor.preexisting || self.missed.since_start => {
                    self.kind_unknown("exec, attach or port-forward: undecided until the next output")
                }
                None => self.kind_unknown("attach or port-forward: undecided until the next output"),
            },
            AnchorKind::Exec | AnchorKind::UnnamedExec => self.kind_of_exec(anchor, hops, kind_by_kubectl),
        }
    }

    /// Adds a gap: an attached stream leads to the container's first process, which is not looked for.
    fn first_process_unknown(&mut self, hops: &[Hop]) {
        let last = hops.len().saturating_sub(1);
        self.gap_at(GapCode::ProcessUnknown, (last, last), "the container's first process is not looked up");
    }

    /// Adds a gap with the reason, and takes the session for an exec.
    fn kind_unknown(&mut self, text: &str) -> Kind {
        self.gap(GapCode::KindUnknown, None, text);
        Kind::Exec
    }

    /// True if the link leads to a forwarded connection's server.
    fn is_forwarded(&self, hops: &[Hop], link: &Link) -> bool {
        hops.get(link.to).is_some_and(|hop| hop.role == Role::Process)
    }

    /// Kind of an exec that a runtime was asked for: exec, cp, probe (CRI ExecSync) or local (docker, ctr, crictl).
    ///
    /// The stream decides: the connection to the runtime's streaming server that carries input and output.
    /// kubectl's exec has one, a probe has none. Steps 1 and 2 handle a stream that is in doubt or missing, step 3
    /// a connection that only looks like one, steps 4 and 5 an exec with a stream. Undecided kinds are `exec` with
    /// the gap `kind-unknown`.
    fn kind_of_exec(&mut self, anchor: &Anchor, hops: &[Hop], kind_by_kubectl: Option<Kind>) -> Kind {
        let Some(exec) = anchor.as_exec() else { return Kind::Exec };
        // 1. Records were lost, and the stream assigned to this exec may belong to another one: undecided.
        if self.missed.stream {
            return self.kind_unknown("exec or probe: undecided, the connection may belong to another session");
        }
        // Used by steps 2 and 5: `kubectl cp` is an exec of tar with certain arguments.
        let copies = is_tar_of_cp(&anchor.command().0);
        // 2. No stream is assigned to this exec, and none competes for it.
        if exec.stream.socket.is_none() && !exec.stream.ambiguous {
            return self.kind_without_stream(anchor, exec, copies);
        }
        // 3. With dockershim and cri-dockerd the assigned stream is a unix connection to dockerd. A probe has the
        // same connection. Only an exec also has a stream from the API server to the kubelet or to cri-dockerd.
        let hijacked =
            anchor.stream().is_some_and(|idx| self.state.sockets.get(idx).is_some_and(|socket| socket.unix.is_some()));
        // The caller of dockerd: the kubelet (dockershim), or cri-dockerd, which has the role of a runtime.
        let by_kubelet = hops.iter().any(|hop| hop.role == Role::Kubelet)
            || hops.first().is_some_and(|hop| hop.role == Role::Runtime && Some(hop.task) != anchor.runtime());
        if hijacked && by_kubelet && !hops.iter().any(|hop| hop.role == Role::ApiServer) && self.beyond.is_empty() {
            // The caller has no stream without an exec, so this exec belongs to no client: a probe.
            if !anchor.reads() && !self.state.has_unserved_stream(anchor) {
                self.gaps.retain(|gap| gap.code != GapCode::Unjoined);
                return Kind::Probe;
            }
            // Output would have joined this exec to one of the caller's streams. The exec ended without any: a probe,
            // or a silent exec, as the gap states.
            if !anchor.reads() && anchor.exit().is_some() {
                self.gap(GapCode::KindUnknown, None, "probe, or exec without output: undecided");
                return Kind::Probe;
            }
        }
        // 4. The client is connected to the runtime itself: docker, crictl. The kind is local.
        let direct = hops.first().is_some_and(|hop| hop.role == Role::Client)
            && hops.get(1).is_some_and(|hop| hop.role == Role::Runtime);
        if direct {
            return Kind::Local;
        }
        // 5. An exec or a cp. kubectl's arguments, if known, are better evidence than the command in the container.
        if kind_by_kubectl.map_or(copies, |kind| kind == Kind::Cp) { Kind::Cp } else { Kind::Exec }
    }

    /// Kind of an exec without an assigned stream: step 2 of [`Self::kind_of_exec`]. `copies` is set for the tar of
    /// `kubectl cp`, which turns an exec into a cp.
    fn kind_without_stream(&mut self, anchor: &Anchor, exec: &Exec, copies: bool) -> Kind {
        // 2a. Records of its stream may be lost: undecided.
        if self.missed.kind_by_loss {
            return self.kind_unknown("exec or probe: undecided, records of its connection may be lost");
        }
        // 2b. The exec was starting when the tracer attached, so the records of its stream may have been missed:
        // undecided.
        if self.missed.kind_by_attach {
            return self.kind_unknown(
                "exec or probe: undecided, it was starting when the tracer attached, and ended soon after",
            );
        }
        // 2c. Every stream of the runtime belongs to another exec. Two kinds of processes are no probes all the same:
        // one whose runc stays in the foreground, as in CRI-O for execs alone; and one that takes input or has lost
        // the reader of its output. One that had run for longer than most probes at its discovery is undecided. Any
        // other exec is a probe.
        if !exec.stream.may_exist {
            if anchor.is_foreground() || self.is_left_by_its_client(anchor) {
                return if copies { Kind::Cp } else { Kind::Exec };
            }
            if self.outlasts_probes(anchor) {
                return self.kind_unknown(
                    "exec or probe: undecided, no connection is known, but it runs longer than probes usually do",
                );
            }
            return Kind::Probe;
        }
        // 2d. A stream from before attach has no exec yet, and may be this one's. An exec with input is then no
        // probe; without input it may still be one.
        if exec.by_cri && !self.state.reads(anchor) {
            self.gap(
                GapCode::KindUnknown,
                None,
                "exec or probe: undecided, it takes no input, and no connection of the runtime is attributed to \
                 it",
            );
        }
        // The gap states what is to come: the next output joins exec and stream, except in dockerd, which passes output
        // from one goroutine to another.
        let text = if anchor.shim().is_some_and(|shim| self.intermediate_runtime(anchor.runtime(), shim).is_some()) {
            "connection not attributed: dockerd's connections are matched only for sessions traced from their \
             start"
        } else {
            "connection not attributed yet: waiting for the next output"
        };
        self.gap_at(GapCode::Unjoined, (0, 0), text);
        if copies { Kind::Cp } else { Kind::Exec }
    }

    /// True if the client of this older exec is gone. A probe takes no input, and the runtime reads its output
    /// to the end. No connection of the runtime's streaming server, which was scanned, can belong to this exec.
    fn is_left_by_its_client(&self, anchor: &Anchor) -> bool {
        let server = anchor.runtime().and_then(|runtime| self.state.processes.get(runtime));
        anchor.preexisting
            && anchor.as_exec().is_some_and(|exec| exec.by_cri && (self.state.reads(anchor) || !exec.held_by_runtime))
            && server.is_some_and(|server| !server.ports.is_empty())
            && !self.missed.since_start
    }

    /// True if the process had already run for longer at its discovery than the kubelet waits for most probes.
    fn outlasts_probes(&self, anchor: &Anchor) -> bool {
        let started = anchor.process().map(|task| BootTime(task.start_ns()));
        anchor.preexisting
            && anchor.as_exec().is_some_and(|exec| exec.by_cri)
            && started.is_some_and(|at| anchor.since.since(at) >= LONG_PROBE)
    }

    /// True if the command gets input. Its FIFOs decide, then the arguments of its monitor. With a terminal
    /// alone, kubectl's arguments decide.
    fn stdin(&self, anchor: &Anchor, client: Option<&Hop>) -> Option<bool> {
        let exec = anchor.as_exec();
        let fifos = exec.map(|exec| &exec.fifos).filter(|fifos| !fifos.is_empty());
        let by_fifos = fifos.map(|fifos| fifos.contains("stdin") || self.state.has_input(anchor));
        let client = client.filter(|_| anchor.kind() == AnchorKind::UnnamedExec);
        let by_client = || self.state.kubectl_stdin(client?);
        by_fifos.or(exec.and_then(|exec| exec.stdin)).or_else(by_client)
    }

    /// Target container with the names known for it. Adds a gap if a search found no names.
    fn target(&mut self, anchor: &Anchor) -> Arc<Target> {
        if anchor.container.is_empty() {
            return Arc::default();
        }
        let by_cgroup = self.pod_uid(anchor);
        match self.state.containers.get(&*anchor.container) {
            Some(Some(target)) if target.pod_uid.is_some() || by_cgroup.is_none() => return Arc::clone(target),
            Some(Some(target)) => return Arc::new(Target { pod_uid: by_cgroup, ..Target::clone(target) }),
            Some(None) => {
                self.gap(
                    GapCode::NamesUnknown,
                    None,
                    "names of this container not found: no file of the runtime on \
                                                       this host has them",
                );
            }
            // Recordings of earlier versions contain no query for the names of an exec without an id.
            None if anchor.kind() == AnchorKind::UnnamedExec && by_cgroup.is_some() => {
                self.gap(GapCode::NamesUnknown, None, "names of this container not found: no record has them");
            }
            None => {}
        }
        let runtime = anchor.runtime().and_then(|runtime| self.state.processes.get(runtime)?.runtime);
        Arc::new(Target {
            container_id: Some(anchor.container.to_string()),
            pod_uid: by_cgroup,
            runtime: runtime
                .filter(|_| anchor.kind() == AnchorKind::UnnamedExec)
                .map(|runtime| runtime.name.to_owned()),
            ..Target::default()
        })
    }

    /// UID of the pod, from the cgroup of the exec's process.
    fn pod_uid(&self, anchor: &Anchor) -> Option<String> {
        let process = self.state.processes.get(anchor.process()?)?;
        let container = process.info.cgroup.as_ref().and_then(RawText::as_str).and_then(parse_cgroup)?;
        container.pod_uid.filter(|_| *container.id == *anchor.container)
    }

    /// End of a pending request: kubectl exited, or its last connection closed.
    fn outcome_of_pending(&self, anchor: &Anchor) -> Outcome {
        let call = anchor.leaves_by().and_then(|idx| self.state.sockets.get(idx));
        let Facts::Kubectl(Call { task, .. }) = anchor.facts else { return Outcome::default() };
        let exited = task.and_then(|task| self.state.processes.get(task)?.exit).map(|(at, _)| at);
        let waits = task.is_some_and(|task| self.state.open_calls(task).next().is_some());
        let closed_at = exited.or(call.and_then(|call| call.closed).filter(|_| !waits));
        let unknown = SessionExit { code: None, signal: None, reason: ExitReason::Unknown };
        Outcome { closed_at, exit: closed_at.map(|_| unknown), again_at: None }
    }

    /// End of an API request: kubectl's exit, with its status.
    fn outcome_of_request(&self, anchor: &Anchor, now: BootTime) -> Outcome {
        let call = anchor.leaves_by().and_then(|idx| self.state.sockets.get(idx));
        let task = call.and_then(|call| call.owner);
        if let Some((at, status)) = task.and_then(|task| self.state.processes.get(task)?.exit) {
            return Outcome { closed_at: Some(at), exit: Some(status.into()), again_at: None };
        }
        let waits = task.is_some_and(|task| self.state.open_calls(task).next().is_some());
        match call.and_then(|call| call.closed).filter(|_| !waits) {
            Some(closed) if now.since(closed) >= CLOSE_GRACE => {
                let exit = SessionExit { code: None, signal: None, reason: ExitReason::Unknown };
                Outcome { closed_at: Some(closed), exit: Some(exit), again_at: None }
            }
            closed => Outcome { closed_at: None, exit: None, again_at: closed.map(|at| at.plus(CLOSE_GRACE)) },
        }
    }

    /// End of the session: time and exit status, or the time at which to check again.
    fn outcome(&self, anchor: &Anchor, up: &[Node], now: BootTime) -> Outcome {
        if anchor.kind() == AnchorKind::PendingRequest {
            return self.outcome_of_pending(anchor);
        }
        if anchor.kind() == AnchorKind::ApiRequest {
            return self.outcome_of_request(anchor, now);
        }
        // First close of any connection on the path.
        let ends = up.iter().flat_map(|node| [node.inbound, node.outbound]).flatten();
        let is_tcp = |idx: SocketIdx| self.state.sockets.get(idx).is_some_and(|socket| socket.tuple.is_some());
        let has_tcp = ends.clone().any(is_tcp);
        let first_closed = ends.filter_map(|idx| self.state.sockets.get(idx)?.closed).min();
        // End of the process, from a record.
        let exit = match (anchor.exit(), anchor.start_failed()) {
            (Some((_, status)), _) => Some(SessionExit::from(status)),
            (None, Some(_)) => Some(SessionExit { code: None, signal: None, reason: ExitReason::StartFailed }),
            (None, None) => None,
        };
        let unknown = SessionExit { code: None, signal: None, reason: ExitReason::Unknown };
        let ended = anchor.exit().map(|(at, _)| at).or(anchor.start_failed());
        let gone = self.process_gone(anchor).filter(|_| ended.is_none());
        // No record reports the exit, but the process is gone. Wait for a late record with the exit status.
        let recorded_by = gone.map(|at| at.plus(CLOSE_GRACE)).filter(|recorded_by| now < *recorded_by);
        let (ended, exit) = match gone {
            Some(at) if recorded_by.is_none() => (Some(at), Some(unknown)),
            _ => (ended, exit),
        };
        // A session ends with the later of the first close and the process.
        match (first_closed, ended) {
            (Some(closed), Some(ended)) => Outcome { closed_at: Some(closed.max(ended)), exit, again_at: None },
            // No connection can close: CRI ExecSync, or an exec whose stream is unknown. No record reports the
            // close of unix connections.
            (None, Some(ended)) if anchor.stream().is_none() || !has_tcp => {
                Outcome { closed_at: Some(ended), exit, again_at: None }
            }
            // The process is on another host, so its exit is unknown.
            (Some(closed), None) if anchor.leaves_by().is_some() => {
                Outcome { closed_at: Some(closed), exit: Some(unknown), again_at: None }
            }
            // The process outlives its connections.
            (Some(closed), None) if now.since(closed) >= CLOSE_GRACE => {
                Outcome { closed_at: Some(closed), exit: Some(unknown), again_at: None }
            }
            (Some(closed), None) => Outcome { closed_at: None, exit: None, again_at: Some(closed.plus(CLOSE_GRACE)) },
            // The process ended but its connections stand: the session is open, because a child may hold its
            // output.
            (None, _) => Outcome { closed_at: None, exit: None, again_at: recorded_by },
        }
    }

    /// Time at which a search found the process gone without a record of its exit.
    fn process_gone(&self, anchor: &Anchor) -> Option<BootTime> {
        anchor.process().filter(|_| anchor.exit().is_none()).and_then(|task| self.state.processes.get(task)?.gone)
    }
}

/// End of a session.
#[derive(Default)]
struct Outcome {
    /// Time of the end; `None` while open.
    closed_at: Option<BootTime>,
    /// Exit of the process; `None` while open.
    exit: Option<SessionExit>,
    /// Time at which the end may change without a new fact.
    again_at: Option<BootTime>,
}

/// True for the commands that `kubectl cp` runs (staging/src/k8s.io/kubectl, pkg/cmd/cp/cp.go): `tar cf - PATH`
/// to read, `tar -xmf -` to write, with `-C DIR` if a directory is given, and `--no-same-permissions
/// --no-same-owner` on request.
fn is_tar_of_cp(command: &[RawText]) -> bool {
    let words: Vec<&str> = command.iter().filter_map(RawText::as_str).collect();
    matches!(
        words[..],
        ["tar", "cf", "-", _]
            | ["tar", "-xmf", "-", ..]
            | ["tar", "--no-same-permissions", "--no-same-owner", "-xmf", "-", ..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cp_is_recognized_by_its_tar() {
        let is = |line: &str| is_tar_of_cp(&line.split_whitespace().map(RawText::from).collect::<Vec<_>>());
        assert!(is("tar cf - /etc/hosts") && is("tar -xmf - -C /tmp") && is("tar -xmf -"));
        assert!(!is("tar xf a.tar") && !is("sh") && !is(""));
    }
}
