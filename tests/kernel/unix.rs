//! Unix stream sockets.

use std::{
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    process::Command,
};

use execpath::model::{Fact, Observation, SocketId, WatchAs};

use crate::{
    helper_process::HelperProcess,
    trace::{Trace, names},
};

/// An accept or connect: own inode, the peer's inode, the peer's pid, path.
type UnixEnd = (Option<u64>, Option<u64>, Option<u32>, String);

fn accepted(seen: &Observation) -> Option<UnixEnd> {
    match &seen.fact {
        Fact::UnixAccepted { socket, peer, connector, path, bound: true } if !path.to_text().contains("marker") => {
            Some((socket.inode, peer.inode, *connector, path.to_text().into_owned()))
        }
        _ => None,
    }
}

fn connected(seen: &Observation) -> Option<UnixEnd> {
    match &seen.fact {
        Fact::UnixConnected { socket, listener, path, bound: true } if !path.to_text().contains("marker") => {
            Some((socket.inode, None, *listener, path.to_text().into_owned()))
        }
        _ => None,
    }
}

fn inode(words: &[String]) -> Option<u64> {
    words[1].parse().ok()
}

/// Inode of the peer, from sock_diag.
fn peer_of(inode: u64) -> Option<u64> {
    let output = Command::new("ss").args(["-x", "-H", "-a"]).output().expect("ss (iproute2)");
    String::from_utf8_lossy(&output.stdout).lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [.., _, own, _, peer] = words[..] else { return None };
        (own.parse() == Ok(inode)).then(|| peer.parse().ok())?
    })
}

#[test]
fn unix_ends_name_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("runtime.sock").to_string_lossy().into_owned();
    let mut trace = Trace::on_ports(&[]);
    let (mut client, mut server) = (HelperProcess::start(), HelperProcess::start());
    server.request(&format!("unix-listen l {path}"));
    trace.watch(client.pid(), WatchAs::Endpoint);
    trace.watch(server.pid(), WatchAs::Daemon);
    let near = inode(&client.request(&format!("unix-connect a {path}")));
    let far = inode(&server.request("unix-accept b l"));
    let seen = trace.wait("the connect", connected);
    assert_eq!(seen, (near, None, Some(server.pid()), path.clone()));
    let seen = trace.wait("the accept", accepted);
    assert_eq!(seen, (far, near, Some(client.pid()), path));
    assert_eq!(near.and_then(peer_of), far, "sock_diag reports the same peer");
}

#[test]
fn longest_abstract_name_fits() {
    let mut trace = Trace::on_ports(&[]);
    trace.watch(std::process::id(), WatchAs::Endpoint);
    for name in [format!("execpath-test-{}", std::process::id()), "n".repeat(107)] {
        trace.seen.clear();
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let listener = UnixListener::bind_addr(&address).expect("listens");
        let near = UnixStream::connect_addr(&address).expect("connects");
        let (far, _) = listener.accept().expect("accepts");
        let (near, far): (SocketId, SocketId) = (names(&near), names(&far));
        let pid = Some(std::process::id());
        assert_eq!(trace.wait("the connect", connected), (near.inode, None, pid, format!("@{name}")));
        assert_eq!(trace.wait("the accept", accepted), (far.inode, near.inode, pid, format!("@{name}")));
    }
}

#[test]
fn longest_unix_path_fits() {
    let folder = tempfile::tempdir().expect("a folder");
    let prefix = format!("{}/", folder.path().display());
    let path = format!("{prefix}{}", "p".repeat(107 - prefix.len()));
    let mut trace = Trace::on_ports(&[]);
    trace.watch(std::process::id(), WatchAs::Endpoint);
    let _listener = UnixListener::bind(&path).expect("listens");
    let _near = UnixStream::connect(&path).expect("connects");
    assert_eq!(trace.wait("the connect", connected).3, path);
}

#[test]
fn failed_unix_connect_reports_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut trace = Trace::on_ports(&[]);
    trace.watch(std::process::id(), WatchAs::Endpoint);
    UnixStream::connect(folder.path().join("nobody")).expect_err("nobody listens");
    trace.settle();
    assert_eq!(trace.facts(), Vec::<&Observation>::new());
}
