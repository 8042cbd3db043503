//! Open files of a process, by the links in its `fd` folder: one system call a descriptor.

use std::mem::MaybeUninit;

use rustix::{
    fs::{AtFlags, OFlags, RawDir, Stat},
    io::Errno,
};

use super::procfs::{Proc, bracketed, number};
use crate::model::RawText;

/// Files of all processes in one scan; a long path counts as several. The kernel's own limit for one process is as large.
pub(super) const MAX_FDS: usize = 1_000_000;
/// Buffer for names in a folder, which the kernel fills at once; 32 KiB hold some thousand names.
const FOLDER_BYTES: usize = 32 << 10;
/// Longest text of a link (fs/proc/base.c: `do_proc_readlink` uses a page).
const LINK_BYTES: usize = 4096;
/// Bytes of a path that count as one more descriptor, because paths cost memory.
const BYTES_PER_COST: usize = 64;
/// Text of a link to an epoll instance (fs/eventpoll.c: `do_epoll_create`).
const EPOLL: &[u8] = b"anon_inode:[eventpoll]";

/// Target of a descriptor (fs/proc/fd.c, fs/d_path.c).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A socket, by its inode.
    Socket(u64),
    /// A pipe, by its inode.
    Pipe(u64),
    Epoll,
    /// A file, FIFO, terminal or device, by its path.
    Path(RawText),
    Other,
}

/// An open file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenFile {
    pub(super) fd: u32,
    pub(super) target: Target,
}

impl OpenFile {
    /// Inode number, if the file is a socket.
    pub(super) fn socket(&self) -> Option<u64> {
        if let Target::Socket(inode) = self.target { Some(inode) } else { None }
    }

    /// Share of [`MAX_FDS`] that the file uses up.
    pub(super) fn cost(&self) -> usize {
        1 + if let Target::Path(path) = &self.target { path.as_bytes().len() / BYTES_PER_COST } else { 0 }
    }
}

/// An open file that a runtime may wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Epoll,
    /// A socket, by its inode.
    Socket(u64),
    /// Path and inode of a FIFO of an exec or a container.
    Fifo(RawText, u64),
    /// Output of a `runc exec` that runs as long as its command.
    Pipe {
        /// Inode of the pipe.
        inode: u64,
        /// Pid of runc.
        runc: u32,
    },
}

/// A process hides its open files: it is another user's, or may not be traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hidden;

/// True if a process hides its open files.
pub(super) fn is_hidden(proc: &Proc, pid: u32) -> bool {
    matches!(proc.open(&format!("{pid}/fd"), OFlags::DIRECTORY), Err(Errno::ACCESS | Errno::PERM))
}

/// Open files of a process in order of their numbers, until `budget` is used up. Empty if the process is gone.
pub(super) fn open_files(proc: &Proc, pid: u32, budget: usize) -> Result<Vec<OpenFile>, Hidden> {
    let folder = match proc.open(&format!("{pid}/fd"), OFlags::DIRECTORY) {
        Ok(folder) => folder,
        Err(Errno::ACCESS | Errno::PERM) => return Err(Hidden),
        Err(_gone) => return Ok(Vec::new()),
    };
    let mut files = Vec::new();
    let mut left = budget;
    let mut buffer = Vec::with_capacity(FOLDER_BYTES);
    let mut names = RawDir::new(&folder, buffer.spare_capacity_mut());
    let mut link = [MaybeUninit::uninit(); LINK_BYTES];
    // An error ends the list: the process is gone.
    while left > 0
        && let Some(Ok(entry)) = names.next()
    {
        let Some(fd) = number(entry.file_name().to_bytes()) else { continue };
        // The file was closed meanwhile, or is hidden.
        let Ok((text, _)) = rustix::fs::readlinkat_raw(&folder, entry.file_name(), &mut link) else { continue };
        let file = OpenFile { fd, target: target(text) };
        left = left.saturating_sub(file.cost());
        files.push(file);
    }
    // The kernel lists names in order, but does not promise to.
    files.sort_unstable_by_key(|file| file.fd);
    Ok(files)
}

/// Target of one descriptor.
pub(super) fn target_of(proc: &Proc, pid: u32, fd: u32) -> Option<Target> {
    let mut link = [MaybeUninit::uninit(); LINK_BYTES];
    let (text, _) = rustix::fs::readlinkat_raw(proc.folder()?, format!("{pid}/fd/{fd}"), &mut link).ok()?;
    Some(target(text))
}

/// Status (stat(2)) of the file behind a descriptor. Its path may lead to another file by now.
pub(super) fn stat_of(proc: &Proc, pid: u32, fd: u32) -> Option<Stat> {
    rustix::fs::statat(proc.folder()?, format!("{pid}/fd/{fd}"), AtFlags::empty()).ok()
}

/// Sockets among these files, by inode, in order, each once.
pub(super) fn socket_inodes(files: &[OpenFile]) -> Vec<u64> {
    let mut inodes: Vec<u64> = files.iter().filter_map(OpenFile::socket).collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}

fn target(link: &[u8]) -> Target {
    if let Some(inode) = bracketed(link, "socket") {
        Target::Socket(inode)
    } else if let Some(inode) = bracketed(link, "pipe") {
        Target::Pipe(inode)
    } else if link == EPOLL {
        Target::Epoll
    } else if link.starts_with(b"/") && link.len() < LINK_BYTES {
        Target::Path(RawText::from(link))
    } else {
        Target::Other
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::fd::{AsFd, AsRawFd},
    };

    use super::*;

    fn found<'a>(files: &'a [OpenFile], fd: &dyn AsRawFd) -> Option<&'a Target> {
        let fd = u32::try_from(fd.as_raw_fd()).unwrap();
        files.iter().find(|file| file.fd == fd).map(|file| &file.target)
    }

    #[test]
    fn own_descriptors_have_their_targets() {
        let inode = |fd: &dyn AsFd| rustix::fs::fstat(fd.as_fd()).unwrap().st_ino;
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
        let files = open_files(&Proc::new("/proc"), std::process::id(), 100_000).unwrap();
        assert_eq!(found(&files, &socket), Some(&Target::Socket(inode(&socket))));
        assert_eq!(found(&files, &reader), Some(&Target::Pipe(inode(&reader))));
        assert_eq!(found(&files, &epoll), Some(&Target::Epoll));
        assert_eq!(found(&files, &file), Some(&Target::Path(file.path().to_str().unwrap().into())));
        let fd = u32::try_from(file.as_raw_fd()).unwrap();
        assert_eq!(stat_of(&Proc::new("/proc"), std::process::id(), fd).unwrap().st_ino, inode(&file.as_file()));
        assert!(files.is_sorted_by_key(|file| file.fd));
    }

    #[test]
    fn budget_ends_the_list_and_paths_cost_more() {
        let file = OpenFile { fd: 0, target: Target::Path(RawText::from(&[b'/'; 4095][..])) };
        assert_eq!((file.cost(), OpenFile { fd: 0, target: Target::Other }.cost()), (64, 1));
        let _open: Vec<File> = (0..20).map(|_| File::open("/dev/null").unwrap()).collect();
        let proc = Proc::new("/proc");
        assert_eq!(open_files(&proc, std::process::id(), 5).unwrap().len(), 5);
        assert_eq!(open_files(&proc, std::process::id(), 0), Ok(Vec::new()));
    }

    #[test]
    fn hundred_thousand_descriptors_are_all_listed() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("7/fd");
        std::fs::create_dir_all(&folder).unwrap();
        for fd in 0..100_000 {
            std::os::unix::fs::symlink(format!("socket:[{fd}]"), folder.join(fd.to_string())).unwrap();
        }
        let files = open_files(&Proc::new(root.path()), 7, 1_000_000).unwrap();
        assert!(files.iter().enumerate().all(|(at, file)| file.socket() == Some(at as u64)));
        assert_eq!(files.len(), 100_000);
    }

    #[test]
    fn process_that_is_gone_has_no_files() {
        assert_eq!(open_files(&Proc::new("/proc"), u32::MAX, 10), Ok(Vec::new()));
        assert_eq!(open_files(&Proc::new("/nonexistent"), 1, 10), Ok(Vec::new()));
    }

    #[test]
    fn links_of_any_text_have_a_target() {
        for (link, is) in [
            (&b"socket:[77]"[..], Target::Socket(77)),
            (b"socket:[x]", Target::Other),
            (b"pipe:[7", Target::Other),
            (b"anon_inode:[eventfd]", Target::Other),
            (b"/memfd:x (deleted)", Target::Path("/memfd:x (deleted)".into())),
            (b"", Target::Other),
            (b"\xff", Target::Other),
        ] {
            assert_eq!(target(link), is);
        }
    }
}
