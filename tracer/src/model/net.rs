//! Sockets and addresses.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::HostNo;

/// Identity of a socket. Cookie or inode may be missing. Two ids name one socket if their cookies agree, or, without
/// both cookies, if their inodes agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SocketId {
    /// Socket cookie. The kernel never reuses it before the next boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cookie: Option<u64>,
    /// Inode number in sockfs, as in `/proc/PID/fd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// Host of the socket.
    #[serde(default, skip_serializing_if = "HostNo::is_first")]
    pub host: HostNo,
}

impl SocketId {
    /// Id of the kernel's numbers; 0 stands for a missing number.
    #[must_use]
    pub fn new(cookie: u64, inode: u64) -> Self {
        let some = |number| (number != 0).then_some(number);
        Self { cookie: some(cookie), inode: some(inode), host: HostNo::default() }
    }

    /// True if both numbers are missing.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.cookie.is_none() && self.inode.is_none()
    }
}

/// Local and remote address of one end of a TCP connection. IPv4-mapped addresses are reduced to IPv4, so that both
/// ends mirror each other even with a dual-stack listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tuple {
    /// Address of this end.
    pub local: SocketAddr,
    /// Address of the other end.
    pub remote: SocketAddr,
}

impl Tuple {
    /// Both addresses, with IPv4-mapped addresses reduced to IPv4.
    #[must_use]
    pub fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { local: canonical(local), remote: canonical(remote) }
    }

    /// The same connection, seen from the other end.
    #[must_use]
    pub fn mirrored(self) -> Self {
        Self { local: self.remote, remote: self.local }
    }

    /// True if the connection never leaves its network namespace. Two namespaces may contain equal loopback tuples of
    /// unrelated connections.
    #[must_use]
    pub fn is_loopback(self) -> bool {
        self.local.ip().is_loopback() || self.remote.ip().is_loopback()
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// `IP:PORT` of a 16-byte address field. IPv4 uses the first four bytes.
#[must_use]
pub fn parse_endpoint(family: Family, address: [u8; 16], port: u16) -> Option<SocketAddr> {
    let ip = match family {
        Family::Inet => {
            let [a, b, c, d, ..] = address;
            IpAddr::from([a, b, c, d])
        }
        Family::Inet6 => IpAddr::from(address),
        Family::Unix => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// AF_UNIX
    Unix,
    /// AF_INET
    Inet,
    /// AF_INET6
    Inet6,
}

/// Origin of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SocketRole {
    /// Created by accept(2).
    Accepted,
    /// Created by connect(2).
    Connected,
    /// Created by listen(2).
    Listening,
}

/// Initial sequence numbers (ISNs) of a TCP connection, as known by one of its ends. They stay constant while the
/// connection lives, routers and NAT do not change them, and strangers cannot know them: 64 bits shared by both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Isn {
    /// `snd_una - bytes_acked - 1`: the ISN of this end if it accepted, and one less if it connected. The kernel counts
    /// the SYN in `bytes_acked` at the connecting end alone (net/ipv4/tcp_input.c: tcp_snd_una_update).
    pub own: u32,
    /// `rcv_nxt - bytes_received - 1`: the ISN of the other end.
    pub peer: u32,
}

impl Isn {
    /// Values of the other end: if this end connected, and if this end accepted.
    #[must_use]
    pub const fn others(self) -> [Self; 2] {
        [
            Self { own: self.peer, peer: self.own.wrapping_add(1) },
            Self { own: self.peer.wrapping_sub(1), peer: self.own },
        ]
    }

    /// True for both ends of one connection: the ISNs agree in both directions.
    #[must_use]
    pub fn is_other_end_of(self, other: Self) -> bool {
        self.others().contains(&other)
    }
}

/// Rule for pairing the ends of TCP connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairing {
    /// By [`Isn`], or by mirrored addresses inside one network namespace. Those are unique while the connection lives.
    #[default]
    SequenceNumbers,
    /// By mirrored addresses alone: the rule for recordings without ISNs, up to format 3.
    Addresses,
}

/// A socket and its properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketInfo {
    /// Identity of the socket.
    pub id: SocketId,
    /// Address family.
    pub family: Family,
    /// Addresses of a TCP socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuple: Option<Tuple>,
    /// Inode number of its network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// Origin of the socket, if observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<SocketRole>,
    /// Initial sequence numbers. Set for TCP connections read by a BPF program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isn: Option<Isn>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn isns_of_both_ends_agree_in_both_directions() {
        // The connecting end chose 100, the accepting end 900: `own` of the connecting end is one less.
        let (near, far) = (Isn { own: 99, peer: 900 }, Isn { own: 900, peer: 100 });
        assert!(near.is_other_end_of(far) && far.is_other_end_of(near));
        assert!(!near.is_other_end_of(near) && !far.is_other_end_of(far), "both would have connected");
        for other in
            [Isn { own: 901, ..far }, Isn { own: 899, ..far }, Isn { peer: 101, ..far }, Isn { peer: 99, ..far }]
        {
            assert!(!near.is_other_end_of(other) && !other.is_other_end_of(near), "{other:?}");
        }
    }

    #[test]
    fn isns_wrap_around() {
        for (client, server) in [(0, 0), (0, u32::MAX), (u32::MAX, 0), (u32::MAX, u32::MAX)] {
            let near = Isn { own: client.wrapping_sub(1), peer: server };
            let far = Isn { own: server, peer: client };
            assert!(near.is_other_end_of(far) && far.is_other_end_of(near), "{client} {server}");
        }
    }
}
