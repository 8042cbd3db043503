//! Names a network namespace the way a user does: by name, by file or by process.

use std::{fmt, io, os::unix::fs::MetadataExt, path::PathBuf};

use crate::host_paths;

/// A network namespace: one host's side, where several hosts share a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetNs {
    /// A name, as in `ip netns`.
    Name(String),
    /// A file that leads to the namespace.
    Path(PathBuf),
    /// The namespace of the process with this pid.
    Pid(u32),
}

impl fmt::Display for NetNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Pid(pid) => write!(f, "{pid}"),
        }
    }
}

impl NetNs {
    /// Inode number of the namespace: the kernel's id for it.
    ///
    /// # Errors
    /// When there is no such namespace, or the caller may not look at it.
    pub fn inode(&self) -> io::Result<u32> {
        let path = match self {
            Self::Name(name) => host_paths::get().file("/run/netns").join(name),
            Self::Path(path) => path.clone(),
            Self::Pid(pid) => host_paths::get().proc.join(format!("{pid}/ns/net")),
        };
        let inode = std::fs::metadata(path)?.ino();
        u32::try_from(inode).map_err(|_too_large| io::Error::other("this file is no network namespace"))
    }
}
