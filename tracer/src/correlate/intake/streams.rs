//! What serves whom: streams of runtimes, the FIFOs of execs, and which belong together.

use std::sync::Arc;

use crate::correlate::{
    Correlator, limits,
    state::{
        DaemonConnection, State,
        anchor_id::AnchorId,
        anchors::{Claim, What},
        sockets::SocketIdx,
    },
    timers::Timer,
};
use crate::model::{
    Actor, BootTime, Change, Evidence, ExecFifo, Family, FileId, HostNo, RawText, Session, SocketId, SocketInfo,
    SocketRole, State as SessionState, TaskKey, Want, is_kubelet_fifo, parse_fifo_path,
};

/// Streams by their descriptors.
const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];

impl State {
    /// The exec whose FIFO, or whose runc's pipe, that is.
    fn exec_awaited(&self, task: TaskKey, path: &RawText) -> Option<&AnchorId> {
        match path.as_str().and_then(parse_fifo_path) {
            Some(fifo) => self.execs.newest(task.host, &fifo.container, &fifo.exec),
            None => self.execs.of_pipe(task.host, path),
        }
    }
}

impl Correlator {
    /// A unix connection to a daemon: one that stands for all sessions, and counts once for each pair of processes; or one to
    /// dockerd's API, which may be a session's own.
    pub(in crate::correlate) fn unix_accepted(
        &mut self,
        at: BootTime,
        accepting: TaskKey,
        connector: Option<u32>,
        older: bool,
        connection: DaemonConnection,
    ) {
        let connecting = connector.and_then(|tgid| self.state.processes.current_task(accepting.host, tgid));
        if self.state.places.is_exec_socket(&connection.path)
            && let Some(ends) = self.state.sockets.learn_unix(at, connection.near, connection.far, &connection.path)
        {
            self.state.sockets.set_owner(ends.far, accepting);
            match (connecting, connector) {
                (Some(task), _) => self.state.sockets.set_owner(ends.near, task),
                (None, Some(pid)) => {
                    self.unowned.entry((accepting.host, pid)).or_default().push(ends.near);
                    self.ask(Want::Pid(pid));
                }
                (None, None) => {}
            }
            if older && self.older_unix < self.state.caps.older_unix {
                self.older_unix += 1;
            } else {
                if older {
                    self.state.refused.add("older-unix-full", 1);
                }
                self.timers.set(at.plus(limits::UNIX_KEPT), Timer::UnixIdle(ends));
            }
        }
        if let (Some(connecting), true) = (connecting, self.state.is_daemon_socket(&connection.path)) {
            self.state.daemon_connections.insert((connecting, accepting), connection);
        }
    }

    /// The connection that an act of that actor was for: the accepted one on which it received last. A unix connection counts
    /// where each session has one of its own.
    pub(in crate::correlate) fn stream_of_actor(
        &self,
        at: BootTime,
        task: TaskKey,
        actor: Actor,
        inbound: Option<SocketId>,
    ) -> Option<SocketIdx> {
        // In a Go program a thread proves nothing.
        if actor.g.is_none() && self.state.processes.is_go(task) {
            return None;
        }
        let idx = self.state.sockets.find(inbound?)?;
        let socket = self.state.sockets.get(idx)?;
        let can_be = socket.tuple.is_some() || socket.unix.is_some();
        let is_inbound = socket.role.is_none_or(|role| role == SocketRole::Accepted);
        (can_be && is_inbound && at.since(socket.since) <= limits::STREAM_WITHIN).then_some(idx)
    }

    /// A connection by which an act is explained: known from here on, even where the record that it was accepted was lost.
    pub(in crate::correlate) fn streamed_by(&mut self, at: BootTime, task: TaskKey, from: &SocketInfo) {
        let Some(tuple) = from.tuple.filter(|_| from.family != Family::Unix) else { return };
        let listens = self.state.processes.get(task).is_some_and(|process| process.ports.contains(&tuple.local.port()));
        let role = from.role.or(listens.then_some(SocketRole::Accepted));
        self.socket(at, Some(task), &SocketInfo { role, ..*from });
    }

    /// The runtime makes a FIFO of an exec.
    pub(in crate::correlate) fn fifo(
        &mut self,
        at: BootTime,
        task: TaskKey,
        actor: Actor,
        inbound: Option<SocketId>,
        path: &RawText,
    ) {
        let Some(fifo) = path.as_str().and_then(parse_fifo_path) else { return };
        // The streams of a container's first process: a start, not an exec.
        if fifo.exec == fifo.container || !self.state.may_be_daemon(task) {
            return;
        }
        let stream = self.stream_of_actor(at, task, actor, inbound);
        let for_unknown = inbound.is_some_and(|id| self.state.sockets.find(id).is_none());
        let id = self.exec_of_new_fifo(task.host, &fifo);
        let Some(exec) = self.state.exec(task.host, &id, &fifo.container, at) else { return };
        // `ctr` was faster with its FIFOs than the runtime with these: it is the runtime's all the same.
        exec.what = What::Exec;
        exec.runtime = exec.runtime.or(Some(task));
        exec.streams.insert(fifo.stream);
        exec.for_unknown |= for_unknown;
        if let Some(stream) = stream {
            self.claim(at, &id, stream, by(actor), actor.goid.is_some());
        }
        if !self.state.containers.contains_key(&fifo.container) {
            self.ask(Want::Container { id: fifo.container, bundle: None });
        }
        self.dirty.insert(id);
    }

    /// The exec that the runtime makes a FIFO for: a new one, where the last that had its id is over. An id of random digits is never
    /// used again, so that such a record is late.
    fn exec_of_new_fifo(&mut self, host: HostNo, fifo: &ExecFifo) -> AnchorId {
        let execs = &mut self.state.execs;
        let newest = execs.newest_or_new(host, &fifo.container, &fifo.exec);
        if newest.is_random() || execs.get(&newest).is_none_or(|exec| !exec.over) {
            return newest;
        }
        execs.next(host, &fifo.container, &fifo.exec)
    }

    /// A FIFO that is older than the tracer, or was asked for: whoever holds it serves that exec.
    pub(in crate::correlate) fn fifo_held(&mut self, at: BootTime, task: TaskKey, path: &RawText, file: FileId) {
        let Some(fifo) = path.as_str().and_then(parse_fifo_path).filter(|_| self.state.may_be_daemon(task)) else {
            return;
        };
        self.state.execs.note_fifo(file, &fifo);
        if fifo.exec == fifo.container {
            return;
        }
        let id = self.state.execs.newest_or_new(task.host, &fifo.container, &fifo.exec);
        let is_runtime = self.state.processes.get(task).is_some_and(|process| process.is_runtime);
        if self.state.execs.get(&id).is_some_and(|exec| !exec.preexisting) {
            return;
        }
        let (execs, hosts) = (&mut self.state.execs, &self.state.hosts);
        let Some(exec) = execs.entry(hosts, task.host, &id, &fifo.container, at) else { return };
        exec.preexisting = true;
        exec.streams.insert(fifo.stream);
        exec.by_cri = path.as_str().is_some_and(is_kubelet_fifo);
        if is_runtime {
            exec.runtime = exec.runtime.or(Some(task));
            exec.held_by_runtime = true;
        } else {
            exec.shim = exec.shim.or(Some(task));
            // The runtime let go of it, or is another one by now: whoever is connected to the shim.
            let mut connected =
                self.state.daemon_connections.keys().filter(|(_, to)| *to == task).map(|(from, _)| *from);
            if let (true, Some(runtime), None) = (exec.by_cri, connected.next(), connected.next()) {
                exec.runtime = exec.runtime.or(Some(runtime));
            }
        }
        if !self.state.containers.contains_key(&fifo.container) {
            self.ask(Want::Container { id: fifo.container, bundle: None });
        }
        self.dirty.insert(id);
    }

    /// A goroutine of the runtime passes on what a FIFO gave: to the stream of that exec, or, from a container's own output, to
    /// one that is attached to it.
    pub(in crate::correlate) fn fifo_relayed(
        &mut self,
        at: BootTime,
        task: TaskKey,
        actor: Actor,
        fifo: FileId,
        to: &SocketInfo,
    ) {
        if let Some(id) = self.state.execs.of_pipe_file(fifo).cloned() {
            if let Some(to) = self.relay_end(at, task, to) {
                self.claim(at, &id, to, by(actor), actor.goid.is_some());
            }
            return;
        }
        let Some(ExecFifo { container, exec, .. }) = self.state.execs.of_fifo(fifo).cloned() else {
            self.ask(Want::Fifos(task));
            return;
        };
        let Some(to) = self.relay_end(at, task, to) else { return };
        if exec != container {
            if let Some(id) = self.state.execs.newest(task.host, &container, &exec).cloned() {
                self.claim(at, &id, to, by(actor), actor.goid.is_some());
            }
        } else if let Some(id) = self.state.execs.by_stream(to).cloned()
            && let Some(stream) = self.state.execs.get_mut(&id)
            && stream.what == What::Stream
        {
            stream.container = container.as_str().into();
            self.ask(Want::Container { id: container, bundle: None });
            self.dirty.insert(id);
        }
    }

    /// The goroutine that waits for a FIFO leads to a connection.
    pub(in crate::correlate) fn fifo_awaited(
        &mut self,
        at: BootTime,
        task: TaskKey,
        path: &RawText,
        socket: SocketId,
        copied: bool,
    ) {
        let Some(id) = self.state.exec_awaited(task, path).cloned() else { return };
        if let Some(stream) = self.state.sockets.find(socket) {
            self.claim(at, &id, stream, Evidence::Memory, true);
            if let Some(exec) = self.state.execs.get_mut(&id) {
                exec.stream_copied |= copied;
            }
        }
    }

    /// A pipe that a `runc exec` has for stdin, stdout or stderr: the runtime has its other end.
    pub(in crate::correlate) fn pipe_held(&mut self, runc: TaskKey, path: &RawText, file: FileId, fd: u32) {
        let Some(id) = self.state.execs.by_runc(runc).cloned() else { return };
        let stream = usize::try_from(fd).ok().and_then(|fd| STREAMS.get(fd).copied());
        let (Some(stream), Some(exec)) = (stream, self.state.execs.get_mut(&id)) else { return };
        exec.streams.insert(stream);
        // Who has pipes has no terminal.
        exec.tty = exec.tty.or(Some(false));
        // What the runtime writes to stdin it received: only what it reads leads to a connection.
        if fd != 0 {
            self.state.execs.note_pipe(runc.host, path, file, &id);
        }
        self.dirty.insert(id);
    }

    /// That connection is this exec's. Two that claim to be leave none. `identified`: who says so is nobody else.
    pub(in crate::correlate) fn claim(
        &mut self,
        at: BootTime,
        id: &AnchorId,
        stream: SocketIdx,
        by: Evidence,
        identified: bool,
    ) {
        let claim = self.state.execs.claim_stream(id, stream);
        let Some(exec) = self.state.execs.get_mut(id) else { return };
        if claim == Claim::Anothers {
            // Its FIFOs may have been made on the `g` of another's server; what it reads and sends is its own.
            exec.stream_ambiguous |= exec.preexisting;
        } else if exec.stream.is_some_and(|known| known != stream) || exec.stream_ambiguous {
            exec.stream_ambiguous = true;
            exec.stream = None;
        } else {
            exec.stream_unidentified = if identified {
                None
            } else if exec.stream.is_none() {
                Some(at)
            } else {
                exec.stream_unidentified
            };
            exec.stream = Some(stream);
            // Ordered by strength: an act of a goroutine says more than memory, both more than a thread.
            exec.stream_by = Some(exec.stream_by.map_or(by, |known| known.min(by)));
        }
        if let Claim::Resolved(standing_in) = claim {
            self.resolve(at, &standing_in, id);
        }
        self.dirty.insert(id.clone());
    }

    /// Whose a stream is has become known: what stood for it is over, and names what it is a part of.
    pub(in crate::correlate) fn resolve(&mut self, at: BootTime, standing_in: &AnchorId, id: &AnchorId) {
        self.state.execs.forget(standing_in);
        let touched = self.state.audits.forget(standing_in);
        self.reconsider(touched);
        let Some(open) = self.open.remove(standing_in) else { return };
        for dependency in &open.dependencies {
            self.unrest(dependency, standing_in);
        }
        // The session is named now: its id has to be final.
        self.state.execs.identify(&self.state.hosts, id, BootTime(u64::MAX));
        self.totals.closed += 1;
        let session = Session {
            state: SessionState::Closed,
            closed_at: Some(at.max(open.session.opened_at)),
            merged_into: Some(self.state.session_id(id)),
            ..Arc::unwrap_or_clone(open.session)
        };
        self.tell(Change::Closed(Arc::new(session)));
    }

    /// An accepted connection that may be one of a streaming server: to be looked at when what explains it was seen.
    pub(in crate::correlate) fn perhaps_stream(&mut self, due: BootTime, task: TaskKey, idx: SocketIdx) {
        let Some(socket) = self.state.sockets.get(idx) else { return };
        let process = self.state.processes.get(task);
        let serves = process.is_some_and(|process| process.is_runtime) || self.state.is_kubelet(task);
        let is_path_port = socket.tuple.is_none_or(|tuple| self.state.places.is_path_port(tuple.local.port()));
        if serves && !is_path_port && socket.role != Some(SocketRole::Connected) {
            self.timers.set(due, Timer::StreamUnclaimed(idx));
            self.state.streams.entry(task).or_default().insert(idx);
        }
    }

    /// Nobody has claimed that connection: exec, attach or port-forward, it stands for itself.
    pub(in crate::correlate) fn look_at_stream(&mut self, at: BootTime, idx: SocketIdx) {
        let Some(socket) = self.state.sockets.get(idx) else { return };
        // An attempt that was refused is over, also where the record of one end's close was lost.
        let peer = socket.peer.and_then(|peer| self.state.sockets.get(peer));
        let is_over = socket.closed.or(peer.and_then(|peer| peer.closed)).is_some();
        if is_over || self.state.execs.by_stream(idx).is_some() || !self.state.is_stream(idx) {
            return;
        }
        // Of dockershim's own server: joined to an exec by its connection to dockerd.
        if self.state.is_served(idx) {
            return;
        }
        let (owner, older, since, host) = (socket.owner, socket.older, socket.since, socket.id.host);
        let Some(name) = socket.id.cookie.or(socket.id.inode) else { return };
        let id = AnchorId::stream(host, name, idx);
        if let Some(exec) = self.state.exec(host, &id, "", since.min(at)) {
            exec.what = What::Stream;
            exec.preexisting = older;
            exec.runtime = owner;
            exec.stream = Some(idx);
            self.state.execs.claim_stream(&id, idx);
            self.dirty.insert(id);
            if older {
                self.offer_stream(owner);
            }
        }
    }

    /// A stream of that owner's, older than the tracer, is nobody's yet.
    pub(in crate::correlate) fn offer_stream(&mut self, owner: Option<TaskKey>) {
        // dockershim streams in the kubelet, for execs of dockerd's.
        let runtime = owner.filter(|owner| !self.state.is_kubelet(*owner));
        self.dirty.extend(self.state.execs.offer_stream(runtime));
    }

    /// Bytes moved between two sockets of a process: when one is a stream, that tells whose it is or what it is for.
    pub(in crate::correlate) fn stream_served(&mut self, a: SocketIdx, b: SocketIdx) {
        for (stream, other) in [(a, b), (b, a)] {
            if self.state.forwarded_by(stream).contains(&other) {
                // What the runtime connected to is forwarded: no exec will claim this stream.
                self.look_at_stream(self.now, stream);
            }
            let Some(id) = self.state.execs.by_stream(stream).cloned() else { continue };
            if self.state.execs.get(&id).is_none_or(|exec| exec.what != What::Stream) {
                continue;
            }
            if let Some(exec) = self.state.exec_of_hijacked(other).cloned()
                && self.state.pairings.outlets(other, &self.state.sockets).0.contains(&stream)
            {
                let at = self.now;
                self.state.execs.forget_stream(stream);
                self.resolve(at, &id, &exec);
                self.dirty.insert(exec);
            } else {
                self.dirty.insert(id);
            }
        }
    }

    /// Whether reads of FIFOs would tell something: whose a stream is.
    #[must_use]
    pub fn needs_reads(&self) -> bool {
        self.state.execs.unresolved().next().is_some()
    }
}

/// What an act of that actor proves.
pub(in crate::correlate) fn by(actor: Actor) -> Evidence {
    if actor.g.is_some() { Evidence::Goroutine } else { Evidence::Thread }
}
