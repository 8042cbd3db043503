//! What a kubectl of this host asked for, as long as nothing else shows it: an API server that lets it wait, a kubelet that is
//! not reached, an API server on another host; and `kubectl logs`, whose bytes ride a connection that others share.

use crate::correlate::{
    Correlator, Open,
    limits::{ASKED_AFTER, ASKED_AGAIN, SNAPSHOT_TAKEN_IN},
    state::{Dependency, anchor_id::AnchorId, anchors::What, kubectl::kept_open, sockets::SocketIdx},
    timers::Timer,
};
use crate::model::{BootTime, GapCode, Role, Session, SocketInfo, SocketRole, TaskKey};

impl Correlator {
    /// A connection to an API server: if a kubectl made it that keeps it, it may be all that is seen of what was asked for.
    pub(in crate::correlate) fn perhaps_call(&mut self, task: TaskKey, idx: SocketIdx, socket: &SocketInfo) {
        let to_apiserver = socket.tuple.is_some_and(|tuple| self.state.places.is_apiserver_port(tuple.remote.port()));
        if !to_apiserver || socket.role == Some(SocketRole::Accepted) {
            return;
        }
        self.state.note_call(task, idx);
        self.perhaps_asked(task);
    }

    /// A process of which something was learned: if it is such a kubectl, look at it when it would be served.
    pub(in crate::correlate) fn perhaps_asked(&mut self, task: TaskKey) {
        let process = self.state.processes.get(task);
        if self.state.calls.contains_key(&task)
            && !self.asked_for.contains_key(&task)
            && let Some(process) = process
            && let Some(call) = self.state.kubectl(task, &process.info)
        {
            if kept_open(call.word).is_none() {
                self.timers.set(self.now, Timer::RequestUnshown(task));
                return;
            }
            // One that is older than that is told of by a snapshot, of which the rest is still to come.
            let since = |idx| self.state.sockets.get(idx).map(|socket| socket.since.plus(SNAPSHOT_TAKEN_IN));
            let told = self.state.open_calls(task).filter_map(since).max();
            self.timers.set(served_by(task).max(told.unwrap_or_default()), Timer::RequestUnshown(task));
        }
    }

    /// Nothing more will come: those that were put off are looked at again.
    pub(in crate::correlate) fn reconsider_asked(&mut self) {
        self.timers.reschedule_requests(served_by);
    }

    /// Nothing shows what that kubectl asked for: its own connection does, then.
    pub(in crate::correlate) fn look_at_asked(&mut self, at: BootTime, task: TaskKey) {
        let is_request = self.state.is_request(task);
        let gone = self.state.processes.get(task).is_none_or(|process| process.exit.is_some());
        if gone
            || self.served.contains(&task)
            || self.asked_for.contains_key(&task)
            || self.resting.contains_key(&Dependency::Task(task))
        {
            return;
        }
        // A session whose client is not known yet may be this one.
        let may_be = |open: &Open| lacks_client(&open.session) && !self.is_abandoned(&open.dependencies);
        if !is_request && self.open.values().any(may_be) {
            self.timers.set(at.next_after(self.now, ASKED_AGAIN), Timer::RequestUnshown(task));
            return;
        }
        let Some(call) = self.state.open_calls(task).max() else { return };
        let id = AnchorId::kubectl(&self.state.hosts, task);
        let older = self.state.sockets.get(call).is_some_and(|socket| socket.older);
        if let Some(exec) = self.state.exec(task.host, &id, "", at) {
            exec.what = if is_request { What::Request } else { What::Asked };
            exec.preexisting = older;
            exec.leaves_by = Some(call);
            self.asked_for.insert(task, id.clone());
            self.dirty.insert(id);
        }
    }

    /// Whether a session that rests on these had a client whose connection is gone: it is nobody's who waits.
    fn is_abandoned(&self, dependencies: &[Dependency]) -> bool {
        let sockets = dependencies
            .iter()
            .filter_map(|dependency| if let Dependency::Socket(idx) = dependency { Some(*idx) } else { None });
        sockets.filter_map(|idx| self.state.sockets.get(idx)).any(|socket| {
            let here = socket.tuple.is_some_and(|tuple| self.state.sockets.stays_here(tuple));
            socket.role == Some(SocketRole::Accepted) && socket.peer.is_none() && socket.peer_absent && here
        })
    }

    /// A session turned up that shows it.
    pub(in crate::correlate) fn asked_is_shown(&mut self, id: &AnchorId, dependencies: &[Dependency]) {
        let shown: Vec<TaskKey> = self
            .asked_for
            .keys()
            .copied()
            .filter(|task| dependencies.binary_search(&Dependency::Task(*task)).is_ok())
            .collect();
        for task in shown {
            if let Some(asked) = self.asked_for.get(&task).cloned().filter(|asked| asked != id) {
                self.asked_for.remove(&task);
                self.resolve(self.now, &asked, id);
            }
        }
    }
}

/// When what that kubectl asked for would be served.
fn served_by(task: TaskKey) -> BootTime {
    BootTime(task.start_ns()).plus(ASKED_AFTER)
}

/// Whether somebody must stand before its first hop, who is not known and not elsewhere.
fn lacks_client(session: &Session) -> bool {
    let elsewhere = session.beyond.iter().any(|(side, _)| *side == "client");
    let headless = session.hops.first().is_some_and(|hop| match hop.role {
        Role::Proxy | Role::ApiServer | Role::Kubelet | Role::Runtime => true,
        Role::Client | Role::Etcd | Role::Shim | Role::Runc | Role::Process => false,
    });
    // Its client is gone, and everything else is known of it.
    let may_be_probe = session.preexisting && session.gaps.iter().all(|gap| gap.code == GapCode::KindUnknown);
    let is_left = session.exec_id.is_some() && (session.gaps.is_empty() || may_be_probe);
    headless && !elsewhere && session.kind.is_of_people() && !is_left
}
