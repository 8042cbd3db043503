//! Tables of sockets, as sock_diag(7) lists them, in every network namespace that can be entered.
//!
//! sock_diag answers for the namespace in which its netlink socket was made. A separate thread walks through the namespaces and ends
//! afterwards, so the caller's thread never leaves its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    thread,
};

use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, SockDiagMessage,
    inet::{self, ExtensionFlags, InetRequest},
    unix::{self, ShowFlags},
};
use rustix::io::Errno;

use super::{
    namespaces::{MAX_NAMESPACES, Namespaces, NotPermitted, open_diag},
    netlink::{Diag, connected, exactly, tcp_request, unix_request},
    procfs,
    scan_error::ScanError,
    sockets::{Answer, Measured, Sockets},
};
use crate::model::{SocketId, TcpState, Tuple};

/// Sockets to measure in one namespace.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    pub(super) tcp: Vec<(SocketId, Tuple)>,
    pub(super) unix: Vec<SocketId>,
}

/// Address families to ask about, with the meaning of ENOENT for each.
const FAMILIES: [(u8, Absent); 2] = [(AF_INET, Absent::Error(ScanError::NoTcp)), (AF_INET6, Absent::Fine)];

/// Lists every listener and connection in these namespaces.
pub(super) fn dump(namespaces: &Namespaces) -> Sockets {
    visit(namespaces, |netns, diag, found| {
        // A process whose dial gets no answer is on the path, too.
        let states = inet::StateFlags::LISTEN | inet::StateFlags::SYN_SENT | connected();
        for (family, absent) in FAMILIES {
            note(found, absent, |found| {
                diag.ask(SockDiagMessage::InetRequest(tcp_request(family, states.clone())), true, netns, found)
            });
        }
        list_unix(diag, unix::StateFlags::LISTEN | unix::StateFlags::ESTABLISHED, netns, found);
    })
}

/// Lists the unix listeners in these namespaces.
pub(super) fn unix_listeners(namespaces: &Namespaces) -> Sockets {
    visit(namespaces, |netns, diag, found| list_unix(diag, unix::StateFlags::LISTEN, netns, found))
}

/// Lists unix sockets in these states.
fn list_unix(diag: &mut Diag, state_flags: unix::StateFlags, netns: u32, found: &mut Sockets) {
    let request = unix_request(state_flags, 0, ShowFlags::NAME | ShowFlags::PEER | ShowFlags::VFS);
    note(found, Absent::Error(ScanError::NoUnix), |found| {
        diag.ask(SockDiagMessage::UnixRequest(request), true, netns, found)
    });
}

/// Finds the connections with exactly these addresses: at most one for each tuple and namespace.
pub(super) fn find(namespaces: &Namespaces, tuples: &BTreeSet<Tuple>) -> Sockets {
    let mut sockets = visit(namespaces, |netns, diag, found| {
        for tuple in tuples {
            // A look-up reads one hash bucket, however many connections there are; a dump reads all.
            let request = SockDiagMessage::InetRequest(exactly(*tuple, connected()));
            note(found, Absent::Fine, |found| diag.ask(request, false, netns, found));
        }
    });
    // If there is no such connection, the kernel answers with a listener that would accept it.
    sockets.tcp.retain(|_, socket| tuples.contains(&socket.tuple) && !socket.listening);
    sockets
}

/// Lists every TCP socket in a table, whatever its state.
pub(super) fn everything(namespaces: &Namespaces) -> Sockets {
    visit(namespaces, |netns, diag, found| {
        for (family, absent) in FAMILIES {
            let request = tcp_request(family, inet::StateFlags::all());
            note(found, absent, |found| diag.ask(SockDiagMessage::InetRequest(request), true, netns, found));
        }
    })
}

/// Measures these sockets: `None` for a socket that is gone. A socket that could not be looked up is left out. Each look-up reads one
/// hash bucket, however many sockets the host has.
pub(super) fn measure(namespaces: &Namespaces, wanted: &BTreeMap<u32, Wanted>) -> Sockets {
    let namespaces = namespaces.iter().filter(|(netns, _)| wanted.contains_key(netns));
    let namespaces = namespaces.map(|(netns, entry_paths)| (*netns, entry_paths.clone())).collect();
    visit(&namespaces, |netns, diag, found| {
        let Some(wanted) = wanted.get(&netns) else { return };
        for (id, tuple) in &wanted.tcp {
            let request = InetRequest { extensions: ExtensionFlags::INFO, ..exactly(*tuple, inet::StateFlags::all()) };
            one(found, *id, Some(*tuple), |found| diag.ask(SockDiagMessage::InetRequest(request), false, netns, found));
        }
        for id in &wanted.unix {
            let Some(inode) = id.inode.and_then(|inode| u32::try_from(inode).ok()) else { continue };
            let request = unix_request(unix::StateFlags::all(), inode, ShowFlags::RQLEN);
            one(found, *id, None, |found| diag.ask(SockDiagMessage::UnixRequest(request), false, netns, found));
        }
    })
}

/// States of the other ends of these connections, even if no process has them; `None` for an end that no table lists. Empty if a
/// namespace could not be searched, because the end may be there.
pub(super) fn others(
    namespaces: &Namespaces,
    ends: &BTreeMap<SocketId, (Tuple, Option<u32>)>,
) -> BTreeMap<SocketId, Option<TcpState>> {
    let found = visit(namespaces, |netns, diag, found| {
        for (id, (tuple, own)) in ends {
            // On loopback a connection of another namespace may have equal addresses.
            if tuple.is_loopback() && *own != Some(netns) {
                continue;
            }
            let other = tuple.mirrored();
            let request = SockDiagMessage::InetRequest(exactly(other, inet::StateFlags::all()));
            let near = SocketId { cookie: None, ..*id };
            one(found, near, Some(other), |found| diag.ask(request, false, netns, found));
        }
    });
    if !found.errors.is_empty() {
        return BTreeMap::new();
    }
    let mut states: BTreeMap<SocketId, Option<TcpState>> = BTreeMap::new();
    for (id, measured) in found.measured {
        let state = if let Some(Measured::Tcp(measure)) = measured { Some(measure.state) } else { None };
        let known = states.entry(id).or_default();
        *known = known.or(state);
    }
    states
}

/// Looks up one socket, and keeps the answer if it is about this socket.
fn one(found: &mut Sockets, id: SocketId, tuple: Option<Tuple>, ask: impl FnOnce(&mut Sockets) -> io::Result<()>) {
    found.answer = None;
    match ask(found) {
        Ok(()) => {
            // If there is no such connection, the kernel answers with a listener that would accept it.
            let is_it =
                |answer: &Answer| answer.tuple == tuple && (id.cookie.is_none() || id.cookie == answer.id.cookie);
            found.measured.push((id, found.answer.filter(is_it).map(|answer| answer.measured)));
        }
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => found.measured.push((id, None)),
        Err(_no_answer) => {}
    }
}

/// Lists the TCP listeners in these namespaces.
pub(super) fn listeners(namespaces: &Namespaces) -> Sockets {
    visit(namespaces, |netns, diag, found| {
        for (family, absent) in FAMILIES {
            let request = tcp_request(family, inet::StateFlags::LISTEN);
            note(found, absent, |found| diag.ask(SockDiagMessage::InetRequest(request), true, netns, found));
        }
    })
}

/// Meaning of ENOENT.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// No such socket, or no IPv6 in this kernel.
    Fine,
    /// The kernel lacks the module that answers.
    Error(ScanError),
}

/// Asks a question, and notes an error.
fn note(found: &mut Sockets, absent: Absent, ask: impl FnOnce(&mut Sockets) -> io::Result<()>) {
    let error = match (ask(found), absent) {
        _ if found.is_full() => Some(ScanError::TooMany),
        (Ok(()), _) => None,
        (Err(_), Absent::Error(error)) => Some(error),
        (Err(error), Absent::Fine) => {
            (error.raw_os_error() != Some(Errno::NOENT.raw_os_error())).then_some(ScanError::NoTcp)
        }
    };
    found.errors.extend(error);
}

/// Enters each namespace in turn on a separate thread, and asks questions there.
fn visit(namespaces: &Namespaces, mut ask: impl FnMut(u32, &mut Diag, &mut Sockets) + Send) -> Sockets {
    let walk = || {
        let mut found = Sockets::default();
        if namespaces.len() > MAX_NAMESPACES {
            found.errors.insert(ScanError::TooMany);
        }
        // The thread's own namespace needs no privilege. It goes first, because the thread cannot return to it.
        let own = procfs::namespace_of(Path::new("/proc/thread-self/ns/net"));
        let first = namespaces.get_key_value(&own.unwrap_or_default());
        let rest = namespaces.iter().filter(|(netns, _)| Some(**netns) != own);
        for (netns, paths) in first.into_iter().chain(rest).take(MAX_NAMESPACES) {
            if found.is_full() {
                break;
            }
            match if Some(*netns) == own { Ok(Some(Diag::open())) } else { open_diag(*netns, paths) } {
                Ok(Some(Ok(mut diag))) => ask(*netns, &mut diag, &mut found),
                Ok(Some(Err(_no_netlink))) => {
                    found.errors.insert(ScanError::NoTcp);
                }
                Ok(None) => {} // The namespace is gone.
                Err(NotPermitted) => {
                    found.errors.insert(ScanError::NotPermitted);
                }
            }
        }
        found
    };
    let nothing = || Sockets { errors: BTreeSet::from([ScanError::NoTcp, ScanError::NoUnix]), ..Sockets::default() };
    thread::scope(|scope| match thread::Builder::new().name("sock-diag".to_owned()).spawn_scoped(scope, walk) {
        Ok(worker) => worker.join().unwrap_or_else(|_panic| nothing()),
        Err(_no_thread) => nothing(),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        net::{SocketAddr, TcpListener, TcpStream},
        os::unix::{
            ffi::OsStrExt,
            net::{UnixListener, UnixStream},
        },
        path::PathBuf,
    };

    use rustix::net::sockopt;

    use super::*;
    use crate::model::{Family, RawText};

    fn here() -> Namespaces {
        let path = PathBuf::from("/proc/self/ns/net");
        Namespaces::from([(procfs::namespace_of(&path).unwrap(), vec![path])])
    }

    #[test]
    fn dump_and_find_list_both_ends_of_a_connection() {
        let listener = TcpListener::bind("[::1]:0").or_else(|_no_ipv6| TcpListener::bind("127.0.0.1:0")).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let found = dump(&here());
        assert_eq!(found.errors, BTreeSet::new());
        let inode = |fd: &dyn std::os::fd::AsFd| rustix::fs::fstat(fd.as_fd()).unwrap().st_ino;
        assert!(found.tcp[&inode(&listener)].listening);
        let (near, far) = (found.tcp[&inode(&client)], found.tcp[&inode(&server)]);
        assert_eq!(near.tuple, Tuple::new(client.local_addr().unwrap(), client.peer_addr().unwrap()));
        assert_eq!(near.tuple, far.tuple.mirrored());
        assert_eq!(near.id.cookie, Some(sockopt::socket_cookie(&client).unwrap()));
        assert_eq!(find(&here(), &[far.tuple].into()).tcp.into_values().collect::<Vec<_>>(), [far]);
        let stranger = Tuple { remote: "192.0.2.1:9".parse().unwrap(), ..far.tuple };
        assert!(find(&here(), &[stranger].into()).tcp.is_empty());
        // The kernel would answer with the listener.
        let unborn = Tuple { remote: SocketAddr::new(far.tuple.remote.ip(), 9), ..far.tuple };
        assert!(find(&here(), &[unborn].into()).tcp.is_empty());
        assert!(listeners(&here()).tcp.values().all(|socket| socket.listening));
    }

    #[test]
    fn other_end_is_reported_or_absent() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // The connection is not accepted yet: no process has the other end.
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let own = here().into_keys().next();
        let tuple = Tuple::new(client.local_addr().unwrap(), client.peer_addr().unwrap());
        let id = SocketId::new(0, rustix::fs::fstat(&client).unwrap().st_ino);
        let unborn = Tuple { local: SocketAddr::new(tuple.local.ip(), 9), ..tuple };
        let ends = BTreeMap::from([(id, (tuple, own)), (SocketId::new(0, 1), (unborn, own))]);
        let found = others(&here(), &ends);
        let states: Vec<_> = found.into_values().collect();
        assert_eq!(states.len(), 2);
        assert!(states.contains(&Some(TcpState::Established)) && states.contains(&None), "{states:?}");
        let elsewhere = BTreeMap::from([(id, (tuple, None))]);
        assert!(others(&here(), &elsewhere).is_empty(), "loopback of an unknown namespace");
    }

    #[test]
    fn v4_mapped_connection_is_found_by_its_v4_tuple() {
        let Ok(listener) = TcpListener::bind("[::]:0") else { return eprintln!("skipped: no IPv6") };
        let client = TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
        let _server = listener.accept().unwrap();
        let tuple = Tuple::new(client.peer_addr().unwrap(), client.local_addr().unwrap());
        let found: Vec<_> = find(&here(), &[tuple].into()).tcp.into_values().collect();
        assert_eq!((found.len(), found[0].family), (1, Family::Inet6));
    }

    #[test]
    fn unix_ends_name_each_other_and_the_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let found = dump(&here()).unix;
        let inode = |fd: &dyn std::os::fd::AsFd| rustix::fs::fstat(fd.as_fd()).unwrap().st_ino;
        let (near, far) = (&found[&inode(&client)], &found[&inode(&server)]);
        assert!(found[&inode(&listener)].listening);
        assert_eq!(far.path, Some(RawText::from(path.as_os_str().as_bytes())));
        assert_eq!((near.peer, far.peer, near.path.clone()), (Some(inode(&server)), Some(inode(&client)), None));
    }

    #[test]
    fn scan_skips_namespaces_that_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let plain = dir.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let inode = procfs::namespace_of(&plain).unwrap_or(1);
        let odd = Namespaces::from([(1, vec![PathBuf::from("/nonexistent")]), (inode, vec![plain])]);
        let found = dump(&odd);
        assert!(found.tcp.is_empty() && found.unix.is_empty());
        assert_eq!(found.errors, BTreeSet::new());
    }
}
