//! `struct sock`: addresses, names, counters.

use tracer_common::{FAMILY_INET, FAMILY_INET6, Socket};

use super::{offset, pointer, read};

/// IPPROTO_TCP
const TCP: u16 = 6;

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
        // u16 since 5.6 (bf9765145b85); a byte before, whose neighbour is zero for stream sockets of the path.
        read::<u16>(self.0, offset!(sock_protocol)) == Some(TCP)
    }

    /// 0 where the kernel has not made one yet (net/core/sock_diag.c:__sock_gen_cookie makes it at the first question).
    #[inline(always)]
    pub fn cookie(self) -> u64 {
        read(self.0, offset!(sock_cookie)).unwrap_or(0)
    }

    /// Whether a file still refers to it: close(2) of the last one orphans it (include/net/sock.h:sock_orphan).
    #[inline(always)]
    pub fn is_open(self) -> bool {
        pointer(self.0, offset!(sock_socket)).is_some()
    }

    /// Inode in sockfs: socket and inode are one allocation (include/net/sock.h:SOCK_INODE).
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

    /// Inode number of its network namespace.
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

    /// Writes everything into a record.
    #[inline(always)]
    pub fn describe(self, cookie: u64, role: u8, into: &mut Socket) {
        let family = self.family();
        into.cookie = cookie;
        into.inode = self.inode();
        into.netns = self.netns();
        into.family = family;
        into.local_port = 0;
        into.remote_port = 0;
        into.local = [0; 16];
        into.remote = [0; 16];
        into.state = read(self.0, offset!(sock_state)).unwrap_or(0);
        into.role = role;
        into.reserved = 0;
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
        }
    }
}
