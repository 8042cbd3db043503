//! Network namespaces of the host, and how to enter them.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, BorrowedFd},
    path::PathBuf,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use super::{
    netlink::Diag,
    procfs::{self, Proc},
};
use crate::{
    confine::{self, helper},
    host_paths,
    model::runtimes,
};

/// Namespaces of one scan. Each pod has one, and the largest nodes run a few hundred pods.
pub(super) const MAX_NAMESPACES: usize = 4096;
/// Files through which one namespace may be entered. Several, because the first process may be gone.
const MAX_ENTRY_PATHS: usize = 4;
/// Folder with namespaces that need no process (ip-netns(8)). Runtimes have others.
const NAMED_NAMESPACES: &str = "/run/netns";

/// Network namespaces by inode number, with files through which each can be entered.
pub(super) type Namespaces = BTreeMap<u32, Vec<PathBuf>>;

/// All processes, and the network namespaces that have a process or a name. `only` limits both to one namespace.
pub(super) fn processes(proc: &Proc, only: Option<u32>) -> (Vec<u32>, Namespaces) {
    let mut found = Namespaces::new();
    let mut pids = proc.pids();
    pids.retain(|pid| match proc.namespace(*pid, "net") {
        Some(netns) => add(&mut found, only, netns, || proc.path(*pid, "ns/net")),
        // The process hides its namespace, so it is not known to be in the wanted one.
        None => only.is_none(),
    });
    add_named(&mut found, only);
    (pids, found)
}

/// Adds a namespace with a file that leads to it. Returns false if `only` asks for another namespace.
pub(super) fn add(to: &mut Namespaces, only: Option<u32>, netns: u32, path: impl FnOnce() -> PathBuf) -> bool {
    if only.is_some_and(|only| only != netns) {
        return false;
    }
    let entry_paths = to.entry(netns).or_default();
    if entry_paths.len() < MAX_ENTRY_PATHS {
        entry_paths.push(path());
    }
    true
}

/// Adds the namespaces that have a name.
pub(super) fn add_named(to: &mut Namespaces, only: Option<u32>) {
    for folder in [NAMED_NAMESPACES].into_iter().chain(runtimes().filter_map(|one| one.netns_folder)) {
        for entry in
            std::fs::read_dir(host_paths::get().file(folder)).into_iter().flatten().flatten().take(MAX_NAMESPACES)
        {
            if let Some(netns) = procfs::namespace_of(&entry.path()) {
                add(to, only, netns, || entry.path());
            }
        }
    }
}

/// The tracer may not enter a namespace.
pub(super) struct NotPermitted;

/// Opens a sock_diag socket in a network namespace; `None` if the namespace is gone. Without a helper, the calling thread moves there.
pub(super) fn open_diag(netns: u32, entry_paths: &[PathBuf]) -> Result<Option<io::Result<Diag>>, NotPermitted> {
    let mut refused = false;
    for path in entry_paths {
        // Never block: /run/netns may hold a FIFO.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ACCESS | Errno::PERM) => {
                refused = true;
                continue;
            }
            Err(_gone) => continue,
        };
        // Another process may have the pid by now, in another namespace.
        if !rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_ino == u64::from(netns)) {
            continue;
        }
        match diag_in(file.as_fd()) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => refused = true,
            // No namespace.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            opened => return Ok(Some(opened)),
        }
    }
    if refused { Err(NotPermitted) } else { Ok(None) }
}

fn diag_in(namespace: BorrowedFd<'_>) -> io::Result<Diag> {
    if helper::is_running() {
        return helper::socket(namespace).and_then(Diag::over);
    }
    // The kernel would refuse, and so does the list of system calls.
    if !confine::may_enter_namespaces() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
    Diag::open()
}
