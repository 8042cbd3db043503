//! Observations that a session rests on.

use std::collections::BTreeSet;

use crate::model::{
    Fact, FileId, HostNo, IdVisitor, Observation, Report, Role, Session, SocketId, TaskKey, parse_fifo_path,
};

/// Part of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What names the session's own processes, connections and FIFOs.
    Own,
    /// Everything except what names only processes, connections and FIFOs of other sessions.
    NotForeign,
    /// The whole recording.
    Whole,
}

impl Extent {
    /// All, the smallest first.
    pub const ALL: [Self; 3] = [Self::Own, Self::NotForeign, Self::Whole];
}

/// Ids of one session, or of several.
#[derive(Default)]
struct Ids {
    tasks: BTreeSet<TaskKey>,
    sockets: BTreeSet<SocketId>,
    /// Exec ids.
    execs: BTreeSet<String>,
}

impl Ids {
    fn add(&mut self, session: &Session, report: &Report) {
        self.tasks.extend(session.hops.iter().map(|hop| hop.task));
        for link in &session.links {
            self.sockets.extend(link.tcp.into_iter().flat_map(|ends| [ends.near, ends.far]).flatten());
            self.sockets.extend(link.relay.into_iter().flat_map(|(from, to)| [from, to]));
            self.sockets.extend(link.unix.iter().flat_map(|(_, near, far)| [*near, *far]));
        }
        let ends = report.unattributed.iter().filter(|end| end.session.as_ref() == Some(&session.id));
        self.sockets.extend(ends.map(|end| end.socket.id));
        self.execs.extend(session.exec_id.iter().map(|id| id.to_string()));
    }

    fn has_socket(&self, id: &SocketId) -> bool {
        // A source knows the cookie, the inode, or both.
        self.sockets.iter().any(|own| {
            let is_equal = |one: Option<u64>, other: Option<u64>| one.is_some() && one == other;
            own.host == id.host && (is_equal(own.cookie, id.cookie) || is_equal(own.inode, id.inode))
        })
    }

    fn has_exec(&self, path: &str) -> bool {
        self.execs.iter().any(|id| path.contains(id.as_str()))
    }
}

/// Selects the observations of an extent, in their order of arrival.
pub(super) struct Selection {
    extent: Extent,
    own: Ids,
    /// Ids of other sessions that are not shared with this one.
    foreign: Ids,
    container: Option<String>,
    audit_id: Option<String>,
    /// This session's runc and its descendants so far.
    below: BTreeSet<TaskKey>,
}

impl Selection {
    pub(super) fn new(extent: Extent, session: &Session, report: &Report) -> Self {
        let (mut own, mut foreign) = (Ids::default(), Ids::default());
        own.add(session, report);
        for other in report.sessions.iter().filter(|other| other.id != session.id) {
            foreign.add(other, report);
            // Daemons serve many sessions.
            let is_shared = |role: Role| !matches!(role, Role::Client | Role::Runc | Role::Process);
            for hop in other.hops.iter().filter(|hop| is_shared(hop.role)) {
                foreign.tasks.remove(&hop.task);
            }
        }
        foreign.tasks.retain(|task| !own.tasks.contains(task));
        foreign.sockets.retain(|socket| !own.has_socket(socket));
        foreign.execs.retain(|id| !own.execs.contains(id));
        let runc = session.hops.iter().filter(|hop| hop.role == Role::Runc).map(|hop| hop.task);
        Self {
            extent,
            below: runc.collect(),
            own,
            foreign,
            container: session.target.container_id.clone(),
            audit_id: session.client.user.as_ref().and_then(|user| user.audit_id.clone()),
        }
    }

    /// True if the observation belongs to the extent.
    pub(super) fn takes(&mut self, seen: &Observation) -> bool {
        if let (Fact::Fork { child, .. }, Some(task)) = (&seen.fact, seen.task)
            && self.below.contains(&task)
        {
            self.below.insert(*child);
            self.own.tasks.insert(*child);
        }
        match self.extent {
            Extent::Own => self.is_own(seen),
            Extent::NotForeign => !self.is_foreign(seen),
            Extent::Whole => true,
        }
    }

    fn is_own(&self, seen: &Observation) -> bool {
        if let Fact::ContainerSeen(info) = &seen.fact {
            return Some(&info.id) == self.container.as_ref();
        }
        if let Fact::ContainerUnknown { id } = &seen.fact {
            return Some(id) == self.container.as_ref();
        }
        if let Fact::Audited(event) = &seen.fact {
            return Some(&event.id) == self.audit_id.as_ref();
        }
        if let Some(path) = exec_path(&seen.fact) {
            return self.own.has_exec(path);
        }
        let mentioned = Mentioned::of(seen);
        if !mentioned.sockets.is_empty() {
            return mentioned.sockets.iter().any(|socket| self.own.has_socket(socket));
        }
        mentioned.tasks.is_empty() || mentioned.tasks.iter().all(|task| self.own.tasks.contains(task))
    }

    fn is_foreign(&self, seen: &Observation) -> bool {
        if let Some(path) = exec_path(&seen.fact)
            && self.foreign.has_exec(path)
        {
            return true;
        }
        let mentioned = Mentioned::of(seen);
        mentioned.tasks.iter().any(|task| self.foreign.tasks.contains(task))
            || mentioned.sockets.iter().any(|socket| self.foreign.has_socket(socket))
    }
}

/// Path that contains an exec id.
fn exec_path(fact: &Fact) -> Option<&str> {
    let (Fact::FifoMade { path, .. }
    | Fact::FifoHeld { path, .. }
    | Fact::FifoAwaited { path, .. }
    | Fact::FifoUsed { path, .. }
    | Fact::PidFile { path, .. }) = fact
    else {
        return None;
    };
    let path = path.as_str()?;
    // FIFOs of a container's first process have no exec id of their own.
    parse_fifo_path(path).is_none_or(|fifo| fifo.exec != fifo.container).then_some(path)
}

/// Ids that an observation mentions.
#[derive(Default)]
struct Mentioned {
    tasks: Vec<TaskKey>,
    sockets: Vec<SocketId>,
}

impl Mentioned {
    fn of(seen: &Observation) -> Self {
        let mut mentioned = Self::default();
        seen.clone().visit_ids(&mut mentioned);
        mentioned
    }
}

impl IdVisitor for Mentioned {
    fn task(&mut self, task: &mut TaskKey) {
        self.tasks.push(*task);
    }

    fn socket(&mut self, socket: &mut SocketId) {
        self.sockets.push(*socket);
    }

    fn file(&mut self, _file: &mut FileId) {}

    fn host(&mut self, _host: &mut HostNo) {}
}
