//! Sockets of the host, as sock_diag and the BPF iterator list them.

use std::collections::{BTreeMap, BTreeSet};

use super::scan_error::ScanError;
use crate::model::{Family, Isn, RawText, SocketId, TcpMeasure, Tuple, UnixMeasure};

/// Sockets of one scan. The API server of a large cluster has some ten thousand connections.
pub(super) const MAX_SOCKETS: usize = 1 << 20;

/// A TCP socket that a process may own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpSocket {
    pub(super) id: SocketId,
    pub(super) inode: u64,
    pub(super) family: Family,
    pub(super) tuple: Tuple,
    /// Inode number of the network namespace.
    pub(super) netns: u32,
    pub(super) listening: bool,
    /// Initial sequence numbers. The BPF iterator reads them; sock_diag does not.
    pub(super) isn: Option<Isn>,
}

/// A unix socket that a process may own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnixSocket {
    pub(super) id: SocketId,
    /// Name of the socket, or of the listener that accepted it. An abstract name begins with NUL.
    pub(super) path: Option<RawText>,
    /// The file to which the socket is bound. The name may lead to another file by now.
    pub(super) file: Option<SocketFile>,
    /// Inode number of the other end.
    pub(super) peer: Option<u64>,
    pub(super) listening: bool,
}

/// The file of a unix socket, as unix_diag gives it (include/uapi/linux/unix_diag.h: `unix_diag_vfs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SocketFile {
    /// Device number, as the kernel encodes it.
    pub(super) device: u32,
    /// Lower 32 bits of the inode number: unix_diag has no more.
    pub(super) inode: u32,
}

/// Result of one scan, by inode. Inode numbers of sockets are unique over all namespaces.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) tcp: BTreeMap<u64, TcpSocket>,
    pub(super) unix: BTreeMap<u64, UnixSocket>,
    pub(super) errors: BTreeSet<ScanError>,
    /// Answer to the last question about a single socket.
    pub(super) answer: Option<Answer>,
    /// Numbers of single sockets, in the order of the questions; `None` for a socket that no longer exists.
    pub(super) measured: Vec<(SocketId, Option<Measured>)>,
}

/// Numbers of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measured {
    Tcp(TcpMeasure),
    Unix(UnixMeasure),
}

/// Answer to a question about a single socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) id: SocketId,
    /// Addresses of a TCP socket; `None` for a unix socket.
    pub(super) tuple: Option<Tuple>,
    pub(super) measured: Measured,
}

impl Sockets {
    /// True if a table lists a socket with this inode.
    pub(super) fn holds(&self, inode: u64) -> bool {
        self.tcp.contains_key(&inode) || self.unix.contains_key(&inode)
    }

    /// True if the scan has taken [`MAX_SOCKETS`].
    pub(super) fn is_full(&self) -> bool {
        self.tcp.len() + self.unix.len() >= MAX_SOCKETS
    }
}

/// Network namespace and port of each listener among these sockets.
pub(super) fn listening<'a>(sockets: impl Iterator<Item = &'a TcpSocket>) -> BTreeSet<(u32, u16)> {
    sockets.filter(|socket| socket.listening).map(|socket| (socket.netns, socket.tuple.local.port())).collect()
}
