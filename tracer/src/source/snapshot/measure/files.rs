//! Pipes, FIFOs and terminals: the processes that have them open, and the bytes that wait in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{FileType, FsWord, Mode, OFlags, ResolveFlags},
    io::Errno,
    net::{getpeername, getsockname, ipproto, sockopt},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use super::super::{
    descriptors::{self, OpenFile, Target},
    procfs::{DELETED, PTY_SLAVES, Proc, after, kernel_device, number},
};
use crate::model::{
    Access, BootTime, Descriptor, Fact, FileId, FileKind, FileMeasure, Observation, RawText, Source, TaskKey,
};

/// Descriptors of one process that are reported: those of a runtime with some thousand sessions.
const MAX_REPORTED: usize = 65_536;
/// Number of /dev/ptmx (TTYAUX_MAJOR and 2), through which every master of a terminal is opened.
const PTMX: (u32, u32) = (5, 2);

/// Descriptor of standard input. A client's leads to the source of the session's input.
const STDIN: u32 = 0;

/// Magic number of the file system of terminals (include/uapi/linux/magic.h: DEVPTS_SUPER_MAGIC).
const DEVPTS: FsWord = 0x1cd1;

/// Counts of a process's open files.
pub(super) struct Open {
    /// All descriptors.
    pub(super) count: u64,
    /// Descriptors of masters of terminals.
    pub(super) terminals: u64,
    /// Descriptor and inode of each socket.
    pub(super) sockets: Vec<(u32, u64)>,
}

/// Files through which bytes of sessions pass, and the processes that have them open.
#[derive(Default)]
pub(super) struct Files {
    by_task: BTreeMap<TaskKey, Vec<Descriptor>>,
    /// Files of processes on the path, other than sockets.
    known: BTreeSet<(FileKind, FileId)>,
}

impl Files {
    /// Takes in the open files of a process on the path. `None` if another process has the pid by now.
    pub(super) fn read(&mut self, proc: &Proc, task: TaskKey, files: &[OpenFile]) -> Option<Open> {
        let mut open = Open { count: 0, terminals: 0, sockets: Vec::new() };
        let mut reported = Vec::new();
        for file in files {
            open.count += 1;
            if let Target::Socket(inode) = file.target {
                open.sockets.push((file.fd, inode));
                reported.push(socket(file.fd, inode));
            } else if let Some(descriptor) = describe(proc, task.tgid, file, |_, _| true) {
                open.terminals += u64::from(descriptor.master);
                reported.push(descriptor);
            } else if file.fd == STDIN {
                reported.extend(plain(proc, task.tgid, file));
            }
        }
        if !proc.is_still(task) {
            return None;
        }
        // A cut list would claim that the process does not have the rest open: report none.
        if reported.len() > MAX_REPORTED {
            reported.clear();
        }
        let files = reported.iter().filter(|descriptor| descriptor.kind != FileKind::Socket);
        self.known.extend(files.map(|descriptor| (descriptor.kind, descriptor.file)));
        self.by_task.insert(task, reported);
        Some(open)
    }

    /// Files of processes on the path that another process has open as well.
    pub(super) fn known_among(&self, proc: &Proc, pid: u32, files: &[OpenFile]) -> Vec<Descriptor> {
        let is_known = |kind, file| self.known.contains(&(kind, file));
        let found = files.iter().filter_map(|file| describe(proc, pid, file, is_known));
        found.take(MAX_REPORTED).collect()
    }

    /// Adds another process with such files.
    pub(super) fn add(&mut self, task: TaskKey, found: Vec<Descriptor>) {
        self.by_task.insert(task, found);
    }

    /// All processes that were added.
    pub(super) fn tasks(&self) -> impl Iterator<Item = TaskKey> + '_ {
        self.by_task.keys().copied()
    }

    /// Reports the descriptors of all processes, and the bytes that wait in each file.
    pub(super) fn report(self, proc: &Proc, now: BootTime) -> Vec<Observation> {
        let mut facts = Vec::new();
        let mut measured = BTreeSet::new();
        for (task, descriptors) in &self.by_task {
            for descriptor in descriptors {
                let (kind, file) = (descriptor.kind, descriptor.file);
                // Bytes that wait for the reader of a terminal are counted at its master.
                let has_queue = match kind {
                    FileKind::Fifo | FileKind::Pipe => true,
                    FileKind::Pty => descriptor.master,
                    FileKind::Socket | FileKind::Other => false,
                };
                if !has_queue || measured.contains(&(kind, file)) {
                    continue;
                }
                if let Some(measure) = measure(proc, *task, descriptor) {
                    measured.insert((kind, file));
                    facts.push(Observation::new(now, Source::Snapshot, Fact::FileMeasured { kind, file, measure }));
                }
            }
        }
        for (task, descriptors) in self.by_task {
            facts.push(Observation::of(now, Source::Snapshot, task, Fact::Descriptors { descriptors }));
        }
        facts
    }
}

/// Descriptor of a socket. All sockets are on one device (sockfs), whose number does not matter.
const fn socket(fd: u32, inode: u64) -> Descriptor {
    let file = FileId::new(0, inode);
    Descriptor { fd, file, kind: FileKind::Socket, access: Access::Both, master: false, path: None }
}

/// Descriptor of a file or device that is neither pipe nor terminal.
fn plain(proc: &Proc, pid: u32, open: &OpenFile) -> Option<Descriptor> {
    let Target::Path(path) = &open.target else { return None };
    let file = descriptors::stat_of(proc, pid, open.fd)?;
    let file = FileId::new(kernel_device(file.st_dev), file.st_ino);
    let (access, path) = (access(&proc.read(pid, &format!("fdinfo/{}", open.fd))?), Some(without_mark(path)));
    Some(Descriptor { fd: open.fd, file, kind: FileKind::Other, access, master: false, path })
}

/// Path of a file, without the kernel's mark for a deleted one.
fn without_mark(path: &RawText) -> RawText {
    path.as_bytes().strip_suffix(DELETED).map_or_else(|| path.clone(), RawText::from)
}

/// Access mode of a descriptor: bits 0 and 1 of the octal flags (include/uapi/asm-generic/fcntl.h: O_ACCMODE).
fn access(info: &[u8]) -> Access {
    match keyed_octal(info, "flags:").unwrap_or(2) & 3 {
        0 => Access::Read,
        1 => Access::Write,
        _ => Access::Both,
    }
}

/// Descriptor of a pipe, FIFO or terminal, if `is_wanted` accepts it; `None` for other files, and if the kernel does not identify it.
fn describe(
    proc: &Proc,
    pid: u32,
    open: &OpenFile,
    is_wanted: impl Fn(FileKind, FileId) -> bool,
) -> Option<Descriptor> {
    let path = match &open.target {
        Target::Pipe(_) => None,
        Target::Path(path) => Some(without_mark(path)),
        Target::Socket(_) | Target::Epoll | Target::Other => return None,
    };
    let file = descriptors::stat_of(proc, pid, open.fd)?;
    let (major, minor) = (rustix::fs::major(file.st_rdev), rustix::fs::minor(file.st_rdev));
    let file_type = FileType::from_raw_mode(file.st_mode);
    let master = file_type.is_char_device() && (major, minor) == PTMX;
    let kind = if path.is_none() {
        FileKind::Pipe
    } else if file_type.is_fifo() {
        FileKind::Fifo
    } else if master || (file_type.is_char_device() && PTY_SLAVES.contains(&major)) {
        FileKind::Pty
    } else {
        return None;
    };
    let device = if master { terminals(proc, pid, open.fd, path.as_ref()?) } else { Some(file.st_dev) };
    let device = kernel_device(device?);
    let id = |inode| FileId::new(device, inode);
    let info = || proc.read(pid, &format!("fdinfo/{}", open.fd));
    let known = match (kind, master) {
        // Only the descriptor's information identifies the terminal of a master.
        (FileKind::Pty, true) => None,
        // Each major number has 256 minor ones (drivers/tty/pty.c).
        (FileKind::Pty, false) => Some(u64::from(major - PTY_SLAVES.start) << 8 | u64::from(minor)),
        _ => Some(file.st_ino),
    };
    if known.is_some_and(|inode| !is_wanted(kind, id(inode))) {
        return None;
    }
    let info = info()?;
    let inode = match known {
        Some(inode) => inode,
        None => keyed(&info, "tty-index:").filter(|index| is_wanted(kind, id(*index)))?,
    };
    Some(Descriptor { fd: open.fd, file: id(inode), kind, access: access(&info), master, path })
}

/// Device of the file system with a master's terminals: its own if it was opened as `/dev/pts/ptmx`, otherwise the one mounted beside
/// it (fs/devpts/inode.c: `devpts_mntget`), in its process's root.
fn terminals(proc: &Proc, pid: u32, fd: u32, path: &RawText) -> Option<u64> {
    let own = proc.path(pid, &format!("fd/{fd}"));
    if rustix::fs::statfs(&own).ok()?.f_type == DEVPTS {
        return Some(rustix::fs::stat(&own).ok()?.st_dev);
    }
    let folder = Path::new(path.as_str()?).parent()?.join("pts");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = proc.open(&format!("{pid}/root"), flags).ok()?;
    let slaves = rustix::fs::openat2(&root, folder, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?;
    let is_meant = rustix::fs::fstatfs(&slaves).ok()?.f_type == DEVPTS;
    rustix::fs::fstat(&slaves).ok().filter(|_| is_meant).map(|file| file.st_dev)
}

fn keyed(text: &[u8], key: &str) -> Option<u64> {
    number(after(text, key.as_bytes())?)
}

fn keyed_octal(text: &[u8], key: &str) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(after(text, key.as_bytes())?).ok()?, 8).ok()
}

/// Copies a descriptor of a process (pidfd_getfd(2)). Nothing is opened, so the other end does not notice.
fn copy(proc: &Proc, task: TaskKey, fd: u32) -> Option<OwnedFd> {
    // Of a host seen through another procfs, the pid would name another process.
    if !proc.has_own_pids() {
        return None;
    }
    let pid = Pid::from_raw(i32::try_from(task.tgid).ok()?)?;
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Check the identity after the pidfd was opened: from now on it stays this process's.
    if !proc.is_still(task) {
        return None;
    }
    pidfd_getfd(process.as_fd(), i32::try_from(fd).ok()?, PidfdGetfdFlags::empty()).ok()
}

/// Bytes that wait in a file, and its capacity.
fn measure(proc: &Proc, task: TaskKey, descriptor: &Descriptor) -> Option<FileMeasure> {
    let file = copy(proc, task, descriptor.fd)?;
    // The number may belong to another file by now.
    let same = if descriptor.kind == FileKind::Pty {
        // All masters are one file. The copy's information has the number of the terminal.
        let info = proc.read(std::process::id(), &format!("fdinfo/{}", file.as_raw_fd()))?;
        keyed(&info, "tty-index:") == Some(descriptor.file.inode)
    } else {
        let stat = rustix::fs::fstat(&file).ok()?;
        FileId::new(kernel_device(stat.st_dev), stat.st_ino) == descriptor.file
    };
    let queued = rustix::io::ioctl_fionread(&file).ok().filter(|_| same)?;
    let capacity = match descriptor.kind {
        FileKind::Fifo | FileKind::Pipe => rustix::pipe::fcntl_getpipe_size(&file).ok(),
        FileKind::Pty | FileKind::Socket | FileKind::Other => None,
    };
    Some(FileMeasure {
        queued: u32::try_from(queued).unwrap_or(u32::MAX),
        capacity: capacity.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX)),
    })
}

/// True for a TCP socket that has lost its connection: no peer, not listening, but a local address. A socket that was bound and is
/// not connected yet looks the same for a moment.
pub(super) fn was_connected(proc: &Proc, task: TaskKey, fd: u32, inode: u64) -> bool {
    let ask = || {
        let socket = copy(proc, task, fd)?;
        let same = rustix::fs::fstat(&socket).ok()?.st_ino == inode;
        let tcp = sockopt::socket_protocol(&socket).ok()? == Some(ipproto::TCP);
        let listens = sockopt::socket_acceptconn(&socket).ok()?;
        let address = SocketAddr::try_from(getsockname(&socket).ok()?).ok()?;
        let has_no_peer = getpeername(&socket) == Err(Errno::NOTCONN);
        Some(same && tcp && !listens && has_no_peer && address.port() != 0)
    };
    ask().unwrap_or(false)
}
