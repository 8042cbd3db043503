//! How far an attempt came: the rungs that records prove, those that failed, and those that no record can show.

use std::net::SocketAddr;

use super::upstream::{Builder, Node};
use crate::correlate::state::{
    Dependency, State,
    anchor::{Anchor, AnchorKind, Facts},
    dials::{Cause, Dial},
    sockets::{Socket, SocketIdx},
};
use crate::model::{
    Attempt, BootTime, CERTIFICATE, ExitStatus, ForwardFailed, Kind, Program, Role, Rung, RungSeen, RungState, Span,
    TaskKey, handshake_given_up,
};

/// Deepest connection that a client's request is known to have led to.
#[derive(Clone, Debug, Default)]
pub(in crate::correlate) struct Deepest {
    /// Connecting end: of the leg to a kubelet, else of the client's connection to the API server.
    pub(in crate::correlate) leg: Option<SocketIdx>,
    /// Accepted ends of the client's connections. A dial on behalf of any of them leads deeper.
    pub(in crate::correlate) accepted: Vec<SocketIdx>,
}

impl State {
    /// Connection at which the path of a provisional session ends. A kubectl's own connection leads on to a kubelet, once
    /// the API server has dialled one for it.
    pub(in crate::correlate) fn leaves_by(&self, anchor: &Anchor) -> Option<SocketIdx> {
        match &anchor.facts {
            Facts::Kubectl(call) if !call.is_request => {
                call.task.and_then(|task| self.deepest(task).leg).or(call.socket)
            }
            Facts::Kubectl(_) | Facts::Leg(_) | Facts::Exec(_) | Facts::Stream(_) | Facts::Container(_) => {
                anchor.leaves_by()
            }
        }
    }

    /// Deepest connection of this client. The newest dial of a kubelet counts: a client may try twice.
    pub(in crate::correlate) fn deepest(&self, client: TaskKey) -> Deepest {
        let calls = self.calls.get(&client).map_or(&[][..], Vec::as_slice);
        let mut found = Deepest::default();
        let mut best: Option<(BootTime, SocketIdx)> = None;
        for call in calls {
            let Some(accepted) = self.sockets.get(*call).and_then(|call| call.peer) else { continue };
            found.accepted.push(accepted);
            for dial in self.kubelet_dials(accepted) {
                let leg = dial.established.map_or(*call, |(_, leg)| leg);
                best = best.max(Some((dial.at, leg)));
            }
        }
        let is_open = |idx: &SocketIdx| self.sockets.get(*idx).is_some_and(|socket| socket.closed.is_none());
        let own = || calls.iter().copied().filter(is_open).max().or_else(|| calls.iter().copied().max());
        found.leg = best.map(|(_, leg)| leg).or_else(own);
        found
    }

    /// Dials of kubelets by goroutines that served this accepted connection.
    fn kubelet_dials(&self, accepted: SocketIdx) -> impl Iterator<Item = &Dial> + '_ {
        let to_kubelet = |dial: &&Dial| dial.remote.is_some_and(|remote| self.endpoints.is_kubelet_port(remote.port()));
        self.dials.of(Cause::Inbound(accepted)).iter().filter(|dial| dial.by_goroutine).filter(to_kubelet)
    }

    /// Dials of a runtime's streaming server by goroutines of a kubelet that served this accepted connection.
    fn stream_dials(&self, accepted: SocketIdx) -> impl Iterator<Item = &Dial> + '_ {
        let to_stream = |dial: &&Dial| dial.remote.is_some_and(|remote| !self.endpoints.is_path_port(remote.port()));
        self.dials.of(Cause::Inbound(accepted)).iter().filter(|dial| dial.by_goroutine).filter(to_stream)
    }

    /// True if every dial of this process for this connection since `from` was observed: the tracer reports failed dials,
    /// no record was lost, and no dial of unknown cause fits.
    fn has_every_dial(
        &self,
        task: TaskKey,
        accepted: SocketIdx,
        from: BootTime,
        fits: impl Fn(SocketAddr) -> bool,
    ) -> bool {
        let own = Cause::Own(task);
        self.reports_dials.contains(&task.host)
            && !self.losses.since(from)
            && self.dials.is_whole_since(own, from)
            && self.dials.is_whole_since(Cause::Inbound(accepted), from)
            && !self.dials.of(own).iter().any(|dial| dial.at >= from && dial.remote.is_some_and(&fits))
            && !self
                .dials
                .of(Cause::Inbound(accepted))
                .iter()
                .any(|dial| !dial.by_goroutine && dial.remote.is_some_and(&fits))
    }
}

/// Rungs of one attempt under construction.
struct Rungs(Vec<RungSeen>);

impl Rungs {
    fn add(&mut self, rung: Rung, state: RungState, at: Option<BootTime>) {
        self.0.push(RungSeen::new(rung, state, at));
    }

    fn reached(&mut self, rung: Rung, at: Option<BootTime>) {
        self.add(rung, RungState::Reached, at);
    }

    fn unseen(&mut self, rung: Rung) {
        self.add(rung, RungState::Unseen, None);
    }

    /// A rung that is a dial: established, failed, or without an answer.
    fn dial(&mut self, rung: Rung, dial: &Dial) {
        let (state, at, errno) = match (dial.established, dial.failed) {
            (Some((at, _)), _) => (RungState::Reached, at, None),
            (None, Some((at, error))) => (RungState::Failed, at, error.errno),
            (None, None) => (RungState::Waiting, dial.at, None),
        };
        self.0.push(RungSeen { rung, state, at: Some(at), address: dial.remote, errno });
    }

    /// A rung that is an established connection.
    fn leg(&mut self, rung: Rung, near: &Socket) {
        let address = near.tuple.map(|tuple| tuple.remote);
        self.0.push(RungSeen { address, ..RungSeen::new(rung, RungState::Reached, near.begun) });
    }
}

impl Builder<'_> {
    /// Rungs of the attempt behind a session; `None` for sessions that no client asked an API server for.
    pub(in crate::correlate) fn attempt(
        &mut self,
        anchor: &Anchor,
        kind: Kind,
        up: &[Node],
        is_over: bool,
    ) -> Option<Attempt> {
        let is_asked = match anchor.kind() {
            AnchorKind::Exec | AnchorKind::UnnamedExec | AnchorKind::Stream => anchor.stream().is_some(),
            AnchorKind::Leg | AnchorKind::PendingRequest => true,
            AnchorKind::LocalExec
            | AnchorKind::ApiRequest
            | AnchorKind::FirstContainer
            | AnchorKind::FurtherContainer => false,
        };
        let asks = |node: &Node| matches!(node.role, Role::Client | Role::ApiServer | Role::Kubelet);
        if !is_asked || !up.iter().any(asks) {
            return None;
        }
        let is_over_at_once = matches!(&anchor.facts, Facts::Kubectl(call) if call.is_attempt);
        let mut rungs = Rungs(Vec::with_capacity(12));
        self.add_client(anchor, up, is_over, &mut rungs);
        self.add_apiserver(up, is_over, &mut rungs);
        self.add_kubelet(up, is_over, &mut rungs);
        add_start(self.state, anchor, &mut rungs);
        let client = up.iter().find(|node| node.role == Role::Client).map(|node| node.task);
        let client_ended = client.and_then(|task| self.state.processes.get(task)?.exit).map(|(at, _)| at);
        Some(Attempt {
            rungs: rungs.0,
            client_ended,
            is_over_at_once,
            was_start_refused: was_start_refused(anchor),
            forward_failed: self.forward_failed(anchor).filter(|_| kind == Kind::PortForward),
        })
    }

    /// Last connection to a pod's port that failed for this stream. With a loss, a second stream may have been missed,
    /// or a later connection to the port.
    pub(in crate::correlate) fn forward_failed(&self, anchor: &Anchor) -> Option<ForwardFailed> {
        let Facts::Stream(stream) = &anchor.facts else { return None };
        let last = self.state.dials.of(Cause::Forward(stream.socket)).last()?;
        let ((at, error), address) = last.failed.zip(last.remote)?;
        let is_certain = !self.state.losses.since(BootTime::default());
        is_certain.then_some(ForwardFailed { at, address, errno: error.errno })
    }

    fn socket(&self, idx: Option<SocketIdx>) -> Option<&Socket> {
        self.state.sockets.get(idx?)
    }

    /// Rungs of the client.
    fn add_client(&mut self, anchor: &Anchor, up: &[Node], is_over: bool, rungs: &mut Rungs) {
        if let Facts::Kubectl(call) = &anchor.facts {
            // A dial on behalf of any of its connections leads deeper.
            let accepted = call.task.map(|task| self.state.deepest(task).accepted).unwrap_or_default();
            self.dependencies.extend(accepted.into_iter().map(Dependency::Socket));
        }
        let Some(client) = up.iter().find(|node| node.role == Role::Client) else { return };
        rungs.reached(Rung::ClientStarted, Some(started(self.state, client.task)));
        if let Some(near) = self.socket(client.outbound) {
            rungs.unseen(Rung::NameResolved);
            rungs.leg(Rung::Connected, near);
        } else if let Some(dial) = self.state.dials.of(Cause::Own(client.task)).last() {
            rungs.unseen(Rung::NameResolved);
            rungs.dial(Rung::Connected, dial);
        } else if is_over && self.state.ended_unconnected(client.task) {
            rungs.unseen(Rung::NameResolved);
            rungs.add(Rung::Connected, RungState::Absent, None);
        }
    }

    /// Rungs of the API server next to the kubelet.
    fn add_apiserver(&self, up: &[Node], is_over: bool, rungs: &mut Rungs) {
        let Some(server) = up.iter().find(|node| node.role == Role::ApiServer) else { return };
        let accepted = self.socket(server.inbound);
        match accepted {
            Some(accepted) => {
                rungs.unseen(Rung::Tls);
                rungs.reached(Rung::ApiserverAccepted, accepted.begun);
            }
            // It listens at the address, and has not accepted the connection.
            None if server.outbound.is_none() => rungs.add(Rung::ApiserverAccepted, RungState::Waiting, None),
            None => rungs.unseen(Rung::ApiserverAccepted),
        }
        if let Some(near) = self.socket(server.outbound) {
            rungs.leg(Rung::KubeletDialled, near);
            return;
        }
        let Some(inbound) = server.inbound else { return };
        if let Some(dial) = self.state.kubelet_dials(inbound).last() {
            rungs.dial(Rung::KubeletDialled, dial);
        } else if is_over && self.dialled_no_kubelet(server.task, up) {
            rungs.add(Rung::KubeletDialled, RungState::Absent, None);
        }
    }

    /// True if the API server dialled no kubelet for any connection of the client. An API server that reaches kubelets
    /// through a tunnel (konnectivity) dials none itself.
    fn dialled_no_kubelet(&self, server: TaskKey, up: &[Node]) -> bool {
        let state = self.state;
        let Some(client) = up.iter().find(|node| node.role == Role::Client) else { return false };
        let calls = state.calls.get(&client.task).map_or(&[][..], Vec::as_slice);
        let to_kubelet = |remote: SocketAddr| state.endpoints.is_kubelet_port(remote.port());
        let is_fruitless = |call: &SocketIdx| {
            let accepted = state.sockets.get(*call).filter(|call| !call.older).and_then(|call| call.peer);
            let Some((idx, far)) = accepted.and_then(|idx| Some((idx, state.sockets.get(idx)?))) else { return false };
            far.owner == Some(server)
                && state.kubelet_dials(idx).next().is_none()
                && state.has_every_dial(server, idx, BootTime(client.task.start_ns()), to_kubelet)
        };
        state.dials_kubelets.contains(&server) && !calls.is_empty() && calls.iter().all(is_fruitless)
    }

    /// Rungs of the kubelet.
    fn add_kubelet(&self, up: &[Node], is_over: bool, rungs: &mut Rungs) {
        let Some(kubelet) = up.iter().find(|node| node.role == Role::Kubelet) else { return };
        let Some((idx, accepted)) = kubelet.inbound.zip(self.socket(kubelet.inbound)) else {
            if kubelet.outbound.is_none() {
                // It listens at the address, and has not accepted the connection.
                rungs.add(Rung::KubeletAccepted, RungState::Waiting, None);
            }
            return;
        };
        rungs.reached(Rung::KubeletAccepted, accepted.begun);
        if let Some(near) = self.socket(kubelet.outbound) {
            rungs.unseen(Rung::KubeletAnswered);
            rungs.unseen(Rung::RuntimeAsked);
            rungs.leg(Rung::StreamDialled, near);
            return;
        }
        if let Some(dial) = self.state.stream_dials(idx).last() {
            rungs.unseen(Rung::KubeletAnswered);
            rungs.unseen(Rung::RuntimeAsked);
            rungs.dial(Rung::StreamDialled, dial);
            return;
        }
        let near = self.socket(accepted.peer);
        if let Some(closed) = near.filter(|near| self.was_answered(near)).and_then(|near| near.closed) {
            rungs.reached(Rung::KubeletAnswered, Some(closed));
            let is_stream = |remote: SocketAddr| !self.state.endpoints.is_path_port(remote.port());
            let from = accepted.begun.unwrap_or(accepted.since);
            if is_over && accepted.begun.is_some() && self.state.has_every_dial(kubelet.task, idx, from, is_stream) {
                rungs.unseen(Rung::RuntimeAsked);
                rungs.add(Rung::StreamDialled, RungState::Absent, None);
            }
        }
    }

    /// True if more than a TLS handshake went over a closed leg to a kubelet: the request and an answer. `near` is the API
    /// server's end.
    fn was_answered(&self, near: &Socket) -> bool {
        let owner = near.owner.and_then(|owner| self.state.processes.get(owner));
        let Some(Program::Go(version)) = owner.and_then(|owner| owner.info.program.as_ref()) else { return false };
        let handshake = handshake_given_up(version);
        let asked = near.acked.zip(handshake).is_some_and(|(sent, handshake)| sent > handshake);
        asked && near.received.is_some_and(|received| received > CERTIFICATE)
    }
}

/// Forks from `runc exec` to its last stage, which becomes the command: two stages in C join the namespaces before it (runc:
/// libcontainer/nsenter/nsexec.c). Their errors do not concern the command.
const LAST_STAGE: usize = 3;

/// True if the OCI runtime's last stage ended with code 1, its answer to an error of its own, without an execve(2). Another
/// code is that of Go's runtime, which found no memory or no thread.
fn was_start_refused(anchor: &Anchor) -> bool {
    let Some(launch) = anchor.launch().filter(|launch| launch.start_failed.is_some()) else { return false };
    let by_itself = |(depth, status)| depth >= LAST_STAGE && status == ExitStatus::Code(1);
    launch.exec_failed.is_none() && launch.stage_ended.is_some_and(by_itself)
}

/// Length of the ticks in which a process's identity has its start (USER_HZ).
const TICK: Span = Span::from_millis(10);

/// Start of a process: the time of its fork, if a record reported it. A new part of a recording repeats forks later.
fn started(state: &State, task: TaskKey) -> BootTime {
    let start = BootTime(task.start_ns());
    let forked = state.processes.get(task).and_then(|process| process.forked_at);
    forked.filter(|at| *at >= start && at.since(start) < TICK).unwrap_or(start)
}

/// Rungs from the runtime to the command.
fn add_start(state: &State, anchor: &Anchor, rungs: &mut Rungs) {
    if anchor.kind() == AnchorKind::Exec {
        rungs.reached(Rung::FifosMade, Some(anchor.since).filter(|_| !anchor.preexisting));
    }
    if let Some(runc) = anchor.runc() {
        rungs.reached(Rung::RuncStarted, Some(started(state, runc)));
    }
    let Some(launch) = anchor.launch() else { return };
    if let Some(process) = launch.process {
        let started = BootTime(process.start_ns());
        rungs.reached(Rung::Executed, launch.process_since);
        rungs.reached(Rung::Running, Some(launch.process_since.unwrap_or(started)));
        if let Some((at, _)) = launch.exit {
            rungs.reached(Rung::Ended, Some(at));
        }
    } else if let Some(at) = launch.start_failed {
        let errno = launch.exec_failed.map(|(_, errno)| errno);
        let failed = RungSeen::new(Rung::Executed, RungState::Failed, Some(at));
        rungs.0.push(RungSeen { errno, ..failed });
    }
}
