//! Records of the iterator over open files. They bypass the ring buffer: the reader of the iterator gets them.

use crate::Text;
use crate::unix::UNIX_PATH_BYTES;

/// Kind of an open file. Numbers are never reused.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenKind {
    /// Carries no bytes of a session. The record proves that the process was scanned.
    Other = 0,
    /// An unnamed pipe.
    Pipe = 1,
    /// A FIFO.
    Fifo = 2,
    /// A character device, perhaps a terminal.
    Device = 3,
    /// A socket of any other family or protocol.
    Socket = 4,
    /// A TCP socket; [`crate::Socket`] follows.
    Tcp = 5,
    /// A unix socket; [`OpenUnix`] follows.
    Unix = 6,
}

impl OpenKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [Self::Other, Self::Pipe, Self::Fifo, Self::Device, Self::Socket, Self::Tcp, Self::Unix];

    /// The kind with this number, if one exists.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// A descriptor of a process.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OpenFile {
    /// `group_leader->start_boottime` of the process, in nanoseconds.
    pub start_ns: u64,
    /// Inode number; meaningful unless the kind is [`OpenKind::Other`].
    pub inode: u64,
    /// The process, in the initial pid namespace.
    pub tgid: u32,
    /// The descriptor.
    pub fd: u32,
    /// [`OpenKind`].
    pub kind: u32,
    /// Device number of a character device, in the kernel's encoding.
    pub device: u32,
    /// Network namespace of the process.
    pub netns: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<OpenFile>() == 8 + 8 + 4 + 4 + 4 + 4 + 4 + 4);

/// A unix socket; follows its [`OpenFile`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct OpenUnix {
    /// Socket cookie: never reused while the host is up.
    pub cookie: u64,
    /// Inode of the other end; 0 without one.
    pub peer_inode: u64,
    /// Network namespace of the socket.
    pub netns: u32,
    /// State, numbered as TCP's.
    pub state: u32,
    /// Path of the socket or of its listener. An abstract name begins with NUL.
    pub path: Text<{ UNIX_PATH_BYTES + 4 }>,
}
const _: () = assert!(size_of::<OpenUnix>() == 8 + 8 + 4 + 4 + 8 + UNIX_PATH_BYTES + 4);
