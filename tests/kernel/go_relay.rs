//! Pairs in a Go relay: its actors are goroutines.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Barrier},
    thread,
};

use execpath::model::{Fact, SocketId, SocketRole, WatchAs};

use crate::{
    go_program::{Go, GoProgram},
    trace::Trace,
};

/// Number of simultaneous connections.
const CONNECTIONS: u32 = 200;

/// Serves one connection: stores the peer's address under the name in the first eight bytes, then echoes all bytes.
fn serve(mut stream: TcpStream, peers: &std::sync::Mutex<BTreeMap<u64, SocketAddr>>) {
    let mut name = [0; 8];
    stream.read_exact(&mut name).expect("a name");
    let from = stream.peer_addr().expect("a peer");
    peers.lock().expect("unpoisoned").insert(u64::from_be_bytes(name), from);
    let mut bytes = vec![0; 4096];
    loop {
        match stream.read(&mut bytes).expect("receives") {
            0 => return,
            have => stream.write_all(&bytes[..have]).expect("sends"),
        }
    }
}

/// Small, repeatable random numbers (xorshift).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// A client: a few exchanges of random size between two barriers.
fn ask(address: SocketAddr, name: u64, barrier: &Barrier) -> SocketAddr {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.write_all(&name.to_be_bytes()).expect("sends");
    barrier.wait();
    let mut state = name + 1;
    for _ in 0..4 {
        let size = usize::try_from(next(&mut state) % 20_000 + 1).expect("small");
        let mut writer = stream.try_clone().expect("a handle");
        let sender = thread::spawn(move || writer.write_all(&vec![3; size]));
        stream.read_exact(&mut vec![0; size]).expect("the echo");
        sender.join().expect("ends").expect("sends");
    }
    barrier.wait();
    stream.local_addr().expect("local")
}

/// Runs all clients through the relay at once. Returns the trace, the relay's pid, and the true pairs of client and
/// backend address.
fn exercise(mode: &str) -> Option<(Trace, u32, BTreeMap<SocketAddr, SocketAddr>)> {
    let backend = TcpListener::bind("127.0.0.1:0").expect("listens");
    let go = Go::since(17).into_iter().next()?;
    let relay = GoProgram::start(&go, "relay.go", &[mode, &backend.local_addr().expect("local").to_string()]);
    let mut trace = Trace::on_ports(&[]);
    trace.watch(relay.pid(), WatchAs::Endpoint);
    let peers = Arc::new(std::sync::Mutex::new(BTreeMap::new()));
    let servers = {
        let peers = Arc::clone(&peers);
        thread::spawn(move || {
            let each = (0..CONNECTIONS).map(|_| {
                let (stream, _) = backend.accept().expect("accepts");
                let peers = Arc::clone(&peers);
                thread::spawn(move || serve(stream, &peers))
            });
            each.collect::<Vec<_>>()
        })
    };
    let barrier = Arc::new(Barrier::new(CONNECTIONS as usize));
    let clients: Vec<_> = (0..u64::from(CONNECTIONS))
        .map(|name| {
            let (barrier, address) = (Arc::clone(&barrier), relay.address);
            thread::spawn(move || (name, ask(address, name, &barrier)))
        })
        .collect();
    let clients: Vec<_> = clients.into_iter().map(|client| client.join().expect("a client ends")).collect();
    for server in servers.join().expect("the backend ends") {
        server.join().expect("a server ends");
    }
    trace.settle();
    let peers = peers.lock().expect("unpoisoned");
    let truth = clients.into_iter().map(|(name, client)| (client, peers[&name])).collect();
    assert_eq!(trace.probes.count(tracer_common::Counter::RingFull), 0, "no record was lost");
    Some((trace, relay.pid(), truth))
}

/// Checks that every reported pair is true, and that each direction is reported once.
fn check(trace: &Trace, pid: u32, truth: &BTreeMap<SocketAddr, SocketAddr>, by_splice: bool) {
    let mut there = BTreeSet::new();
    let mut back = BTreeSet::new();
    for seen in trace.of(pid) {
        let Fact::Relayed { actor, from, to, splice, sightings } = seen.fact else { continue };
        assert!(actor.g.is_some(), "an actor in Go is a goroutine: {seen:?}");
        assert_eq!((splice, sightings), (by_splice, 1), "{seen:?}");
        let (from, to) = (from.tuple.expect("TCP"), to.tuple.expect("TCP"));
        let (set, client, outbound) = if truth.contains_key(&from.remote) {
            (&mut there, from.remote, to.local)
        } else {
            (&mut back, to.remote, from.local)
        };
        assert_eq!(truth.get(&client), Some(&outbound), "a wrong pair: {seen:?}");
        assert!(set.insert(client), "reported twice: {seen:?}");
    }
    let expected: BTreeSet<SocketAddr> = truth.keys().copied().collect();
    assert_eq!((there, back), (expected.clone(), expected), "every connection is paired in both directions");
}

#[test]
fn goroutines_pair_every_connection_of_go_relay() {
    let Some((trace, pid, truth)) = exercise("copy") else { return };
    assert_eq!(truth.len(), CONNECTIONS as usize);
    check(&trace, pid, &truth, false);
    // The dial rule finds the same inbound connection.
    let mut accepted: BTreeMap<SocketId, SocketAddr> = BTreeMap::new();
    let mut dials = 0;
    for seen in trace.of(pid) {
        match &seen.fact {
            Fact::Accepted { socket } => {
                assert_eq!(socket.role, Some(SocketRole::Accepted));
                accepted.insert(socket.id, socket.tuple.expect("TCP").remote);
            }
            Fact::Connected { socket, actor, inbound } => {
                assert!(actor.g.is_some(), "{seen:?}");
                let client = accepted.get(&inbound.expect("the goroutine had received")).expect("accepted before");
                assert_eq!(truth.get(client), Some(&socket.tuple.expect("TCP").local), "{seen:?}");
                dials += 1;
            }
            _ => {}
        }
    }
    assert_eq!((accepted.len(), dials), (CONNECTIONS as usize, CONNECTIONS));
}

#[test]
fn goroutines_pair_connections_of_splicing_go_relay() {
    let Some((trace, pid, truth)) = exercise("splice") else { return };
    check(&trace, pid, &truth, true);
}
