//! Files and descriptors.

use serde::{Deserialize, Serialize};

use super::{HostNo, RawText};

/// Identity of a file other than a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileId {
    /// Device of the file system in the kernel's numbering (include/linux/kdev_t.h: major << 20 | minor).
    pub device: u32,
    /// Inode number on that device.
    pub inode: u64,
    /// Host of the file.
    #[serde(default, skip_serializing_if = "HostNo::is_first")]
    pub host: HostNo,
}

impl FileId {
    /// A file by the kernel's device number and inode number.
    #[must_use]
    pub const fn new(device: u32, inode: u64) -> Self {
        Self { device, inode, host: HostNo(0) }
    }

    /// A file by the numbers of stat(2). stat(2) encodes a device in 64 bits, with the minor number around the major
    /// number (include/linux/kdev_t.h: `new_encode_dev`; the C library's `makedev` is the same for these 32 bits). Both
    /// numberings agree on tmpfs, where runtimes keep FIFOs. btrfs and overlayfs may report another device than the
    /// kernel uses.
    #[must_use]
    pub const fn from_stat(device: u64, inode: u64) -> Self {
        // The kernel has 12 bits of major and 20 bits of minor number.
        let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
        #[expect(clippy::cast_possible_truncation, reason = "12 and 20 bits")]
        let device = ((major << 20) | minor) as u32;
        Self::new(device, inode)
    }
}

/// Kind of a file behind a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A named pipe.
    Fifo,
    /// An unnamed pipe.
    Pipe,
    /// A terminal. Both ends have the same [`FileId`], made of file system and terminal index.
    Pty,
    /// A socket, identified by its inode in sockfs.
    Socket,
    /// Any other file or device.
    Other,
}

impl FileKind {
    /// Stable token for JSON.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Pipe => "pipe",
            Self::Pty => "pty",
            Self::Socket => "socket",
            Self::Other => "other",
        }
    }
}

/// Access mode of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// read(2) only.
    Read,
    /// write(2) only.
    Write,
    /// read(2) and write(2).
    Both,
}

impl Access {
    /// True if the descriptor can be read.
    #[must_use]
    pub const fn reads(self) -> bool {
        matches!(self, Self::Read | Self::Both)
    }

    /// True if the descriptor can be written to.
    #[must_use]
    pub const fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Both)
    }
}

/// An open descriptor of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Descriptor number.
    pub fd: u32,
    /// Open file.
    pub file: FileId,
    /// Kind of the file.
    pub kind: FileKind,
    /// Access mode.
    pub access: Access,
    /// Set if the file is the master of a terminal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub master: bool,
    /// Path, as the kernel knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<RawText>,
}
