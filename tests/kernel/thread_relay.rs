//! Pairs in a relay: its actors are threads.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use execpath::model::{Fact, Observation, SocketId, SocketRole, WatchAs};

use crate::{helper_process::HelperProcess, trace::Trace};

/// A relay with an accepted connection `a` and an outgoing connection `b`. This process has the other ends.
struct RelayFixture {
    trace: Trace,
    relay: HelperProcess,
    a: SocketId,
    b: SocketId,
    a_far: TcpStream,
    b_far: TcpStream,
}

fn id(words: &[String]) -> SocketId {
    let number = |word: &String| word.parse().expect("a number");
    SocketId::new(number(&words[0]), number(&words[1]))
}

impl RelayFixture {
    fn new() -> Self {
        let backend = TcpListener::bind("127.0.0.1:0").expect("listens");
        let trace = Trace::on_ports(&[]);
        let mut relay = HelperProcess::start();
        let mut fixture = {
            let listening = relay.request("listen l 127.0.0.1:0");
            let mut trace = trace;
            trace.watch(relay.pid(), WatchAs::Endpoint);
            let a_far = TcpStream::connect(&listening[2]).expect("connects");
            let a = id(&relay.request("accept a l"));
            let b = id(&relay.request(&format!("connect b {}", backend.local_addr().expect("local"))));
            let (b_far, _) = backend.accept().expect("accepts");
            Self { trace, relay, a, b, a_far, b_far }
        };
        assert_eq!(fixture.pairs(), []);
        fixture
    }

    fn act(&mut self, lines: &[&str]) {
        for line in lines {
            self.relay.request(line);
        }
    }

    /// Pairs reported so far, by socket id.
    fn pairs(&mut self) -> Vec<(SocketId, SocketId)> {
        self.trace.settle();
        let pid = self.relay.pid();
        let pair = |seen: &&Observation| match seen.fact {
            Fact::Relayed { from, to, actor, splice, .. } => {
                assert_eq!((actor.g, actor.goid, splice), (None, None, false), "a thread: {seen:?}");
                assert_eq!(seen.tid, Some(pid), "{seen:?}");
                assert_eq!(
                    from.role,
                    Some(if from.id == self.a { SocketRole::Accepted } else { SocketRole::Connected })
                );
                Some((from.id, to.id))
            }
            _ => None,
        };
        self.trace.of(pid).iter().filter_map(pair).collect()
    }
}

#[test]
fn thread_relay_reports_each_direction_once() {
    let mut fixture = RelayFixture::new();
    for size in [1_usize, 10, 100_000, 7].into_iter().cycle().take(40) {
        fixture.a_far.write_all(&vec![1; size]).expect("sends");
        let mut far = fixture.b_far.try_clone().expect("a handle");
        let reader = std::thread::spawn(move || far.read_exact(&mut vec![0; size]));
        fixture.act(&[&format!("recv a {size}"), &format!("send b {size}")]);
        reader.join().expect("ends").expect("receives");
    }
    assert_eq!(fixture.pairs(), [(fixture.a, fixture.b)]);
    for _ in 0..10 {
        fixture.b_far.write_all(&[1; 5]).expect("sends");
        fixture.act(&["recv b 5", "send a 5"]);
    }
    assert_eq!(fixture.pairs(), [(fixture.a, fixture.b), (fixture.b, fixture.a)]);
}

#[test]
fn close_drops_pairing() {
    let mut fixture = RelayFixture::new();
    fixture.a_far.write_all(b"x").expect("sends");
    fixture.act(&["recv a 1", "close a", "send b 1"]);
    assert_eq!(fixture.pairs(), []);
}

#[test]
fn answers_on_same_socket_report_no_pair() {
    let mut fixture = RelayFixture::new();
    for _ in 0..3 {
        fixture.a_far.write_all(b"x").expect("sends");
        fixture.b_far.write_all(b"x").expect("sends");
        fixture.act(&["recv a 1", "send a 1", "recv b 1", "send b 1"]);
    }
    assert_eq!(fixture.pairs(), []);
    // The rule considers only the last receive: without one on `b`, bytes sent to `b` count as relayed.
    fixture.a_far.write_all(b"x").expect("sends");
    fixture.act(&["recv a 1", "send a 1", "send b 1"]);
    assert_eq!(fixture.pairs(), [(fixture.a, fixture.b)]);
}

#[test]
fn peek_empty_receive_and_eof_report_no_pair() {
    let mut fixture = RelayFixture::new();
    fixture.act(&["try-recv a", "send b 1"]);
    assert_eq!(fixture.pairs(), [], "after an empty receive");
    fixture.a_far.write_all(b"x").expect("sends");
    fixture.act(&["peek a", "send b 1"]);
    assert_eq!(fixture.pairs(), [], "after a peek");
    // The last receive was from `b`: EOF on `a` does not change that.
    fixture.act(&["recv a 1"]);
    fixture.b_far.write_all(b"x").expect("sends");
    fixture.act(&["recv b 1"]);
    fixture.a_far.shutdown(std::net::Shutdown::Write).expect("shuts down");
    assert_eq!(fixture.relay.request("recv a 1"), ["eof"]);
    fixture.act(&["send b 1"]);
    assert_eq!(fixture.pairs(), [], "after EOF");
    fixture.act(&["send a 1"]);
    assert_eq!(fixture.pairs(), [(fixture.b, fixture.a)], "the other half of `a` is still open");
}

#[test]
fn thread_relay_pairs_unix_connections() {
    let mut fixture = RelayFixture::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("s");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("listens");
    let unix = id(&fixture.relay.request(&format!("unix-connect u {}", path.display())));
    let (_far, _) = listener.accept().expect("accepts");
    fixture.a_far.write_all(b"x").expect("sends");
    fixture.act(&["recv a 1", "send u 1"]);
    assert_eq!(fixture.pairs(), [(fixture.a, unix)]);
}

#[test]
fn dial_names_last_received_connection() {
    let mut fixture = RelayFixture::new();
    let backend = TcpListener::bind("127.0.0.1:0").expect("listens");
    let to = backend.local_addr().expect("local");
    fixture.a_far.write_all(b"x").expect("sends");
    fixture.act(&["recv a 1"]);
    let dialled = id(&fixture.relay.request(&format!("connect c {to}")));
    let inbound = |trace: &mut Trace, of: SocketId| {
        trace.wait("the dial", |seen| match seen.fact {
            Fact::Connected { socket, inbound, .. } if socket.id == of => Some(inbound),
            _ => None,
        })
    };
    let a = fixture.a;
    assert_eq!(inbound(&mut fixture.trace, dialled), Some(a));
    let b = fixture.b;
    assert_eq!(inbound(&mut fixture.trace, b), None, "dialled before the first receive");
    fixture.act(&["close a"]);
    let later = id(&fixture.relay.request(&format!("connect d {to}")));
    assert_eq!(inbound(&mut fixture.trace, later), None, "closed connections are forgotten");
}
