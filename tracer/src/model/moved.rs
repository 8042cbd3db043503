//! Moves an observation to another host of a merged recording: ids of one kernel mean something else on another kernel,
//! and clocks differ.

use super::{BootTime, FileId, HostNo, IdVisitor, Observation, SocketId, Span, TaskKey};

/// Destination of an observation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Move {
    /// Number of the host.
    pub host: HostNo,
    /// Correction of the host's clock, added to its times.
    pub later: Span,
}

impl Move {
    /// Correction of the start times of its processes, in clock ticks; rounded down.
    #[must_use]
    pub const fn ticks(self) -> u64 {
        self.later.0 / TaskKey::NS_PER_TICK
    }
}

impl IdVisitor for Move {
    fn task(&mut self, task: &mut TaskKey) {
        task.host = self.host;
        task.start_ticks = task.start_ticks.wrapping_add(self.ticks());
    }

    fn socket(&mut self, socket: &mut SocketId) {
        socket.host = self.host;
    }

    fn file(&mut self, file: &mut FileId) {
        file.host = self.host;
    }

    fn host(&mut self, host: &mut HostNo) {
        *host = self.host;
    }

    fn time(&mut self, at: &mut BootTime) {
        *at = at.plus(self.later);
    }
}

impl Observation {
    /// Turns the observation into one of another host.
    pub fn move_to(&mut self, mut to: Move) {
        self.visit_ids(&mut to);
    }
}
