//! Open files of all processes, read by a BPF iterator. For sockets that a process has open, the result equals a walk over
//! procfs with the tables of sock_diag.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    path::Path,
};

use tracer_common::{FAMILY_INET, FAMILY_INET6, OpenKind, OpenUnix, Socket};

use super::{
    descriptors::{self, MAX_FDS, OpenFile, Target},
    procfs::{self, PTY_SLAVES, Proc},
    sockets::{Sockets, TcpSocket, UnixSocket},
};
use crate::{
    model::{Family, Isn, RawText, SocketId, TaskKey, TcpState, Tuple, parse_endpoint},
    source::ebpf::iterator::{self, Opened},
};

/// The initial pid namespace (include/linux/proc_ns.h: PROC_PID_INIT_INO). The iterator numbers processes as this one does.
const INITIAL_PIDNS: u32 = 0xeffffffc;
/// Number of `/dev/ptmx`, through which every master of a terminal is opened (Documentation/admin-guide/devices.txt).
const PTMX: u32 = 5 << 20 | 2;

/// A process that has a file open.
#[derive(Clone, Copy)]
pub(super) struct Owner {
    pub(super) task: TaskKey,
    pub(super) netns: u32,
}

/// Result of one run of the iterator.
#[derive(Default)]
pub(super) struct BpfScan {
    pub(super) owners: BTreeMap<u32, Owner>,
    /// Sockets, pipes, FIFOs and terminals of each process. Other files are left out.
    pub(super) files: BTreeMap<u32, Vec<OpenFile>>,
    pub(super) sockets: Sockets,
    /// Network namespaces of the unix listeners that are bound to a file.
    pub(super) listening: BTreeSet<u32>,
    /// Set if files were left out because the host has more than [`MAX_FDS`].
    pub(super) is_cut: bool,
}

/// Reads the open files of all processes; `only` limits the result to one network namespace.
///
/// # Errors
/// When the kernel has no such iterator or does not permit it, or the tracer runs in another pid namespace.
pub(super) fn everything(proc: &Proc, only: Option<u32>) -> io::Result<BpfScan> {
    numbers_alike()?;
    let mut found = BpfScan::default();
    let mut left = MAX_FDS;
    iterator::open_files(|file, opened| {
        let task = TaskKey::from_ns(file.tgid, file.start_ns);
        found.owners.insert(file.tgid, Owner { task, netns: file.netns });
        if only.is_some_and(|only| only != file.netns) {
            return true;
        }
        let target = match opened {
            Opened::Tcp(socket) if only.is_some_and(|only| only != socket.netns) => Some(Target::Socket(file.inode)),
            Opened::Unix(socket) if only.is_some_and(|only| only != socket.netns) => Some(Target::Socket(file.inode)),
            Opened::Tcp(socket) => {
                found.sockets.tcp.extend(tcp_socket(socket, file.inode).map(|socket| (file.inode, socket)));
                Some(Target::Socket(file.inode))
            }
            Opened::Unix(socket) => {
                let netns = socket.netns;
                let socket = unix_socket(socket, file.inode);
                let is_bound = |path: &RawText| path.as_bytes().first().is_some_and(|first| *first != 0);
                if socket.as_ref().is_some_and(|socket| socket.listening && socket.path.as_ref().is_some_and(is_bound))
                {
                    found.listening.insert(netns);
                }
                found.sockets.unix.extend(socket.map(|socket| (file.inode, socket)));
                Some(Target::Socket(file.inode))
            }
            Opened::File(OpenKind::Socket) => Some(Target::Socket(file.inode)),
            Opened::File(OpenKind::Pipe) => Some(Target::Pipe(file.inode)),
            // FIFOs and terminals have paths, which the iterator does not read. They are few.
            Opened::File(OpenKind::Fifo) => descriptors::target_of(proc, file.tgid, file.fd),
            Opened::File(OpenKind::Device) if is_terminal(file.device) => {
                descriptors::target_of(proc, file.tgid, file.fd)
            }
            Opened::File(_) => None,
        };
        let files = found.files.entry(file.tgid).or_default();
        let open = target.map(|target| OpenFile { fd: file.fd, target });
        left = left.saturating_sub(open.as_ref().map_or(1, OpenFile::cost));
        files.extend(open);
        left > 0
    })?;
    found.is_cut = left == 0;
    Ok(found)
}

/// Runs the iterator up to its first file.
///
/// # Errors
/// As [`everything`].
pub(super) fn attempt() -> io::Result<()> {
    numbers_alike()?;
    iterator::open_files(|_, _| false)
}

/// Checks that the iterator lists every process of the host: those of the tracer's pid namespace, by its numbers.
fn numbers_alike() -> io::Result<()> {
    if procfs::namespace_of(Path::new("/proc/self/ns/pid")) == Some(INITIAL_PIDNS) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::Unsupported, "the tracer runs in a pid namespace of its own"))
}

/// Adds the initial sequence numbers to connections of sock_diag, which does not list them.
///
/// # Errors
/// As [`everything`].
pub(super) fn add_sequence_numbers(to: &mut BTreeMap<u64, TcpSocket>) -> io::Result<()> {
    iterator::open_files(|file, opened| {
        if let Opened::Tcp(socket) = opened
            && let Some(known) = to.get_mut(&file.inode)
            && known.id.cookie == Some(socket.cookie)
        {
            known.isn = isn(socket);
        }
        true
    })
}

fn isn(socket: &Socket) -> Option<Isn> {
    (socket.isn_known == 1).then_some(Isn { own: socket.isn_own, peer: socket.isn_peer })
}

fn is_terminal(device: u32) -> bool {
    PTY_SLAVES.contains(&(device >> 20)) || device == PTMX
}

/// A TCP socket in a state that the dump of sock_diag lists; `None` before and after a connection.
fn tcp_socket(socket: &Socket, inode: u64) -> Option<TcpSocket> {
    let state = TcpState::from_kernel(socket.state)?;
    let is_listed = matches!(
        state,
        TcpState::Listen | TcpState::Established | TcpState::CloseWait | TcpState::FinWait1 | TcpState::FinWait2
    );
    let family = match socket.family {
        FAMILY_INET => Family::Inet,
        FAMILY_INET6 => Family::Inet6,
        _ => return None,
    };
    let end = |address, port| parse_endpoint(family, address, port);
    let ends: (SocketAddr, SocketAddr) =
        end(socket.local, socket.local_port).zip(end(socket.remote, socket.remote_port))?;
    is_listed.then(|| TcpSocket {
        id: SocketId::new(socket.cookie, inode),
        inode,
        family,
        tuple: Tuple::new(ends.0, ends.1),
        netns: socket.netns,
        listening: state == TcpState::Listen,
        isn: isn(socket),
    })
}

fn unix_socket(socket: &OpenUnix, inode: u64) -> Option<UnixSocket> {
    let state = u8::try_from(socket.state).ok().and_then(TcpState::from_kernel)?;
    let listening = state == TcpState::Listen;
    let path = socket.path.as_bytes();
    let path = match path.first() {
        None => None,
        // An abstract name may hold any byte.
        Some(0) => Some(RawText::from(path)),
        Some(_) => path.split(|byte| *byte == 0).next().map(RawText::from),
    };
    (listening || state == TcpState::Established).then(|| UnixSocket {
        id: SocketId::new(socket.cookie, inode),
        path,
        file: None,
        peer: Some(socket.peer_inode).filter(|peer| *peer != 0),
        listening,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_known_by_device_number() {
        assert!(is_terminal(136 << 20 | 3) && is_terminal(143 << 20) && is_terminal(PTMX));
        assert!(!is_terminal(1 << 20 | 3) && !is_terminal(5 << 20) && !is_terminal(0));
    }

    #[test]
    fn scan_leaves_out_sockets_without_connection() {
        let of = |state, family| tcp_socket(&Socket { state, family, netns: 7, cookie: 9, ..Socket::NONE }, 5);
        assert!(of(10, FAMILY_INET).is_some_and(|socket| socket.listening && socket.netns == 7));
        assert!(of(1, FAMILY_INET6).is_some_and(|socket| !socket.listening && socket.family == Family::Inet6));
        assert_eq!((of(7, FAMILY_INET), of(6, FAMILY_INET), of(1, 1), of(0, FAMILY_INET)), (None, None, None, None));
    }
}
