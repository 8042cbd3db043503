//! Open and closed sessions: rebuilds invalidated ones, compares them with the last version, and emits the difference.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    assemble::upstream::Built,
    effects::{Effects, Merge},
    limits::{CLIENT_ENDS_WITHIN, CLOSED_SESSIONS, REMEMBER},
    state::{
        Dependency, State,
        anchor::AnchorKind,
        anchor_id::AnchorId,
        audit::{UserMatch, UserQuery},
        coverage::Readiness,
        table::Table,
    },
    timers::Timer,
};
use crate::model::{
    Attempt, BootTime, Change, Gap, GapCode, Hop, Role, Session, SocketRole, State as SessionState, TaskKey, Want,
    WatchAs,
};

/// All sessions that were emitted.
#[derive(Default)]
pub(super) struct Sessions {
    open: Table<AnchorId, Open>,
    /// Open sessions with an unknown client, by [`lacks_client`].
    clientless: BTreeSet<AnchorId>,
    /// Oldest first; at most [`CLOSED_SESSIONS`].
    closed: VecDeque<Arc<Session>>,
    /// Closed sessions whose kubectl still runs. Their ends are emitted with its exit, or [`CLIENT_ENDS_WITHIN`] later.
    ending: Table<AnchorId, Ending>,
}

/// A closed session whose end was not emitted yet.
struct Ending {
    session: Arc<Session>,
    kubectl: TaskKey,
    due: BootTime,
}

/// A session that was emitted as opened and not as closed.
struct Open {
    /// The version that was emitted last, but for `last_seen`.
    session: Arc<Session>,
    /// Objects that it was built from; sorted, without duplicates.
    dependencies: Vec<Dependency>,
}

impl Sessions {
    pub(super) fn is_any_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// All sessions that are remembered, closed ones first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.closed.iter().chain(self.open.values().map(|open| &open.session)).map(Arc::as_ref)
    }

    /// Carries out two effects: invalidates sessions that depend on a changed object, and closes merged provisional
    /// sessions. [`Correlator`](super::Correlator) calls it after each
    /// handler, before the next observation.
    pub(super) fn absorb(&mut self, state: &mut State, effects: &mut Effects) {
        if effects.invalidate_dependents(state) {
            effects.invalidate_all(self.open.keys().cloned());
        }
        for merge in effects.take_merges() {
            self.close_merged(state, effects, merge);
        }
    }

    /// Rebuilds every invalidated session, in the order of anchor ids. [`Correlator`](super::Correlator) calls it once per time step. A rebuild
    /// may invalidate further sessions; they are rebuilt in the same call.
    pub(super) fn rebuild_invalidated(&mut self, state: &mut State, effects: &mut Effects) {
        self.absorb(state, effects);
        while let Some(id) = effects.next_invalidated() {
            self.rebuild(state, effects, &id);
            self.absorb(state, effects);
        }
    }

    /// True if an open session, or one that closed at or after `since`, may belong to a kubectl that no session shows: its
    /// client is unknown.
    pub(super) fn lacks_any_client(&self, state: &State, since: Option<BootTime>) -> bool {
        let ended_later = |session: &&Arc<Session>| since.is_some() && session.closed_at >= since;
        let mut clientless = self.clientless.iter().filter_map(|id| self.open.get(id));
        self.closed.iter().filter(ended_later).any(|session| lacks_client(session))
            || clientless.any(|open| !is_abandoned(state, &open.dependencies))
    }

    fn insert_open(&mut self, id: &AnchorId, open: Open) {
        if lacks_client(&open.session) {
            self.clientless.insert(id.clone());
        }
        self.open.insert(id.clone(), open);
    }

    fn remove_open(&mut self, id: &AnchorId) -> Option<Open> {
        self.clientless.remove(id);
        self.open.swap_remove(id)
    }

    /// Builds the session of an anchor anew and emits the difference from its last version.
    ///
    /// An anchor is the fact that a session grows from: an exec of a runtime, a container that starts, a stream, a
    /// connection to a kubelet, or a kubectl without an answer yet. The last three make provisional sessions, which end
    /// once another session contains them.
    fn rebuild(&mut self, state: &mut State, effects: &mut Effects, id: &AnchorId) {
        if let Some(ending) = self.ending.get(id) {
            if effects.now >= ending.due || state.running_kubectl(&ending.session).is_none() {
                self.emit_end(state, effects, id);
            }
            return;
        }
        // Some anchors must wait before they become a session, for example until an exec's id is final. A timer, or
        // the next fact about the anchor, then leads here again.
        if !is_ready(state, effects, id) {
            return;
        }
        let Some(exec) = state.anchors.get(id) else { return };
        let (is_leg, is_request) =
            (exec.leaves_by().is_some(), matches!(exec.kind(), AnchorKind::PendingRequest | AnchorKind::ApiRequest));
        let Built { mut session, dependencies, wants, again_at, user_query } = state.build(id, exec, effects.now);
        // An attempt is reported only if it is known where it failed: kubectl's error may as well be the command's.
        if session.is_attempt_only() && session.attempt.as_ref().is_some_and(|attempt| attempt.failed().is_none()) {
            state.anchors.forget(id);
            return;
        }
        // A provisional session ends as soon as this session contains its leg or kubectl. It must end before this session
        // is emitted: no leg and no kubectl is shown in two open sessions.
        if !is_leg && !state.legs.is_empty() {
            self.merge_legs(state, effects, id, &dependencies);
        }
        if !is_request {
            let client = session.hops.first().filter(|hop| hop.role == Role::Client);
            state.served.extend(client.map(|hop| hop.task));
        }
        if !state.pending_requests.is_empty() {
            self.merge_requests(state, effects, id, &dependencies);
        }
        // Queue queries for missing facts; the answers arrive as observations. Follow every process on the path, so that
        // the kernel reports its end.
        for want in wants {
            effects.ask(want);
        }
        follow(state, effects, &session.hops);
        if let Some(at) = again_at {
            effects.timers.set(at, Timer::Rebuild(id.clone()));
        }
        // Register the sockets, processes and other objects that this version was built from: a change of any of them
        // invalidates this session.
        let old = self.remove_open(id);
        let old_dependencies = old.as_ref().map_or(&[][..], |open| &open.dependencies);
        state.dependents.replace(old_dependencies, &dependencies, id);
        // The Kubernetes user depends on all sessions that fit the same request of the audit log. If the answer for other
        // sessions changes, they are invalidated, and `rebuild_invalidated` goes on with them.
        set_user(state, effects, id, &mut session, user_query);
        self.publish(state, effects, id, old, session, dependencies);
    }

    /// Emits the difference between the last version and this one.
    fn publish(
        &mut self,
        state: &mut State,
        effects: &mut Effects,
        id: &AnchorId,
        old: Option<Open>,
        mut session: Session,
        dependencies: Vec<Dependency>,
    ) {
        let is_new = old.is_none();
        let is_changed = old.is_some_and(|old| {
            // A newer `last_seen` alone is not a change.
            // A rung of the attempt adds a time to what a hop or link already shows: only a failed rung is a change.
            let last_seen = std::mem::replace(&mut session.last_seen, old.session.last_seen);
            let failed = |attempt: &Option<Box<Attempt>>| attempt.as_ref().and_then(|one| one.failed().copied());
            let has_failed = failed(&session.attempt) != failed(&old.session.attempt);
            let attempt = std::mem::replace(&mut session.attempt, old.session.attempt.clone());
            let differs = has_failed || session != *old.session;
            (session.last_seen, session.attempt) = (last_seen, attempt);
            differs
        });
        let session = Arc::new(session);
        if is_new {
            effects.totals.opened += u64::from(!session.is_attempt_only());
            effects.emit(Change::Opened(Arc::clone(&session)));
        }
        if session.state == SessionState::Closed {
            effects.totals.closed += u64::from(!session.is_attempt_only());
            self.close(state, effects, id, Open { session: Arc::clone(&session), dependencies });
            self.end(state, effects, id, session);
            return;
        }
        if is_changed {
            effects.emit(Change::Changed(Arc::clone(&session)));
        }
        self.insert_open(id, Open { session, dependencies });
    }

    /// Emits the end of a session, or lets it wait for its kubectl's exit.
    fn end(&mut self, state: &mut State, effects: &mut Effects, id: &AnchorId, session: Arc<Session>) {
        let due = session.closed_at.unwrap_or(effects.now).plus(CLIENT_ENDS_WITHIN);
        match state.running_kubectl(&session).filter(|_| effects.now < due) {
            Some(kubectl) => {
                // The exit invalidates the session, which leads to `rebuild`. So does the timer.
                state.dependents.replace(&[], &[Dependency::Task(kubectl)], id);
                effects.timers.set(due, Timer::Rebuild(id.clone()));
                self.ending.insert(id.clone(), Ending { session, kubectl, due });
            }
            None => effects.emit(Change::Closed(session)),
        }
    }

    /// Emits the end of a session that waited for its kubectl.
    fn emit_end(&mut self, state: &mut State, effects: &mut Effects, id: &AnchorId) {
        let Some(Ending { mut session, kubectl, .. }) = self.ending.swap_remove(id) else { return };
        state.dependents.remove(&Dependency::Task(kubectl), id);
        let before = Arc::clone(&session);
        state.add_late(Arc::make_mut(&mut session));
        if let Some(kept) = self.closed.iter_mut().rev().find(|kept| Arc::ptr_eq(kept, &before)) {
            // The report has the exit longer than the table of processes.
            *kept = Arc::clone(&session);
        }
        effects.emit(Change::Closed(session));
    }

    /// Emits the ends of all sessions that wait for their kubectls: no further fact follows.
    pub(super) fn emit_ends(&mut self, state: &mut State, effects: &mut Effects) {
        let ids: BTreeSet<AnchorId> = self.ending.keys().cloned().collect();
        for id in ids {
            self.emit_end(state, effects, &id);
        }
    }

    /// Moves a session to the closed ones. Its anchor stays for [`REMEMBER`], for late records.
    fn close(&mut self, state: &mut State, effects: &mut Effects, id: &AnchorId, session: Open) {
        for dependency in &session.dependencies {
            state.dependents.remove(dependency, id);
        }
        self.closed.push_back(session.session);
        if self.closed.len() > CLOSED_SESSIONS {
            self.closed.pop_front();
        }
        if let Some(exec) = state.anchors.get_mut(id) {
            exec.over = true;
        }
        state.legs.retain(|_, leg| leg != id);
        state.pending_requests.retain(|_, request| request != id);
        effects.timers.set(effects.now.plus(REMEMBER), Timer::SessionOver(id.clone()));
    }

    /// Ends provisional sessions for legs that are part of this session.
    fn merge_legs(&mut self, state: &mut State, effects: &mut Effects, id: &AnchorId, dependencies: &[Dependency]) {
        // A session has few dependencies; there may be as many legs as sessions.
        for dependency in dependencies {
            let Dependency::Socket(leg) = dependency else { continue };
            if let Some(provisional) = state.legs.remove(leg) {
                effects.merge(state, effects.now, &provisional, id);
                self.absorb(state, effects);
            }
        }
    }

    /// Ends provisional sessions for kubectls that are part of this session.
    fn merge_requests(&mut self, state: &mut State, effects: &mut Effects, id: &AnchorId, dependencies: &[Dependency]) {
        for dependency in dependencies {
            let Dependency::Task(task) = dependency else { continue };
            if let Some(provisional) = state.pending_requests.get(task).cloned().filter(|request| request != id) {
                state.pending_requests.remove(task);
                effects.merge(state, effects.now, &provisional, id);
                self.absorb(state, effects);
            }
        }
    }

    /// Emits the end of a provisional session, with the id of the session that contains it.
    fn close_merged(&mut self, state: &mut State, effects: &mut Effects, merge: Merge) {
        let Merge { at, provisional, into } = merge;
        let Some(open) = self.remove_open(&provisional) else { return };
        for dependency in &open.dependencies {
            state.dependents.remove(dependency, &provisional);
        }
        // `merged_into` names the session that contains this one. Its id becomes final here.
        state.anchors.identify(&state.hosts, &into, BootTime(u64::MAX));
        effects.totals.closed += 1;
        let session = Session {
            state: SessionState::Closed,
            closed_at: Some(at.max(open.session.opened_at)),
            merged_into: Some(state.session_id(&into)),
            ..Arc::unwrap_or_clone(open.session)
        };
        effects.emit(Change::Closed(Arc::new(session)));
    }
}

/// True if the anchor's session can be built now. Where time alone is missing, sets a timer.
fn is_ready(state: &mut State, effects: &mut Effects, id: &AnchorId) -> bool {
    let Some(exec) = state.anchors.get(id) else { return false };
    if !exec.is_session() || exec.over {
        return false;
    }
    match state.readiness(exec, effects.now) {
        Readiness::Ready => {}
        Readiness::At(due) => {
            effects.timers.set(due, Timer::Rebuild(id.clone()));
            return false;
        }
        Readiness::OnFact => return false,
    }
    // The session's id is final once it is emitted.
    match state.anchors.identify(&state.hosts, id, effects.now) {
        Some(due) => {
            effects.timers.set(due, Timer::Rebuild(id.clone()));
            false
        }
        None => true,
    }
}

/// Asks the tracer to follow processes of the path that it does not follow yet.
fn follow(state: &mut State, effects: &mut Effects, hops: &[Hop]) {
    for hop in hops {
        if hop.exit.is_none() && state.watched.insert(hop.task) {
            effects.ask(Want::Watch(hop.task, WatchAs::Endpoint));
            if hop.role == Role::Process {
                // It may have ended before it was followed, in which case no record reports its end.
                effects.ask_again(Want::Process(hop.task));
            }
        }
    }
}

/// Sets the user from the audit log.
fn set_user(
    state: &mut State,
    effects: &mut Effects,
    id: &AnchorId,
    session: &mut Session,
    user_query: Option<UserQuery>,
) {
    let Some(UserQuery { criteria, due, early, via_apiserver }) = user_query else {
        let touched = state.audits.forget(id);
        effects.anchors_changed(touched);
        return;
    };
    if early {
        session.client.pending = !state.audits.ended;
        return;
    }
    let timed = criteria.timed;
    let touched = state.audits.set_criteria(id, criteria);
    effects.anchors_changed(touched);
    if due.is_none_or(|due| effects.now < due) {
        session.client.pending = !state.audits.ended;
        return;
    }
    match state.audits.user_match(id) {
        UserMatch::Unknown => {}
        UserMatch::User(_) | UserMatch::Ambiguous if !via_apiserver => {}
        // A session whose start was not observed fits many requests by time alone: that is no finding.
        UserMatch::Ambiguous if !timed => {}
        UserMatch::User(user) => session.client.user = Some(user),
        UserMatch::Ambiguous => session.gaps.push(Gap {
            code: GapCode::Ambiguous,
            between: None,
            text: "user not attributed: more than one request in the audit log fits this session".to_owned(),
        }),
    }
}

/// True if an unknown process on this host must stand before the first hop.
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

/// True if a session had a client on this host whose connection is gone: no kubectl that still waits is its client.
fn is_abandoned(state: &State, dependencies: &[Dependency]) -> bool {
    let sockets = dependencies
        .iter()
        .filter_map(|dependency| if let Dependency::Socket(idx) = dependency { Some(*idx) } else { None });
    sockets.filter_map(|idx| state.sockets.get(idx)).any(|socket| {
        let here = socket.tuple.is_some_and(|tuple| state.sockets.stays_here(tuple));
        socket.role == Some(SocketRole::Accepted) && socket.peer.is_none() && socket.peer_absent && here
    })
}
