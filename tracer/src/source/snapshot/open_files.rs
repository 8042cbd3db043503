//! Open files of all processes and the sockets among them, read once for all questions about one moment.
//!
//! Processes come and go during a scan, and pids change hands. Reading every identity before and after would double the work.
//! Instead the scan notes when it began: a process that started before then has held its pid throughout.

use std::{
    collections::BTreeMap,
    io,
    num::NonZero,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use super::{
    bpf_scan::{self, BpfScan, Owner},
    descriptors::{self, Hidden, MAX_FDS, OpenFile, socket_inodes},
    namespaces::{self, Namespaces},
    procfs::Proc,
    scan_error::ScanError,
    sock_diag,
    sockets::{Sockets, TcpSocket},
};
use crate::{
    clock, confine, host_paths,
    model::{Isn, TaskKey, Tuple},
};

/// Threads of a walk. More would only wait for the same locks of the kernel.
const MAX_WALKERS: usize = 4;
/// Processes that make it worth starting another thread.
const PROCESSES_PER_WALKER: usize = 100;

/// Number of files open on this host, below `/proc` (fs/file_table.c).
const FILE_COUNT: &str = "sys/fs/file-nr";
/// Open files from which on the iterator is faster than a walk: loading it costs as much as some 2,000 links, measured on two
/// cores (`cargo xtask bench ls`).
const MANY_FILES: u64 = 5_000;

/// How to find open files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScanMethod {
    /// The iterator if the tracer may not enter other network namespaces. Otherwise the faster method for the number of open files.
    #[default]
    Best,
    /// A walk over procfs, and the tables of sock_diag.
    Walk,
    /// A BPF iterator, if the kernel has it and permits it; otherwise [`ScanMethod::Walk`].
    Iterator,
}

/// Open files of all processes at one moment.
pub(super) struct OpenFiles {
    /// Start of the scan, as a process would have it.
    began: TaskKey,
    /// Identity of each process that the iterator saw.
    owners: BTreeMap<u32, Owner>,
    files: BTreeMap<u32, Vec<OpenFile>>,
    /// Set if files other than sockets, pipes and terminals were left out.
    is_partial: bool,
    /// Processes that have a socket open, by its inode.
    holders: BTreeMap<u64, Vec<u32>>,
    pub(super) namespaces: Namespaces,
    pub(super) sockets: Sockets,
    by_tuple: BTreeMap<Tuple, Vec<u64>>,
    by_isn: BTreeMap<Isn, Vec<u64>>,
    /// Set if files were left out because the host has more than [`MAX_FDS`].
    pub(super) is_cut: bool,
    /// Set if a process hides its open files.
    pub(super) is_hidden: bool,
}

/// Result of a scan by either method.
struct Scanned {
    began: TaskKey,
    owners: BTreeMap<u32, Owner>,
    files: BTreeMap<u32, Vec<OpenFile>>,
    namespaces: Namespaces,
    sockets: Sockets,
    is_cut: bool,
    is_hidden: bool,
}

impl OpenFiles {
    /// Scans all processes; `only` limits the scan to one network namespace.
    pub(super) fn scan(proc: &Proc, only: Option<u32>, method: ScanMethod) -> Self {
        let by_iterator = match method {
            // A walk sees the sockets of namespaces that it may enter; the iterator sees all.
            ScanMethod::Best => !confine::may_enter_namespaces() || are_many_open(),
            ScanMethod::Walk => false,
            ScanMethod::Iterator => true,
        };
        if by_iterator {
            match Self::by_iterator(proc, only) {
                Ok(open_files) => return open_files,
                Err(error) => log::debug!("no iterator: {error}"),
            }
        }
        Self::by_walk(proc, only, method)
    }

    fn by_walk(proc: &Proc, only: Option<u32>, method: ScanMethod) -> Self {
        let began = now();
        let (pids, namespaces) = namespaces::processes(proc, only);
        let walk = Walk::over(proc, &pids);
        let mut files = BTreeMap::new();
        let mut sockets = Sockets::default();
        let walkers = (pids.len() / PROCESSES_PER_WALKER).min(walkers());
        thread::scope(|scope| {
            let helpers: Vec<_> = (0..walkers)
                .filter_map(|_| {
                    thread::Builder::new().name("walker".to_owned()).spawn_scoped(scope, || walk.run()).ok()
                })
                .collect();
            // Dump the kernel's tables while the helpers walk, so that both show the same moment.
            sockets = sock_diag::dump(&namespaces);
            files.extend(walk.run());
            for helper in helpers {
                files.extend(helper.join().unwrap_or_default());
            }
        });
        // Equal addresses prove no connection between two namespaces: add the sequence numbers.
        if method != ScanMethod::Walk
            && are_in_several_namespaces(&sockets)
            && let Err(error) = bpf_scan::add_sequence_numbers(&mut sockets.tcp)
        {
            log::debug!("no sequence numbers: {error}");
        }
        let (is_cut, is_hidden) = (walk.is_cut(), walk.is_hidden());
        Self::index(Scanned { began, owners: BTreeMap::new(), files, namespaces, sockets, is_cut, is_hidden })
    }

    fn by_iterator(proc: &Proc, only: Option<u32>) -> io::Result<Self> {
        let began = now();
        let BpfScan { owners, mut files, mut sockets, listening, is_cut } = bpf_scan::everything(proc, only)?;
        let mut namespaces = Namespaces::new();
        for (pid, owner) in &owners {
            namespaces::add(&mut namespaces, only, owner.netns, || proc.path(*pid, "ns/net"));
        }
        namespaces::add_named(&mut namespaces, only);
        // Processes that the iterator left out. Most are the kernel's own, and have nothing open.
        let mut rest = proc.pids();
        rest.retain(|pid| !owners.contains_key(pid));
        let walk = Walk::over(proc, &rest);
        let mut unlisted = Namespaces::new();
        for (pid, open) in walk.run().into_iter().filter(|(_, open)| !open.is_empty()) {
            let Some(netns) = proc.namespace(pid, "net") else { continue };
            if namespaces::add(&mut unlisted, only, netns, || proc.path(pid, "ns/net")) {
                files.insert(pid, open);
            }
        }
        // Their sockets are in the kernel's tables of their namespaces.
        if !unlisted.is_empty() {
            let listed = sock_diag::dump(&unlisted);
            sockets.errors.extend(&listed.errors);
            for (inode, socket) in listed.tcp {
                sockets.tcp.entry(inode).or_insert(socket);
            }
            for (inode, socket) in listed.unix {
                sockets.unix.entry(inode).or_insert(socket);
            }
            for (netns, entry_paths) in unlisted {
                namespaces.entry(netns).or_insert(entry_paths);
            }
        }
        // The iterator does not read the files of unix sockets; sock_diag lists them.
        let bound = namespaces.iter().filter(|(netns, _)| listening.contains(netns));
        let bound = bound.map(|(netns, entry_paths)| (*netns, entry_paths.clone())).collect();
        let listed = sock_diag::unix_listeners(&bound);
        let without_files = |error| if error == ScanError::NotPermitted { ScanError::NoListeners } else { error };
        sockets.errors.extend(listed.errors.into_iter().map(without_files));
        for (inode, listed) in listed.unix {
            if let Some(socket) = sockets.unix.get_mut(&inode) {
                socket.file = listed.file;
            }
        }
        let (is_cut, is_hidden) = (is_cut || walk.is_cut(), walk.is_hidden());
        let scanned = Scanned { began, owners, files, namespaces, sockets, is_cut, is_hidden };
        Ok(Self { is_partial: true, ..Self::index(scanned) })
    }

    /// Indexes a scan by socket, addresses and sequence numbers.
    fn index(scanned: Scanned) -> Self {
        let Scanned { began, owners, files, namespaces, sockets, is_cut, is_hidden } = scanned;
        let mut holders: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for (pid, files) in &files {
            for inode in socket_inodes(files) {
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

    /// Method by which the scan was made.
    pub(super) fn method(&self) -> ScanMethod {
        if self.is_partial { ScanMethod::Iterator } else { ScanMethod::Walk }
    }

    /// All open files of a process; `None` if some were left out, or they may belong to an earlier process of that pid.
    pub(super) fn files(&self, task: TaskKey) -> Option<&[OpenFile]> {
        self.files.get(&task.tgid).filter(|_| !self.is_partial && self.knows(task)).map(Vec::as_slice)
    }

    /// Sockets of a process, by inode; `None` if they may belong to an earlier process of that pid.
    pub(super) fn sockets_of(&self, task: TaskKey) -> Option<Vec<u64>> {
        self.knows(task).then(|| self.held_by(task.tgid))
    }

    /// True if the scan saw this process under its pid. `task` must hold the pid now. A process that started in the tick in which
    /// the walk began may be younger than the walk.
    pub(super) fn knows(&self, task: TaskKey) -> bool {
        match self.owners.get(&task.tgid) {
            Some(owner) => owner.task == task,
            None => task.start_ticks < self.began.start_ticks,
        }
    }

    /// Every process that has a file open.
    pub(super) fn processes(&self) -> impl Iterator<Item = (u32, &[OpenFile])> {
        self.files.iter().map(|(pid, files)| (*pid, files.as_slice()))
    }

    /// Pids that have this socket open, in order.
    pub(super) fn holders(&self, inode: u64) -> &[u32] {
        self.holders.get(&inode).map_or(&[], Vec::as_slice)
    }

    /// Sockets that the process of this pid had open, by inode.
    pub(super) fn held_by(&self, pid: u32) -> Vec<u64> {
        self.files.get(&pid).map(|files| socket_inodes(files)).unwrap_or_default()
    }

    /// Connections with these addresses, in all namespaces.
    pub(super) fn connections(&self, tuple: Tuple) -> impl Iterator<Item = &TcpSocket> {
        let inodes = self.by_tuple.get(&tuple).into_iter().flatten();
        inodes.filter_map(|inode| self.sockets.tcp.get(inode))
    }

    /// Other ends of a connection with these initial sequence numbers, in all namespaces. More than one cannot all be right.
    pub(super) fn other_ends(&self, isn: Isn) -> impl Iterator<Item = &TcpSocket> {
        let inodes = isn.others().into_iter().filter_map(|isn| self.by_isn.get(&isn)).flatten();
        inodes.filter_map(|inode| self.sockets.tcp.get(inode))
    }
}

/// True if connections of more than one network namespace are listed: some may lead from one to another.
fn are_in_several_namespaces(sockets: &Sockets) -> bool {
    let mut namespaces = sockets.tcp.values().filter(|socket| !socket.listening).map(|socket| socket.netns);
    let first = namespaces.next();
    namespaces.any(|netns| Some(netns) != first)
}

/// True if the host has many files open. The file holds `files in use, 0, limit`.
fn are_many_open() -> bool {
    let text = std::fs::read_to_string(host_paths::get().proc.join(FILE_COUNT)).unwrap_or_default();
    text.split_ascii_whitespace()
        .next()
        .and_then(|count| count.parse().ok())
        .is_some_and(|count: u64| count >= MANY_FILES)
}

/// Current time as the start of a process, to compare with the starts of processes.
fn now() -> TaskKey {
    TaskKey::from_ns(0, clock::now().0)
}

/// Threads that help with a walk. The calling thread joins the walk after its dump.
fn walkers() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get).min(MAX_WALKERS)
}

/// A walk over the descriptors of all processes. Several threads may run it together.
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
            // Walkers that start together may take more than is left: each at most as much again.
            let left = self.left.load(Ordering::Relaxed);
            match descriptors::open_files(self.proc, *pid, left) {
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
    fn scan_knows_processes_older_than_itself() {
        let proc = Proc::new("/proc");
        let open_files = OpenFiles::scan(&proc, None, ScanMethod::Walk);
        let own = proc.key(std::process::id()).unwrap();
        // This process may be as young as the walk.
        let older = TaskKey { start_ticks: 0, ..own };
        assert!(!open_files.files(older).unwrap().is_empty());
        assert_eq!(open_files.files(TaskKey { start_ticks: open_files.began.start_ticks, ..own }), None);
        assert_eq!(open_files.files(TaskKey::from_ticks(u32::MAX, 0)), None, "the pid is free");
        assert!(!open_files.is_cut);
    }

    #[test]
    fn connection_is_found_by_addresses_with_holders() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, _) = listener.accept().unwrap();
        let open_files = OpenFiles::scan(&Proc::new("/proc"), None, ScanMethod::Walk);
        let tuple = Tuple::new(client.local_addr().unwrap(), client.peer_addr().unwrap());
        let found: Vec<&TcpSocket> = open_files.connections(tuple).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(open_files.holders(found[0].inode), [std::process::id()]);
        assert!(open_files.held_by(std::process::id()).contains(&found[0].inode));
        assert_eq!(open_files.connections(Tuple { remote: "192.0.2.1:9".parse().unwrap(), ..tuple }).count(), 0);
    }

    #[test]
    fn scan_of_one_namespace_skips_other_processes() {
        let proc = Proc::new("/proc");
        let open_files = OpenFiles::scan(&proc, Some(1), ScanMethod::Best);
        assert_eq!((open_files.processes().count(), open_files.sockets.tcp.len()), (0, 0));
        let own = proc.namespace(std::process::id(), "net");
        let open_files = OpenFiles::scan(&proc, own, ScanMethod::Iterator);
        assert!(open_files.processes().any(|(pid, _)| pid == std::process::id()));
        assert_eq!(open_files.namespaces.into_keys().collect::<Vec<_>>(), own.into_iter().collect::<Vec<_>>());
    }
}
