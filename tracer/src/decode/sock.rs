//! Records of sockets.

use tracer_common::{
    Accepted, Closed, Connected, Dial, FAMILY_INET, FAMILY_INET6, FAMILY_UNIX, Listening, ROLE_ACCEPTED,
    ROLE_CONNECTED, ROLE_LISTENING, Socket, UnixAccepted, UnixConnected,
};

use super::common::{DecodeError, actor, some};
use crate::model::{DialError, Fact, Family, Isn, SocketId, SocketInfo, SocketRole, Tuple, parse_endpoint};

pub(super) fn info(socket: &Socket) -> Result<SocketInfo, DecodeError> {
    let family = match socket.family {
        FAMILY_UNIX => Family::Unix,
        FAMILY_INET => Family::Inet,
        FAMILY_INET6 => Family::Inet6,
        other => return Err(DecodeError::Family(other)),
    };
    let local = parse_endpoint(family, socket.local, socket.local_port);
    let remote = parse_endpoint(family, socket.remote, socket.remote_port);
    Ok(SocketInfo {
        id: SocketId::new(socket.cookie, socket.inode),
        family,
        tuple: local.zip(remote).map(|(local, remote)| Tuple::new(local, remote)),
        netns: some(socket.netns),
        role: match socket.role {
            ROLE_ACCEPTED => Some(SocketRole::Accepted),
            ROLE_CONNECTED => Some(SocketRole::Connected),
            ROLE_LISTENING => Some(SocketRole::Listening),
            _ => None,
        },
        isn: isn(socket),
    })
}

/// Both initial sequence numbers, if the BPF program could read them.
pub(crate) fn isn(socket: &Socket) -> Option<Isn> {
    (socket.isn_known == 1).then_some(Isn { own: socket.isn_own, peer: socket.isn_peer })
}

pub(super) fn named(cookie: u64, inode: u64) -> Option<SocketId> {
    let id = SocketId::new(cookie, inode);
    (!id.is_none()).then_some(id)
}

pub(super) fn connected(record: &Connected) -> Result<Fact, DecodeError> {
    Ok(Fact::Connected {
        socket: info(&record.socket)?,
        actor: actor(&record.actor),
        inbound: named(record.inbound_cookie, record.inbound_inode),
    })
}

/// The local address of a connection that is only begun is not chosen yet.
pub(super) fn dialled(record: &Dial, has_failed: bool) -> Result<Fact, DecodeError> {
    let socket = info(&record.socket)?;
    Ok(Fact::Dialled {
        socket: socket.id,
        remote: socket.tuple.map(|tuple| tuple.remote),
        netns: socket.netns,
        actor: actor(&record.actor),
        inbound: named(record.inbound_cookie, record.inbound_inode),
        failed: has_failed.then(|| DialError { errno: some(record.errno) }),
    })
}

pub(super) fn accepted(record: &Accepted) -> Result<Fact, DecodeError> {
    Ok(Fact::Accepted { socket: info(&record.socket)? })
}

pub(super) fn listening(record: &Listening) -> Result<Fact, DecodeError> {
    Ok(Fact::Listening { socket: info(&record.socket)? })
}

pub(super) fn closed(record: &Closed) -> Fact {
    Fact::Closed {
        socket: SocketId::new(record.cookie, record.inode),
        received: Some(record.bytes_received),
        acked: Some(record.bytes_acked),
    }
}

pub(super) fn unix_connected(record: &UnixConnected) -> Fact {
    Fact::UnixConnected {
        socket: SocketId::new(0, record.inode),
        listener: some(record.listener_tgid),
        path: unix_path(record.path.as_bytes()),
        bound: true,
    }
}

pub(super) fn unix_accepted(record: &UnixAccepted) -> Fact {
    Fact::UnixAccepted {
        socket: SocketId::new(0, record.inode),
        peer: SocketId::new(0, record.peer_inode),
        connector: some(record.peer_tgid),
        path: unix_path(record.path.as_bytes()),
        bound: true,
    }
}

/// `sun_path` in common notation: without the closing NUL, and with `@` for the leading NUL of an abstract name.
fn unix_path(bytes: &[u8]) -> crate::model::RawText {
    let mut path = match bytes.split_first() {
        Some((0, name)) => [b"@", name].concat(),
        _ => bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
    };
    while path.len() > 1 && path.last() == Some(&0) {
        path.pop();
    }
    path.into()
}
