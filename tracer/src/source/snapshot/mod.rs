//! What exists already, when asked: processes, sockets and containers on the path, out of procfs, sock_diag and the
//! runtime's files. Start at [`Snapshot::take`]; [`Snapshot::answer`] serves the correlator's questions.
//!
//! Synchronous, and never an error: what vanishes in the middle is left out, what cannot be reached is told by
//! [`Snapshot::degraded`]. Nothing is guessed: where two sockets fit, neither is named.

mod census;
mod container;
mod descriptors;
mod fifos;
mod foreground;
mod golang;
mod iterated;
mod listeners;
mod measure;
mod passwd;
mod peers;
mod procfs;
mod sock_diag;
mod starting;
mod waiting;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

pub use self::census::Road;
use self::{
    census::Census,
    container::Root,
    descriptors::OpenFile,
    listeners::Verifier,
    peers::End,
    procfs::{Proc, Rights},
    sock_diag::{TcpSocket, Trouble, UnixSocket},
};
use crate::model::{
    Ancestry, BootTime, ContainerInfo, DaemonKind, Daemonlike, Degraded, Fact, INITIAL_USERNS, Listener, Observation,
    Places, ProcessInfo, Program, RawText, SocketId, SocketInfo, SocketRole, Source, TaskKey, Want, is_runtime_comm,
};

/// Every daemon talks to these: the journal, D-Bus. They are not on the path.
const HOST_SERVICES: [&[u8]; 3] = [b"/run/systemd/", b"/run/dbus/", b"/var/run/dbus/"];
/// Plug-ins of the kubelet's: devices, volumes.
const KUBELET_PLUGINS: [&[u8]; 1] = [b"/var/lib/kubelet/"];
/// Sockets told of at the start; a replay keeps them all.
const MAX_FACTS: usize = 200_000;
/// Mount namespaces in which runtimes keep files: one a host, a few where hosts share a kernel (kind).
const MAX_ROOTS: usize = 64;

/// Code of what is told where processes do not show what they have open.
pub const HIDDEN: &str = "hidden-processes";

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only the network namespace with this inode number.
    pub netns: Option<u32>,
    /// Ports and sockets of the path.
    pub places: Places,
    /// Where the bundles of containers are, instead of the well-known folders.
    pub bundles: Option<String>,
    /// Leave the memory of the daemons alone.
    pub no_memory: bool,
    /// Questions are about the moment of the snapshot, up to the next measurement, and answered out of the same look; else
    /// each is about now.
    pub of_one_moment: bool,
    /// How to find out what is open.
    pub road: Road,
}

/// Looks at the host when asked.
pub struct Snapshot {
    proc: Proc,
    netns: Option<u32>,
    places: Places,
    bundles: Option<String>,
    no_memory: bool,
    of_one_moment: bool,
    road: Road,
    /// The one that the last look took.
    taken: Road,
    /// What was found, as long as it is asked about.
    census: Option<Arc<Census>>,
    /// Where runtimes were seen to keep files: a process in each mount namespace other than the tracer's.
    roots: BTreeMap<u32, TaskKey>,
    troubles: BTreeSet<Trouble>,
}

/// What a process listens as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Daemon {
    Runtime,
    Shim,
}

/// Processes on the path, and the unix sockets that belong to it.
#[derive(Default)]
struct OnPath {
    pids: BTreeSet<u32>,
    /// Names that those sockets are bound with.
    paths: BTreeSet<RawText>,
    /// What was verified of listeners whose name or file is a daemon's, by inode of the socket and pid.
    listeners: BTreeMap<(u64, u32), Listener>,
}

/// Processes of the path, with their sockets.
#[derive(Default)]
struct Found {
    /// Connections between daemons come last: both are known then.
    facts: Vec<Observation>,
    /// Who listens on a unix socket of the path, verified.
    daemons: BTreeMap<TaskKey, Daemon>,
    /// Who listens at all.
    servers: BTreeSet<TaskKey>,
    /// Sockets that are left out.
    cut: u64,
}

/// A process and what it holds, seen while it was one and the same.
struct Seen {
    key: TaskKey,
    info: ProcessInfo,
    sockets: Vec<u64>,
}

impl Snapshot {
    /// Has looked at nothing yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            proc: Proc::new("/proc"),
            netns: options.netns,
            places: options.places,
            bundles: options.bundles,
            no_memory: options.no_memory,
            of_one_moment: options.of_one_moment,
            road: options.road,
            taken: Road::default(),
            census: None,
            roots: BTreeMap::new(),
            troubles: BTreeSet::new(),
        }
    }

    /// Everything on the path that exists now. A process comes before its sockets.
    pub fn take(&mut self, now: BootTime) -> Vec<Observation> {
        let census = self.look();
        let sockets = &census.sockets;
        let on_path = self.on_path(&census);
        let Found { mut facts, daemons, mut servers, cut } = self.found(&census, on_path, now);
        let mut shims = BTreeSet::new();
        let before = facts.len();
        for (key, listens) in daemons {
            facts.extend(self.fifos_of(key, now));
            if listens == Daemon::Runtime {
                facts.extend(self.foreground_of(key, now));
            }
            if listens == Daemon::Shim {
                facts.extend(self.execs_of(key, now));
                servers.remove(&key);
                shims.insert(key);
            }
        }
        if self.of_one_moment {
            // A trace sees how it goes on; what it saw of the start alone would stay.
            facts.extend(self.starting(&shims, &facts[before..], now));
        }
        for key in servers {
            facts.extend(self.waiting_of(key, sockets, now));
        }
        if !self.of_one_moment {
            self.census = None;
        }
        facts.extend(
            self.containers()
                .into_values()
                .map(|info| Observation::new(now, Source::Snapshot, Fact::ContainerSeen(Box::new(info)))),
        );
        for (what, count) in [("snapshot-sockets", cut), ("snapshot-fds", u64::from(census.is_cut))] {
            if count > 0 {
                facts.push(Observation::new(now, Source::Snapshot, Fact::Lost { what: what.to_owned(), count }));
            }
        }
        facts
    }

    /// Who listens on the path now: to be watched before everything is looked at.
    pub fn listeners(&mut self, now: BootTime) -> Vec<Observation> {
        let census = self.look();
        let listens = |pid: &u32| {
            let sockets = &census.sockets;
            census.held_by(*pid).iter().any(|inode| {
                sockets.tcp.get(inode).is_some_and(|socket| socket.listening)
                    || sockets.unix.get(inode).is_some_and(|socket| socket.listening)
            })
        };
        let mut on_path = self.on_path(&census);
        on_path.pids.retain(listens);
        let mut facts = self.found(&census, on_path, now).facts;
        facts.retain(|seen| {
            matches!(seen.fact, Fact::ProcessSeen(_) | Fact::Listening { .. } | Fact::ListeningUnix { .. })
        });
        if !self.of_one_moment {
            self.census = None;
        }
        facts
    }

    /// Runtimes, API servers and kubelets; what looks like one and is none; and the unix sockets to which a kubelet is connected of
    /// which nothing is known.
    pub fn daemons(&mut self) -> Vec<Daemonlike> {
        let census = self.look();
        let mut found = BTreeSet::new();
        let mut known = BTreeSet::new();
        for ((inode, pid), listener) in self.on_path(&census).listeners {
            let bound = census.sockets.unix.get(&inode).and_then(|socket| socket.path.clone()).unwrap_or_default();
            known.insert(bound.clone());
            let (kind, at) = match listener.serves_at() {
                Some(at) if self.places.is_runtime_socket(at) => (DaemonKind::Runtime, at.clone()),
                Some(_shim) => continue,
                None => (DaemonKind::Refused, bound),
            };
            found.extend(self.daemonlike(kind, at, pid));
        }
        let mut kubelets = BTreeSet::new();
        for (inode, socket) in census.sockets.tcp.iter().filter(|(_, socket)| socket.listening) {
            let port = socket.tuple.local.port();
            for pid in census.holders(*inode).iter().filter(|_| self.places.is_path_port(port)) {
                let kind = if !self.places.is_kubelet_port(port) {
                    let is_host = self.proc.namespace(*pid, "user") == Some(INITIAL_USERNS);
                    if is_host { DaemonKind::ApiServer } else { DaemonKind::Refused }
                } else if self.proc.rights(*pid) >= Rights::Root {
                    kubelets.insert(*pid);
                    DaemonKind::Kubelet
                } else {
                    DaemonKind::Refused
                };
                found.extend(self.daemonlike(kind, socket.tuple.local.to_string().as_str().into(), *pid));
            }
        }
        for inode in kubelets.iter().flat_map(|pid| census.held_by(*pid)) {
            let Some(peer) = census.sockets.unix.get(&inode).filter(|one| one.path.is_none()).and_then(|one| one.peer)
            else {
                continue;
            };
            let Some(path) = census.sockets.unix.get(&peer).and_then(|peer| peer.path.clone()) else { continue };
            let is_known = known.contains(&path)
                || HOST_SERVICES.iter().chain(&KUBELET_PLUGINS).any(|prefix| path.as_bytes().starts_with(prefix));
            for pid in census.holders(peer).iter().filter(|pid| !is_known && !kubelets.contains(*pid)) {
                found.extend(self.daemonlike(DaemonKind::Unknown, path.clone(), *pid));
            }
        }
        self.census = None;
        found.into_iter().collect()
    }

    fn daemonlike(&self, kind: DaemonKind, at: RawText, pid: u32) -> Option<Daemonlike> {
        Some(Daemonlike { kind, at, pid, comm: self.proc.comm(pid)? })
    }

    /// Answers one question. Nothing for questions that are not for this source.
    pub fn answer(&mut self, want: &Want, now: BootTime) -> Vec<Observation> {
        match want {
            Want::Watch(..) => Vec::new(),
            Want::Process(key) => vec![match self.proc.describe(key.tgid) {
                Some((found, info)) if found == *key => {
                    self.remember_root(&found, &info);
                    process_seen(now, found, info)
                }
                _ => Observation::of(now, Source::Snapshot, *key, Fact::ProcessGone),
            }],
            Want::Ancestry(key) => self.ancestry(*key, now).into_iter().collect(),
            Want::Pid(pid) => match self.proc.describe(*pid) {
                Some((found, info)) => {
                    self.remember_root(&found, &info);
                    vec![process_seen(now, found, info)]
                }
                None => Vec::new(),
            },
            Want::Listeners(pid) => self.listeners_of(*pid, now),
            Want::Peer { tuple, netns, isn } => self.peers(&[End { tuple: *tuple, netns: *netns, isn: *isn }], now),
            Want::Fifos(key) if self.is_foreground(*key) => self.stdio_of(*key, now),
            Want::Fifos(key) => {
                let mut facts = self.fifos_of(*key, now);
                facts.extend(self.foreground_of(*key, now));
                facts.extend(self.waiting_now(*key, now));
                facts
            }
            Want::Container { id, bundle } => {
                let inside = bundle.as_ref().and_then(RawText::as_str);
                // One root has the bundle, another one the kubelet's log links: each knows a part.
                let known = self.each_root().filter_map(|root| root.container(id, inside)).reduce(ContainerInfo::or);
                let fact = match known {
                    Some(info) => Fact::ContainerSeen(Box::new(info)),
                    None => Fact::ContainerUnknown { id: id.clone() },
                };
                vec![Observation::new(now, Source::Snapshot, fact)]
            }
            Want::PidFile(path) => {
                let pid = path.as_str().and_then(|path| self.in_roots(|root| root.pid_file(path)));
                vec![Observation::new(now, Source::Snapshot, Fact::PidFile { path: path.clone(), pid })]
            }
        }
    }

    /// These processes and their sockets, those with these paths among them.
    fn found(&mut self, census: &Census, on_path: OnPath, now: BootTime) -> Found {
        let OnPath { pids, paths, listeners: mut verified } = on_path;
        let sockets = &census.sockets;
        let listeners: BTreeSet<(u32, u16)> = listening(sockets.tcp.values());
        let mut found = Found::default();
        let mut late = Vec::new();
        for pid in pids {
            let Some(seen) = self.see(pid) else { continue };
            self.remember_root(&seen.key, &seen.info);
            let own = listening(seen.sockets.iter().filter_map(|inode| sockets.tcp.get(inode)));
            let activator = is_activator(pid, &seen.info);
            let key = seen.key;
            let is_listener = |inode| sockets.unix.get(inode).is_some_and(|socket| socket.listening);
            if !own.is_empty() || seen.sockets.iter().any(is_listener) {
                found.servers.insert(key);
            }
            found.facts.push(process_seen(now, key, seen.info));
            for inode in seen.sockets {
                if found.facts.len() + late.len() >= MAX_FACTS {
                    found.cut += 1;
                } else if let Some(socket) = sockets.tcp.get(&inode) {
                    if !(socket.listening && activator && census.holders(inode).len() > 1) {
                        let fact = tcp_fact(socket, &own, &listeners);
                        found.facts.push(Observation::of(now, Source::Snapshot, key, fact));
                    }
                } else if let Some(socket) = sockets.unix.get(&inode).filter(|socket| socket.listening) {
                    if let Some(listener) = verified.remove(&(inode, pid)).filter(|_| !activator) {
                        if let Some(at) = listener.serves_at() {
                            let is_runtime = self.places.is_runtime_socket(at);
                            found.daemons.insert(key, if is_runtime { Daemon::Runtime } else { Daemon::Shim });
                        }
                        found.facts.push(listening_unix(now, key, socket, listener));
                    }
                } else if let Some(socket) = sockets.unix.get(&inode)
                    && let Some(path) = socket.path.clone().filter(|path| paths.contains(path))
                    && let Some(peer) = socket.peer
                {
                    let connector = match census.holders(peer) {
                        [one] => Some(*one),
                        _ => None,
                    };
                    let id = sockets.unix.get(&peer).map_or(SocketId::new(0, peer), |peer| peer.id);
                    let fact = Fact::UnixAccepted { socket: socket.id, peer: id, connector, path, bound: true };
                    late.push(Observation::of(now, Source::Snapshot, key, fact));
                }
            }
        }
        found.facts.append(&mut late);
        found
    }

    /// Answers many questions; those for the other ends of connections together.
    pub fn answers(&mut self, wants: &[Want], now: BootTime) -> Vec<Observation> {
        let peer = |want: &Want| match want {
            Want::Peer { tuple, netns, isn } => Some(End { tuple: *tuple, netns: *netns, isn: *isn }),
            Want::Watch(..)
            | Want::Process(_)
            | Want::Ancestry(_)
            | Want::Pid(_)
            | Want::Listeners(_)
            | Want::Container { .. }
            | Want::PidFile(_)
            | Want::Fifos(_) => None,
        };
        let peers: Vec<_> = wants.iter().filter_map(peer).collect();
        let mut facts = self.peers(&peers, now);
        for want in wants.iter().filter(|want| peer(want).is_none()) {
            facts.extend(self.answer(want, now));
        }
        facts
    }

    /// Inode number of the mount namespace of that very process; `None` where it is gone, or may not be looked at.
    #[must_use]
    pub fn mount_namespace(&self, task: TaskKey) -> Option<u32> {
        let mntns = self.proc.namespace(task.tgid, "mnt")?;
        // Read after the namespace: a pid that changed hands in between is noticed.
        self.proc.is_still(task).then_some(mntns)
    }

    /// What that process was built with.
    #[must_use]
    pub fn program(&self, task: TaskKey) -> Option<Program> {
        golang::program(&self.proc.path(task.tgid, "exe"))
    }

    /// Which road the last look took; [`Road::Best`] before the first.
    #[must_use]
    pub fn road_taken(&self) -> Road {
        self.taken
    }

    /// What could not be reached so far.
    #[must_use]
    pub fn degraded(&self) -> Vec<Degraded> {
        self.troubles.iter().map(|trouble| degraded(*trouble)).collect()
    }

    /// Looks at everybody, and keeps what was found.
    fn look(&mut self) -> Arc<Census> {
        let census = Arc::new(Census::take(&self.proc, self.netns, self.road));
        self.troubles.extend(&census.sockets.troubles);
        if census.is_hidden {
            self.troubles.insert(Trouble::Hidden);
        }
        self.taken = census.road();
        self.census = Some(Arc::clone(&census));
        census
    }

    /// What that very process has open; `None` where it is gone, or may not be looked at.
    fn files_of(&self, task: TaskKey) -> Option<Cow<'_, [OpenFile]>> {
        if let Some(files) = self.census.as_ref().and_then(|census| census.files(task)) {
            return Some(Cow::Borrowed(files));
        }
        let files = self.proc.open_files(task.tgid, census::MAX_FDS).ok()?;
        // Asked after: a pid that changed hands in between is noticed.
        self.proc.is_still(task).then_some(Cow::Owned(files))
    }

    fn on_path(&self, census: &Census) -> OnPath {
        let sockets = &census.sockets;
        let OnPath { mut pids, mut paths, mut listeners } = OnPath::default();
        let mut runtimes = BTreeSet::new();
        let mut verifier = Verifier::new(&self.proc, &self.places);
        for (inode, socket) in &sockets.tcp {
            let port = |address: std::net::SocketAddr| self.places.is_path_port(address.port());
            if port(socket.tuple.local) || (!socket.listening && port(socket.tuple.remote)) {
                pids.extend(census.holders(*inode));
            }
        }
        for (inode, socket) in sockets.unix.iter().filter(|(_, socket)| socket.listening) {
            let Some(path) = &socket.path else { continue };
            for pid in census.holders(*inode) {
                let Some(listener) = verifier.listener(*pid, socket) else { continue };
                // systemd holds a listener for a service that it has started, or will: it serves nobody.
                if self.proc.comm(*pid).is_none_or(|comm| is_init(*pid, &comm)) {
                    continue;
                }
                pids.insert(*pid);
                if let Some(at) = listener.serves_at() {
                    paths.insert(path.clone());
                    if self.places.is_runtime_socket(at) {
                        runtimes.insert(*pid);
                    }
                }
                listeners.insert((*inode, *pid), listener);
            }
        }
        // What a runtime connected to: shims and monitors, wherever they listen.
        for inode in runtimes.iter().flat_map(|pid| census.held_by(*pid)) {
            let Some(socket) = sockets.unix.get(&inode).filter(|socket| !socket.listening && socket.path.is_none())
            else {
                continue;
            };
            let Some(peer) = socket.peer else { continue };
            // A pair made by socketpair(2) has no path, and nobody connected.
            let Some(path) = sockets.unix.get(&peer).and_then(|peer| peer.path.clone()) else { continue };
            if !HOST_SERVICES.iter().any(|prefix| path.as_bytes().starts_with(prefix)) {
                pids.extend(census.holders(peer));
                paths.insert(path);
            }
        }
        OnPath { pids, paths, listeners }
    }

    /// What the process that has this pid listens on, where the name or the file of a socket is a daemon's.
    fn listeners_of(&mut self, pid: u32, now: BootTime) -> Vec<Observation> {
        let Some((key, info)) = self.proc.describe(pid) else { return Vec::new() };
        let Some(netns) = info.netns.filter(|_| !is_activator(pid, &info)) else { return Vec::new() };
        let files = self.proc.open_files(pid, census::MAX_FDS).unwrap_or_default();
        let ways = vec![self.proc.path(pid, "ns/net")];
        let listed = sock_diag::unix_listeners(&[(netns, ways)].into());
        self.troubles.extend(&listed.troubles);
        let mut verifier = Verifier::new(&self.proc, &self.places);
        let mut facts = Vec::new();
        for socket in census::inodes(&files).iter().filter_map(|inode| listed.unix.get(inode)) {
            if let Some(listener) = verifier.listener(pid, socket) {
                facts.push(listening_unix(now, key, socket, listener));
            }
        }
        // Asked after: a pid that changed hands in between is noticed.
        if facts.is_empty() || !self.proc.is_still(key) {
            return Vec::new();
        }
        self.remember_root(&key, &info);
        facts.insert(0, process_seen(now, key, info));
        facts
    }

    /// Where a process comes from; `None` where it is gone.
    fn ancestry(&self, key: TaskKey, now: BootTime) -> Option<Observation> {
        let parents = self.proc.ancestors(key)?;
        let (found, info) = self.proc.describe(key.tgid)?;
        let uids = parents.iter().map(|above| above.uid).chain([info.uid, info.login_uid]).flatten().collect();
        // In a container the tracer's own list is the image's.
        let names = [self.proc.path(1, "root/etc/passwd"), PathBuf::from("/etc/passwd")]
            .into_iter()
            .map(|list| passwd::names(&list, &uids))
            .find(|names| !names.is_empty())
            .unwrap_or_default();
        let ancestry = Fact::Ancestry(Box::new(Ancestry { parents, names }));
        (found == key).then(|| Observation::of(now, Source::Snapshot, key, ancestry))
    }

    /// A process and its sockets: what was seen before it was described is its own only where it had the pid by then.
    fn see(&self, pid: u32) -> Option<Seen> {
        let (key, info) = self.proc.describe(pid)?;
        let known = self.census.as_ref().and_then(|census| census.sockets_of(key));
        let sockets = known.or_else(|| self.files_of(key).map(|files| census::inodes(&files))).unwrap_or_default();
        Some(Seen { key, info, sockets })
    }

    fn remember_root(&mut self, key: &TaskKey, info: &ProcessInfo) {
        let is_runtime = is_runtime_comm(&info.comm);
        // Anybody may have the name and a mount namespace with made-up files.
        let may_be = || self.proc.rights(key.tgid) == Rights::Admin;
        let Some(mntns) = info.mntns.filter(|_| is_runtime && may_be()) else { return };
        let is_own = || procfs::namespace_of(Path::new("/proc/self/ns/mnt")) == Some(mntns);
        if (self.roots.contains_key(&mntns) || self.roots.len() < MAX_ROOTS) && !is_own() {
            self.roots.insert(mntns, *key);
        }
    }

    /// The tracer's own root first, then those of runtimes elsewhere.
    fn each_root(&self) -> impl Iterator<Item = Root> + '_ {
        let own = Root::open(Path::new("/")).map(|root| match &self.bundles {
            Some(folder) => root.with_bundles(folder),
            None => root,
        });
        let elsewhere = self.roots.values().filter_map(|key| {
            let root = Root::open(&self.proc.path(key.tgid, "root"))?;
            self.proc.is_still(*key).then_some(root)
        });
        own.into_iter().chain(elsewhere)
    }

    fn in_roots<T>(&self, ask: impl FnMut(Root) -> Option<T>) -> Option<T> {
        self.each_root().find_map(ask)
    }

    fn containers(&self) -> BTreeMap<String, ContainerInfo> {
        let mut all: BTreeMap<String, ContainerInfo> = BTreeMap::new();
        for (id, info) in self.each_root().flat_map(|root| root.containers()) {
            let known = match all.remove(&id) {
                Some(known) => known.or(info),
                None => info,
            };
            all.insert(id, known);
        }
        all
    }
}

fn process_seen(now: BootTime, key: TaskKey, info: ProcessInfo) -> Observation {
    Observation::of(now, Source::Snapshot, key, Fact::ProcessSeen(Box::new(info)))
}

fn listening_unix(now: BootTime, key: TaskKey, socket: &UnixSocket, listener: Listener) -> Observation {
    let path = socket.path.clone().unwrap_or_default();
    let fact = Fact::ListeningUnix { path, socket: socket.id, listener: Some(listener) };
    Observation::of(now, Source::Snapshot, key, fact)
}

/// `own`: listeners of the process; `all`: of everybody.
fn tcp_fact(socket: &TcpSocket, own: &BTreeSet<(u32, u16)>, all: &BTreeSet<(u32, u16)>) -> Fact {
    let local = (socket.netns, socket.tuple.local.port());
    let role = if socket.listening {
        Some(SocketRole::Listening)
    } else if own.contains(&local) {
        Some(SocketRole::Accepted)
    } else if all.contains(&local) {
        None // of another process: inherited, or the port is shared
    } else {
        Some(SocketRole::Connected)
    };
    let info = SocketInfo {
        id: socket.id,
        family: socket.family,
        tuple: Some(socket.tuple),
        netns: Some(socket.netns),
        role,
        isn: socket.isn,
    };
    if socket.listening { Fact::Listening { socket: info } } else { Fact::SocketSeen { socket: info } }
}

/// Namespace and port of each listener among these.
fn listening<'a>(sockets: impl Iterator<Item = &'a TcpSocket>) -> BTreeSet<(u32, u16)> {
    sockets.filter(|socket| socket.listening).map(|socket| (socket.netns, socket.tuple.local.port())).collect()
}

/// systemd, the host's or one in a container.
fn is_init(pid: u32, comm: &RawText) -> bool {
    pid == 1 || comm.as_bytes() == b"systemd"
}

fn is_activator(pid: u32, info: &ProcessInfo) -> bool {
    is_init(pid, &info.comm)
}

fn degraded(trouble: Trouble) -> Degraded {
    let (code, text, hint) = match trouble {
        Trouble::NotPermitted => (
            "no-netns",
            "other network namespaces may not be entered: connections in them, older than the tracer, are unknown",
            "run as root, or grant CAP_SYS_ADMIN",
        ),
        Trouble::NoTcp => (
            "no-tcp-diag",
            "the kernel does not list TCP sockets: connections older than the tracer are unknown",
            "load the modules inet_diag and tcp_diag (CONFIG_INET_DIAG)",
        ),
        Trouble::NoUnix => (
            "no-unix-diag",
            "the kernel does not list unix sockets: runtimes and shims older than the tracer are found by what they do only",
            "load the module unix_diag (CONFIG_UNIX_DIAG)",
        ),
        Trouble::Hidden => (
            HIDDEN,
            "some processes do not show what they have open: their sockets and files are taken for nobody's",
            "run as root, with CAP_SYS_PTRACE, outside of containers",
        ),
        Trouble::TooMany => (
            "snapshot-cut",
            "this host has more sockets or network namespaces than a snapshot looks at: some are left out",
            "limit the tracer to one network namespace: --netns",
        ),
    };
    Degraded { code: code.to_owned(), text: text.to_owned(), hint: hint.to_owned(), fatal: false }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::{fd::AsFd, unix::net::UnixListener, unix::net::UnixStream},
    };

    use super::*;
    use crate::model::{HostNo, Tuple};

    const NOW: BootTime = BootTime(7);

    fn inode(fd: impl AsFd) -> u64 {
        rustix::fs::fstat(fd).unwrap().st_ino
    }

    fn own_key() -> TaskKey {
        Proc::new("/proc").key(std::process::id()).unwrap()
    }

    fn own_netns() -> Option<u32> {
        procfs::namespace_of(Path::new("/proc/self/ns/net"))
    }

    fn pair(listener: &TcpListener) -> (TcpStream, TcpStream, Tuple) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let tuple = Tuple::new(client.local_addr().unwrap(), client.peer_addr().unwrap());
        (client, server, tuple)
    }

    #[test]
    fn own_listener_and_connection_are_seen_after_the_process() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (client, server, tuple) = pair(&listener);
        let options = Options { places: Places::new(Some(tuple.remote.port()), None, None), ..Options::default() };
        let facts = Snapshot::new(options).take(NOW);
        let own: Vec<_> = facts.iter().filter(|seen| seen.task == Some(own_key())).collect();
        assert!(matches!(own[0].fact, Fact::ProcessSeen(_)));
        assert!(own.iter().all(|seen| seen.at == NOW && seen.source == Source::Snapshot));
        let of = |fd: &dyn AsFd| {
            let sought = inode(fd.as_fd());
            own.iter()
                .find_map(|seen| {
                    let (Fact::Listening { socket } | Fact::SocketSeen { socket }) = seen.fact else { return None };
                    (socket.id.inode == Some(sought)).then_some(socket)
                })
                .unwrap()
        };
        assert_eq!(of(&listener).role, Some(SocketRole::Listening));
        assert_eq!(of(&listener).id.cookie, Some(rustix::net::sockopt::socket_cookie(&listener).unwrap()));
        assert_eq!(of(&listener).netns, own_netns());
        assert_eq!((of(&client).role, of(&client).tuple), (Some(SocketRole::Connected), Some(tuple)));
        assert_eq!((of(&server).role, of(&server).tuple), (Some(SocketRole::Accepted), Some(tuple.mirrored())));
    }

    #[test]
    fn a_process_that_has_nothing_on_the_path_is_left_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_client, _server, _) = pair(&listener);
        let options = Options {
            netns: Some(1),
            places: Places::new(Some(listener.local_addr().unwrap().port()), None, None),
            ..Options::default()
        };
        let facts = Snapshot::new(options).take(NOW);
        assert!(facts.iter().all(|seen| seen.task != Some(own_key())), "another network namespace");
    }

    #[test]
    fn a_runtime_is_known_by_its_socket_and_who_connected_by_the_peer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runtime.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let path = RawText::from(path.to_str().unwrap());
        let facts =
            Snapshot::new(Options { places: Places::new(None, None, path.as_str()), ..Options::default() }).take(NOW);
        let own: Vec<&Fact> = facts.iter().filter(|seen| seen.task == Some(own_key())).map(|seen| &seen.fact).collect();
        assert!(own.iter().any(|fact| matches!(fact, Fact::ListeningUnix { path: at, socket, listener: Some(found) }
            if found.at.as_ref() == Some(&path) && *at == path && socket.inode == Some(inode(&listener)))));
        assert!(own.iter().any(
            |fact| matches!(fact, Fact::UnixAccepted { socket, peer, connector, path: at, bound: true }
            if *at == path && socket.inode == Some(inode(&server)) && peer.inode == Some(inode(&client))
                && *connector == Some(std::process::id()))
        ));
    }

    #[test]
    fn the_other_end_is_named_with_its_process_or_is_absent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_client, server, tuple) = pair(&listener);
        let mut snapshot = Snapshot::new(Options::default());
        let facts = snapshot.answer(&Want::Peer { tuple, netns: own_netns(), isn: None }, NOW);
        assert!(matches!(facts[0].fact, Fact::ProcessSeen(_)));
        assert_eq!((facts.len(), facts[1].task), (2, Some(own_key())));
        let Fact::SocketSeen { socket } = facts[1].fact else { panic!("{facts:?}") };
        assert_eq!((socket.id.inode, socket.role), (Some(inode(&server)), Some(SocketRole::Accepted)));
        for netns in [None, Some(1)] {
            let want = Want::Peer { tuple, netns, isn: None };
            let facts = snapshot.answer(&want, NOW);
            assert_eq!(
                facts[0].fact,
                Fact::PeerAbsent { tuple, netns, host: HostNo::default() },
                "loopback of an unknown or another namespace"
            );
        }
    }

    #[test]
    fn a_process_is_answered_for_its_start_time_only() {
        let mut snapshot = Snapshot::new(Options::default());
        let facts = snapshot.answer(&Want::Process(own_key()), NOW);
        assert!(matches!(facts[0].fact, Fact::ProcessSeen(_)));
        for key in [TaskKey { start_ticks: 1, ..own_key() }, TaskKey::from_ticks(u32::MAX, 1)] {
            let facts = snapshot.answer(&Want::Process(key), NOW);
            assert_eq!((facts.len(), facts[0].task, &facts[0].fact), (1, Some(key), &Fact::ProcessGone));
        }
    }

    #[test]
    fn files_are_answered_for_and_watching_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        std::fs::write(&path, "4711\n").unwrap();
        let path = RawText::from(path.to_str().unwrap());
        let mut snapshot = Snapshot::new(Options::default());
        let facts = snapshot.answer(&Want::PidFile(path.clone()), NOW);
        assert_eq!(facts[0].fact, Fact::PidFile { path, pid: Some(4711) });
        let facts = snapshot.answer(&Want::PidFile(RawText::from(&b"/\xff"[..])), NOW);
        assert!(matches!(facts[0].fact, Fact::PidFile { pid: None, .. }));
        let id = "0".repeat(64);
        let facts = snapshot.answer(&Want::Container { id: id.clone(), bundle: None }, NOW);
        assert_eq!(facts[0].fact, Fact::ContainerUnknown { id });
        assert!(snapshot.answer(&Want::Watch(own_key(), crate::model::WatchAs::Daemon), NOW).is_empty());
    }
}
