//! Moves an observation to another host of a merged recording: ids of one kernel mean something else on another kernel,
//! and clocks differ.

use super::{Fact, FileId, HostNo, Observation, SocketId, Span, TaskKey};

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

    const fn task(self, task: &mut TaskKey) {
        task.host = self.host;
        task.start_ticks = task.start_ticks.wrapping_add(self.ticks());
    }

    const fn socket(self, socket: &mut SocketId) {
        socket.host = self.host;
    }

    fn sockets<'a>(self, sockets: impl IntoIterator<Item = &'a mut SocketId>) {
        sockets.into_iter().for_each(|socket| self.socket(socket));
    }

    const fn file(self, file: &mut FileId) {
        file.host = self.host;
    }
}

impl Observation {
    /// Turns the observation into one of another host.
    pub fn move_to(&mut self, to: Move) {
        self.at = self.at.plus(to.later);
        if let Some(task) = &mut self.task {
            to.task(task);
        }
        self.fact.move_to(to);
    }
}

impl Fact {
    fn move_to(&mut self, to: Move) {
        match self {
            Self::Fork { child, inbound, .. } => {
                to.task(child);
                to.sockets(inbound);
            }
            Self::Exec(process) | Self::Enrolled(process) | Self::ProcessSeen(process) => {
                process.parent.iter_mut().for_each(|parent| to.task(parent));
            }
            Self::Ancestry(ancestry) => ancestry.parents.iter_mut().for_each(|above| to.task(&mut above.task)),
            Self::Listening { socket } | Self::Accepted { socket } | Self::SocketSeen { socket } => {
                to.socket(&mut socket.id);
            }
            Self::Touched { socket, .. } => to.socket(&mut socket.id),
            Self::Connected { socket, inbound, .. } => {
                to.socket(&mut socket.id);
                to.sockets(inbound);
            }
            Self::ListeningUnix { socket, .. }
            | Self::Closed { socket, .. }
            | Self::UnixConnected { socket, .. }
            | Self::FifoAwaited { socket, .. }
            | Self::TcpMeasured { socket, .. }
            | Self::UnixMeasured { socket, .. }
            | Self::PeerMeasured { socket, .. }
            | Self::SocketGone { socket } => to.socket(socket),
            Self::UnixAccepted { socket, peer, .. } => to.sockets([socket, peer]),
            Self::Relayed { from, to: into, .. } => to.sockets([&mut from.id, &mut into.id]),
            Self::RelayAwaited { from, to: into, .. } => to.sockets([from, into]),
            Self::FifoMade { inbound, from, .. } => {
                to.sockets(inbound);
                to.sockets(from.iter_mut().map(|from| &mut from.id));
            }
            Self::FifoHeld { file, .. } | Self::FileMeasured { file, .. } | Self::FifoUsed { file, .. } => {
                to.file(file);
            }
            Self::FifoRelayed { fifo, to: into, .. } => {
                to.file(fifo);
                to.socket(&mut into.id);
            }
            Self::Descriptors { descriptors } => descriptors.iter_mut().for_each(|one| to.file(&mut one.file)),
            Self::PeerAbsent { host, .. } => *host = to.host,
            Self::Audited(event) => {
                event.received = event.received.plus(to.later);
                event.written = event.written.plus(to.later);
            }
            // Bare pids and inode numbers belong to the host of the process or socket beside them.
            Self::SocketUnlisted { .. }
            | Self::PidFile { .. }
            | Self::ProcessMeasured(_)
            | Self::ProcessGone
            | Self::Watched
            | Self::Looked
            | Self::Exit { .. }
            | Self::ContainerSeen(_)
            | Self::ContainerUnknown { .. }
            | Self::AuditFollowed
            | Self::AuditSkipped { .. }
            | Self::Lost { .. }
            | Self::Tick
            | Self::Continued
            | Self::Stopped => {}
        }
    }
}
