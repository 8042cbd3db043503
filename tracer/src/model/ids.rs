//! One walk over all ids and times in an observation. Everything that changes or collects ids uses this walk, so that a
//! new fact lists its ids in one place.

use super::{BootTime, Fact, FileId, HostNo, Observation, SocketId, TaskKey};

/// Receives each id and each time of an observation, and may change it. Methods do nothing by default.
pub trait IdVisitor {
    /// Visits a process.
    fn task(&mut self, _task: &mut TaskKey) {}
    /// Visits a socket.
    fn socket(&mut self, _socket: &mut SocketId) {}
    /// Visits a file.
    fn file(&mut self, _file: &mut FileId) {}
    /// Visits the host of a fact without other ids.
    fn host(&mut self, _host: &mut HostNo) {}
    /// Visits a time, in the clock of the observation's host.
    fn time(&mut self, _at: &mut BootTime) {}
}

impl Observation {
    /// Visits all ids and times of the observation and its fact.
    pub fn visit_ids(&mut self, visitor: &mut dyn IdVisitor) {
        visitor.time(&mut self.at);
        self.task.iter_mut().for_each(|task| visitor.task(task));
        self.fact.visit_ids(visitor);
    }
}

impl Fact {
    /// Visits all ids and times of the fact. Bare pids and inode numbers are not visited: they belong to the host of the
    /// process or socket beside them.
    pub fn visit_ids(&mut self, visitor: &mut dyn IdVisitor) {
        match self {
            Self::Fork { child, inbound, actor: _ } => {
                visitor.task(child);
                inbound.iter_mut().for_each(|socket| visitor.socket(socket));
            }
            Self::Exec(process) | Self::Enrolled(process) | Self::ProcessSeen(process) => {
                process.parent.iter_mut().for_each(|parent| visitor.task(parent));
            }
            Self::Ancestry(ancestry) => ancestry.parents.iter_mut().for_each(|parent| visitor.task(&mut parent.task)),
            Self::Listening { socket }
            | Self::Accepted { socket }
            | Self::SocketSeen { socket }
            | Self::Touched { socket, .. } => visitor.socket(&mut socket.id),
            Self::Dialled { socket, inbound, .. } => {
                visitor.socket(socket);
                inbound.iter_mut().for_each(|socket| visitor.socket(socket));
            }
            Self::Connected { socket, inbound, .. } => {
                visitor.socket(&mut socket.id);
                inbound.iter_mut().for_each(|socket| visitor.socket(socket));
            }
            Self::ListeningUnix { socket, .. }
            | Self::Closed { socket, .. }
            | Self::UnixConnected { socket, .. }
            | Self::FifoAwaited { socket, .. }
            | Self::TcpMeasured { socket, .. }
            | Self::UnixMeasured { socket, .. }
            | Self::PeerMeasured { socket, .. }
            | Self::SocketGone { socket } => visitor.socket(socket),
            Self::UnixAccepted { socket: one, peer: other, .. } | Self::RelayAwaited { from: one, to: other, .. } => {
                visitor.socket(one);
                visitor.socket(other);
            }
            Self::Relayed { from, to, .. } => {
                visitor.socket(&mut from.id);
                visitor.socket(&mut to.id);
            }
            Self::FifoMade { inbound, from, .. } => {
                inbound.iter_mut().for_each(|socket| visitor.socket(socket));
                from.iter_mut().for_each(|from| visitor.socket(&mut from.id));
            }
            Self::FifoHeld { file, .. } | Self::FileMeasured { file, .. } | Self::FifoUsed { file, .. } => {
                visitor.file(file);
            }
            Self::FifoRelayed { fifo, to, .. } => {
                visitor.file(fifo);
                visitor.socket(&mut to.id);
            }
            Self::Descriptors { descriptors } => descriptors.iter_mut().for_each(|one| visitor.file(&mut one.file)),
            Self::PeerAbsent { host, .. } => visitor.host(host),
            Self::Signalled(signal) => signal.sender.iter_mut().for_each(|sender| visitor.task(sender)),
            Self::Audited(event) => {
                visitor.time(&mut event.received);
                visitor.time(&mut event.written);
            }
            Self::SocketUnlisted { .. }
            | Self::PidFile { .. }
            | Self::ProcessMeasured(_)
            | Self::ProcessGone
            | Self::Watched
            | Self::Looked
            | Self::Exit { .. }
            | Self::ExecFailed { .. }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AuditEvent, AuditRequest, AuditUser, Move, Source, Span, Subresource};

    #[test]
    fn move_changes_every_id_and_time_of_an_observation() {
        let to = Move { host: HostNo(3), later: Span::from_secs(2) };
        let task = TaskKey::from_ticks(7, 100);
        let fork = Fact::Fork {
            child: TaskKey::from_ticks(8, 101),
            actor: Default::default(),
            inbound: Some(SocketId::new(5, 6)),
        };
        let mut seen = Observation::of(BootTime(1), Source::Ebpf, task, fork);
        seen.move_to(to);
        let at_host = |tgid, ticks| TaskKey { host: HostNo(3), ..TaskKey::from_ticks(tgid, ticks + to.ticks()) };
        let inbound = Some(SocketId { host: HostNo(3), ..SocketId::new(5, 6) });
        let fork = Fact::Fork { child: at_host(8, 101), actor: Default::default(), inbound };
        assert_eq!(seen, Observation::of(BootTime(1).plus(to.later), Source::Ebpf, at_host(7, 100), fork));

        let event = |at| AuditEvent {
            id: "a".into(),
            received: at,
            written: at,
            over: false,
            code: None,
            older: false,
            sources: Vec::new(),
            user: AuditUser::default(),
            request: AuditRequest {
                subresource: Subresource::Exec,
                namespace: "default".into(),
                pod: "web".into(),
                container: None,
                command: Vec::new(),
                command_truncated: false,
                stdin: false,
                tty: false,
            },
        };
        let audited = |at| Observation::new(at, Source::Snapshot, Fact::Audited(Box::new(event(at))));
        let mut seen = audited(BootTime(4));
        seen.move_to(to);
        assert_eq!(seen, audited(BootTime(4).plus(to.later)));
    }
}
