//! Creators of goroutines pair the connections of a Go proxy without a goroutine that copies between them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use execpath::model::{Fact, SocketRole, Tuple, WatchAs};

use crate::{
    go_program::{Go, GoProgram},
    trace::Trace,
};

/// Number of simultaneous sessions.
const SESSIONS: usize = 12;

/// Accepts a connection and echoes its bytes. Returns the peer's address.
fn echo(backend: &TcpListener) -> SocketAddr {
    let (mut stream, from) = backend.accept().expect("accepts");
    thread::spawn(move || {
        let mut bytes = [0; 64];
        while let Ok(have @ 1..) = stream.read(&mut bytes) {
            stream.write_all(&bytes[..have]).expect("sends");
        }
    });
    from
}

/// A session through the proxy.
struct Session {
    client: TcpStream,
    /// The proxy's two ends of the session.
    ends: BTreeSet<Tuple>,
    /// Id of the goroutine that serves the session, as printed by the proxy.
    served_by: u64,
}

impl Session {
    fn open(proxy: &mut GoProgram, backend: &TcpListener) -> Self {
        let mut client = TcpStream::connect(proxy.address).expect("connects");
        client.write_all(b"sessions").expect("sends");
        let from = echo(backend);
        client.read_exact(&mut [0; 8]).expect("the echo arrives");
        let near = client.local_addr().expect("local");
        let words = proxy.words();
        assert_eq!(words[0], near.to_string());
        let ends = [Tuple::new(proxy.address, near), Tuple::new(from, backend.local_addr().expect("local"))];
        Self { client, ends: ends.into(), served_by: words[1].parse().expect("a goroutine") }
    }

    fn beat(&mut self) {
        self.client.write_all(b"x").expect("sends");
        self.client.read_exact(&mut [0]).expect("the echo");
    }
}

/// Ends by creator. At each end, two goroutines of a creator are reported, each once.
fn touched(trace: &mut Trace, pid: u32) -> BTreeMap<u64, BTreeSet<Tuple>> {
    trace.settle();
    let mut by_creator: BTreeMap<u64, BTreeSet<Tuple>> = BTreeMap::new();
    let mut goroutines: BTreeMap<(u64, Tuple), BTreeSet<Option<u64>>> = BTreeMap::new();
    for seen in trace.of(pid) {
        match seen.fact {
            Fact::Touched { actor, socket } => {
                assert!(actor.g.is_some() && actor.goid.is_some(), "{seen:?}");
                assert_eq!(socket.role, None, "older than the tracer: {seen:?}");
                let creator = actor.parent_goid.expect("a creator");
                assert_ne!(actor.goid, Some(creator), "{seen:?}");
                let end = socket.tuple.expect("TCP");
                by_creator.entry(creator).or_default().insert(end);
                let reported = goroutines.entry((creator, end)).or_default();
                assert!(reported.insert(actor.goid), "reported twice: {seen:?}");
                assert!(reported.len() <= 2, "{seen:?}");
            }
            Fact::Relayed { .. } => panic!("no goroutine copied: {seen:?}"),
            _ => {}
        }
    }
    by_creator
}

#[test]
fn creators_pair_connections_older_than_tracer() {
    for go in Go::since(21) {
        let backend = TcpListener::bind("127.0.0.1:0").expect("listens");
        let to = backend.local_addr().expect("local").to_string();
        let mut proxy = GoProgram::start(&go, "relay.go", &["translate", &to]);
        let mut sessions: Vec<Session> = (0..SESSIONS).map(|_| Session::open(&mut proxy, &backend)).collect();
        let mut trace = Trace::on_ports(&[]);
        trace.watch(proxy.pid(), WatchAs::Endpoint);
        sessions.iter_mut().for_each(Session::beat);
        assert_eq!(touched(&mut trace, proxy.pid()), BTreeMap::new(), "the version of Go is not known yet");
        trace.probes.set_program(proxy.pid(), &go.program()).expect("the map can be written");
        assert_eq!(touched(&mut trace, proxy.pid()), BTreeMap::new(), "nothing flowed");
        let truth: BTreeMap<u64, BTreeSet<Tuple>> =
            sessions.iter().map(|session| (session.served_by, session.ends.clone())).collect();
        assert_eq!(truth.len(), SESSIONS);
        for _ in 0..2 {
            sessions.iter_mut().for_each(Session::beat);
            assert_eq!(touched(&mut trace, proxy.pid()), truth, "{}", go.version);
        }
    }
}

#[test]
fn old_go_programs_report_no_creators() {
    let Some(go) = Go::since(17).into_iter().next() else { return };
    let backend = TcpListener::bind("127.0.0.1:0").expect("listens");
    let to = backend.local_addr().expect("local").to_string();
    let mut proxy = GoProgram::start(&go, "relay.go", &["translate", &to]);
    let mut trace = Trace::on_ports(&[]);
    trace.watch(proxy.pid(), WatchAs::Endpoint);
    // Any version without creators serves: Go 1.20 keeps none.
    let program = execpath::model::Program::Go("go1.20.14".to_owned());
    trace.probes.set_program(proxy.pid(), &program).expect("the map can be written");
    let mut session = Session::open(&mut proxy, &backend);
    session.beat();
    trace.settle();
    let reported = trace.of(proxy.pid()).iter().any(|seen| matches!(seen.fact, Fact::Touched { .. }));
    assert!(!reported, "{:#?}", trace.seen);
    let accepted = trace
        .of(proxy.pid())
        .into_iter()
        .any(|seen| matches!(seen.fact, Fact::Accepted { socket } if socket.role == Some(SocketRole::Accepted)));
    assert!(accepted, "the accept is reported");
}
