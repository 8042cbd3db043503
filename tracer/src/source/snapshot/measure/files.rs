//! Pipes, FIFOs and terminals: who has them open, and what waits in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::FileTypeExt, fs::MetadataExt},
    },
};

use rustix::{
    io::Errno,
    net::{getpeername, getsockname, ipproto, sockopt},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

use super::super::procfs::{DELETED, Proc, bracketed, kernel_device, number};
use crate::model::{
    Access, BootTime, Descriptor, Fact, FileId, FileKind, FileMeasure, Observation, RawText, Source, TaskKey,
};

/// Descriptors of one process that are looked at: its share of the whole host's.
const MAX_FDS: usize = 200_000;
/// Descriptors of one process that are told: those of a shim with some hundred sessions.
const MAX_TOLD: usize = 4_096;
/// Major number of the slaves of Unix 98 terminals, the first of eight (include/uapi/linux/major.h: UNIX98_PTY_SLAVE_MAJOR).
const PTY_SLAVES: std::ops::Range<u32> = 136..144;
/// Of /dev/ptmx (TTYAUX_MAJOR and 2), through which every master is opened.
const PTMX: (u32, u32) = (5, 2);

/// What a process has open.
pub(super) struct Open {
    /// Descriptors in all.
    pub(super) count: u64,
    /// Masters of terminals among them.
    pub(super) terminals: u64,
    /// Descriptors of sockets, and their inodes.
    pub(super) sockets: Vec<(u32, u64)>,
}

/// Files through which sessions' bytes pass, and who has them open.
#[derive(Default)]
pub(super) struct Files {
    by_task: BTreeMap<TaskKey, Vec<Descriptor>>,
    known: BTreeSet<(FileKind, FileId)>,
}

impl Files {
    /// Reads what a process on the path has open. `None` where it may not be looked at, or is another one by now.
    pub(super) fn read(&mut self, proc: &Proc, task: TaskKey) -> Option<Open> {
        let mut open = Open { count: 0, terminals: 0, sockets: Vec::new() };
        let mut told = Vec::new();
        for entry in fs::read_dir(proc.path(task.tgid, "fd")).ok()?.take(MAX_FDS) {
            let Ok(entry) = entry else { break };
            open.count += 1;
            let Some(fd) = number(entry.file_name().as_bytes()) else { continue };
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            if let Some(inode) = bracketed(target.as_os_str().as_bytes(), "socket") {
                open.sockets.push((fd, inode));
            } else if let Some(descriptor) = describe(proc, task.tgid, fd, target.as_os_str().as_bytes()) {
                open.terminals += u64::from(descriptor.master);
                if descriptor.kind != FileKind::Other && told.len() < MAX_TOLD {
                    told.push(descriptor);
                }
            }
        }
        if proc.key(task.tgid) != Some(task) {
            return None;
        }
        told.sort_unstable_by_key(|descriptor| descriptor.fd);
        self.known.extend(told.iter().map(|descriptor| (descriptor.kind, descriptor.file)));
        self.by_task.insert(task, told);
        Some(open)
    }

    /// Looks whether another process has one of the files open that are known.
    pub(super) fn look_for_known(&mut self, proc: &Proc, pid: u32, budget: &mut usize) {
        let Ok(entries) = fs::read_dir(proc.path(pid, "fd")) else { return };
        let mut told = Vec::new();
        for entry in entries {
            if *budget == 0 || told.len() >= MAX_TOLD {
                break;
            }
            *budget -= 1;
            let Ok(entry) = entry else { break };
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let target = target.as_os_str().as_bytes();
            // Only what may be one of them is worth another look.
            let likely = bracketed::<u64>(target, "pipe").is_some() || target.starts_with(b"/");
            let Some(fd) = number(entry.file_name().as_bytes()).filter(|_| likely) else { continue };
            let descriptor = describe(proc, pid, fd, target);
            told.extend(descriptor.filter(|one| self.known.contains(&(one.kind, one.file))));
        }
        if let (false, Some(task)) = (told.is_empty(), proc.key(pid)) {
            told.sort_unstable_by_key(|descriptor| descriptor.fd);
            self.by_task.insert(task, told);
        }
    }

    /// Who has something open.
    pub(super) fn tasks(&self) -> impl Iterator<Item = TaskKey> + '_ {
        self.by_task.keys().copied()
    }

    /// Everything found, and what waits in each file.
    pub(super) fn tell(self, proc: &Proc, now: BootTime) -> Vec<Observation> {
        let mut facts = Vec::new();
        let mut asked = BTreeSet::new();
        for (task, descriptors) in &self.by_task {
            for descriptor in descriptors {
                let (kind, file) = (descriptor.kind, descriptor.file);
                // What waits for the reader of a terminal is told at its master.
                let tells = kind != FileKind::Pty || descriptor.master;
                if !tells || asked.contains(&(kind, file)) {
                    continue;
                }
                if let Some(measure) = measure(proc, *task, descriptor) {
                    asked.insert((kind, file));
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

/// What that descriptor is; `None` where it cannot be told.
fn describe(proc: &Proc, pid: u32, fd: u32, target: &[u8]) -> Option<Descriptor> {
    let path = (target.starts_with(b"/")).then(|| RawText::from(target.strip_suffix(DELETED).unwrap_or(target)));
    let is_pipe = bracketed::<u64>(target, "pipe").is_some();
    if !is_pipe && path.is_none() {
        return None;
    }
    let file = fs::metadata(proc.path(pid, &format!("fd/{fd}"))).ok()?;
    let (major, minor) = (rustix::fs::major(file.rdev()), rustix::fs::minor(file.rdev()));
    let is_device = file.file_type().is_char_device();
    let master = is_device && (major, minor) == PTMX;
    let kind = if is_pipe {
        FileKind::Pipe
    } else if file.file_type().is_fifo() {
        FileKind::Fifo
    } else if master || (is_device && PTY_SLAVES.contains(&major)) {
        FileKind::Pty
    } else {
        FileKind::Other
    };
    let info = if kind == FileKind::Other { Vec::new() } else { proc.read(pid, &format!("fdinfo/{fd}"))? };
    let inode = match (kind, master) {
        (FileKind::Pty, true) => keyed(&info, "tty-index:")?,
        // 256 minor numbers a major one (drivers/tty/pty.c).
        (FileKind::Pty, false) => u64::from(major - PTY_SLAVES.start) << 8 | u64::from(minor),
        _ => file.ino(),
    };
    // Bits 0 and 1 of the flags (include/uapi/asm-generic/fcntl.h: O_ACCMODE), in octal.
    let access = match keyed_octal(&info, "flags:").unwrap_or(2) & 3 {
        0 => Access::Read,
        1 => Access::Write,
        _ => Access::Both,
    };
    Some(Descriptor { fd, file: FileId { device: kernel_device(file.dev()), inode }, kind, access, master, path })
}

fn after<'a>(text: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(key.as_bytes()))?;
    Some(line.trim_ascii())
}

fn keyed(text: &[u8], key: &str) -> Option<u64> {
    number(after(text, key)?)
}

fn keyed_octal(text: &[u8], key: &str) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(after(text, key)?).ok()?, 8).ok()
}

/// A copy of somebody's descriptor, of that very process. Nothing is opened: the other end does not notice.
fn copy(proc: &Proc, task: TaskKey, fd: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(task.tgid).ok()?)?;
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Read after it was opened: it stays that process's.
    if proc.key(task.tgid) != Some(task) {
        return None;
    }
    pidfd_getfd(process.as_fd(), i32::try_from(fd).ok()?, PidfdGetfdFlags::empty()).ok()
}

/// What waits in a file.
fn measure(proc: &Proc, task: TaskKey, descriptor: &Descriptor) -> Option<FileMeasure> {
    let file = copy(proc, task, descriptor.fd)?;
    let stat = rustix::fs::fstat(&file).ok()?;
    // The number may have gone to another file meanwhile.
    let same = kernel_device(stat.st_dev) == descriptor.file.device
        && (descriptor.kind == FileKind::Pty || stat.st_ino == descriptor.file.inode);
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

/// Whether that is a TCP socket that had a connection and has none: no peer, not listening, but an address of its own. What
/// was bound and is not connected yet looks the same for an instant.
pub(super) fn was_connected(proc: &Proc, task: TaskKey, fd: u32, inode: u64) -> bool {
    let ask = || {
        let socket = copy(proc, task, fd)?;
        let same = rustix::fs::fstat(&socket).ok()?.st_ino == inode;
        let tcp = sockopt::socket_protocol(&socket).ok()? == Some(ipproto::TCP);
        let listens = sockopt::socket_acceptconn(&socket).ok()?;
        let address = SocketAddr::try_from(getsockname(&socket).ok()?).ok()?;
        let lonely = getpeername(&socket) == Err(Errno::NOTCONN);
        Some(same && tcp && !listens && lonely && address.port() != 0)
    };
    ask().unwrap_or(false)
}
