//! Unix stream sockets.

use crate::{Header, Text, header::record};

/// `sizeof(sun_path)`.
pub const UNIX_PATH_BYTES: usize = 108;

/// A process on the path connected to a unix socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UnixConnected {
    /// See [`Header`].
    pub header: Header,
    /// Inode of the connecting end.
    pub inode: u64,
    /// Process that called listen(2) (`sk_peer_pid`).
    pub listener_tgid: u32,
    /// Zero.
    pub reserved: u32,
    /// `sun_path` of the listener. An abstract name begins with NUL.
    pub path: Text<{ UNIX_PATH_BYTES + 4 }>,
}
record!(UnixConnected = size_of::<Header>() + 8 + 4 + 4 + 8 + UNIX_PATH_BYTES + 4);

/// A process on the path accepted on a unix socket. Both inodes exist only now: before accept(2) the server's end has
/// no file (net/unix/af_unix.c: `unix_accept`, `sock_graft`).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UnixAccepted {
    /// See [`Header`].
    pub header: Header,
    /// Inode of the accepted end.
    pub inode: u64,
    /// Inode of the connecting end.
    pub peer_inode: u64,
    /// Process that called connect(2) (`sk_peer_pid`).
    pub peer_tgid: u32,
    /// Zero.
    pub reserved: u32,
    /// `sun_path` of the listener.
    pub path: Text<{ UNIX_PATH_BYTES + 4 }>,
}
record!(UnixAccepted = size_of::<Header>() + 8 + 8 + 4 + 4 + 8 + UNIX_PATH_BYTES + 4);
