//! Scope of a measurement: the sockets, processes and files behind a set of sessions.

use std::collections::{BTreeMap, BTreeSet};

use super::{Hop, Link, RawText, Report, Role, Session, SocketId, TaskKey, Tuple};

/// Level of detail for a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// State only. For daemons that serve many sessions: their threads show nothing about one session.
    Brief,
    /// State, threads and cgroup.
    Whole,
}

/// Maximum of clients without a session whose process state is measured.
const MAX_CLIENTS: usize = 256;

/// Objects to measure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Ends of TCP connections: addresses and network namespace.
    pub tcp: BTreeMap<SocketId, (Tuple, Option<u32>)>,
    /// Ends in `tcp` with an orphaned other end: its address is on this host, but no process has it. The orphan is
    /// measured, too.
    pub peer_missing: BTreeSet<SocketId>,
    /// Ends of unix connections: path of the listener, and network namespace.
    pub unix: BTreeMap<SocketId, (RawText, Option<u32>)>,
    /// Processes, with level of detail.
    pub tasks: BTreeMap<TaskKey, Depth>,
    /// Processes whose children are measured as well, with all details.
    pub parents: BTreeSet<TaskKey>,
    /// Processes that hold the FIFOs of execs.
    pub shims: BTreeSet<TaskKey>,
    /// True to measure open files and their other holders. This scans every descriptor of the host.
    pub files: bool,
}

impl Scope {
    /// Everything behind these sessions, with `most` as the highest level of detail. [`Depth::Whole`] includes files.
    #[must_use]
    pub fn of(sessions: &[Session], most: Depth) -> Self {
        let mut scope = Self { files: most == Depth::Whole, ..Self::default() };
        for session in sessions.iter().filter(|session| !session.kind.is_event()) {
            for hop in &session.hops {
                let depth = depth(hop).min(most);
                let known = scope.tasks.entry(hop.task).or_insert(depth);
                *known = (*known).max(depth);
                if hop.role == Role::Shim {
                    scope.shims.insert(hop.task);
                }
                if hop.role == Role::Runc && hop.exit.is_none() && scope.files {
                    scope.parents.insert(hop.task);
                }
            }
            for link in &session.links {
                scope.link(session, link);
            }
        }
        scope
    }

    /// Adds the ends of sessions' own connections that have no known other end.
    #[must_use]
    pub fn with_ends(mut self, report: &Report) -> Self {
        for loose in report.unattributed.iter().filter(|loose| loose.session.is_some()) {
            if let Some(tuple) = loose.socket.tuple {
                self.tcp.insert(loose.socket.id, (tuple, loose.socket.netns));
            }
        }
        self
    }

    /// Adds the daemons, and the connections without a session.
    #[must_use]
    pub fn with_others(mut self, report: &Report) -> Self {
        let mut netns = BTreeMap::new();
        for daemon in &report.daemons {
            let depth = if daemon.role == Role::Shim { Depth::Whole } else { Depth::Brief };
            let known = self.tasks.entry(daemon.task).or_insert(depth);
            *known = (*known).max(depth);
            netns.insert(daemon.task, daemon.netns);
        }
        for one in &report.daemon_connections {
            for (task, socket) in [one.near, one.far] {
                let netns = netns.get(&task).copied().flatten();
                self.unix.entry(socket).or_insert_with(|| (one.path.clone(), netns));
            }
        }
        for loose in &report.unattributed {
            if let Some(tuple) = loose.socket.tuple {
                self.tcp.insert(loose.socket.id, (tuple, loose.socket.netns));
                self.peer_missing.extend(loose.peer_missing.then_some(loose.socket.id));
            }
        }
        // A client that does not read may be a stopped process.
        let clients = report.unattributed.iter().filter(|loose| loose.role == Role::Client && loose.peer.is_some());
        for client in clients.take(MAX_CLIENTS) {
            self.tasks.entry(client.task).or_insert(Depth::Brief);
        }
        self
    }

    fn link(&mut self, session: &Session, link: &Link) {
        let netns = |hop: usize| session.hops.get(hop).and_then(|hop| hop.process.netns);
        if let Some(ends) = link.tcp {
            let sides = [(ends.near, ends.tuple, link.from), (ends.far, ends.tuple.mirrored(), link.to)];
            for (id, tuple, hop) in sides {
                self.tcp.extend(id.map(|id| (id, (tuple, netns(hop)))));
            }
        }
        if let Some((path, near, far)) = &link.unix {
            self.unix.insert(*near, (path.clone(), netns(link.from)));
            self.unix.insert(*far, (path.clone(), netns(link.to)));
        }
    }
}

/// Threads and files show something about a session only in processes that serve one session, or one pod.
fn depth(hop: &Hop) -> Depth {
    match hop.role {
        Role::Client | Role::Shim | Role::Runc | Role::Process => Depth::Whole,
        Role::Proxy | Role::ApiServer | Role::Etcd | Role::Kubelet | Role::Runtime => Depth::Brief,
    }
}
