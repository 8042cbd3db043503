//! Work that becomes due because time passes.
//!
//! Core time only: a timer expires when an observation, or a tick, carries a time at or after its due time. A replay
//! therefore expires every timer at the same record as the live run.

use std::{collections::BTreeSet, ops::Range};

use super::state::{
    anchor_id::AnchorId,
    sockets::{SocketIdx, UnixEnds},
};
use crate::model::{BootTime, TaskKey};

/// Work to do at a due time. Timers of one [`Phase`] expire in the order of this list, those of one kind by due time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A leg to a kubelet may still lack its accepting end: ask which host has that end.
    PeerMissing(SocketIdx),
    /// No exec may have claimed this accepted connection: it may be a session of its own.
    StreamUnclaimed(SocketIdx),
    /// No runtime may have claimed this `runc exec`: another client of the runtime's API may have asked for it.
    ExecUnclaimed(AnchorId),
    /// The session changes by the passing of time alone: rebuild it.
    Rebuild(AnchorId),
    /// No session may show what this kubectl requested: its own connection becomes a session.
    RequestUnshown(TaskKey),
    /// A kubectl has ended without a session: report how far its attempt came.
    AttemptOver(TaskKey),
    /// Search the tables for entries that have expired.
    Sweep,
    /// No record reports the end of a unix connection: discard it where no session depends on it.
    UnixIdle(UnixEnds),
    /// Discard a `runc exec` that became no session.
    ExecUnused(AnchorId),
    /// Discard the exec of a session that closed a while ago.
    SessionOver(AnchorId),
}

/// Kinds of timers.
const KINDS: usize = 10;

/// A step of the driver, which asks for the timers of that step alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before sessions are rebuilt: the timer may create or invalidate some.
    BeforeRebuild,
    /// After sessions were rebuilt: only where none of them shows the request.
    AfterRebuild,
    /// Once all sessions are reported.
    Sweep,
    /// During a sweep.
    Discard,
}

impl Phase {
    const fn ranks(self) -> Range<usize> {
        match self {
            Self::BeforeRebuild => 0..4,
            Self::AfterRebuild => 4..6,
            Self::Sweep => 6..7,
            Self::Discard => 7..KINDS,
        }
    }
}

impl Timer {
    /// Place of its kind in the order of expiry.
    const fn rank(&self) -> usize {
        match self {
            Self::PeerMissing(_) => 0,
            Self::StreamUnclaimed(_) => 1,
            Self::ExecUnclaimed(_) => 2,
            Self::Rebuild(_) => 3,
            Self::RequestUnshown(_) => 4,
            Self::AttemptOver(_) => 5,
            Self::Sweep => 6,
            Self::UnixIdle(_) => 7,
            Self::ExecUnused(_) => 8,
            Self::SessionOver(_) => 9,
        }
    }
}

/// All timers that are set. One timer may be set for several times.
#[derive(Default)]
pub(super) struct Timers {
    by_rank: [BTreeSet<(BootTime, Timer)>; KINDS],
}

impl Timers {
    /// Sets a timer. Setting it twice for one due time has no effect.
    pub(super) fn set(&mut self, due: BootTime, timer: Timer) {
        if let Some(queue) = self.by_rank.get_mut(timer.rank()) {
            queue.insert((due, timer));
        }
    }

    /// Removes the next timer of that phase that is due at `now`, and returns it with its due time. A timer that is set
    /// between two calls takes its place in the order.
    pub(super) fn pop(&mut self, phase: Phase, now: BootTime) -> Option<(BootTime, Timer)> {
        let queues = self.by_rank.get_mut(phase.ranks())?;
        let due = queues.iter_mut().find(|queue| queue.first().is_some_and(|(due, _)| *due <= now))?;
        due.pop_first()
    }

    /// Sets the due time of every [`Timer::RequestUnshown`] anew.
    pub(super) fn reschedule_requests(&mut self, due: impl Fn(TaskKey) -> BootTime) {
        let Some(queue) = self.by_rank.get_mut(Phase::AfterRebuild.ranks().start) else { return };
        for (at, timer) in std::mem::take(queue) {
            let at = if let Timer::RequestUnshown(task) = timer { due(task) } else { at };
            queue.insert((at, timer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> BootTime {
        BootTime(ms * 1_000_000)
    }

    #[test]
    fn timers_expire_by_kind_and_then_by_due_time() {
        let mut timers = Timers::default();
        let task = |pid| TaskKey::from_ticks(pid, 1);
        timers.set(at(1), Timer::Sweep);
        timers.set(at(5), Timer::RequestUnshown(task(2)));
        timers.set(at(3), Timer::RequestUnshown(task(3)));
        timers.set(at(3), Timer::RequestUnshown(task(3)));
        timers.set(at(9), Timer::RequestUnshown(task(4)));
        assert_eq!(timers.pop(Phase::BeforeRebuild, at(8)), None);
        assert_eq!(timers.pop(Phase::AfterRebuild, at(8)), Some((at(3), Timer::RequestUnshown(task(3)))));
        assert_eq!(timers.pop(Phase::AfterRebuild, at(8)), Some((at(5), Timer::RequestUnshown(task(2)))));
        assert_eq!(timers.pop(Phase::AfterRebuild, at(8)), None, "a timer expires once, and not before it is due");
        assert_eq!(timers.pop(Phase::Sweep, at(8)), Some((at(1), Timer::Sweep)));
    }

    #[test]
    fn ranks_follow_the_order_of_the_list() {
        let task = TaskKey::from_ticks(1, 1);
        assert!(Timer::RequestUnshown(task) < Timer::Sweep);
        assert!(Timer::RequestUnshown(task).rank() < Timer::Sweep.rank());
    }

    #[test]
    fn requests_are_rescheduled_together() {
        let mut timers = Timers::default();
        let task = TaskKey::from_ticks(1, 1);
        timers.set(at(9), Timer::RequestUnshown(task));
        timers.reschedule_requests(|_| at(2));
        assert_eq!(timers.pop(Phase::AfterRebuild, at(2)), Some((at(2), Timer::RequestUnshown(task))));
    }
}
