//! Pairs of connections inside idle Go relays, found in their memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use execpath::{
    model::{BootTime, Endpoints, Fact},
    source::snapshot::{Options, Snapshot},
};

use crate::{
    go_program::{Go, GoProgram},
    wait::{fill_up, wait_for},
};

/// First minor version of Go with known memory layouts.
const SINCE: u32 = 18;
/// First minor version of Go with a goroutine's creator in memory.
const CREATOR_SINCE: u32 = 21;
/// Time for the relay's goroutines to start and block.
const WITHIN: Duration = crate::trace::DEADLINE;
/// Bytes that the relay reads before it connects, and passes on.
const HELLO: [u8; 8] = *b"hello...";

/// A relay, its backend, and the true pairs of connections.
struct Relay {
    program: GoProgram,
    backend: TcpListener,
    /// Client's and backend's end, by the client's address.
    sessions: BTreeMap<SocketAddr, (TcpStream, TcpStream)>,
    /// Clients that have sent nothing.
    silent: Vec<TcpStream>,
}

/// Pairs reported by a snapshot: for each client's address the backend's connections, true for client to backend, true
/// for a copy.
type Pairs = BTreeMap<SocketAddr, BTreeSet<(SocketAddr, bool, bool)>>;

impl Relay {
    fn start(go: &Go, mode: &str) -> Self {
        Self::run(|backend| GoProgram::start(go, "relay.go", &[mode, backend]))
    }

    fn run(start: impl FnOnce(&str) -> GoProgram) -> Self {
        let backend = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = backend.local_addr().expect("an address").to_string();
        let program = start(&address);
        Self { program, backend, sessions: BTreeMap::new(), silent: Vec::new() }
    }

    fn open(&mut self) -> SocketAddr {
        self.open_with(HELLO)
    }

    fn open_with(&mut self, hello: [u8; HELLO.len()]) -> SocketAddr {
        let mut client = TcpStream::connect(self.program.address).expect("connects");
        client.write_all(&hello).expect("sends");
        let (mut end, _) = self.backend.accept().expect("the relay connects");
        end.read_exact(&mut [0; HELLO.len()]).expect("what the client sent");
        let name = client.local_addr().expect("an address");
        self.sessions.insert(name, (client, end));
        name
    }

    fn add_silent_clients(&mut self) {
        self.silent.extend((0..3).map(|_| TcpStream::connect(self.program.address).expect("connects")));
    }

    /// The backend sends until all buffers are full: the client does not read.
    fn fill_up(&self, session: SocketAddr) {
        let (_, end) = &self.sessions[&session];
        end.set_nonblocking(true).expect("a socket");
        fill_up(end, WITHIN);
    }

    /// Pairs that a snapshot reports.
    fn reported(&self, no_memory: bool) -> Pairs {
        let port = self.program.address.port();
        let endpoints = Endpoints::new(Some(port), None, None);
        let facts = Snapshot::new(Options { endpoints, no_memory, ..Options::default() }).take(BootTime(1));
        let own = || facts.iter().filter(|seen| seen.task.is_some_and(|task| task.tgid == self.program.pid()));
        let tuples: BTreeMap<_, _> = own()
            .filter_map(|seen| {
                if let Fact::SocketSeen { socket } = &seen.fact { Some((socket.id, socket.tuple?)) } else { None }
            })
            .collect();
        let mut reported = Pairs::new();
        for seen in own() {
            let Fact::RelayAwaited { from, to, copied } = seen.fact else { continue };
            let (from, to) = (tuples[&from], tuples[&to]);
            let inwards = from.local.port() == port;
            let (client, backend) = if inwards { (from.remote, to.local) } else { (to.remote, from.local) };
            reported.entry(client).or_default().insert((backend, inwards, copied));
        }
        reported
    }

    /// The pairs that are true.
    fn truth(&self, copied: bool) -> Pairs {
        let truth = |(client, (_, end)): (&SocketAddr, &(TcpStream, TcpStream))| {
            let backend = end.peer_addr().expect("connected");
            (*client, BTreeSet::from([(backend, true, copied), (backend, false, copied)]))
        };
        self.sessions.iter().map(truth).collect()
    }

    /// Takes snapshots until all true pairs are reported. No snapshot may report anything else.
    fn check(&self, copied: bool) {
        let truth = self.truth(copied);
        let mut count = 0;
        let found = wait_for(WITHIN, || {
            let reported = self.reported(false);
            for (client, pairs) in &reported {
                assert!(truth.get(client).is_some_and(|right| pairs.is_subset(right)), "{client}: {pairs:?}");
            }
            count = reported.len();
            (reported == truth).then_some(())
        });
        assert!(found.is_some(), "{count} of {} sessions were reported", truth.len());
    }
}

#[test]
fn snapshot_pairs_connections_of_idle_and_stuck_relays() {
    for go in Go::since(SINCE) {
        for mode in ["copy", "splice"] {
            let mut relay = Relay::start(&go, mode);
            let first: Vec<SocketAddr> = (0..20).map(|_| relay.open()).collect();
            // A copying relay waits for the first bytes and has not connected yet. A splicing relay does not wait.
            if mode == "copy" {
                relay.add_silent_clients();
            }
            relay.check(true);
            // The stacks and descriptors of closed sessions are reused.
            for gone in first.iter().step_by(2) {
                relay.sessions.remove(gone);
            }
            for _ in 0..15 {
                relay.open();
            }
            let some: Vec<SocketAddr> = relay.sessions.keys().copied().step_by(5).collect();
            for session in some {
                relay.fill_up(session);
            }
            relay.check(true);
            assert_eq!(relay.reported(true), Pairs::new(), "the memory is not read");
            eprintln!("{}: {mode}: {} sessions", go.version, relay.sessions.len());
        }
    }
}

#[test]
fn snapshot_pairs_connections_of_translators() {
    for go in Go::since(SINCE) {
        let mut relay = Relay::run(|backend| GoProgram::start(&go, "translator.go", &[backend]));
        let first: Vec<SocketAddr> = (0..20).map(|_| relay.open()).collect();
        relay.check(true);
        // Stacks, descriptors and memory of closed sessions are reused.
        for gone in first.iter().step_by(2) {
            relay.sessions.remove(gone);
        }
        for _ in 0..15 {
            relay.open();
        }
        relay.add_silent_clients();
        relay.check(true);
        eprintln!("{}: {} sessions", go.version, relay.sessions.len());
    }
}

#[test]
fn snapshot_pairs_translators_without_input_one_way() {
    for go in Go::since(SINCE) {
        let mut relay = Relay::run(|backend| GoProgram::start(&go, "translator.go", &[backend]));
        for _ in 0..10 {
            relay.open_with(*b"output..");
        }
        // No goroutine copies the client's input: only the direction from the backend is reported.
        let mut truth = relay.truth(true);
        truth.values_mut().for_each(|pairs| pairs.retain(|(_, inwards, _)| !inwards));
        assert_eq!(
            wait_for(WITHIN, || (relay.reported(false) == truth).then_some(())),
            Some(()),
            "{:?}",
            relay.reported(false)
        );
    }
}

#[test]
fn creators_pair_connections_of_idle_relays() {
    for go in Go::since(CREATOR_SINCE) {
        let mut relay = Relay::start(&go, "translate");
        for _ in 0..20 {
            relay.open();
        }
        relay.add_silent_clients();
        relay.check(false);
        eprintln!("{}: {} sessions", go.version, relay.sessions.len());
    }
    for go in Go::since(SINCE).into_iter().filter(|go| !go.is_since(CREATOR_SINCE)) {
        let mut relay = Relay::start(&go, "translate");
        for _ in 0..5 {
            relay.open();
        }
        assert_eq!(relay.reported(false), Pairs::new(), "creators are unknown");
    }
}
