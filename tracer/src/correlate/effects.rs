//! Effects of one step: everything that a handler may cause outside [`State`].
//!
//! Handlers in `intake` take `&mut State` and `&mut Effects` and reach nothing else. They only note effects; the driver
//! and [`Sessions`](super::sessions::Sessions) carry them out once the handler has returned.

use std::collections::BTreeSet;

use super::{
    limits::{MAX_LOSS_NAMES, MAX_QUERIES, PEER_AGAIN},
    state::{Dependency, State, anchor_id::AnchorId, table::Table},
    timers::Timers,
};
use crate::model::{BootTime, Change, Finding, Totals, Unit, Want, unit_of_loss};

/// Effects that are noted and not yet carried out, and the output that the caller has not collected yet.
#[derive(Default)]
pub(super) struct Effects {
    /// Boot time of the current step; never decreases. May be later than the time of the observation that is being
    /// handled, if that observation came late.
    pub(super) now: BootTime,
    /// Work for later.
    pub(super) timers: Timers,
    /// Counters of the whole run.
    pub(super) totals: Totals,
    /// Anchors whose sessions must be rebuilt.
    invalidated: BTreeSet<AnchorId>,
    /// Objects that changed. All sessions that depend on them must be rebuilt.
    changed: Vec<Dependency>,
    /// Set when all open sessions must be rebuilt.
    all_changed: bool,
    /// Provisional sessions that turned out to be part of another session, in order.
    merges: Vec<Merge>,
    /// Queries for the caller.
    wants: Vec<Want>,
    /// Time of the last query of each kind.
    sent_queries: Table<Want, BootTime>,
    /// Findings for the caller, in order.
    findings: Vec<Finding>,
}

/// A provisional session that ends, because its socket or request is part of another session.
pub(super) struct Merge {
    pub(super) at: BootTime,
    pub(super) provisional: AnchorId,
    pub(super) into: AnchorId,
}

impl Effects {
    /// Marks the session of an anchor for a rebuild.
    pub(super) fn invalidate(&mut self, id: AnchorId) {
        self.invalidated.insert(id);
    }

    pub(super) fn invalidate_all(&mut self, ids: impl IntoIterator<Item = AnchorId>) {
        self.invalidated.extend(ids);
    }

    /// Removes the first anchor that is marked, in the order of anchor ids.
    pub(super) fn next_invalidated(&mut self) -> Option<AnchorId> {
        self.invalidated.pop_first()
    }

    /// True if no session is marked for a rebuild.
    pub(super) fn is_settled(&self) -> bool {
        self.invalidated.is_empty()
    }

    /// Notes that an object changed. Its dependent sessions are marked for a rebuild.
    pub(super) fn changed(&mut self, dependency: Dependency) {
        self.changed.push(dependency);
    }

    /// Notes that these anchors changed.
    pub(super) fn anchors_changed(&mut self, ids: impl IntoIterator<Item = AnchorId>) {
        self.changed.extend(ids.into_iter().map(Dependency::Exec));
    }

    /// Marks all open sessions for a rebuild.
    pub(super) fn all_sessions_changed(&mut self) {
        self.all_changed = true;
    }

    /// Marks the dependent sessions of all changed objects. Returns true if all open sessions must be marked, too.
    pub(super) fn invalidate_dependents(&mut self, state: &State) -> bool {
        for dependency in self.changed.drain(..) {
            for id in state.dependents.of(&dependency) {
                if !self.invalidated.contains(id) {
                    self.invalidated.insert(id.clone());
                }
            }
        }
        std::mem::take(&mut self.all_changed)
    }

    /// Ends the provisional session of `provisional`, which is part of the session of `into`. The anchor is gone at
    /// once; its session is closed after the current handler.
    pub(super) fn merge(&mut self, state: &mut State, at: BootTime, provisional: &AnchorId, into: &AnchorId) {
        state.anchors.forget(provisional);
        let touched = state.audits.forget(provisional);
        self.anchors_changed(touched);
        self.merges.push(Merge { at, provisional: provisional.clone(), into: into.clone() });
    }

    pub(super) fn take_merges(&mut self) -> Vec<Merge> {
        std::mem::take(&mut self.merges)
    }

    /// Sends a query, once. Queries for the other end of a connection, and for listeners, are repeated after
    /// [`PEER_AGAIN`]: addresses and pids are reused.
    pub(super) fn ask(&mut self, want: Want) {
        let sent = self.sent_queries.get(&want).copied();
        let repeats = matches!(want, Want::Peer { .. } | Want::Listeners(_));
        if sent.is_none_or(|at| repeats && self.now.since(at) >= PEER_AGAIN) {
            self.sent_queries.insert(want.clone(), self.now);
            self.wants.push(want);
        }
    }

    /// Sends a query even if it was sent before.
    pub(super) fn ask_again(&mut self, want: Want) {
        self.wants.push(want);
    }

    /// Allows a query to be sent once more, because its answer may differ.
    pub(super) fn forget_query(&mut self, want: &Want) {
        self.sent_queries.swap_remove(want);
    }

    /// Allows queries for names of containers to be sent once more.
    pub(super) fn forget_container_queries(&mut self) {
        self.sent_queries.retain(|want, _| !matches!(want, Want::Container { .. }));
    }

    /// Bounds the memory for sent queries. Beyond [`MAX_QUERIES`] all are forgotten, and each may be sent once more.
    pub(super) fn bound_queries(&mut self) {
        if self.sent_queries.len() > MAX_QUERIES {
            self.sent_queries.clear();
        }
    }

    /// True if no query waits for the caller.
    pub(super) fn has_no_wants(&self) -> bool {
        self.wants.is_empty()
    }

    pub(super) fn take_wants(&mut self) -> Vec<Want> {
        std::mem::take(&mut self.wants)
    }

    /// Emits a finding with the time of the current step.
    pub(super) fn emit(&mut self, change: Change) {
        self.findings.push(Finding { at: self.now, change });
    }

    pub(super) fn take_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// Counts and emits a loss, and marks all open sessions for a rebuild: any of them may depend on the lost records.
    pub(super) fn report_loss(&mut self, what: String, count: u64) {
        let what = self.count_loss(what, count);
        self.all_sessions_changed();
        self.emit(Change::Loss { what, count });
    }

    /// Adds to the counter of this name. Returns the name of the counter: `other`, if there are too many names.
    fn count_loss(&mut self, what: String, count: u64) -> String {
        let lost = &mut self.totals.lost;
        let is_excess = lost.len() >= MAX_LOSS_NAMES && !lost.contains_key(&what);
        let what = if is_excess { "other".to_owned() } else { what };
        let total = lost.entry(what.clone()).or_default();
        *total = match unit_of_loss(&what) {
            Unit::Events => total.saturating_add(count),
            Unit::Milliseconds => count.max(*total),
        };
        what
    }
}
