//! Tables shared by all sessions of a report: the roles of processes, and the holders of files.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    legs::{End, refused_at},
    samples::twice,
};
use crate::model::{
    Descriptor, Endpoints, FileId, FileKind, Report, Role, Session, SocketId, SocketRole, State, TaskKey,
    UnattributedEnd, parse_fifo_path,
};

/// A report with lookup tables for rules.
pub(super) struct Host<'a> {
    pub(super) report: &'a Report,
    /// Roles of each process, from sessions, daemons and unattributed connections.
    roles: BTreeMap<TaskKey, BTreeSet<Role>>,
    /// Processes that hold a file, with their descriptors.
    holders: BTreeMap<(FileKind, FileId), Vec<(TaskKey, &'a Descriptor)>>,
    /// Open FIFOs of execs by exec id and container. An exec id alone is not unique.
    fifos: BTreeMap<(String, String), Vec<Held<'a>>>,
    /// Ports of kubelets.
    kubelet_ports: BTreeSet<u16>,
}

/// An exec's FIFO that a process has open.
#[derive(Clone, Debug)]
pub(super) struct Held<'a> {
    pub(super) task: TaskKey,
    pub(super) descriptor: &'a Descriptor,
    pub(super) container: String,
    pub(super) stream: &'static str,
}

impl<'a> Host<'a> {
    pub(super) fn new(report: &'a Report) -> Self {
        let mut roles: BTreeMap<TaskKey, BTreeSet<Role>> = BTreeMap::new();
        let mut kubelet_ports = BTreeSet::new();
        for session in &report.sessions {
            for hop in &session.hops {
                roles.entry(hop.task).or_default().insert(hop.role);
            }
            let to_kubelet = |to: &usize| session.hops.get(*to).is_some_and(|hop| hop.role == Role::Kubelet);
            let legs = session.links.iter().filter(|link| link.from != link.to && to_kubelet(&link.to));
            // dockershim connects to its own kubelet, too, but not to the kubelet's port.
            let legs = legs.filter(|link| session.hops.get(link.from).is_some_and(|hop| hop.role != Role::Kubelet));
            kubelet_ports.extend(legs.filter_map(|link| Some(link.tcp?.tuple.remote.port())));
        }
        for daemon in &report.daemons {
            roles.entry(daemon.task).or_default().insert(daemon.role);
        }
        for loose in report.unattributed.iter().filter(|one| one.session.is_none()) {
            roles.entry(loose.task).or_default().insert(loose.role);
        }
        let mut holders: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut fifos: BTreeMap<(String, String), Vec<Held<'_>>> = BTreeMap::new();
        for (task, descriptors) in report.measures.every_descriptor() {
            for one in descriptors {
                holders.entry((one.kind, one.file)).or_default().push((task, one));
                let path = one.path.as_ref().filter(|_| one.kind == FileKind::Fifo);
                if let Some(fifo) = path.and_then(|path| parse_fifo_path(&path.to_text())) {
                    let key = (fifo.exec, fifo.container.clone());
                    let held = Held { task, descriptor: one, container: fifo.container, stream: fifo.stream };
                    fifos.entry(key).or_default().push(held);
                }
            }
        }
        Self { report, roles, holders, fifos, kubelet_ports }
    }

    /// True if the process was observed in that role.
    pub(super) fn is(&self, task: TaskKey, role: Role) -> bool {
        self.roles.get(&task).is_some_and(|roles| roles.contains(&role))
    }

    /// Processes that were observed in that role.
    pub(super) fn all(&self, role: Role) -> impl Iterator<Item = TaskKey> + '_ {
        self.roles.iter().filter(move |(_, roles)| roles.contains(&role)).map(|(task, _)| *task)
    }

    /// Holders of that file with their descriptors.
    pub(super) fn holders(&self, kind: FileKind, file: FileId) -> &[(TaskKey, &'a Descriptor)] {
        self.holders.get(&(kind, file)).map_or(&[], Vec::as_slice)
    }

    /// Open FIFOs of that session's exec.
    pub(super) fn fifos_of(&self, session: &Session) -> &[Held<'a>] {
        let key = session.exec_id.as_deref().zip(session.target.container_id.as_deref());
        let held = key.and_then(|(exec, container)| self.fifos.get(&(exec.to_owned(), container.to_owned())));
        held.map_or(&[], Vec::as_slice)
    }

    /// Open FIFOs of all execs, by exec id.
    pub(super) fn fifos(&self) -> impl Iterator<Item = (&str, &[Held<'a>])> {
        self.fifos.iter().map(|((exec, _), held)| (exec.as_str(), held.as_slice()))
    }

    /// True if a signal stopped that process in two samples.
    pub(super) fn is_stopped(&self, task: TaskKey) -> bool {
        let process = self.report.measures.process(task);
        process.is_some_and(|series| twice(series, |process| matches!(process.state, 'T' | 't')))
    }

    /// Execs in this shim's containers whose FIFOs other processes have open and the shim has not. Valid only if the
    /// shim's descriptors were measured.
    pub(super) fn unopened_by(&self, shim: TaskKey) -> usize {
        let holds = |held: &[Held<'_>]| held.iter().any(|one| one.task == shim);
        let containers: BTreeSet<&str> = self
            .fifos
            .values()
            .filter(|held| holds(held))
            .filter_map(|held| Some(held.first()?.container.as_str()))
            .collect();
        let waiting = self.fifos.values().filter(|held| !holds(held));
        waiting.filter(|held| held.first().is_some_and(|one| containers.contains(one.container.as_str()))).count()
    }

    /// True if that process's descriptors were measured, so that a missing descriptor is truly absent.
    pub(super) fn was_looked_at(&self, task: TaskKey) -> bool {
        !self.report.measures.descriptors(task).is_empty()
    }

    /// Shims that hold FIFOs of that container.
    pub(super) fn shims_of(&self, container: &str) -> BTreeSet<TaskKey> {
        let held = self.fifos.values().flatten().filter(|held| held.container == container);
        held.map(|held| held.task).filter(|task| !self.is(*task, Role::Runtime)).collect()
    }

    /// True if a kubelet listens on that port.
    pub(super) fn is_kubelet_port(&self, port: u16) -> bool {
        self.kubelet_ports.contains(&port) || Endpoints::default().is_kubelet_port(port)
    }

    /// Ends of connections that belong to no session.
    pub(super) fn loose(&self) -> impl Iterator<Item = &'a UnattributedEnd> + use<'a> {
        self.report.unattributed.iter().filter(|one| one.session.is_none())
    }

    /// Connections without a session that processes with this role opened.
    pub(super) fn dialled_by(&self, role: Role) -> impl Iterator<Item = &'a UnattributedEnd> + use<'a> {
        self.loose().filter(move |loose| loose.role == role && loose.socket.role != Some(SocketRole::Accepted))
    }

    /// An end of a connection with its measurements.
    pub(super) fn end(&self, socket: SocketId) -> Option<End<'a>> {
        Some(End { socket, series: self.report.measures.tcp(socket) })
    }

    /// Connections accepted by this process whose peer reads nothing, with the bytes that wait. Only those that belong
    /// to no session.
    pub(super) fn refused_by_peer(&self, task: TaskKey) -> Vec<(&'a UnattributedEnd, u32)> {
        let own = self.report.unattributed.iter().filter(|one| one.task == task);
        let accepted = own.filter(|one| one.socket.role == Some(SocketRole::Accepted));
        accepted.filter_map(|one| Some((one, refused_at(self.end(one.socket.id))?))).collect()
    }

    /// The other end of an unattributed connection, where a known process holds it.
    pub(super) fn peer_of(&self, one: &UnattributedEnd) -> Option<&'a UnattributedEnd> {
        let (peer, mirrored) = (one.peer?, one.socket.tuple?.mirrored());
        self.report.unattributed.iter().find(|other| other.task == peer && other.socket.tuple == Some(mirrored))
    }

    /// Sessions that are open.
    pub(super) fn open(&self) -> impl Iterator<Item = &'a Session> {
        self.report.sessions.iter().filter(|session| session.state == State::Open)
    }
}
