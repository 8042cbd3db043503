//! Sockets and the life of TCP connections.

use crate::{Actor, Header, header::record};

/// AF_UNIX
pub const FAMILY_UNIX: u16 = 1;
/// AF_INET
pub const FAMILY_INET: u16 = 2;
/// AF_INET6
pub const FAMILY_INET6: u16 = 10;

/// Origin unknown: the socket is older than the tracer.
pub const ROLE_UNKNOWN: u8 = 0;
/// Returned by accept(2).
pub const ROLE_ACCEPTED: u8 = 1;
/// connect(2) was called on it.
pub const ROLE_CONNECTED: u8 = 2;
/// listen(2) was called on it.
pub const ROLE_LISTENING: u8 = 3;

/// Description of a socket.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// `bpf_get_socket_cookie`: never reused while the host is up; 0 if the kernel has not made one yet.
    pub cookie: u64,
    /// Inode number in sockfs, as in `/proc/PID/fd`; 0 while the socket has no file.
    pub inode: u64,
    /// Local address. An IPv4 address is in the first four bytes.
    pub local: [u8; 16],
    /// Remote address, in the same form.
    pub remote: [u8; 16],
    /// Inode number of the network namespace.
    pub netns: u32,
    /// `FAMILY_*`.
    pub family: u16,
    /// Local port, host byte order.
    pub local_port: u16,
    /// Remote port, host byte order.
    pub remote_port: u16,
    /// `skc_state`.
    pub state: u8,
    /// `ROLE_*`, as far as the object saw it.
    pub role: u8,
    /// 1 if `isn_own` and `isn_peer` are known, else 0.
    pub isn_known: u32,
    /// `snd_una - bytes_acked - 1` of a TCP connection. At the accepting end this is the end's own initial sequence
    /// number (ISN). At the connecting end it is one less: only there `bytes_acked` counts the SYN.
    pub isn_own: u32,
    /// `rcv_nxt - bytes_received - 1` of a TCP connection: the ISN of the other end.
    pub isn_peer: u32,
}
impl Socket {
    /// All fields unknown.
    pub const NONE: Self = Self {
        cookie: 0,
        inode: 0,
        local: [0; 16],
        remote: [0; 16],
        netns: 0,
        family: 0,
        local_port: 0,
        remote_port: 0,
        state: 0,
        role: ROLE_UNKNOWN,
        isn_known: 0,
        isn_own: 0,
        isn_peer: 0,
    };
}
const _: () = assert!(size_of::<Socket>() == 8 + 8 + 16 + 16 + 4 + 2 + 2 + 2 + 1 + 1 + 3 * 4);

/// A TCP connection was established by a process on the path, or to a listener on the path.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Connected {
    /// See [`Header`]: the connecting process, and the thread that called connect(2).
    pub header: Header,
    /// Actor that called connect(2).
    pub actor: Actor,
    /// The connecting end.
    pub socket: Socket,
    /// Cookie of the accepted socket on which the same goroutine received last (the *dial* rule); 0 for none.
    pub inbound_cookie: u64,
    /// Inode of the same socket.
    pub inbound_inode: u64,
}
record!(Connected = size_of::<Header>() + size_of::<Actor>() + size_of::<Socket>() + 16);

/// A process on the path began a connection, or failed to. Reported for connections to a port of the path, for those
/// on behalf of an accepted connection, and for errors of connections to 127.0.0.0/8.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Dial {
    /// See [`Header`]: the connecting process, and the thread that called connect(2).
    pub header: Header,
    /// Actor that called connect(2).
    pub actor: Actor,
    /// The connecting end. At the beginning of a connection its local address is not chosen yet: the local port is 0.
    pub socket: Socket,
    /// See [`Connected::inbound_cookie`].
    pub inbound_cookie: u64,
    /// Inode of the same socket.
    pub inbound_inode: u64,
    /// `sk_err` of a failed connection: ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH …; 0 if the process gave up, or if
    /// connect(2) itself returned the error (a packet filter on this host).
    pub errno: u32,
    /// Zero.
    pub reserved: u32,
}
record!(Dial = size_of::<Header>() + size_of::<Actor>() + size_of::<Socket>() + 24);

/// accept(2) returned a connection to a process on the path.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    /// See [`Header`].
    pub header: Header,
    /// The accepted end.
    pub socket: Socket,
}
record!(Accepted = size_of::<Header>() + size_of::<Socket>());

/// A TCP connection on the path reached CLOSE at this end.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// See [`Header`]: the owner.
    pub header: Header,
    /// Cookie of this end.
    pub cookie: u64,
    /// Inode of this end.
    pub inode: u64,
    /// `tcp_sock->bytes_received`
    pub bytes_received: u64,
    /// `tcp_sock->bytes_acked`
    pub bytes_acked: u64,
}
record!(Closed = size_of::<Header>() + 4 * 8);

/// listen(2) was called on a port of the path.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    /// See [`Header`].
    pub header: Header,
    /// The listener.
    pub socket: Socket,
}
record!(Listening = size_of::<Header>() + size_of::<Socket>());

/// Key of the maps by actor: the last receive, and the FIFO being read.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct ActorKey {
    /// Address of the goroutine's `g`. In a process that is not Go, [`ActorKey::THREAD`] with the thread id.
    pub actor: u64,
    /// The process.
    pub tgid: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<ActorKey>() == 16);

impl ActorKey {
    /// Marks a thread: no user address has this bit.
    pub const THREAD: u64 = 1 << 63;
}

/// The socket on which an actor received last. Before use, the cookie (or its substitute, [`INODE_ID`]) is read again
/// at `sk`: it no longer matches if the socket was freed, and a closed socket has no `sk_socket`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Last {
    /// Address of the `struct sock`.
    pub sk: u64,
    /// Cookie at the time of the receive.
    pub cookie: u64,
    /// Id of the goroutine at the time of the receive; 0 if unknown. A `g` is reused, an id is not.
    pub goid: u64,
}
const _: () = assert!(size_of::<Last>() == 24);

/// Tag of a socket id made of the socket's inode number, in the object's maps. It serves sockets without a cookie,
/// where the probes cannot make one. The kernel counts cookies up from 0 and, in interrupts, down from 2^64
/// (net/core/sock_diag.c, include/linux/cookie.h), so no cookie has this tag in its highest byte.
pub const INODE_ID: u64 = 0x41 << 56;
/// Tag of a socket id made of the socket's address. Valid from the socket's creation to its close: nothing else has this
/// address meanwhile.
pub const ADDRESS_ID: u64 = 0x42 << 56;

/// The cookie in a socket id; 0 if the id is a substitute. Records hold cookies only.
#[must_use]
pub const fn cookie_of(id: u64) -> u64 {
    const TAGS: u64 = 0xff << 56;
    match id & TAGS {
        INODE_ID | ADDRESS_ID => 0,
        _ => id,
    }
}

/// State of a TCP socket on the path, kept from its creation to its close, by cookie or, on kernels without a helper
/// for it, by address.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Tracked {
    /// Actor that called connect(2).
    pub actor: Actor,
    /// `start_boottime` of the owner.
    pub start_ns: u64,
    /// See [`Connected::inbound_cookie`].
    pub inbound_cookie: u64,
    /// See [`Connected::inbound_inode`].
    pub inbound_inode: u64,
    /// Inode of this socket; 0 if it had none yet. A close reports it, because an orphaned socket has none any more.
    pub inode: u64,
    /// The owner.
    pub tgid: u32,
    /// The thread that called connect(2) or accept(2).
    pub tid: u32,
    /// `ROLE_*`.
    pub role: u32,
    /// Zero.
    pub reserved: u32,
}
const _: () = assert!(size_of::<Tracked>() == size_of::<Actor>() + 4 * 8 + 4 * 4);
