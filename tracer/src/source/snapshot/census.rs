//! What every process has open and which sockets there are, read once for everything that is asked of one moment.
//!
//! Processes come and go meanwhile, and pids change hands. Reading everybody's identity before and after would double the
//! work; instead the walk knows when it began: who has a pid now and started before that had it all the time.

use std::{
    collections::BTreeMap,
    num::NonZero,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use rustix::time::{ClockId, clock_gettime};

use super::{
    descriptors::{Hidden, OpenFile},
    procfs::{self, Proc},
    sock_diag::{self, Namespaces, Sockets, TcpSocket},
};
use crate::model::{TaskKey, Tuple};

/// Files of all processes together; a long path counts as several. The kernel's own limit for one process is as large.
pub(super) const MAX_FDS: usize = 1_000_000;
/// Files through which one network namespace may be entered: the first process may be gone.
const MAX_WAYS: usize = 4;
/// Folders in which network namespaces without a process are kept.
const NAMED_NAMESPACES: [&str; 2] = ["/run/netns", "/run/docker/netns"];
/// More threads than this only wait for the same locks of the kernel.
const MAX_WALKERS: usize = 4;
/// A thread is worth its start from so many processes on.
const PROCESSES_OF_ONE: usize = 100;

/// What there was at one moment.
pub(super) struct Census {
    /// When the walk began.
    began: TaskKey,
    files: BTreeMap<u32, Vec<OpenFile>>,
    /// Processes that have a socket open, by its inode.
    holders: BTreeMap<u64, Vec<u32>>,
    pub(super) namespaces: Namespaces,
    pub(super) sockets: Sockets,
    by_tuple: BTreeMap<Tuple, Vec<u64>>,
    /// Whether there was more than [`MAX_FDS`].
    pub(super) is_cut: bool,
    /// Whether a process did not show what it has open.
    pub(super) is_hidden: bool,
}

impl Census {
    /// Looks at everybody: of one network namespace, or of all.
    pub(super) fn take(proc: &Proc, only: Option<u32>) -> Self {
        // Of no process: to compare times with as processes have them.
        let began = TaskKey::from_ns(0, now_ns());
        let (pids, namespaces) = processes(proc, only);
        let walk = Walk::over(proc, &pids);
        let mut files = BTreeMap::new();
        let mut sockets = Sockets::default();
        let walkers = (pids.len() / PROCESSES_OF_ONE).min(walkers());
        thread::scope(|scope| {
            let helpers: Vec<_> = (0..walkers)
                .filter_map(|_| {
                    thread::Builder::new().name("walker".to_owned()).spawn_scoped(scope, || walk.run()).ok()
                })
                .collect();
            // The kernel's tables at the same time.
            sockets = sock_diag::dump(&namespaces);
            files.extend(walk.run());
            for helper in helpers {
                files.extend(helper.join().unwrap_or_default());
            }
        });
        let mut holders: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for (pid, files) in &files {
            for inode in inodes(files) {
                holders.entry(inode).or_default().push(*pid);
            }
        }
        let mut by_tuple: BTreeMap<Tuple, Vec<u64>> = BTreeMap::new();
        for (inode, socket) in sockets.tcp.iter().filter(|(_, socket)| !socket.listening) {
            by_tuple.entry(socket.tuple).or_default().push(*inode);
        }
        let is_cut = walk.left.load(Ordering::Relaxed) == 0;
        let is_hidden = walk.hidden.load(Ordering::Relaxed);
        Self { began, files, holders, namespaces, sockets, by_tuple, is_cut, is_hidden }
    }

    /// What that very process has open; `None` where it was not seen, or may have been another one's.
    pub(super) fn files(&self, task: TaskKey) -> Option<&[OpenFile]> {
        self.files.get(&task.tgid).filter(|_| self.knows(task)).map(Vec::as_slice)
    }

    /// Whether what was seen of its pid is of that very process, which has the pid now: by then it had it already. A process
    /// that started in the tick in which the walk began may have come after it.
    pub(super) fn knows(&self, task: TaskKey) -> bool {
        task.start_ticks < self.began.start_ticks
    }

    /// Everybody who has something open.
    pub(super) fn everybody(&self) -> impl Iterator<Item = (u32, &[OpenFile])> {
        self.files.iter().map(|(pid, files)| (*pid, files.as_slice()))
    }

    /// Who has that socket open, in order.
    pub(super) fn holders(&self, inode: u64) -> &[u32] {
        self.holders.get(&inode).map_or(&[], Vec::as_slice)
    }

    /// Sockets that whoever had that pid had open.
    pub(super) fn held_by(&self, pid: u32) -> Vec<u64> {
        self.files.get(&pid).map(|files| inodes(files)).unwrap_or_default()
    }

    /// Connections with that tuple, of all namespaces.
    pub(super) fn connections(&self, tuple: Tuple) -> impl Iterator<Item = &TcpSocket> {
        let inodes = self.by_tuple.get(&tuple).into_iter().flatten();
        inodes.filter_map(|inode| self.sockets.tcp.get(inode))
    }
}

/// Sockets among files, in order, each once.
pub(super) fn inodes(files: &[OpenFile]) -> Vec<u64> {
    let mut inodes: Vec<u64> = files.iter().filter_map(OpenFile::socket).collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}

fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

fn walkers() -> usize {
    // The thread that asks the kernel's tables walks, too, when it is done.
    thread::available_parallelism().map_or(1, NonZero::get).min(MAX_WALKERS)
}

/// Processes, and the network namespaces that they are in or that have a name.
pub(super) fn processes(proc: &Proc, only: Option<u32>) -> (Vec<u32>, Namespaces) {
    let mut found = Namespaces::new();
    let mut add = |netns: u32, path: &dyn Fn() -> PathBuf| {
        let is_meant = only.is_none_or(|only| only == netns);
        if is_meant {
            let ways = found.entry(netns).or_default();
            if ways.len() < MAX_WAYS {
                ways.push(path());
            }
        }
        is_meant
    };
    let mut pids = proc.pids();
    pids.retain(|pid| match proc.namespace(*pid, "net") {
        Some(netns) => add(netns, &|| proc.path(*pid, "ns/net")),
        // Another user's: where one namespace is asked for, it is not known to be in it.
        None => only.is_none(),
    });
    for folder in NAMED_NAMESPACES {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().take(sock_diag::MAX_NAMESPACES) {
            if let Some(netns) = procfs::namespace_of(&entry.path()) {
                add(netns, &|| entry.path());
            }
        }
    }
    (pids, found)
}

/// A walk over the descriptors of all processes, by as many threads as run it.
struct Walk<'a> {
    proc: &'a Proc,
    pids: &'a [u32],
    next: AtomicUsize,
    left: AtomicUsize,
    hidden: AtomicBool,
}

impl<'a> Walk<'a> {
    fn over(proc: &'a Proc, pids: &'a [u32]) -> Self {
        let (next, left) = (AtomicUsize::new(0), AtomicUsize::new(MAX_FDS));
        Self { proc, pids, next, left, hidden: AtomicBool::new(false) }
    }

    fn run(&self) -> Vec<(u32, Vec<OpenFile>)> {
        let mut found = Vec::new();
        while let Some(pid) = self.pids.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            // Walkers that start at the same time may together take more than is left: at most as much again each.
            let left = self.left.load(Ordering::Relaxed);
            match self.proc.open_files(*pid, left) {
                Ok(files) => {
                    let cost = files.iter().map(OpenFile::cost).sum();
                    let _before = self
                        .left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(cost)));
                    found.push((*pid, files));
                }
                Err(Hidden) => self.hidden.store(true, Ordering::Relaxed),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn who_started_before_the_walk_is_known_and_who_came_with_it_is_not() {
        let proc = Proc::new("/proc");
        let census = Census::take(&proc, None);
        let own = proc.key(std::process::id()).unwrap();
        // This process may be as young as the walk.
        let older = TaskKey { start_ticks: 0, ..own };
        assert!(!census.files(older).unwrap().is_empty());
        assert_eq!(census.files(TaskKey { start_ticks: census.began.start_ticks, ..own }), None);
        assert_eq!(census.files(TaskKey::from_ticks(u32::MAX, 0)), None, "it is not there");
        assert!(!census.is_cut);
    }

    #[test]
    fn a_connection_is_found_by_its_addresses_with_its_holders() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, _) = listener.accept().unwrap();
        let census = Census::take(&Proc::new("/proc"), None);
        let tuple = Tuple::new(client.local_addr().unwrap(), client.peer_addr().unwrap());
        let found: Vec<&TcpSocket> = census.connections(tuple).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(census.holders(found[0].inode), [std::process::id()]);
        assert!(census.held_by(std::process::id()).contains(&found[0].inode));
        assert_eq!(census.connections(Tuple { remote: "192.0.2.1:9".parse().unwrap(), ..tuple }).count(), 0);
    }

    #[test]
    fn of_one_namespace_only_its_processes_are_looked_at() {
        let proc = Proc::new("/proc");
        let census = Census::take(&proc, Some(1));
        assert_eq!((census.everybody().count(), census.namespaces.len(), census.sockets.tcp.len()), (0, 0, 0));
        let own = proc.namespace(std::process::id(), "net");
        let census = Census::take(&proc, own);
        assert!(census.everybody().any(|(pid, _)| pid == std::process::id()));
        assert_eq!(census.namespaces.keys().copied().collect::<Vec<_>>(), own.into_iter().collect::<Vec<_>>());
    }
}
