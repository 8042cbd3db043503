//! Every road sees sends and receives exactly: a Go relay with many connections, by each pair of system calls and in each
//! family. The relay itself prints which of its sockets belong together.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    sync::{Arc, Barrier},
    thread,
};

use execpath::{
    model::{Fact, WatchAs},
    plan::{ROADS, Road},
    source::ebpf::loader::{LoadError, Options},
};

use crate::{
    go_program::{Go, GoProgram},
    trace::{Trace, own_namespace},
};

/// Number of simultaneous connections.
const CONNECTIONS: usize = 60;
/// Exchanges of each connection.
const EXCHANGES: usize = 4;
/// Pairs of system calls by which the relay moves bytes, without splice(2).
const CALLS: [&str; 5] = ["read", "readv", "recv", "recvmsg", "peek"];
const FAMILIES: [&str; 3] = ["tcp4", "tcp6", "unix"];

/// A stream of any family.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// The server behind the relay: each connection is echoed by a thread.
struct Backend {
    address: String,
    _folder: tempfile::TempDir,
}

impl Backend {
    /// `None` if this machine lacks the family.
    fn start(network: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let (address, mut accept): (String, Box<dyn FnMut() -> Box<dyn Stream> + Send>) = if network == "unix" {
            let path = folder.path().join("backend");
            let listener = UnixListener::bind(&path).expect("listens");
            let address = path.to_string_lossy().into_owned();
            (address, Box::new(move || Box::new(listener.accept().expect("accepts").0)))
        } else {
            let on = if network == "tcp6" { "[::1]:0" } else { "127.0.0.1:0" };
            let listener = match TcpListener::bind(on) {
                Ok(listener) => listener,
                Err(error) => {
                    eprintln!("skipped: {network}: {error}");
                    return None;
                }
            };
            let address = listener.local_addr().expect("local").to_string();
            (address, Box::new(move || Box::new(listener.accept().expect("accepts").0)))
        };
        thread::spawn(move || {
            for _ in 0..CONNECTIONS {
                let stream = accept();
                thread::spawn(move || echo(stream));
            }
        });
        Some(Self { address, _folder: folder })
    }
}

fn echo(mut stream: Box<dyn Stream>) {
    let mut bytes = [0; 4096];
    while let Ok(have @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..have]).is_err() {
            return;
        }
    }
}

/// Sends and receives, all connections at the same time.
fn exchange(mut stream: Box<dyn Stream>, barrier: &Barrier) {
    let mut back = [0; 100];
    for turn in 0..EXCHANGES {
        stream.write_all(&[3; 100]).expect("sends");
        stream.read_exact(&mut back).expect("the echo");
        if turn == 0 {
            barrier.wait();
        }
    }
    barrier.wait();
}

fn options(road: Road) -> Options {
    Options { netns: Some(own_namespace("net")), road: Some(road), ..Options::default() }
}

/// True if the kernel refuses this road. execpath must then choose another one by itself.
fn is_refused(road: Road) -> bool {
    let error = match Trace::try_with(&options(road)) {
        Ok(_) => return false,
        Err(error @ LoadError::Road(..)) => error.to_string(),
        Err(error) => panic!("{error}"),
    };
    let chosen = Trace::try_with(&Options { road: None, ..options(road) }).expect("attaches").probes.road;
    assert!(chosen.is_some_and(|chosen| chosen != road), "{error}: {chosen:?}");
    eprintln!("refused: {}", error.lines().next().unwrap_or_default());
    true
}

/// Runs all connections through a relay, and compares the reported pairs with the relay's own.
fn check(road: Road, go: &Go, how: &str, network: &str) {
    let mut trace = Trace::try_with(&options(road)).expect("attaches");
    let Some(backend) = Backend::start(network) else { return };
    let mut relay = GoProgram::start(go, "roads.go", &[how, network, &backend.address]);
    trace.watch(relay.pid(), WatchAs::Endpoint);
    let is_unix = network == "unix";
    let address = if is_unix { format!("{}.relay", backend.address) } else { relay.address.to_string() };
    let barrier = Arc::new(Barrier::new(CONNECTIONS));
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (barrier, address) = (Arc::clone(&barrier), address.clone());
            thread::spawn(move || {
                let stream: Box<dyn Stream> = if is_unix {
                    Box::new(UnixStream::connect(Path::new(&address)).expect("connects"))
                } else {
                    Box::new(TcpStream::connect(address.as_str()).expect("connects"))
                };
                exchange(stream, &barrier);
            })
        })
        .collect();
    for client in clients {
        client.join().expect("a client ends");
    }
    trace.settle();
    assert_eq!(trace.probes.count(tracer_common::Counter::RingFull), 0, "no record was lost");
    let what = format!("{} {how} {network}", road.token());
    let mut truth = BTreeSet::new();
    for _ in 0..CONNECTIONS {
        let words = relay.words();
        let inode = |at: usize| words[at].parse::<u64>().expect("a number");
        truth.extend([(inode(0), inode(1)), (inode(1), inode(0))]);
    }
    let mut reported: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for seen in trace.of(relay.pid()) {
        let Fact::Relayed { actor, from, to, splice, .. } = &seen.fact else { continue };
        assert!(actor.g.is_some(), "{what}: an actor in Go is a goroutine: {seen:?}");
        assert_eq!(*splice, how == "splice", "{what}: {seen:?}");
        let pair = (from.id.inode.expect("an inode"), to.id.inode.expect("an inode"));
        assert!(truth.contains(&pair), "{what}: a wrong pair: {seen:?}");
        *reported.entry(pair).or_default() += 1;
    }
    let missing: Vec<_> = truth.iter().filter(|pair| !reported.contains_key(*pair)).collect();
    assert!(missing.is_empty(), "{what}: {} of {} pairs are missing", missing.len(), truth.len());
    assert!(reported.values().all(|count| *count == 1), "{what}: a pair is reported once: {reported:?}");
    eprintln!("{what}: {} pairs, 0 wrong", reported.len());
}

fn check_calls(road: Road) {
    let Some(go) = Go::since(17).into_iter().next() else { return };
    if is_refused(road) {
        return;
    }
    for network in FAMILIES {
        for how in CALLS {
            check(road, &go, how, network);
        }
    }
}

#[test]
fn length_road_pairs_every_call_and_family() {
    check_calls(Road::Length);
}

#[test]
fn fexit_road_pairs_every_call_and_family() {
    check_calls(Road::Fexit);
}

#[test]
fn syscalls_road_pairs_every_call_and_family() {
    check_calls(Road::Syscalls);
}

#[test]
fn every_road_pairs_splicing_relay() {
    let Some(go) = Go::since(17).into_iter().next() else { return };
    for spec in ROADS {
        if is_refused(spec.road) {
            continue;
        }
        for network in ["tcp4", "tcp6"] {
            check(spec.road, &go, "splice", network);
        }
    }
}
