//! `struct sock`: addresses, names, counters.

use tracer_common::{ADDRESS_ID, Config, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, INODE_ID, Socket, cookie_of};

use super::{has, offset, pointer, read, read_stale};

/// IPPROTO_TCP
const TCP: u16 = 6;
/// States without a connection (include/net/tcp_states.h).
const SYN_SENT: u8 = 2;
const CLOSE: u8 = 7;
const LISTEN: u8 = 10;
const NEW_SYN_RECV: u8 = 12;
/// Number of readings of one pair of fields before it counts as unknown.
const READINGS: u32 = 3;

/// kernel: include/net/sock.h:struct sock
#[derive(Clone, Copy)]
pub struct Sock(pub u64);

impl Sock {
    #[inline(always)]
    pub fn family(self) -> u16 {
        read(self.0, offset!(sock_family)).unwrap_or(0)
    }

    #[inline(always)]
    pub fn is_tcp(self) -> bool {
        // u16 since 5.6 (bf9765145b85). Before, it is a byte, and its neighbour is zero for stream sockets of the
        // path.
        read::<u16>(self.0, offset!(sock_protocol)) == Some(TCP)
    }

    /// 0 if the kernel has not made a cookie yet (net/core/sock_diag.c:__sock_gen_cookie makes it on first use).
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        read(self.0, offset!(sock_cookie)).unwrap_or(0)
    }

    /// Id for pairing: the cookie or, where the probes cannot make one, the inode. 0 if there is neither. It stays the
    /// same if a query of sock_diag makes the cookie later.
    #[inline(always)]
    pub fn id(self) -> u64 {
        let cookie = self.cookie();
        let has_own = has(Config::MAKES_COOKIES) && cookie != 0 && self.family() != FAMILY_UNIX;
        if has_own || !has(Config::INODE_IDS) {
            return cookie;
        }
        match self.inode() {
            0 => cookie,
            inode => INODE_ID | inode,
        }
    }

    /// The cookie of the socket with that id; 0 if it has none.
    #[inline(always)]
    pub fn cookie_behind(self, id: u64) -> u64 {
        match cookie_of(id) {
            0 => self.cookie(),
            cookie => cookie,
        }
    }

    /// True if this is still the socket with that id. The memory may have been freed and reused meanwhile.
    #[inline(always)]
    pub fn still_has(self, id: u64) -> bool {
        if has(Config::INODE_IDS) && cookie_of(id) == 0 {
            let socket = read_stale(self.0, offset!(sock_socket)).unwrap_or(0);
            let at = offset!(socket_alloc_inode) + offset!(inode_ino);
            return read_stale(socket, at).is_some_and(|inode| INODE_ID | inode == id);
        }
        self.cookie() == id
    }

    /// Id that holds from the socket's creation to its close, also while it has neither cookie nor file.
    #[inline(always)]
    pub const fn address_id(self) -> u64 {
        /// Addresses of kernel memory differ in these bits.
        const ADDRESS: u64 = (1 << 56) - 1;
        ADDRESS_ID | (self.0 & ADDRESS)
    }

    /// include/net/tcp_states.h
    #[inline(always)]
    pub fn state(self) -> u8 {
        read(self.0, offset!(sock_state)).unwrap_or(0)
    }

    /// True while a file refers to the socket. close(2) of the last one orphans it (include/net/sock.h:sock_orphan).
    #[inline(always)]
    pub fn is_open(self) -> bool {
        pointer(self.0, offset!(sock_socket)).is_some()
    }

    /// Inode in sockfs. A socket and its inode are one allocation (include/net/sock.h:SOCK_INODE).
    #[inline(always)]
    pub fn inode(self) -> u64 {
        let Some(socket) = pointer(self.0, offset!(sock_socket)) else { return 0 };
        let at = offset!(socket_alloc_inode);
        read(socket + u64::from(at), offset!(inode_ino)).unwrap_or(0)
    }

    #[inline(always)]
    pub fn local_port(self) -> u16 {
        read(self.0, offset!(sock_num)).unwrap_or(0)
    }

    #[inline(always)]
    pub fn remote_port(self) -> u16 {
        u16::from_be(read(self.0, offset!(sock_dport)).unwrap_or(0))
    }

    /// True for 127.0.0.0/8 as the remote address.
    #[inline(always)]
    pub fn leads_to_loopback(self) -> bool {
        self.family() == FAMILY_INET && read::<[u8; 4]>(self.0, offset!(sock_daddr)).is_some_and(|to| to[0] == 127)
    }

    /// Inode number of the network namespace.
    #[inline(always)]
    pub fn netns(self) -> u32 {
        pointer(self.0, offset!(sock_net)).and_then(|net| read(net, offset!(net_inum))).unwrap_or(0)
    }

    /// Process that called connect(2) or listen(2) at the other end of a unix socket, in the initial pid namespace.
    #[inline(always)]
    pub fn peer_tgid(self) -> u32 {
        pointer(self.0, offset!(sock_peer_pid)).and_then(|pid| read(pid, offset!(pid_numbers))).unwrap_or(0)
    }

    #[inline(always)]
    pub fn bytes_received(self) -> u64 {
        read(self.0, offset!(tcp_bytes_received)).unwrap_or(0)
    }

    #[inline(always)]
    pub fn bytes_acked(self) -> u64 {
        read(self.0, offset!(tcp_bytes_acked)).unwrap_or(0)
    }

    /// Error of a connection that was not established; 0 for none.
    #[inline(always)]
    pub fn error(self) -> u32 {
        read(self.0, offset!(sock_err)).unwrap_or(0)
    }

    /// Writes both initial sequence numbers into a record, as defined in [`Socket`]. Valid only for a TCP socket that
    /// has, or is about to get, a connection.
    ///
    /// The kernel advances `snd_una` and `rcv_nxt` and their byte counters by the same amount, including the
    /// connecting end's SYN and the FIN (net/ipv4/tcp_input.c: tcp_snd_una_update, tcp_rcv_nxt_update;
    /// net/ipv4/tcp_minisocks.c: tcp_create_openreq_child). So the differences are constant while the connection
    /// lives. At a change of state, the hook runs in the context that holds the socket's lock; elsewhere
    /// [`Sock::start_of`] detects a concurrent update.
    #[inline(always)]
    pub fn describe_isn(self, into: &mut Socket) {
        // One after the other: the verifier rejects the undefined value of a `None` that is carried along.
        let Some(own) = self.start_of(offset!(tcp_snd_una), offset!(tcp_bytes_acked)) else { return };
        let Some(peer) = self.start_of(offset!(tcp_rcv_nxt), offset!(tcp_bytes_received)) else { return };
        into.isn_known = 1;
        into.isn_own = own;
        into.isn_peer = peer;
    }

    /// The sequence number before the first byte: a position minus the bytes up to it. The kernel writes the counter
    /// first and the position right after it, perhaps on another CPU. Two equal readings of both fields mean that no
    /// update came in between. All readings fall between these two stores only if an interrupt delays the second. The
    /// other end does not confirm the resulting number: a missing pair, never a wrong one.
    #[inline(always)]
    fn start_of(self, position: u32, counter: u32) -> Option<u32> {
        let (mut at, mut count) = (read::<u32>(self.0, position)?, read::<u64>(self.0, counter)?);
        for _ in 1..READINGS {
            let before = (at, count);
            (at, count) = (read::<u32>(self.0, position)?, read::<u64>(self.0, counter)?);
            if before == (at, count) {
                return Some(at.wrapping_sub(count as u32).wrapping_sub(1));
            }
        }
        None
    }

    /// Writes a full description into a record. `id` is the cookie or a substitute.
    #[inline(always)]
    pub fn describe(self, id: u64, role: u8, into: &mut Socket) {
        let family = self.family();
        into.cookie = self.cookie_behind(id);
        into.inode = self.inode();
        into.netns = self.netns();
        into.family = family;
        into.local_port = 0;
        into.remote_port = 0;
        into.local = [0; 16];
        into.remote = [0; 16];
        into.state = self.state();
        into.role = role;
        into.isn_known = 0;
        into.isn_own = 0;
        into.isn_peer = 0;
        if family == FAMILY_INET {
            into.local[..4].copy_from_slice(&read::<[u8; 4]>(self.0, offset!(sock_rcv_saddr)).unwrap_or([0; 4]));
            into.remote[..4].copy_from_slice(&read::<[u8; 4]>(self.0, offset!(sock_daddr)).unwrap_or([0; 4]));
        } else if family == FAMILY_INET6 {
            into.local = read(self.0, offset!(sock_v6_rcv_saddr)).unwrap_or([0; 16]);
            into.remote = read(self.0, offset!(sock_v6_daddr)).unwrap_or([0; 16]);
        }
        if family == FAMILY_INET || family == FAMILY_INET6 {
            into.local_port = self.local_port();
            into.remote_port = self.remote_port();
            if !matches!(into.state, 0 | SYN_SENT | CLOSE | LISTEN | NEW_SYN_RECV) && self.is_tcp() {
                self.describe_isn(into);
            }
        }
    }
}
