//! Full maps: refused entries are counted.

use std::{
    net::{TcpListener, TcpStream},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

use execpath::{
    model::{Fact, WatchAs},
    source::ebpf::loader::Options,
};
use tracer_common::Counter;

use crate::{
    helper_process::HelperProcess,
    trace::{Trace, names, own_namespace},
};

/// An unprivileged uid.
const NOBODY: u32 = 65_534;

fn small(ports: Vec<u16>, capacities: Vec<(&'static str, u32)>) -> Trace {
    Trace::with(&Options { netns: Some(own_namespace("net")), ports, capacities, ..Options::default() })
}

#[test]
fn full_socket_map_counts_refusals_and_close_frees_entry() {
    const PLACES: u8 = 16;
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let address = listener.local_addr().expect("an address");
    let mut trace = small(Vec::new(), vec![("TRACKED", u32::from(PLACES))]);
    trace.watch(std::process::id(), WatchAs::Endpoint);
    let connect = || TcpStream::connect(address).expect("connects");
    let ends: Vec<TcpStream> = (0..3 * PLACES).map(|_| connect()).collect();
    let refused = trace.probes.count(Counter::TrackedFull);
    assert_eq!(refused, 2 * u64::from(PLACES), "one end of each connection is tracked, and every refusal counts");
    let cookies: Vec<_> = ends.iter().take(usize::from(PLACES)).map(|end| names(end).cookie).collect();
    drop(ends);
    drop(listener);
    trace.settle();
    let closed = trace.facts().into_iter().filter_map(|seen| match seen.fact {
        Fact::Closed { socket, .. } => Some(socket.cookie),
        _ => None,
    });
    let closed: Vec<_> = closed.collect();
    assert!(cookies.iter().all(|cookie| closed.contains(cookie)), "tracked ends are reported: {closed:?}");
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let _end = TcpStream::connect(listener.local_addr().expect("an address")).expect("connects");
    assert_eq!(trace.probes.count(Counter::TrackedFull), refused, "closed sockets freed their entries");
}

#[test]
fn full_receiver_map_counts_refusals() {
    let mut trace = small(Vec::new(), vec![("LAST", 4)]);
    trace.watch(std::process::id(), WatchAs::Endpoint);
    let threads: Vec<_> = (0..12)
        .map(|_| {
            std::thread::spawn(|| {
                let (near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
                std::io::Write::write_all(&mut &near, b"x").expect("sends");
                std::io::Read::read_exact(&mut &far, &mut [0]).expect("receives");
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("ends");
    }
    assert!(trace.probes.count(Counter::LastFull) >= 8, "{}", trace.probes.count(Counter::LastFull));
    trace.probes.unwatch(std::process::id());
    trace.probes.sweep();
    let before = trace.probes.count(Counter::LastFull);
    let mut helper = HelperProcess::start();
    trace.watch(helper.pid(), WatchAs::Endpoint);
    let listening = helper.request("listen l 127.0.0.1:0");
    let mut near = TcpStream::connect(&listening[2]).expect("connects");
    helper.request("accept a l");
    std::io::Write::write_all(&mut near, b"x").expect("sends");
    helper.request("recv a 1");
    assert_eq!(trace.probes.count(Counter::LastFull), before, "entries of unwatched processes are swept");
}

/// A process of a given user that connects and waits for EOF on stdin.
struct Client(Child);

impl Client {
    fn start(uid: u32, port: u16) -> Self {
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; echo; read _");
        let mut command = Command::new("bash");
        command.args(["-c", &script]).uid(uid).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("bash starts");
        let stdout = child.stdout.as_mut().expect("stdout");
        std::io::Read::read_exact(stdout, &mut [0]).expect("the client is connected");
        Self(child)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // The client may have exited already.
        let _status = self.0.wait();
    }
}

#[test]
fn quota_limits_watched_processes_of_one_user() {
    const PLACES: u32 = 64;
    const QUOTA: usize = 8;
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let port = listener.local_addr().expect("an address").port();
    let trace = small(vec![port], vec![("WATCHED", PLACES)]);
    let clients: Vec<Client> = (0..QUOTA + 3).map(|_| Client::start(NOBODY, port)).collect();
    let watched = clients.iter().filter(|client| trace.probes.watched_as(client.0.id()).is_some()).count();
    assert_eq!(watched, QUOTA, "the quota of one user");
    assert_eq!(trace.probes.count(Counter::WatchFull), 3, "every refusal is counted");
    let root = Client::start(0, port);
    assert_eq!(trace.probes.watched_as(root.0.id()), Some(WatchAs::Endpoint), "other users have room");
    drop(clients);
    let again = Client::start(NOBODY, port);
    assert_eq!(trace.probes.watched_as(again.0.id()), Some(WatchAs::Endpoint), "an exit frees the entry");
}
