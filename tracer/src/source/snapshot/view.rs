//! State of a snapshot: procfs, the options, and the open files of the last scan.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use super::{
    descriptors::{self, MAX_FDS, OpenFile},
    facts::process_seen,
    open_files::{OpenFiles, ScanMethod},
    procfs::{self, Proc, Rights},
    scan_error::ScanError,
};
use crate::{
    host_paths,
    model::{BootTime, Endpoints, Observation, ProcessInfo, TaskKey, is_runtime_comm},
};

/// Mount namespaces in which runtimes keep files: one a host, a few where hosts share a kernel (kind).
pub(super) const MAX_ROOTS: usize = 64;

/// Options of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Inode number of the only network namespace to look at; `None`: all.
    pub netns: Option<u32>,
    /// Ports and sockets of the path.
    pub endpoints: Endpoints,
    /// Folder with the bundles of containers, instead of the well-known ones.
    pub bundles: Option<String>,
    /// Do not read the memory of daemons.
    pub no_memory: bool,
    /// Set for an inspection: the last scan also answers questions, until the next measurement. Otherwise each answer is about
    /// the time of its question.
    pub of_one_moment: bool,
    /// How to find open files.
    pub method: ScanMethod,
}

/// A process and its sockets. Both belong to the same start time.
pub(super) struct Described {
    pub(super) key: TaskKey,
    pub(super) info: ProcessInfo,
    /// Inode numbers of its sockets, in order.
    pub(super) sockets: Vec<u64>,
}

/// The host as a snapshot sees it. Every function of this folder takes one.
pub(super) struct HostView {
    pub(super) proc: Proc,
    pub(super) options: Options,
    /// Open files of the last scan, as long as answers may use them.
    pub(super) open_files: Option<Arc<OpenFiles>>,
    /// A process in each mount namespace, other than the tracer's, in which a runtime keeps files.
    pub(super) roots: BTreeMap<u32, TaskKey>,
    /// Errors of all scans so far.
    pub(super) errors: BTreeSet<ScanError>,
    /// Method of the last scan.
    pub(super) method_used: ScanMethod,
}

impl HostView {
    /// A view that has scanned nothing.
    pub(super) fn new(options: Options) -> Self {
        Self {
            proc: Proc::new(&host_paths::get().proc),
            options,
            open_files: None,
            roots: BTreeMap::new(),
            errors: BTreeSet::new(),
            method_used: ScanMethod::default(),
        }
    }

    /// Scans the open files of all processes, and keeps the result.
    pub(super) fn scan(&mut self) -> Arc<OpenFiles> {
        let open_files = Arc::new(OpenFiles::scan(&self.proc, self.options.netns, self.options.method));
        self.errors.extend(&open_files.sockets.errors);
        if open_files.is_hidden {
            self.errors.insert(ScanError::Hidden);
        }
        self.method_used = open_files.method();
        self.open_files = Some(Arc::clone(&open_files));
        open_files
    }

    /// Drops the last scan, unless questions are about its moment.
    pub(super) fn end_scan(&mut self) {
        if !self.options.of_one_moment {
            self.open_files = None;
        }
    }

    /// Open files of a process; `None` if it is gone or hides them.
    pub(super) fn files_of(&self, task: TaskKey) -> Option<Cow<'_, [OpenFile]>> {
        if let Some(files) = self.open_files.as_ref().and_then(|open_files| open_files.files(task)) {
            return Some(Cow::Borrowed(files));
        }
        let files = descriptors::open_files(&self.proc, task.tgid, MAX_FDS).ok()?;
        // Check the identity last: a pid that changed hands in between is noticed.
        self.proc.is_still(task).then_some(Cow::Owned(files))
    }

    /// Describes the process that has this pid now, with its sockets. Sockets of the last scan count only if the process had the
    /// pid by then.
    pub(super) fn describe(&self, pid: u32) -> Option<Described> {
        let (key, info) = self.proc.describe(pid)?;
        let known = self.open_files.as_ref().and_then(|open_files| open_files.sockets_of(key));
        let sockets =
            known.or_else(|| self.files_of(key).map(|files| descriptors::socket_inodes(&files))).unwrap_or_default();
        Some(Described { key, info, sockets })
    }

    /// Reports a process, and remembers its mount namespace if a runtime keeps files there.
    pub(super) fn note_process(&mut self, now: BootTime, key: TaskKey, info: ProcessInfo) -> Observation {
        self.remember_root(key, &info);
        process_seen(now, key, info)
    }

    fn remember_root(&mut self, key: TaskKey, info: &ProcessInfo) {
        let is_runtime = is_runtime_comm(&info.comm);
        // Any process may take the name, and make up files in a mount namespace of its own. Only an administrator counts.
        let may_mount = || self.proc.rights(key.tgid) == Rights::Admin;
        let Some(mntns) = info.mntns.filter(|_| is_runtime && may_mount()) else { return };
        let is_own = || procfs::namespace_of(Path::new("/proc/self/ns/mnt")) == Some(mntns);
        if (self.roots.contains_key(&mntns) || self.roots.len() < MAX_ROOTS) && !is_own() {
            self.roots.insert(mntns, key);
        }
    }
}
