//! Selects the observations that the next file of a recording must begin with, so that the old file can be removed. A
//! correlator that reads only these knows the open sessions as they are.
//!
//! A fact is kept while its object matters: a process that lives, or that an open session depends on; a socket
//! likewise; an exec that is not over. Facts of an object that is over are all left out: a part of them would look
//! like another object.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    limits::{MAX_CARRIED_OVER, MAX_LINEAGE},
    state::{
        Dependency, State,
        anchor_id::{AnchorId, AnchorKey},
    },
};
use crate::model::{
    BootTime, ContainerInfo, Fact, HostNo, Observation, RawText, SocketId, Source, TaskKey, Tuple, parse_fifo_path,
};

/// Observations to carry over, out of all of a file in order of arrival. Of the measurements, only those of the last
/// two rounds are selected. Beyond [`MAX_CARRIED_OVER`], the oldest are replaced by a loss.
pub(super) fn still_matter(state: &State, settled: BootTime, observations: Vec<Observation>) -> Vec<Observation> {
    let selection = Selection::new(state, settled, &observations);
    let mut observations: Vec<Observation> = observations.into_iter().filter(|seen| selection.matters(seen)).collect();
    let excess = observations.len().saturating_sub(MAX_CARRIED_OVER);
    if excess > 0 {
        let at = observations.drain(..excess).next_back().map(|seen| seen.at).unwrap_or_default();
        let lost = Fact::Lost { what: "carry-over-full".to_owned(), count: excess as u64 };
        observations.insert(0, Observation::new(at, Source::Engine, lost));
    }
    observations
}

struct Selection<'a> {
    state: &'a State,
    /// Observations from this time on were not applied yet.
    settled: BootTime,
    /// Processes that forked a selected process.
    above: BTreeSet<TaskKey>,
    /// Sockets on whose behalf a selected socket was connected.
    inbound: BTreeSet<SocketId>,
    /// Addresses of selected sockets: answers to queries name sockets by address.
    tuples: BTreeSet<Tuple>,
    /// Names of each container, with the times of the reports that added a name.
    containers: BTreeMap<String, (ContainerInfo, BTreeSet<BootTime>)>,
    measured_from: BootTime,
}

impl<'a> Selection<'a> {
    fn new(state: &'a State, settled: BootTime, observations: &[Observation]) -> Self {
        let mut selection = Self {
            state,
            settled,
            above: BTreeSet::new(),
            inbound: BTreeSet::new(),
            tuples: BTreeSet::new(),
            containers: BTreeMap::new(),
            measured_from: BootTime::default(),
        };
        let mut maker = BTreeMap::new();
        let mut measured = BTreeSet::new();
        for seen in observations {
            if seen.fact.is_measure() {
                measured.insert(seen.at);
            }
            match (&seen.fact, seen.task) {
                (Fact::Fork { child, .. }, Some(by)) => drop(maker.insert(*child, by)),
                (Fact::ContainerSeen(info), _) => selection.named(info, seen.at),
                (Fact::ContainerUnknown { id }, _) => {
                    let info = ContainerInfo { id: id.clone(), ..ContainerInfo::default() };
                    selection.named(&info, seen.at);
                }
                _ => {}
            }
        }
        selection.measured_from = measured.into_iter().rev().nth(1).unwrap_or_default();
        let made: Vec<TaskKey> = maker.keys().copied().filter(|child| selection.is_of_an_exec(*child)).collect();
        for child in made {
            let above = std::iter::successors(Some(child), |task| maker.get(task).copied());
            selection.above.extend(above.skip(1).take(MAX_LINEAGE));
        }
        // Backwards, because a socket is reported before the connections on its behalf.
        for seen in observations.iter().rev() {
            if let Fact::Connected { socket, inbound: Some(inbound), .. } = &seen.fact
                && (selection.socket(socket.id) || selection.inbound.contains(&socket.id))
            {
                selection.inbound.insert(*inbound);
            }
        }
        let sockets = state.sockets.iter().filter(|(_, socket)| selection.socket(socket.id));
        selection.tuples = sockets.filter_map(|(_, socket)| socket.tuple).collect();
        selection
    }

    /// Notes the time of a report, if it adds a name of a container.
    fn named(&mut self, info: &ContainerInfo, at: BootTime) {
        let Some((known, times)) = self.containers.get_mut(&info.id) else {
            self.containers.insert(info.id.clone(), (info.clone(), BTreeSet::from([at])));
            return;
        };
        let both = known.clone().or(info.clone());
        if both != *known {
            *known = both;
            times.insert(at);
        }
    }

    fn matters(&self, seen: &Observation) -> bool {
        // An observation that was not applied yet is kept, because its meaning is unknown. The new file has its own
        // ticks.
        if seen.at >= self.settled {
            return !matches!(seen.fact, Fact::Tick | Fact::Continued | Fact::Stopped);
        }
        if seen.fact.is_measure() {
            return seen.at >= self.measured_from;
        }
        let task = seen.task.is_some_and(|task| self.task(task) || self.above.contains(&task));
        match &seen.fact {
            Fact::Fork { child, .. } => self.task(*child) || self.above.contains(child),
            Fact::Exec(_)
            | Fact::Enrolled(_)
            | Fact::ProcessSeen(_)
            | Fact::Ancestry(_)
            | Fact::ProcessGone
            | Fact::Watched
            | Fact::Looked
            | Fact::Exit { .. }
            | Fact::ExecFailed { .. }
            | Fact::Signalled(_)
            | Fact::Listening { .. }
            | Fact::ListeningUnix { .. } => task,
            Fact::Connected { socket, .. } | Fact::Accepted { socket } | Fact::SocketSeen { socket } => {
                self.socket(socket.id) || self.inbound.contains(&socket.id)
            }
            // The connection of a dial may never come about: the dialling process decides.
            Fact::Dialled { .. } => task,
            Fact::Touched { socket, .. } => self.socket(socket.id),
            Fact::Closed { socket, .. } => self.socket(*socket) || self.inbound.contains(socket),
            Fact::PeerAbsent { tuple, .. } => self.tuples.contains(tuple) || self.tuples.contains(&tuple.mirrored()),
            Fact::UnixConnected { socket, .. } => self.socket(*socket),
            Fact::UnixAccepted { socket, peer, .. } => {
                self.socket(*socket) || self.socket(*peer) || self.stands(*peer, *socket)
            }
            Fact::Relayed { from, to, .. } => self.socket(from.id) && self.socket(to.id),
            Fact::RelayAwaited { from, to, .. } => self.socket(*from) && self.socket(*to),
            Fact::FifoMade { path, from, .. } => {
                self.fifo(seen, path) || from.is_some_and(|from| self.socket(from.id) && self.of_container(path))
            }
            Fact::FifoHeld { file, fd: Some(_), .. } => {
                let anchors = &self.state.anchors;
                let id = seen.task.and_then(|runc| anchors.by_runc(runc)).or_else(|| anchors.of_pipe_file(*file));
                id.is_some_and(|id| self.exec(id))
            }
            Fact::FifoHeld { path, file, fd: None } => {
                let is_known = self.state.anchors.of_fifo(*file).is_some();
                is_known && (self.fifo(seen, path) || (task && self.of_container(path)))
            }
            Fact::FifoRelayed { to, .. } => self.socket(to.id),
            Fact::FifoAwaited { path, socket, .. } => {
                let pipe = seen.task.and_then(|task| self.state.anchors.of_pipe(task.host, path));
                (self.fifo(seen, path) || pipe.is_some_and(|id| self.exec(id))) && self.socket(*socket)
            }
            Fact::ContainerSeen(info) => self.container(&info.id, seen.at),
            Fact::ContainerUnknown { id } => self.container(id, seen.at),
            Fact::PidFile { path, .. } => {
                self.state.exec_of_pid_file(host_of(seen), path).is_some_and(|id| self.exec_since(id, seen.at))
            }
            Fact::Audited(event) => {
                let fits = self.state.audits.fits_of(event);
                fits.is_some_and(|fits| fits.is_empty() || fits.iter().any(|id| self.exec(id)))
            }
            Fact::AuditFollowed | Fact::AuditSkipped { .. } | Fact::Lost { .. } => true,
            // Ticks have no effect once passed; measurements were handled above.
            Fact::Tick
            | Fact::Continued
            | Fact::Stopped
            | Fact::TcpMeasured { .. }
            | Fact::UnixMeasured { .. }
            | Fact::SocketGone { .. }
            | Fact::SocketUnlisted { .. }
            | Fact::ProcessMeasured(_)
            | Fact::Descriptors { .. }
            | Fact::FileMeasured { .. }
            | Fact::FifoUsed { .. }
            | Fact::PeerMeasured { .. } => false,
        }
    }

    /// True if a process is selected. The kubectl of a closed session is not: the next file would show it as unserved.
    /// Nor is a process that a closed exec left running: it would look like a command of its own.
    fn task(&self, task: TaskKey) -> bool {
        let state = self.state;
        let lives = || state.processes.get(task).is_some_and(|process| process.exit.is_none());
        state.dependents.has(&Dependency::Task(task))
            || (lives() && !state.served.contains(&task) && self.is_over(task) != Some(true))
    }

    /// True if the process that forked this one must be kept: the fork names the exec.
    fn is_of_an_exec(&self, task: TaskKey) -> bool {
        self.state.dependents.has(&Dependency::Task(task)) || self.is_over(task) == Some(false)
    }

    /// True if the exec of a process is over; `None` if the process belongs to no known exec.
    fn is_over(&self, task: TaskKey) -> Option<bool> {
        let anchors = &self.state.anchors;
        let mut lineage = self.state.processes.lineage(task);
        let id = lineage.find_map(|task| anchors.by_runc(task).or_else(|| anchors.by_process(task)))?;
        anchors.get(id).map(|exec| exec.over)
    }

    fn socket(&self, id: SocketId) -> bool {
        let sockets = &self.state.sockets;
        let Some((idx, socket)) = sockets.find(id).and_then(|idx| Some((idx, sockets.get(idx)?))) else { return false };
        socket.closed.is_none() || self.state.dependents.has(&Dependency::Socket(idx))
    }

    fn exec(&self, id: &AnchorId) -> bool {
        self.state.anchors.get(id).is_some_and(|exec| !exec.over)
    }

    /// True if an exec is kept, and a fact of this time is not of an earlier exec with the same id.
    fn exec_since(&self, id: &AnchorId, at: BootTime) -> bool {
        let exec = self.state.anchors.get(id);
        exec.is_some_and(|exec| {
            !exec.over && (at >= exec.since || !matches!(id.key(), AnchorKey::Exec { again: true, .. }))
        })
    }

    /// True for a FIFO of a selected exec.
    fn fifo(&self, seen: &Observation, path: &RawText) -> bool {
        let Some(fifo) = path.as_str().and_then(parse_fifo_path) else { return false };
        let id = self.state.anchors.newest(host_of(seen), &fifo.container, &fifo.exec);
        id.is_some_and(|id| self.exec_since(id, seen.at))
    }

    /// True for a FIFO of a container's first process.
    fn of_container(&self, path: &RawText) -> bool {
        path.as_str().and_then(parse_fifo_path).is_some_and(|fifo| fifo.exec == fifo.container)
    }

    fn container(&self, id: &str, at: BootTime) -> bool {
        self.state.containers.contains_key(id) && self.containers.get(id).is_some_and(|(_, times)| times.contains(&at))
    }

    fn stands(&self, near: SocketId, far: SocketId) -> bool {
        self.state.daemon_connections.values().any(|one| one.near == near && one.far == far)
    }
}

fn host_of(seen: &Observation) -> HostNo {
    seen.task.map(|task| task.host).unwrap_or_default()
}
