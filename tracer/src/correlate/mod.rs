//! Turns observations into findings. Start reading at [`Correlator::ingest`].
//!
//! * `reorder` puts records into the order of their times;
//! * `state` holds the tables of what is known;
//! * `intake` applies one fact to them;
//! * `assemble` builds a session out of them, backwards from its exec;
//! * `carry_over` and `report` say what is known as a whole.
//!
//! The same observations give the same findings, byte for byte, on any machine: findings depend on the sequence of
//! observations alone, never on how often [`Correlator::drain`] is called.

mod assemble;
mod carry_over;
mod intake;
mod limits;
mod reorder;
mod report;
mod state;
mod timers;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use smallvec::SmallVec;

pub use self::limits::REORDER_WITHIN;
use self::{
    intake::capacity::Start,
    limits::{CLOSED_SESSIONS, Caps, SWEEP_EVERY, TOGETHER},
    reorder::Order,
    state::{
        DaemonConnection, Dependency, State,
        anchor_id::AnchorId,
        anchors::{Execs, What},
        audit::Audits,
        coverage::Readiness,
        hosts::Hosts,
        losses::{Losses, Refused},
        pairing::{PairResult, Pairings},
        processes::Processes,
        sockets::{Learned, SocketIdx, Sockets},
        table::Table,
    },
    timers::{Phase, Timer, Timers},
};
use crate::model::{
    Actor, BootTime, Change, ContainerInfo, Diagnosis, Fact, Family, Finding, HostFacts, HostNo, Listener, Measures,
    Observation, Pairing, Places, ProcessInfo, RawText, Report, Role, Runtime, Session, SocketId, SocketInfo,
    SocketRole, Source, State as SessionState, Target, TaskKey, Totals, Unit, Want, WatchAs, unit_of_loss,
};

/// What the user asked for that changes what is found; part of a replay's input.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Options {
    /// TCP port of the API server, beside 6443.
    pub apiserver_port: Option<u16>,
    /// TCP port of the kubelet, beside 10250.
    pub kubelet_port: Option<u16>,
    /// Path of the runtime's socket, beside the well-known ones.
    pub runtime_socket: Option<String>,
    /// How the ends of connections are paired: recordings up to format 3 have a rule of their own.
    pub pairing: Pairing,
}

impl Options {
    /// Ports and sockets of the path.
    #[must_use]
    pub fn places(&self) -> Places {
        Places::new(self.apiserver_port, self.kubelet_port, self.runtime_socket.as_deref())
    }
}

/// Facts in, findings out.
pub struct Correlator {
    order: Order,
    now: BootTime,
    timers: Timers,
    state: State,
    open: BTreeMap<AnchorId, Open>,
    closed: VecDeque<Arc<Session>>,
    /// Which sessions rest on what: sorted, each once.
    resting: Table<Dependency, SmallVec<[AnchorId; 1]>>,
    dirty: BTreeSet<AnchorId>,
    /// Sessions that are a leg to a kubelet and nothing else, by its connecting end.
    legs: BTreeMap<SocketIdx, AnchorId>,
    /// Those that a session had as its client: what they asked for was shown.
    served: BTreeSet<TaskKey>,
    /// Those that stand for what they asked for.
    asked_for: BTreeMap<TaskKey, AnchorId>,
    /// Unix connections older than the tracer, which are kept.
    older_unix: usize,
    /// Ends of unix connections whose processes are asked for, by pid.
    unowned: BTreeMap<(HostNo, u32), Vec<SocketIdx>>,
    watched: BTreeSet<TaskKey>,
    /// Pids that listen on a runtime's socket, of which nothing else is known yet.
    daemons_to_come: BTreeSet<(HostNo, u32)>,
    /// When it was asked last.
    asked: Table<Want, BootTime>,
    wants: Vec<Want>,
    findings: Vec<Finding>,
    measures: Measures,
    totals: Totals,
    is_overfull: bool,
    start: Start,
    /// When refusals of full tables may be reported again.
    next_refusal: BootTime,
    /// When a full socket table may be searched again.
    next_room: BootTime,
}

/// A session that was told of and goes on.
struct Open {
    session: Arc<Session>,
    /// Sorted, each once.
    dependencies: Vec<Dependency>,
}

impl Correlator {
    /// Knows nothing yet. `host` gives the boot id that session ids are made of.
    #[must_use]
    pub fn new(host: &HostFacts, options: &Options) -> Self {
        Self {
            order: Order::default(),
            now: BootTime::default(),
            timers: first_timers(),
            state: State {
                hosts: Hosts::new(host),
                places: options.places(),
                processes: Processes::default(),
                sockets: Sockets::new(options.pairing),
                pairings: Pairings::default(),
                execs: Execs::default(),
                streams: BTreeMap::new(),
                calls: BTreeMap::new(),
                stores: BTreeMap::new(),
                pods: BTreeMap::new(),
                daemon_connections: BTreeMap::new(),
                containers: BTreeMap::new(),
                losses: Losses::default(),
                refused: Refused::default(),
                caps: Caps::default(),
                audits: Audits::default(),
                verified: BTreeSet::new(),
            },
            open: BTreeMap::new(),
            closed: VecDeque::new(),
            resting: Table::default(),
            dirty: BTreeSet::new(),
            legs: BTreeMap::new(),
            served: BTreeSet::new(),
            asked_for: BTreeMap::new(),
            older_unix: 0,
            unowned: BTreeMap::new(),
            watched: BTreeSet::new(),
            daemons_to_come: BTreeSet::new(),
            asked: Table::default(),
            wants: Vec::new(),
            findings: Vec::new(),
            measures: Measures::default(),
            totals: Totals::default(),
            is_overfull: false,
            start: Start::default(),
            next_refusal: BootTime::default(),
            next_room: BootTime::default(),
        }
    }

    /// Of several hosts: what follows is of these, too, by their numbers from 1.
    #[must_use]
    pub fn with(mut self, others: &[HostFacts]) -> Self {
        self.state.hosts.add(others);
        self
    }

    /// Takes in one observation. Never fails: what makes no sense is left out.
    pub fn ingest(&mut self, seen: Observation) {
        self.totals.observations += 1;
        if seen.at > BootTime::LATEST {
            return;
        }
        self.watch_start(&seen);
        // The passing of time has no place of its own in the order: it lets others go.
        if seen.fact == Fact::Tick {
            self.order.advance(seen.at);
        } else {
            self.order.push(seen);
        }
        self.totals.late = self.order.late;
        while let Some(seen) = self.order.pop() {
            self.take(seen);
        }
        while let Some(seen) = self.order.pop_excess() {
            self.is_overfull = true;
            self.take(seen);
        }
        self.elapse(self.order.settled());
    }

    /// Whether more observations waited for their turn than memory allows, so that some were let through early. A recording that
    /// leads to it was not written by this program.
    #[must_use]
    pub const fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// Takes in everything that still waits for its turn in the reordering window.
    pub fn flush(&mut self) {
        self.release_all();
        self.tell_refused();
    }

    fn release_all(&mut self) {
        while let Some(seen) = self.order.pop_any() {
            self.take(seen);
        }
        self.conclude();
    }

    /// Takes in everything that was told, and lets time pass up to then: for whoever knows that nothing earlier follows.
    pub fn reach(&mut self, at: BootTime) {
        self.release_all();
        self.elapse(at);
        self.conclude();
    }

    /// Takes in everything, as of now: for whoever reads no records of the kernel, which alone come out of order.
    pub fn settle(&mut self, now: BootTime) {
        self.flush();
        self.reconsider_asked();
        self.elapse(now);
        self.conclude();
        if self.wants.is_empty() {
            // No answer is awaited that may still name a process.
            self.dirty.extend(self.state.execs.identify_all(&self.state.hosts));
            self.conclude();
        }
    }

    /// Up to when everything is taken in and what follows from it is told: nothing earlier is expected any more.
    #[must_use]
    pub fn settled(&self) -> BootTime {
        let settled = self.order.settled();
        if self.is_told() { settled } else { settled.min(self.now.whole(TOGETHER)) }
    }

    /// Whether everything that was taken in was told.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Whether something waits for its turn, or to be told: then the next [`Fact::Tick`] should come soon.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !(self.order.is_empty() && self.is_told())
    }

    /// Whether a session is open.
    #[must_use]
    pub fn is_anything_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Questions that came up since the last call.
    pub fn wants(&mut self) -> Vec<Want> {
        std::mem::take(&mut self.wants)
    }

    /// What changed since the last call.
    pub fn drain(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// Everything that is known.
    #[must_use]
    pub fn report(&self) -> Report {
        let all = self.closed.iter().chain(self.open.values().map(|open| &open.session));
        let mut sessions: Vec<Session> = all.map(|session| Session::clone(session)).collect();
        for session in &mut sessions {
            session.last_seen = self.now;
            self.state.add_late(session);
        }
        sessions.sort_by(|a, b| (a.opened_at, &a.id).cmp(&(b.opened_at, &b.id)));
        Report {
            at: self.now,
            sessions,
            loose: self
                .state
                .loose(|idx| self.resting.get(&Dependency::Socket(idx))?.first().map(|id| self.state.session_id(id))),
            daemons: self.state.daemons(),
            standing: self.state.standing(),
            measures: self.measures.clone(),
            diagnosis: Diagnosis::default(),
            totals: self.totals.clone(),
        }
    }

    fn take(&mut self, seen: Observation) {
        self.elapse(seen.at);
        self.apply(seen);
        self.note_refused();
    }

    /// It is that late, and everything before is taken in.
    fn elapse(&mut self, until: BootTime) {
        // Due times are later than `now` by construction, which the largest number has no room for.
        let until = until.min(BootTime::LATEST);
        if until.whole(TOGETHER) > self.now {
            if !self.is_told() {
                self.now = self.now.whole(TOGETHER).plus(TOGETHER);
                self.conclude();
            }
            self.now = until.whole(TOGETHER);
            self.conclude();
        }
        self.now = self.now.max(until);
    }

    /// Looks at what was put off until now, and puts together what changed.
    fn conclude(&mut self) {
        let now = self.now;
        self.expire(Phase::BeforeRebuild);
        self.rebuild_all();
        // What kubectl asked for is told where no session shows it.
        self.expire(Phase::AfterRebuild);
        self.rebuild_all();
        if now >= self.next_refusal {
            self.tell_refused();
        }
        self.expire(Phase::Sweep);
    }

    fn expire(&mut self, phase: Phase) {
        while let Some((due, timer)) = self.timers.pop(phase, self.now) {
            match timer {
                Timer::PeerMissing(leg) => self.look_after(leg),
                Timer::StreamUnclaimed(idx) => self.look_at_stream(due, idx),
                Timer::ExecUnclaimed(id) => self.look_at_unclaimed(&id),
                Timer::Rebuild(id) => drop(self.dirty.insert(id)),
                Timer::RequestUnshown(task) => self.look_at_asked(due, task),
                Timer::Sweep => {
                    self.timers.set(self.now.plus(SWEEP_EVERY), Timer::Sweep);
                    self.sweep();
                }
                // Expired by the sweep itself.
                Timer::UnixIdle(_) | Timer::ExecUnused(_) | Timer::SessionOver(_) => {}
            }
        }
    }

    fn apply(&mut self, seen: Observation) {
        self.measures.take(&seen);
        let (at, task, source) = (seen.at, seen.task, seen.source);
        match (seen.fact, task) {
            (Fact::Fork { child, actor, inbound }, Some(by)) => self.forked(at, by, child, actor, inbound),
            (Fact::Exec(info), Some(task)) => self.executed(at, task, &info),
            (Fact::Enrolled(info), Some(task)) => {
                self.watched.insert(task);
                self.learned(task, *info);
                self.ask(Want::Process(task));
                // Asked now: who started it may be gone by the time that it is known to be a session's client.
                self.ask(Want::Ancestry(task));
            }
            (Fact::Ancestry(ancestry), Some(task)) => {
                self.state.processes.entry(task).ancestry = Some((*ancestry).into());
                self.touch(&Dependency::Task(task));
            }
            (Fact::ProcessSeen(info), Some(task)) => {
                // Snapshots of older formats do not say whether the process had ended by then, and its cgroup was another.
                let cgroup = info.cgroup.clone().filter(|_| info.userns.is_some());
                self.learned(task, *info);
                if cgroup.is_some() {
                    self.state.processes.entry(task).cgroup = cgroup;
                }
            }
            (Fact::ProcessGone, Some(task)) => {
                self.state.processes.gone(task, at);
                self.touch(&Dependency::Task(task));
            }
            (Fact::Watched, Some(task)) => self.watched(at, task),
            (Fact::Looked, Some(task)) => self.looked(at, task),
            (Fact::Exit { status }, Some(task)) => self.exited(at, task, status),
            (Fact::Listening { socket }, Some(task)) => self.listening(at, task, &socket),
            (Fact::ListeningUnix { path, listener, .. }, Some(task)) => match listener {
                Some(listener) => self.listener_verified(task, &path, &listener),
                None => self.daemon_found(task, &path),
            },
            (Fact::Connected { socket, actor, inbound }, Some(task)) => {
                self.connected(at, task, socket, actor, inbound)
            }
            (Fact::Accepted { socket }, Some(task)) => {
                self.state.processes.serves(task, at);
                let socket = SocketInfo { role: Some(SocketRole::Accepted), ..socket };
                if let Some(idx) = self.socket_as(at, Some(task), &socket, true) {
                    self.perhaps_stream(at.plus(limits::STREAM_ALONE), task, idx);
                }
            }
            (Fact::SocketSeen { socket }, task) => {
                let is_new = self.state.sockets.find(socket.id).is_none();
                let idx = self.socket(at, task, &socket);
                if source == Source::Snapshot
                    && let Some(idx) = idx
                {
                    for changed in self.state.sockets.found(at, idx) {
                        self.touch(&Dependency::Socket(changed));
                    }
                }
                if let (Some(idx), Some(task), true) = (idx, task, is_new)
                    && source == Source::Snapshot
                {
                    self.state.sockets.set_older(idx);
                    // Everything else of the snapshot is as old.
                    self.perhaps_stream(at.plus(limits::SNAPSHOT_WITHIN), task, idx);
                }
                if let (Some(task), Some(tuple)) = (task, socket.tuple) {
                    self.endpoint_found(task, tuple.local.port());
                    self.endpoint_found(task, tuple.remote.port());
                }
            }
            (Fact::Closed { socket, received, acked }, _) => {
                if let Some(idx) = self.state.sockets.closed(at, socket, received, acked) {
                    self.touch(&Dependency::Socket(idx));
                }
            }
            (Fact::PeerAbsent { tuple, netns, host }, _) => {
                for idx in self.state.sockets.peer_absent(tuple, netns, host) {
                    self.peer_absent(at, idx);
                }
            }
            (Fact::UnixConnected { socket: _, listener: Some(listener), path, bound: true }, by) => {
                self.connected_to(by, listener, &path);
            }
            (Fact::UnixConnected { socket, listener: Some(listener), path, bound: false }, _) => {
                if let Some(task) = self.state.processes.current_task(socket.host, listener) {
                    self.daemon_found(task, &path);
                } else if self.state.is_daemon_socket(&path) {
                    self.daemons_to_come.insert((socket.host, listener));
                    self.ask(Want::Pid(listener));
                }
            }
            (Fact::UnixAccepted { socket, peer, connector, path, bound }, Some(task)) => {
                if let Some(path) = self.served_at(task, path, bound) {
                    let older = source == Source::Snapshot;
                    self.unix_accepted(at, task, connector, older, DaemonConnection { path, near: peer, far: socket });
                }
            }
            (Fact::Touched { actor, socket }, Some(task)) => self.touched(at, task, actor, &socket),
            (Fact::FifoHeld { path, file, fd }, Some(task)) => match fd {
                Some(fd) => self.pipe_held(task, &path, file, fd),
                None => self.fifo_held(at, task, &path, file),
            },
            (Fact::FifoRelayed { actor, fifo, to }, Some(task)) => self.fifo_relayed(at, task, actor, fifo, &to),
            (Fact::FifoAwaited { path, socket, copied }, Some(task)) => {
                self.fifo_awaited(at, task, &path, socket, copied)
            }
            (Fact::RelayAwaited { from, to, copied }, Some(_)) => self.relay_awaited(at, from, to, copied),
            (Fact::Relayed { actor, from, to, .. }, Some(task)) => self.relayed(at, task, actor, &from, &to),
            (Fact::FifoMade { actor, inbound, from, path }, Some(task)) => {
                if let Some(from) = from {
                    self.streamed_by(at, task, &from);
                }
                self.fifo(at, task, actor, inbound, &path);
            }
            (Fact::ContainerSeen(info), _) => {
                self.container_named(*info);
            }
            (Fact::ContainerUnknown { id }, _) => {
                self.state.containers.entry(id.clone()).or_insert(None);
                self.touch(&Dependency::Container(id.into()));
            }
            (Fact::PidFile { path, pid }, shim) => self.pid_file(at, shim, &path, pid),
            (Fact::AuditFollowed, _) => {
                self.state.audits.followed = self.state.audits.followed.or(Some(at));
                self.dirty.extend(self.open.keys().cloned());
            }
            (Fact::Audited(event), _) => {
                let touched = self.state.audits.take(at, *event);
                self.reconsider(touched);
            }
            (Fact::AuditSkipped { count }, _) => {
                let what = self.count_loss("audit-log".to_owned(), count);
                self.state.audits.skipped(at);
                self.dirty.extend(self.open.keys().cloned());
                self.tell(Change::Loss { what, count });
            }
            (Fact::Stopped, _) => {
                // What waits for the log waits in vain.
                self.state.audits.ended = true;
                self.dirty.extend(self.open.keys().cloned());
            }
            (Fact::Lost { what, count }, _) => {
                self.state.losses.report(at, &what);
                self.lost(what, count);
            }
            // The passing of time is in `at`; the rest needs a process and has none: a damaged or made-up recording.
            (
                Fact::Tick
                | Fact::Continued
                | Fact::UnixConnected { .. }
                | Fact::Fork { .. }
                | Fact::Exec(_)
                | Fact::Enrolled(_)
                | Fact::ProcessSeen(_)
                | Fact::Ancestry(_)
                | Fact::ProcessGone
                | Fact::Watched
                | Fact::Looked
                | Fact::Exit { .. }
                | Fact::Listening { .. }
                | Fact::ListeningUnix { .. }
                | Fact::Connected { .. }
                | Fact::Accepted { .. }
                | Fact::UnixAccepted { .. }
                | Fact::Relayed { .. }
                | Fact::FifoMade { .. }
                | Fact::Touched { .. }
                | Fact::FifoHeld { .. }
                | Fact::FifoRelayed { .. }
                | Fact::FifoAwaited { .. }
                | Fact::RelayAwaited { .. },
                _,
            ) => {}
            // Numbers change no link.
            (
                Fact::TcpMeasured { .. }
                | Fact::PeerMeasured { .. }
                | Fact::UnixMeasured { .. }
                | Fact::SocketGone { .. }
                | Fact::SocketUnlisted { .. }
                | Fact::ProcessMeasured(_)
                | Fact::Descriptors { .. }
                | Fact::FileMeasured { .. }
                | Fact::FifoUsed { .. },
                _,
            ) => {}
        }
    }

    /// Adds to the counter of that name; tells the name under which it counts.
    fn count_loss(&mut self, what: String, count: u64) -> String {
        let lost = &mut self.totals.lost;
        let is_excess = lost.len() >= limits::MAX_LOSS_NAMES && !lost.contains_key(&what);
        let what = if is_excess { "other".to_owned() } else { what };
        let total = lost.entry(what.clone()).or_default();
        *total = match unit_of_loss(&what) {
            Unit::Events => total.saturating_add(count),
            Unit::Milliseconds => count.max(*total),
        };
        what
    }

    /// Names of a container. Files, monitors and log links each know some: what one of them said stays.
    pub(super) fn container_named(&mut self, info: ContainerInfo) {
        let dependency = Dependency::Container(info.id.as_str().into());
        let known = self.state.containers.entry(info.id.clone()).or_default();
        let new = Target::from(info);
        *known = Some(Arc::new(match known.take() {
            Some(old) => Arc::unwrap_or_clone(old).or(new),
            None => new,
        }));
        self.touch(&dependency);
    }

    fn learned(&mut self, task: TaskKey, info: ProcessInfo) {
        // Of a zombie, /proc has neither arguments nor the terminal.
        let described = info.cgroup.is_some() && !info.argv.is_empty();
        if self.state.processes.learn(task, info) {
            self.touch(&Dependency::Task(task));
        }
        self.perhaps_asked(task);
        self.perhaps_terminal(task, described);
        if self.daemons_to_come.remove(&(task.host, task.tgid)) {
            self.watched.insert(task);
            self.ask(Want::Watch(task, WatchAs::Daemon));
        }
        self.current_task_found(task);
        self.perhaps_starting(task);
        self.perhaps_foreground(task);
        self.perhaps_of_foreground(task);
    }

    fn listening(&mut self, at: BootTime, task: TaskKey, socket: &SocketInfo) {
        let socket = SocketInfo { role: Some(SocketRole::Listening), ..*socket };
        self.socket(at, Some(task), &socket);
        if let Some(tuple) = socket.tuple {
            self.state.processes.entry(task).ports.insert(tuple.local.port());
            self.state.processes.serves(task, at);
            self.touch(&Dependency::Task(task));
            self.endpoint_found(task, tuple.local.port());
        }
    }

    /// A process with a socket on a port of the path that is older than the tracer.
    fn endpoint_found(&mut self, task: TaskKey, port: u16) {
        if self.state.places.is_path_port(port) && self.watched.insert(task) {
            self.ask(Want::Watch(task, WatchAs::Endpoint));
        }
    }

    /// What a snapshot verified of a process that listens.
    fn listener_verified(&mut self, task: TaskKey, bound: &RawText, listener: &Listener) {
        self.state.verified.insert(task.host);
        self.state.processes.listens(task, bound, listener);
        if let Some(at) = listener.serves_at() {
            self.daemon_found(task, at);
        }
    }

    /// A connection to a listener of that name. The name proves nothing, and a socket may have another path by now: whose the
    /// listener is gets asked where a daemon has such a name, and where a kubelet connects.
    fn connected_to(&mut self, by: Option<TaskKey>, listener: u32, bound: &RawText) {
        let host = by.map(|by| by.host).unwrap_or_default();
        let task = self.state.processes.current_task(host, listener);
        if task.is_some_and(|task| self.state.processes.serves_at(task, bound).is_some()) {
            return;
        }
        if self.state.is_daemon_socket(bound) || by.is_some_and(|by| self.state.is_kubelet(by)) {
            self.ask(Want::Listeners(listener));
        }
    }

    /// The path at which clients reach the listener that accepted a connection; `None` where that is no daemon's, as far as is
    /// known.
    fn served_at(&mut self, task: TaskKey, path: RawText, bound: bool) -> Option<RawText> {
        if !bound {
            self.daemon_found(task, &path);
            return Some(path);
        }
        let at = self.state.processes.serves_at(task, &path).cloned();
        if at.is_none() && self.state.is_daemon_socket(&path) {
            self.ask(Want::Listeners(task.tgid));
        }
        at
    }

    fn daemon_found(&mut self, task: TaskKey, path: &RawText) {
        if !self.state.may_be_daemon(task) {
            return;
        }
        if self.state.is_daemon_socket(path) {
            self.watched.insert(task);
            self.ask(Want::Watch(task, WatchAs::Daemon));
        }
        if self.state.places.is_runtime_socket(path) {
            let known = Runtime::at_socket(path);
            let process = self.state.processes.entry(task);
            process.is_runtime = true;
            process.runtime = process.runtime.or(known);
        }
    }

    fn connected(&mut self, at: BootTime, task: TaskKey, socket: SocketInfo, actor: Actor, inbound: Option<SocketId>) {
        let socket = SocketInfo { role: Some(SocketRole::Connected), ..socket };
        let Some(outbound) = self.socket_as(at, Some(task), &socket, true) else { return };
        if inbound.is_some_and(|id| self.state.sockets.find(id).is_none()) {
            // Accepted, and not told: whoever it was, this process did not begin the connection.
            self.state.pairings.dialled_for_unknown(outbound);
        }
        if let Some(inbound) = inbound.and_then(|id| self.state.sockets.find(id)) {
            let rivals = self.state.pairings.dialled(at, inbound, outbound, actor, &self.state.sockets);
            for idx in rivals.into_iter().chain([outbound]) {
                self.touch(&Dependency::Socket(idx));
            }
            if socket.tuple.is_some_and(|tuple| self.state.places.is_kubelet_port(tuple.remote.port())) {
                self.timers.set(at.plus(limits::PEER_WITHIN), Timer::PeerMissing(outbound));
            }
        }
    }

    /// A leg dialled for somebody to a kubelet that nobody accepted here: is that kubelet on another host? What the API
    /// server dials for one request, it dials for exec, attach or port-forward; logs ride pooled connections.
    fn look_after(&mut self, leg: SocketIdx) {
        let Some(socket) = self.state.sockets.get(leg) else { return };
        let (peer, closed, tuple, netns, isn) = (socket.peer, socket.closed, socket.tuple, socket.netns, socket.isn);
        if let (None, None, Some(tuple)) = (peer, closed, tuple) {
            self.ask(Want::Peer { tuple, netns, isn });
        }
    }

    /// Nobody on this host has the other end.
    fn peer_absent(&mut self, at: BootTime, leg: SocketIdx) {
        self.touch(&Dependency::Socket(leg));
        let Some(socket) = self.state.sockets.get(leg) else { return };
        let to_kubelet = socket.tuple.is_some_and(|tuple| self.state.places.is_kubelet_port(tuple.remote.port()));
        let dialled =
            socket.role == Some(SocketRole::Connected) && matches!(self.state.inbound_of(leg), PairResult::Paired(_));
        if let (true, true, Some(cookie)) = (to_kubelet, dialled, socket.id.cookie) {
            // No exec id here: the session is named by its leg, as nothing else is seen of it.
            let host = socket.id.host;
            let id = AnchorId::leg(host, cookie, leg);
            let since = socket.since.min(at);
            if let Some(exec) = self.state.exec(host, &id, "", since) {
                exec.what = What::Leg;
                exec.leaves_by = Some(leg);
                self.legs.insert(leg, id.clone());
                self.dirty.insert(id);
            }
        }
    }

    fn relayed(&mut self, at: BootTime, task: TaskKey, actor: Actor, from: &SocketInfo, to: &SocketInfo) {
        let (Some(from), Some(to)) = (self.relay_end(at, task, from), self.relay_end(at, task, to)) else {
            return;
        };
        let is_news = self.infer_roles(from, to) | self.state.pairings.moved(from, to, actor);
        self.joined_if(is_news, at, from, to);
    }

    /// Goroutines that wait copy between two sockets. Those of one creator do so where a request is served for the path: whoever
    /// else serves may have started, in one goroutine, one for each of two that have nothing to do with each other.
    fn relay_awaited(&mut self, at: BootTime, from: SocketId, to: SocketId, copied: bool) {
        let (Some(from), Some(to)) = (self.state.sockets.find(from), self.state.sockets.find(to)) else { return };
        let port = |idx| self.state.sockets.get(idx).and_then(|socket| socket.tuple).map(|tuple| tuple.local.port());
        let is_path_port = |idx| port(idx).is_some_and(|port| self.state.places.is_path_port(port));
        if copied || is_path_port(from) || is_path_port(to) {
            self.state.pairings.add_memory_pair(from, to, copied);
            self.joined(at, from, to);
        }
    }

    /// One end of a relay. A unix connection of a daemon is shared (CRI, ttrpc) and no session's leg; of those that can be
    /// one, it was seen who connected.
    fn relay_end(&mut self, at: BootTime, task: TaskKey, end: &SocketInfo) -> Option<SocketIdx> {
        if end.family == Family::Unix {
            let known = self.state.sockets.find(end.id)?;
            return self.state.sockets.get(known).is_some_and(|socket| socket.unix.is_some()).then_some(known);
        }
        self.socket(at, Some(task), end)
    }

    /// Goroutines of one creator touched a socket.
    fn touched(&mut self, at: BootTime, task: TaskKey, actor: Actor, socket: &SocketInfo) {
        let (Some(goid), Some(creator)) = (actor.goid, actor.parent_goid) else { return };
        let Some(idx) = self.socket(at, Some(task), socket) else { return };
        for other in self.state.pairings.touched(task, creator, goid, idx) {
            self.joined(at, idx, other);
        }
    }

    /// Something new is known of these two sockets of one process.
    fn joined(&mut self, at: BootTime, a: SocketIdx, b: SocketIdx) {
        self.joined_if(true, at, a, b);
    }

    /// These two sockets of one process were seen together. Where that `is_news`, sessions that rest on them change; where it is not,
    /// what it means may have come to be known meanwhile.
    fn joined_if(&mut self, is_news: bool, at: BootTime, a: SocketIdx, b: SocketIdx) {
        for idx in [a, b] {
            if is_news {
                self.touch(&Dependency::Socket(idx));
            }
            let Some(socket) = self.state.sockets.get(idx) else { continue };
            let (absent, leaves) = (
                socket.peer_absent,
                socket.role == Some(SocketRole::Connected)
                    && socket.peer.is_none()
                    && self.state.leads_to_kubelet(socket.tuple),
            );
            if leaves && matches!(self.state.inbound_of(idx), PairResult::Paired(_)) {
                if absent {
                    self.peer_absent(at, idx);
                } else {
                    self.timers.set(at.plus(limits::PEER_WITHIN), Timer::PeerMissing(idx));
                }
            }
            if let Some(id) = self.state.exec_of_hijacked(idx).cloned() {
                self.dirty.insert(id);
            }
        }
        self.stream_served(a, b);
    }

    /// A relay whose inbound connection was accepted before the process came onto the path: the other one was seen to be
    /// connected by it, and what is not connected was accepted. Servers' ports are lower than those that the kernel chooses for
    /// who connects; the other way round it is a tunnel that this process connected itself (konnectivity, k3s agents). Tells whether
    /// that is anything new.
    fn infer_roles(&mut self, a: SocketIdx, b: SocketIdx) -> bool {
        let mut is_news = false;
        for (one, other) in [(a, b), (b, a)] {
            let role = |idx| self.state.sockets.get(idx).and_then(|socket| socket.role);
            let tuple = self.state.sockets.get(other).and_then(|socket| socket.tuple);
            let serves = tuple.is_some_and(|tuple| tuple.local.port() < tuple.remote.port());
            if role(one) == Some(SocketRole::Connected) && role(other).is_none() && serves {
                self.state.sockets.set_role(other, SocketRole::Accepted);
                is_news = true;
            }
        }
        is_news
    }

    fn socket(&mut self, at: BootTime, task: Option<TaskKey>, info: &SocketInfo) -> Option<SocketIdx> {
        self.socket_as(at, task, info, false)
    }

    fn socket_as(&mut self, at: BootTime, task: Option<TaskKey>, info: &SocketInfo, begins: bool) -> Option<SocketIdx> {
        if self.state.sockets.is_full() && self.state.sockets.find(info.id).is_none() {
            self.make_room_for_socket();
        }
        let Learned { idx, changed, is_news } = self.state.sockets.learn(at, task, info, begins)?;
        if is_news {
            self.touch(&Dependency::Socket(idx));
        }
        if let Some(task) = task {
            self.perhaps_call(task, idx, info);
            self.perhaps_store(task, idx, info);
        }
        for changed in changed {
            self.touch(&Dependency::Socket(changed));
        }
        Some(idx)
    }

    /// Marks every session that rests on that part.
    fn touch(&mut self, dependency: &Dependency) {
        for id in self.resting.get(dependency).into_iter().flatten() {
            if !self.dirty.contains(id) {
                self.dirty.insert(id.clone());
            }
        }
    }

    /// Asks once; who has the other end of a connection, and who listens, again after a while: addresses and pids are used again.
    fn ask(&mut self, want: Want) {
        let asked = self.asked.get(&want).copied();
        let again = matches!(want, Want::Peer { .. } | Want::Listeners(_));
        if asked.is_none_or(|at| again && self.now.since(at) >= limits::PEER_AGAIN) {
            self.asked.insert(want.clone(), self.now);
            self.wants.push(want);
        }
    }

    fn tell(&mut self, change: Change) {
        self.findings.push(Finding { at: self.now, change });
    }

    fn rebuild_all(&mut self) {
        while let Some(id) = self.dirty.pop_first() {
            self.rebuild(&id);
        }
    }

    fn rebuild(&mut self, id: &AnchorId) {
        let Some(exec) = self.state.execs.get(id) else { return };
        if !exec.is_session() || exec.over {
            return;
        }
        match self.state.readiness(exec, self.now) {
            Readiness::Ready => {}
            Readiness::At(due) => {
                self.timers.set(due, Timer::Rebuild(id.clone()));
                return;
            }
            Readiness::OnFact => return,
        }
        if let Some(due) = self.state.execs.identify(&self.state.hosts, id, self.now) {
            self.timers.set(due, Timer::Rebuild(id.clone()));
            return;
        }
        let Some(exec) = self.state.execs.get(id) else { return };
        let (is_leg, is_asked) = (exec.leaves_by.is_some(), matches!(exec.what, What::Asked | What::Request));
        let built = self.state.build(id, exec, self.now);
        if !is_leg && !self.legs.is_empty() {
            self.merge_legs(id, &built.dependencies);
        }
        if !is_asked {
            let client = built.session.hops.first().filter(|hop| hop.role == Role::Client);
            self.served.extend(client.map(|hop| hop.task));
        }
        if !self.asked_for.is_empty() {
            self.asked_is_shown(id, &built.dependencies);
        }
        for want in built.wants {
            self.ask(want);
        }
        for hop in &built.session.hops {
            if hop.exit.is_none() && self.watched.insert(hop.task) {
                self.ask(Want::Watch(hop.task, WatchAs::Endpoint));
                if hop.role == Role::Process {
                    // It may have ended before it was watched: no record tells of that.
                    self.wants.push(Want::Process(hop.task));
                }
            }
        }
        if let Some(at) = built.again_at {
            self.timers.set(at, Timer::Rebuild(id.clone()));
        }
        let old = self.open.remove(id);
        let old_dependencies = old.as_ref().map_or(&[][..], |open| &open.dependencies);
        if *old_dependencies != built.dependencies {
            let is_in =
                |dependencies: &[Dependency], dependency: &Dependency| dependencies.binary_search(dependency).is_ok();
            for gone in old_dependencies.iter().filter(|dependency| !is_in(&built.dependencies, dependency)) {
                self.unrest(gone, id);
            }
            for new in built.dependencies.iter().filter(|dependency| !is_in(old_dependencies, dependency)) {
                self.rest(new, id);
            }
        }
        let mut session = built.session;
        self.name_user(id, &mut session, built.question);
        let is_new = old.is_none();
        let is_news = old.is_none_or(|old| {
            // That it was seen again is none.
            let last_seen = std::mem::replace(&mut session.last_seen, old.session.last_seen);
            let differs = session != *old.session;
            session.last_seen = last_seen;
            differs
        });
        self.totals.opened += u64::from(is_new);
        let session = Arc::new(session);
        if session.state == SessionState::Closed {
            if is_new {
                self.tell(Change::Opened(Arc::clone(&session)));
            }
            self.totals.closed += 1;
            self.tell(Change::Closed(Arc::clone(&session)));
            for dependency in &built.dependencies {
                self.unrest(dependency, id);
            }
            self.closed.push_back(session);
            if self.closed.len() > CLOSED_SESSIONS {
                self.closed.pop_front();
            }
            if let Some(exec) = self.state.execs.get_mut(id) {
                exec.over = true;
            }
            self.legs.retain(|_, leg| leg != id);
            self.asked_for.retain(|_, asked| asked != id);
            self.timers.set(self.now.plus(limits::REMEMBER), Timer::SessionOver(id.clone()));
            return;
        }
        if is_new {
            self.tell(Change::Opened(Arc::clone(&session)));
        } else if is_news {
            self.tell(Change::Changed(Arc::clone(&session)));
        }
        self.open.insert(id.clone(), Open { session, dependencies: built.dependencies });
    }

    /// What stood for itself, because nobody had its other end, is a part of this one.
    fn merge_legs(&mut self, id: &AnchorId, dependencies: &[Dependency]) {
        let is_dependency = |idx: &SocketIdx| dependencies.binary_search(&Dependency::Socket(*idx)).is_ok();
        let merged: Vec<SocketIdx> = self.legs.keys().copied().filter(is_dependency).collect();
        for leg in merged {
            if let Some(name) = self.legs.remove(&leg) {
                self.resolve(self.now, &name, id);
            }
        }
    }

    fn rest(&mut self, dependency: &Dependency, id: &AnchorId) {
        let sessions = self.resting.entry(dependency.clone()).or_default();
        if let Err(at) = sessions.binary_search(id) {
            sessions.insert(at, id.clone());
        }
    }

    fn unrest(&mut self, dependency: &Dependency, id: &AnchorId) {
        if let Some(sessions) = self.resting.get_mut(dependency) {
            if let Ok(at) = sessions.binary_search_by(|other| other.cmp(id)) {
                sessions.remove(at);
            }
            if sessions.is_empty() {
                self.resting.swap_remove(dependency);
            }
        }
    }

    /// Forgets what is over.
    fn sweep(&mut self) {
        let mut again = BTreeSet::new();
        let (now, resting) = (self.now, &self.resting);
        self.state.processes.sweep(now, |task| resting.contains_key(&Dependency::Task(task)));
        let mut gone = self.state.sockets.sweep(now, |idx| resting.contains_key(&Dependency::Socket(idx)));
        let mut forgotten = BTreeSet::new();
        while let Some((_, timer)) = self.timers.pop(Phase::Discard, now) {
            match timer {
                Timer::UnixIdle(ends) => {
                    if [ends.near, ends.far].iter().any(|idx| resting.contains_key(&Dependency::Socket(*idx))) {
                        self.timers.set(now.plus(limits::UNIX_KEPT), Timer::UnixIdle(ends));
                    } else {
                        gone.extend([ends.near, ends.far]);
                        self.state.sockets.drop_entry(ends.near);
                        self.state.sockets.drop_entry(ends.far);
                    }
                }
                Timer::ExecUnused(id) => {
                    // Known from runc's arguments alone: no runtime of the path made its FIFOs, so it never was a session.
                    if self.state.execs.get(&id).is_some_and(|exec| !exec.is_session()) {
                        forgotten.insert(id);
                    }
                }
                Timer::SessionOver(id) => {
                    again.extend(self.state.audits.forget(&id));
                    forgotten.insert(id);
                }
                Timer::PeerMissing(_)
                | Timer::StreamUnclaimed(_)
                | Timer::ExecUnclaimed(_)
                | Timer::Rebuild(_)
                | Timer::RequestUnshown(_)
                | Timer::Sweep => {}
            }
        }
        self.forget_sockets(gone);
        self.state.execs.forget_all(forgotten);
        self.state.forget_calls();
        self.state.forget_stores();
        self.state.audits.sweep(now);
        self.reconsider(again);
        let processes = &self.state.processes;
        self.watched.retain(|task| processes.get(*task).is_some());
        self.served.retain(|task| processes.get(*task).is_some());
        self.state.pods.retain(|shim, _| processes.get(*shim).is_some());
        self.state
            .daemon_connections
            .retain(|(near, far), _| processes.get(*near).is_some() && processes.get(*far).is_some());
        if self.state.containers.len() > limits::MAX_CONTAINERS {
            let resting = &self.resting;
            self.state.containers.retain(|id, _| resting.contains_key(&Dependency::Container(id.as_str().into())));
            // Their names may be asked for again.
            self.asked.retain(|want, _| !matches!(want, Want::Container { .. }));
        }
        if self.asked.len() > limits::MAX_ASKED {
            self.asked.clear();
        }
        self.measures.forget_before(now.minus(limits::MEASURES_KEPT));
    }
}

fn first_timers() -> Timers {
    let mut timers = Timers::default();
    timers.set(BootTime::default(), Timer::Sweep);
    timers
}
