//! Connections that processes began, by cause: the accepted connection that they serve, or themselves. Failed ones too.

use std::{collections::BTreeMap, net::SocketAddr};

use super::sockets::SocketIdx;
use crate::correlate::limits::MAX_DIALS;
use crate::model::{BootTime, DialError, SocketId, TaskKey};

/// A call of connect(2).
#[derive(Clone, Copy, Debug)]
pub(in crate::correlate) struct Dial {
    /// Time of the call or, if no record reported the call, of the established connection.
    pub(in crate::correlate) at: BootTime,
    /// The connecting end.
    pub(in crate::correlate) socket: SocketId,
    /// Address that was dialled.
    pub(in crate::correlate) remote: Option<SocketAddr>,
    /// Set if a goroutine dialled. Threads serve connections by turns, so that a thread proves nothing.
    pub(in crate::correlate) by_goroutine: bool,
    /// Time of the established connection, and its entry.
    pub(in crate::correlate) established: Option<(BootTime, SocketIdx)>,
    /// Time and reason of the failure.
    pub(in crate::correlate) failed: Option<(BootTime, DialError)>,
}

/// Cause of a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::correlate) enum Cause {
    /// A process dialled for this accepted connection.
    Inbound(SocketIdx),
    /// This process dialled for itself, or for an unknown connection.
    Own(TaskKey),
    /// A runtime dialled a pod's port for this stream.
    Forward(SocketIdx),
}

/// Dials of one cause, in the order of their times.
#[derive(Default)]
struct List {
    dials: Vec<Dial>,
    /// Time of the newest dial that was dropped to make room.
    dropped: Option<BootTime>,
}

/// Dials by cause.
#[derive(Default)]
pub(in crate::correlate) struct Dials {
    by_cause: BTreeMap<Cause, List>,
}

impl Dials {
    /// Adds a dial, or the result of a known one. The newest [`MAX_DIALS`] of a cause are kept.
    pub(in crate::correlate) fn note(&mut self, cause: Cause, dial: Dial) {
        let list = self.by_cause.entry(cause).or_default();
        let known = list.dials.iter_mut().find(|known| is_same(known.socket, dial.socket));
        if let Some(known) = known {
            known.established = known.established.or(dial.established);
            known.failed = known.failed.or(dial.failed);
            return;
        }
        if list.dials.len() >= MAX_DIALS {
            list.dropped = Some(list.dials.remove(0).at);
        }
        list.dials.push(dial);
    }

    /// Dials of this cause, oldest first.
    pub(in crate::correlate) fn of(&self, cause: Cause) -> &[Dial] {
        self.by_cause.get(&cause).map_or(&[], |list| list.dials.as_slice())
    }

    /// Forgets failed dials of this port. Returns true if there were any.
    pub(in crate::correlate) fn forget_failures(&mut self, cause: Cause, port: u16) -> bool {
        let Some(list) = self.by_cause.get_mut(&cause) else { return false };
        let before = list.dials.len();
        let is_other = |dial: &Dial| dial.failed.is_none() || dial.remote.is_none_or(|remote| remote.port() != port);
        list.dials.retain(is_other);
        list.dials.len() < before
    }

    /// True if every dial of this cause since `from` is kept.
    pub(in crate::correlate) fn is_whole_since(&self, cause: Cause, from: BootTime) -> bool {
        self.by_cause.get(&cause).is_none_or(|list| list.dropped.is_none_or(|dropped| dropped < from))
    }

    /// Forgets dials for discarded connections, and those of discarded processes.
    pub(in crate::correlate) fn forget(
        &mut self,
        has_socket: impl Fn(SocketIdx) -> bool,
        has_process: impl Fn(TaskKey) -> bool,
    ) {
        self.by_cause.retain(|cause, _| match cause {
            Cause::Inbound(idx) | Cause::Forward(idx) => has_socket(*idx),
            Cause::Own(task) => has_process(*task),
        });
    }
}

/// True if both ids name one socket. Kernels without cookies give inodes alone.
fn is_same(one: SocketId, other: SocketId) -> bool {
    one.host == other.host
        && match (one.cookie, other.cookie) {
            (Some(one), Some(other)) => one == other,
            _ => one.inode.is_some() && one.inode == other.inode,
        }
}
