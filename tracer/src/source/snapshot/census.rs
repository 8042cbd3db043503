//! What every process has open and which sockets there are, read once for everything that is asked of one moment.
//!
//! Processes come and go meanwhile, and pids change hands. Reading everybody's identity before and after would double the
//! work; instead the walk knows when it began: who has a pid now and started before that had it all the time.

use std::{
    collections::BTreeMap,
    io,
    num::NonZero,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use rustix::time::{ClockId, clock_gettime};

use super::{
    descriptors::{Hidden, OpenFile},
    iterated::{self, Iterated, Owner},
    procfs::{self, Proc},
    sock_diag::{self, Namespaces, Sockets, TcpSocket},
};
use crate::model::{Isn, TaskKey, Tuple, runtimes};

/// Files of all processes together; a long path counts as several. The kernel's own limit for one process is as large.
pub(super) const MAX_FDS: usize = 1_000_000;
/// Files through which one network namespace may be entered: the first process may be gone.
const MAX_WAYS: usize = 4;
/// Folder with network namespaces that no process needs to be in (ip-netns(8)). Runtimes have others.
const NAMED_NAMESPACES: &str = "/run/netns";
/// More threads than this only wait for the same locks of the kernel.
const MAX_WALKERS: usize = 4;
/// A thread is worth its start from so many processes on.
const PROCESSES_OF_ONE: usize = 100;

/// Files that are open on this host (fs/file_table.c); from so many on the iterator is faster than a walk: loading it costs
/// as much as some 2,000 links, measured on two cores (`cargo xtask bench ls`).
const FILE_COUNT: &str = "/proc/sys/fs/file-nr";
const MANY_FILES: u64 = 5_000;

/// How to find out what is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Road {
    /// The faster one.
    #[default]
    Best,
    /// procfs and sock_diag.
    Walk,
    /// A BPF iterator, where the kernel has it and lets us; else as [`Road::Walk`].
    Iterator,
}

/// What there was at one moment.
pub(super) struct Census {
    /// When the look began.
    began: TaskKey,
    /// Whose files the iterator saw: it tells who that was.
    owners: BTreeMap<u32, Owner>,
    files: BTreeMap<u32, Vec<OpenFile>>,
    /// Whether files that are no sockets, pipes or terminals were left out.
    is_partial: bool,
    /// Processes that have a socket open, by its inode.
    holders: BTreeMap<u64, Vec<u32>>,
    pub(super) namespaces: Namespaces,
    pub(super) sockets: Sockets,
    by_tuple: BTreeMap<Tuple, Vec<u64>>,
    by_isn: BTreeMap<Isn, Vec<u64>>,
    /// Whether there was more than [`MAX_FDS`].
    pub(super) is_cut: bool,
    /// Whether a process did not show what it has open.
    pub(super) is_hidden: bool,
}

impl Census {
    /// Looks at everybody: of one network namespace, or of all.
    pub(super) fn take(proc: &Proc, only: Option<u32>, road: Road) -> Self {
        let by_iterator = match road {
            Road::Best => are_many_open(),
            Road::Walk => false,
            Road::Iterator => true,
        };
        if by_iterator {
            match Self::by_iterator(proc, only) {
                Ok(census) => return census,
                Err(error) => log::debug!("no iterator: {error}"),
            }
        }
        Self::by_walk(proc, only, road)
    }

    fn by_walk(proc: &Proc, only: Option<u32>, road: Road) -> Self {
        let began = now();
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
        if road != Road::Walk && are_in_several_namespaces(&sockets) {
            // Addresses alone prove no connection between namespaces.
            if let Err(error) = iterated::add_sequence_numbers(&mut sockets.tcp) {
                log::debug!("no sequence numbers: {error}");
            }
        }
        let (is_cut, is_hidden) = (walk.is_cut(), walk.is_hidden());
        Self::of(Found { began, owners: BTreeMap::new(), files, namespaces, sockets, is_cut, is_hidden })
    }

    fn by_iterator(proc: &Proc, only: Option<u32>) -> io::Result<Self> {
        let began = now();
        let Iterated { owners, mut files, mut sockets, listening, is_cut } = iterated::everything(proc, only)?;
        let mut namespaces = Namespaces::new();
        for (pid, owner) in &owners {
            add(&mut namespaces, only, owner.netns, || proc.path(*pid, "ns/net"));
        }
        add_named(&mut namespaces, only);
        // Whom the iterator left out; among them those of the kernel itself, which have nothing open.
        let mut rest = proc.pids();
        rest.retain(|pid| !owners.contains_key(pid));
        let walk = Walk::over(proc, &rest);
        let mut unlisted = Namespaces::new();
        for (pid, open) in walk.run().into_iter().filter(|(_, open)| !open.is_empty()) {
            let Some(netns) = proc.namespace(pid, "net") else { continue };
            if add(&mut unlisted, only, netns, || proc.path(pid, "ns/net")) {
                files.insert(pid, open);
            }
        }
        if !unlisted.is_empty() {
            // The kernel's tables know their sockets: those of the namespaces that they are in.
            let listed = sock_diag::dump(&unlisted);
            sockets.troubles.extend(&listed.troubles);
            for (inode, socket) in listed.tcp {
                sockets.tcp.entry(inode).or_insert(socket);
            }
            for (inode, socket) in listed.unix {
                sockets.unix.entry(inode).or_insert(socket);
            }
            for (netns, ways) in unlisted {
                namespaces.entry(netns).or_insert(ways);
            }
        }
        // The iterator does not tell the files of unix sockets.
        let bound = namespaces.iter().filter(|(netns, _)| listening.contains(netns));
        let listed = sock_diag::unix_listeners(&bound.map(|(netns, ways)| (*netns, ways.clone())).collect());
        sockets.troubles.extend(&listed.troubles);
        for (inode, listed) in listed.unix {
            if let Some(socket) = sockets.unix.get_mut(&inode) {
                socket.file = listed.file;
            }
        }
        let (is_cut, is_hidden) = (is_cut || walk.is_cut(), walk.is_hidden());
        let found = Found { began, owners, files, namespaces, sockets, is_cut, is_hidden };
        Ok(Self { is_partial: true, ..Self::of(found) })
    }

    fn of(found: Found) -> Self {
        let Found { began, owners, files, namespaces, sockets, is_cut, is_hidden } = found;
        let mut holders: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for (pid, files) in &files {
            for inode in inodes(files) {
                holders.entry(inode).or_default().push(*pid);
            }
        }
        let mut by_tuple: BTreeMap<Tuple, Vec<u64>> = BTreeMap::new();
        let mut by_isn: BTreeMap<Isn, Vec<u64>> = BTreeMap::new();
        for (inode, socket) in sockets.tcp.iter().filter(|(_, socket)| !socket.listening) {
            by_tuple.entry(socket.tuple).or_default().push(*inode);
            if let Some(isn) = socket.isn {
                by_isn.entry(isn).or_default().push(*inode);
            }
        }
        Self {
            began,
            owners,
            files,
            is_partial: false,
            holders,
            namespaces,
            sockets,
            by_tuple,
            by_isn,
            is_cut,
            is_hidden,
        }
    }

    pub(super) fn road(&self) -> Road {
        if self.is_partial { Road::Iterator } else { Road::Walk }
    }

    /// What that very process has open; `None` where not all of it was seen, or it may have been another one's.
    pub(super) fn files(&self, task: TaskKey) -> Option<&[OpenFile]> {
        self.files.get(&task.tgid).filter(|_| !self.is_partial && self.knows(task)).map(Vec::as_slice)
    }

    /// Sockets of that very process; `None` where they may have been another one's.
    pub(super) fn sockets_of(&self, task: TaskKey) -> Option<Vec<u64>> {
        self.knows(task).then(|| self.held_by(task.tgid))
    }

    /// Whether what was seen of its pid is of that very process, which has the pid now: by then it had it already. A process
    /// that started in the tick in which the walk began may have come after it.
    pub(super) fn knows(&self, task: TaskKey) -> bool {
        match self.owners.get(&task.tgid) {
            Some(owner) => owner.task == task,
            None => task.start_ticks < self.began.start_ticks,
        }
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

    /// The other ends of a connection with these initial sequence numbers, of all namespaces: one, or more than can be.
    pub(super) fn other_ends(&self, isn: Isn) -> impl Iterator<Item = &TcpSocket> {
        let inodes = isn.others().into_iter().filter_map(|isn| self.by_isn.get(&isn)).flatten();
        inodes.filter_map(|inode| self.sockets.tcp.get(inode))
    }
}

/// Whether connections of more than one network namespace are listed: some may lead from one to another.
fn are_in_several_namespaces(sockets: &Sockets) -> bool {
    let mut namespaces = sockets.tcp.values().filter(|socket| !socket.listening).map(|socket| socket.netns);
    let first = namespaces.next();
    namespaces.any(|netns| Some(netns) != first)
}

/// What one road or the other led to.
struct Found {
    began: TaskKey,
    owners: BTreeMap<u32, Owner>,
    files: BTreeMap<u32, Vec<OpenFile>>,
    namespaces: Namespaces,
    sockets: Sockets,
    is_cut: bool,
    is_hidden: bool,
}

/// `files in use, 0, limit`.
fn are_many_open() -> bool {
    let text = std::fs::read_to_string(FILE_COUNT).unwrap_or_default();
    text.split_ascii_whitespace()
        .next()
        .and_then(|count| count.parse().ok())
        .is_some_and(|count: u64| count >= MANY_FILES)
}

/// Sockets among files, in order, each once.
pub(super) fn inodes(files: &[OpenFile]) -> Vec<u64> {
    let mut inodes: Vec<u64> = files.iter().filter_map(OpenFile::socket).collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}

/// Of no process: to compare times with as processes have them.
fn now() -> TaskKey {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    TaskKey::from_ns(0, seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0))
}

fn walkers() -> usize {
    // The thread that asks the kernel's tables walks, too, when it is done.
    thread::available_parallelism().map_or(1, NonZero::get).min(MAX_WALKERS)
}

/// Processes, and the network namespaces that they are in or that have a name.
pub(super) fn processes(proc: &Proc, only: Option<u32>) -> (Vec<u32>, Namespaces) {
    let mut found = Namespaces::new();
    let mut pids = proc.pids();
    pids.retain(|pid| match proc.namespace(*pid, "net") {
        Some(netns) => add(&mut found, only, netns, || proc.path(*pid, "ns/net")),
        // Another user's: where one namespace is asked for, it is not known to be in it.
        None => only.is_none(),
    });
    add_named(&mut found, only);
    (pids, found)
}

/// Whether it is one that is asked for.
fn add(to: &mut Namespaces, only: Option<u32>, netns: u32, way: impl FnOnce() -> PathBuf) -> bool {
    if only.is_some_and(|only| only != netns) {
        return false;
    }
    let ways = to.entry(netns).or_default();
    if ways.len() < MAX_WAYS {
        ways.push(way());
    }
    true
}

fn add_named(to: &mut Namespaces, only: Option<u32>) {
    for folder in [NAMED_NAMESPACES].into_iter().chain(runtimes().filter_map(|one| one.netns_folder)) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten().take(sock_diag::MAX_NAMESPACES) {
            if let Some(netns) = procfs::namespace_of(&entry.path()) {
                add(to, only, netns, || entry.path());
            }
        }
    }
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

    fn is_cut(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    fn is_hidden(&self) -> bool {
        self.hidden.load(Ordering::Relaxed)
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
        let census = Census::take(&proc, None, Road::Walk);
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
        let census = Census::take(&Proc::new("/proc"), None, Road::Walk);
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
        let census = Census::take(&proc, Some(1), Road::Best);
        assert_eq!((census.everybody().count(), census.sockets.tcp.len()), (0, 0));
        let own = proc.namespace(std::process::id(), "net");
        let census = Census::take(&proc, own, Road::Iterator);
        assert!(census.everybody().any(|(pid, _)| pid == std::process::id()));
        assert_eq!(census.namespaces.into_keys().collect::<Vec<_>>(), own.into_iter().collect::<Vec<_>>());
    }
}
