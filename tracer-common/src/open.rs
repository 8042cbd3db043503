//! What the iterator over open files writes: not through the ring buffer, but to whoever reads it.

use crate::Text;
use crate::unix::UNIX_PATH_BYTES;

/// What an open file is. Numbers are never reused.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenKind {
    /// Nothing that bytes of a session pass through; told so that its process is known to have been seen.
    Other = 0,
    /// A pipe without a name.
    Pipe = 1,
    /// A FIFO.
    Fifo = 2,
    /// A character device: perhaps a terminal.
    Device = 3,
    /// A socket of another family or protocol than below.
    Socket = 4,
    /// [`crate::Socket`] follows.
    Tcp = 5,
    /// [`OpenUnix`] follows.
    Unix = 6,
}

impl OpenKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [Self::Other, Self::Pipe, Self::Fifo, Self::Device, Self::Socket, Self::Tcp, Self::Unix];

    /// The kind of that number, if there is one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// A descriptor of a process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OpenFile {
    /// `group_leader->start_boottime` of the process, nanoseconds.
    pub start_ns: u64,
    /// Inode number; of what is not [`OpenKind::Other`].
    pub inode: u64,
    /// The process, in the initial pid namespace.
    pub tgid: u32,
    /// The descriptor.
    pub fd: u32,
    /// [`OpenKind`].
    pub kind: u32,
    /// Device number of a character device, as the kernel has it.
    pub device: u32,
    /// Network namespace of the process.
    pub netns: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<OpenFile>() == 8 + 8 + 4 + 4 + 4 + 4 + 4 + 4);

/// A unix socket: follows its [`OpenFile`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OpenUnix {
    /// Never reused while the host is up.
    pub cookie: u64,
    /// Inode of the other end; 0 where there is none.
    pub peer_inode: u64,
    /// Network namespace of the socket.
    pub netns: u32,
    /// State, numbered as TCP's.
    pub state: u32,
    /// Its own path or its listener's; an abstract name begins with NUL.
    pub path: Text<{ UNIX_PATH_BYTES + 4 }>,
}
const _: () = assert!(size_of::<OpenUnix>() == 8 + 8 + 4 + 4 + 8 + UNIX_PATH_BYTES + 4);
