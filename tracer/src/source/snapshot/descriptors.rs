//! What a process has open, as the links in its `fd` folder say: one system call a descriptor, and no other.

use std::mem::MaybeUninit;

use rustix::{
    fs::{AtFlags, Mode, OFlags, RawDir, Stat},
    io::Errno,
};

use super::procfs::{Proc, bracketed, number};
use crate::model::RawText;

/// The kernel fills what it is given; 32 KiB hold some thousand names.
const FOLDER_BYTES: usize = 32 << 10;
/// Longest text of a link (fs/proc/base.c: `do_proc_readlink` has a page).
const LINK_BYTES: usize = 4096;
/// Paths cost memory: so many bytes of one count as another descriptor.
const BYTES_OF_ONE: usize = 64;
/// What a link to an epoll instance says (fs/eventpoll.c: `do_epoll_create`).
const EPOLL: &[u8] = b"anon_inode:[eventpoll]";

/// What a descriptor leads to (fs/proc/fd.c, fs/d_path.c).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Its inode.
    Socket(u64),
    /// Its inode.
    Pipe(u64),
    Epoll,
    /// Something with a path: a file, a FIFO, a terminal, a device.
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
    /// Inode number of the socket that it is.
    pub(super) fn socket(&self) -> Option<u64> {
        if let Target::Socket(inode) = self.target { Some(inode) } else { None }
    }

    /// What it takes of a budget.
    pub(super) fn cost(&self) -> usize {
        1 + if let Target::Path(path) = &self.target { path.as_bytes().len() / BYTES_OF_ONE } else { 0 }
    }
}

/// A file that a runtime may wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Epoll,
    /// Its inode.
    Socket(u64),
    /// Path and inode; of an exec or a container.
    Fifo(RawText, u64),
    /// The output of a `runc exec` that stays.
    Pipe {
        /// Its inode.
        inode: u64,
        /// Pid of runc.
        runc: u32,
    },
}

/// A process that does not show what it has open: another user's, or one that may not be traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hidden;

impl Proc {
    /// What a process has open, by number, until `budget` is used up. One that is gone has nothing open.
    pub(super) fn open_files(&self, pid: u32, budget: usize) -> Result<Vec<OpenFile>, Hidden> {
        let folder = match self.open(&format!("{pid}/fd"), OFlags::DIRECTORY) {
            Ok(folder) => folder,
            Err(Errno::ACCESS | Errno::PERM) => return Err(Hidden),
            Err(_gone) => return Ok(Vec::new()),
        };
        let mut files = Vec::new();
        let mut left = budget;
        let mut buffer = Vec::with_capacity(FOLDER_BYTES);
        let mut names = RawDir::new(&folder, buffer.spare_capacity_mut());
        let mut link = [MaybeUninit::uninit(); LINK_BYTES];
        // An error is the end: the process is gone.
        while left > 0
            && let Some(Ok(entry)) = names.next()
        {
            let Some(fd) = number(entry.file_name().to_bytes()) else { continue };
            // Closed meanwhile, or hidden.
            let Ok((text, _)) = rustix::fs::readlinkat_raw(&folder, entry.file_name(), &mut link) else { continue };
            let file = OpenFile { fd, target: target(text) };
            left = left.saturating_sub(file.cost());
            files.push(file);
        }
        // The kernel lists them in order; nothing promises that.
        files.sort_unstable_by_key(|file| file.fd);
        Ok(files)
    }

    /// What one descriptor leads to.
    pub(super) fn target_of(&self, pid: u32, fd: u32) -> Option<Target> {
        let mut link = [MaybeUninit::uninit(); LINK_BYTES];
        let (text, _) = rustix::fs::readlinkat_raw(self.folder()?, format!("{pid}/fd/{fd}"), &mut link).ok()?;
        Some(target(text))
    }

    /// What stat(2) says of the file behind a descriptor, whatever its path leads to by now.
    pub(super) fn stat_of(&self, pid: u32, fd: u32) -> Option<Stat> {
        rustix::fs::statat(self.folder()?, format!("{pid}/fd/{fd}"), AtFlags::empty()).ok()
    }

    pub(super) fn open(&self, path: &str, flags: OFlags) -> Result<rustix::fd::OwnedFd, Errno> {
        let folder = self.folder().ok_or(Errno::NOENT)?;
        rustix::fs::openat(folder, path, flags | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }
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
    fn own_descriptors_are_what_they_are() {
        let inode = |fd: &dyn AsFd| rustix::fs::fstat(fd.as_fd()).unwrap().st_ino;
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
        let files = Proc::new("/proc").open_files(std::process::id(), 100_000).unwrap();
        assert_eq!(found(&files, &socket), Some(&Target::Socket(inode(&socket))));
        assert_eq!(found(&files, &reader), Some(&Target::Pipe(inode(&reader))));
        assert_eq!(found(&files, &epoll), Some(&Target::Epoll));
        assert_eq!(found(&files, &file), Some(&Target::Path(file.path().to_str().unwrap().into())));
        let fd = u32::try_from(file.as_raw_fd()).unwrap();
        assert_eq!(Proc::new("/proc").stat_of(std::process::id(), fd).unwrap().st_ino, inode(&file.as_file()));
        assert!(files.is_sorted_by_key(|file| file.fd));
    }

    #[test]
    fn a_long_path_costs_more_and_the_budget_ends_the_walk() {
        let file = OpenFile { fd: 0, target: Target::Path(RawText::from(&[b'/'; 4095][..])) };
        assert_eq!((file.cost(), OpenFile { fd: 0, target: Target::Other }.cost()), (64, 1));
        let _open: Vec<File> = (0..20).map(|_| File::open("/dev/null").unwrap()).collect();
        let proc = Proc::new("/proc");
        assert_eq!(proc.open_files(std::process::id(), 5).unwrap().len(), 5);
        assert_eq!(proc.open_files(std::process::id(), 0), Ok(Vec::new()));
    }

    #[test]
    fn a_hundred_thousand_descriptors_are_all_found() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("7/fd");
        std::fs::create_dir_all(&folder).unwrap();
        for fd in 0..100_000 {
            std::os::unix::fs::symlink(format!("socket:[{fd}]"), folder.join(fd.to_string())).unwrap();
        }
        let files = Proc::new(root.path()).open_files(7, 1_000_000).unwrap();
        assert!(files.iter().enumerate().all(|(at, file)| file.socket() == Some(at as u64)));
        assert_eq!(files.len(), 100_000);
    }

    #[test]
    fn who_is_gone_has_nothing_open() {
        assert_eq!(Proc::new("/proc").open_files(u32::MAX, 10), Ok(Vec::new()));
        assert_eq!(Proc::new("/nonexistent").open_files(1, 10), Ok(Vec::new()));
    }

    #[test]
    fn links_of_any_text_are_something() {
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
