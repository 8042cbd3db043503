//! Processes, sockets and containers on the path that exist when asked, out of procfs, sock_diag and the runtime's files.
//!
//! Start at [`Snapshot::take`]; [`Snapshot::answer`] serves the correlator's questions. [`Snapshot`] is a facade: functions of
//! this folder take a `HostView`, and none of them names the facade.
//!
//! All calls block, and none fails. A process that vanishes in the middle is left out; [`Snapshot::degraded`] lists the parts of the
//! host that are out of reach. Nothing is guessed: where two sockets fit, neither is named.

mod ancestry;
mod bpf_scan;
mod container;
mod daemons;
mod descriptors;
mod facts;
mod fifos;
mod foreground;
mod golang;
mod listeners;
mod measure;
mod namespaces;
mod netlink;
mod on_path;
mod open_files;
mod passwd;
mod peers;
mod procfs;
mod reach;
mod roots;
mod scan_error;
mod sock_diag;
mod sockets;
mod starting;
mod view;
mod waiting;

use std::collections::BTreeSet;

use self::{
    on_path::{Daemon, PathFacts},
    peers::End,
    scan_error::degraded,
    view::HostView,
};
pub use self::{open_files::ScanMethod, reach::reach, scan_error::HIDDEN, view::Options};
use crate::model::{BootTime, DaemonCandidate, Degraded, Fact, Observation, Program, Scope, Source, TaskKey, Want};

/// Scans the host on request.
pub struct Snapshot {
    view: HostView,
}

impl Snapshot {
    /// A snapshot that has scanned nothing.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { view: HostView::new(options) }
    }

    /// Everything on the path that exists now. A process comes before its sockets.
    pub fn take(&mut self, now: BootTime) -> Vec<Observation> {
        let view = &mut self.view;
        let open_files = view.scan();
        let on_path = on_path::find(view, &open_files);
        let PathFacts { mut facts, daemons, mut servers, cut } = on_path::report(view, &open_files, on_path, now);
        let mut shims = BTreeSet::new();
        let before = facts.len();
        for (key, daemon) in daemons {
            facts.extend(fifos::held_by(view, key, now));
            match daemon {
                Daemon::Runtime => facts.extend(foreground::execs_of(view, key, now)),
                Daemon::Shim => {
                    facts.extend(fifos::execs_of(view, key, now));
                    servers.remove(&key);
                    shims.insert(key);
                }
            }
        }
        if view.options.of_one_moment {
            // A trace sees the rest of a start by its probes. A start reported from here would stay half known.
            facts.extend(starting::execs_of(view, &shims, &facts[before..], now));
        }
        for key in servers {
            facts.extend(waiting::report(view, key, &open_files.sockets, now));
        }
        view.end_scan();
        facts.extend(roots::containers(view, now));
        for (what, count) in [("snapshot-sockets", cut), ("snapshot-fds", u64::from(open_files.is_cut))] {
            if count > 0 {
                facts.push(Observation::new(now, Source::Snapshot, Fact::Lost { what: what.to_owned(), count }));
            }
        }
        facts
    }

    /// Processes that listen on the path, with their listeners: a trace watches them before it takes the snapshot.
    pub fn listeners(&mut self, now: BootTime) -> Vec<Observation> {
        let view = &mut self.view;
        let open_files = view.scan();
        let listens = |pid: &u32| {
            let sockets = &open_files.sockets;
            open_files.held_by(*pid).iter().any(|inode| {
                sockets.tcp.get(inode).is_some_and(|socket| socket.listening)
                    || sockets.unix.get(inode).is_some_and(|socket| socket.listening)
            })
        };
        let mut on_path = on_path::find(view, &open_files);
        on_path.pids.retain(listens);
        let mut facts = on_path::report(view, &open_files, on_path, now).facts;
        facts.retain(|seen| {
            matches!(seen.fact, Fact::ProcessSeen(_) | Fact::Listening { .. } | Fact::ListeningUnix { .. })
        });
        view.end_scan();
        facts
    }

    /// Runtimes, API servers and kubelets; processes that only look like one; and servers of unknown kind to which a kubelet is
    /// connected.
    pub fn daemons(&mut self) -> Vec<DaemonCandidate> {
        let open_files = self.view.scan();
        let found = daemons::find(&self.view, &open_files);
        self.view.open_files = None;
        found
    }

    /// Answers one question. Empty for questions that another source answers.
    pub fn answer(&mut self, want: &Want, now: BootTime) -> Vec<Observation> {
        let view = &mut self.view;
        match want {
            Want::Watch(..) => Vec::new(),
            Want::Process(key) => vec![match view.proc.describe(key.tgid) {
                Some((found, info)) if found == *key => view.note_process(now, found, info),
                _ => Observation::of(now, Source::Snapshot, *key, Fact::ProcessGone),
            }],
            Want::Ancestry(key) => ancestry::report(view, *key, now).into_iter().collect(),
            Want::Pid(pid) => match view.proc.describe(*pid) {
                Some((found, info)) => vec![view.note_process(now, found, info)],
                None => Vec::new(),
            },
            Want::Listeners(pid) => listeners::report(view, *pid, now),
            Want::Peer { tuple, netns, isn } => {
                peers::report(view, &[End { tuple: *tuple, netns: *netns, isn: *isn }], now)
            }
            Want::Fifos(key) if foreground::is_foreground(view, *key) => foreground::stdio_of(view, *key, now),
            Want::Fifos(key) => {
                let mut facts = fifos::held_by(view, *key, now);
                facts.extend(foreground::execs_of(view, *key, now));
                facts.extend(waiting::report_now(view, *key, now));
                facts
            }
            Want::Container { id, bundle } => vec![roots::container(view, id, bundle.as_ref(), now)],
            Want::PidFile(path) => vec![roots::pid_file(view, path, now)],
        }
    }

    /// Answers many questions. Those about the other ends of connections share one scan.
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
        let mut facts = peers::report(&mut self.view, &peers, now);
        for want in wants.iter().filter(|want| peer(want).is_none()) {
            facts.extend(self.answer(want, now));
        }
        facts
    }

    /// Measures everything in `scope` now.
    pub fn measure(&mut self, scope: &Scope, now: BootTime) -> Vec<Observation> {
        measure::report(&mut self.view, scope, now)
    }

    /// Inode number of a process's mount namespace; `None` if the process is gone, or may not be looked at.
    #[must_use]
    pub fn mount_namespace(&self, task: TaskKey) -> Option<u32> {
        let mntns = self.view.proc.namespace(task.tgid, "mnt")?;
        // Check the identity last: a pid that changed hands in between is noticed.
        self.view.proc.is_still(task).then_some(mntns)
    }

    /// Language of a process's program, and the Go version.
    #[must_use]
    pub fn program(&self, task: TaskKey) -> Option<Program> {
        golang::program(&self.view.proc.path(task.tgid, "exe"))
    }

    /// Method of the last scan; [`ScanMethod::Best`] before the first.
    #[must_use]
    pub fn method_used(&self) -> ScanMethod {
        self.view.method_used
    }

    /// Parts of the host that no scan so far could reach.
    #[must_use]
    pub fn degraded(&self) -> Vec<Degraded> {
        self.view.errors.iter().map(|error| degraded(*error)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::{fd::AsFd, unix::net::UnixListener, unix::net::UnixStream},
    };

    use std::path::Path;

    use super::{procfs::Proc, *};
    use crate::model::{Endpoints, HostNo, RawText, SocketRole, Tuple};

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
    fn own_process_comes_before_its_sockets() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (client, server, tuple) = pair(&listener);
        let options =
            Options { endpoints: Endpoints::new(Some(tuple.remote.port()), None, None), ..Options::default() };
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
    fn snapshot_leaves_out_processes_off_the_path() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (_client, _server, _) = pair(&listener);
        let options = Options {
            netns: Some(1),
            endpoints: Endpoints::new(Some(listener.local_addr().unwrap().port()), None, None),
            ..Options::default()
        };
        let facts = Snapshot::new(options).take(NOW);
        assert!(facts.iter().all(|seen| seen.task != Some(own_key())), "another network namespace");
    }

    #[test]
    fn unix_connection_names_runtime_and_connector() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runtime.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let path = RawText::from(path.to_str().unwrap());
        let facts =
            Snapshot::new(Options { endpoints: Endpoints::new(None, None, path.as_str()), ..Options::default() })
                .take(NOW);
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
    fn peer_answer_names_its_process_or_absence() {
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
    fn process_answer_needs_the_start_time() {
        let mut snapshot = Snapshot::new(Options::default());
        let facts = snapshot.answer(&Want::Process(own_key()), NOW);
        assert!(matches!(facts[0].fact, Fact::ProcessSeen(_)));
        for key in [TaskKey { start_ticks: 1, ..own_key() }, TaskKey::from_ticks(u32::MAX, 1)] {
            let facts = snapshot.answer(&Want::Process(key), NOW);
            assert_eq!((facts.len(), facts[0].task, &facts[0].fact), (1, Some(key), &Fact::ProcessGone));
        }
    }

    #[test]
    fn answers_cover_files_but_not_watching() {
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
