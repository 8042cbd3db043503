//! The sessions that depend on each object.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{anchor_id::AnchorId, sockets::SocketIdx, table::Table};
use crate::model::TaskKey;

/// Object that a session rests on. A change of the object invalidates the session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::correlate) enum Dependency {
    Task(TaskKey),
    Socket(SocketIdx),
    Exec(AnchorId),
    Container(Arc<str>),
}

/// Open sessions by the objects that they were built from.
#[derive(Default)]
pub(in crate::correlate) struct Dependents {
    /// Sorted, without duplicates. An object without a session has no entry.
    sessions: Table<Dependency, SmallVec<[AnchorId; 1]>>,
}

impl Dependents {
    /// True if an open session depends on this object. The object must then be kept.
    pub(in crate::correlate) fn has(&self, dependency: &Dependency) -> bool {
        self.sessions.contains_key(dependency)
    }

    /// Sessions that depend on this object, in the order of their ids.
    pub(in crate::correlate) fn of(&self, dependency: &Dependency) -> &[AnchorId] {
        self.sessions.get(dependency).map_or(&[], |sessions| sessions)
    }

    pub(in crate::correlate) fn add(&mut self, dependency: &Dependency, id: &AnchorId) {
        let sessions = self.sessions.entry(dependency.clone()).or_default();
        if let Err(at) = sessions.binary_search(id) {
            sessions.insert(at, id.clone());
        }
    }

    pub(in crate::correlate) fn remove(&mut self, dependency: &Dependency, id: &AnchorId) {
        let Some(sessions) = self.sessions.get_mut(dependency) else { return };
        if let Ok(at) = sessions.binary_search(id) {
            sessions.remove(at);
        }
        if sessions.is_empty() {
            self.sessions.swap_remove(dependency);
        }
    }

    /// Replaces the objects that a session depends on. Both lists are sorted and without duplicates.
    pub(in crate::correlate) fn replace(&mut self, old: &[Dependency], new: &[Dependency], id: &AnchorId) {
        if old == new {
            return;
        }
        let is_in = |list: &[Dependency], dependency: &Dependency| list.binary_search(dependency).is_ok();
        for gone in old.iter().filter(|dependency| !is_in(new, dependency)) {
            self.remove(gone, id);
        }
        for added in new.iter().filter(|dependency| !is_in(old, dependency)) {
            self.add(added, id);
        }
    }
}
