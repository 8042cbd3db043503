//! A program that is not Go but pretends to be: it places arbitrary values at Go's `g`, with any id and creator. A
//! victim has the same `g` at the same address, with the same ids. Every rule based on goroutines must name only
//! sockets and processes of the forger itself.

use std::collections::BTreeSet;

use execpath::model::{Fact, Observation, Program, SocketId, WatchAs};

use crate::{helper_process::HelperProcess, trace::Trace};

/// A Go version that keeps a goroutine's creator, so that every rule applies.
const GO: &str = "go1.24.1";

/// A process with a listener, two accepted connections and one that it opened.
struct DaemonProcess {
    helper: HelperProcess,
    /// Cookies of its sockets.
    own: BTreeSet<u64>,
    listener: String,
}

fn cookie(words: &[String]) -> u64 {
    words[0].parse().expect("a cookie")
}

impl DaemonProcess {
    fn start(trace: &mut Trace) -> Self {
        let mut helper = HelperProcess::start();
        trace.watch(helper.pid(), WatchAs::Daemon);
        trace.probes.set_program(helper.pid(), &Program::Go(GO.to_owned())).expect("the map can be written");
        let words = helper.request("listen l 127.0.0.1:0");
        Self { own: [cookie(&words)].into(), listener: words[2].clone(), helper }
    }

    fn keep(&mut self, line: &str) {
        let words = self.helper.request(line);
        self.own.insert(cookie(&words));
    }

    /// Receives a client's byte on a new connection, as this goroutine.
    fn receive(&mut self, client: &mut HelperProcess, name: &str, goid: u64) {
        client.request(&format!("connect {name} {}", self.listener));
        self.keep(&format!("accept {name} l"));
        client.request(&format!("send {name} 1"));
        assert_eq!(self.helper.request(&format!("forge {goid} 7 recv {name}")), ["1"]);
    }
}

/// Every socket that a fact names, beside its own process.
fn sockets(fact: &Fact) -> Vec<SocketId> {
    match fact {
        Fact::Connected { socket, inbound, .. } => [socket.id].into_iter().chain(*inbound).collect(),
        Fact::Relayed { from, to, .. } => vec![from.id, to.id],
        Fact::Touched { socket, .. } => vec![socket.id],
        Fact::FifoMade { inbound, from, .. } => inbound.iter().copied().chain(from.map(|from| from.id)).collect(),
        Fact::Fork { inbound, .. } => inbound.iter().copied().collect(),
        Fact::FifoRelayed { to, .. } => vec![to.id],
        Fact::Accepted { socket } | Fact::Listening { socket } => vec![socket.id],
        _ => Vec::new(),
    }
}

/// The rule by which a fact links two things of one process.
fn rule(fact: &Fact) -> Option<&'static str> {
    match fact {
        Fact::Connected { inbound: Some(_), .. } => Some("dial"),
        Fact::Relayed { .. } => Some("both directions"),
        Fact::Touched { actor, .. } if actor.parent_goid == Some(7) => Some("creator"),
        Fact::FifoMade { inbound: Some(_), .. } => Some("FIFO made"),
        Fact::Fork { inbound: Some(_), .. } => Some("fork"),
        Fact::FifoRelayed { .. } => Some("FIFO read"),
        _ => None,
    }
}

#[test]
fn forged_goroutines_name_only_own_sockets() {
    let mut trace = Trace::on_ports(&[]);
    trace.probes.watch_reads(true).expect("attaches");
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (mut victim, mut forger) = (DaemonProcess::start(&mut trace), DaemonProcess::start(&mut trace));
    let mut client = HelperProcess::start();
    let target = client.request("listen t 127.0.0.1:0")[2].clone();
    // The victim's goroutine 1 serves a connection, and sleeps: further acts of this `g` in the victim belong to that
    // connection.
    victim.receive(&mut client, "va", 1);
    // The forger uses the same `g` and has received nothing: its dial, FIFO and fork belong to no connection.
    forger.keep(&format!("forge 1 7 connect x0 {target}"));
    forger.helper.request(&format!("forge 1 7 mknod {}", path("f0")));
    // The same acts after receiving on a connection of its own.
    forger.receive(&mut client, "la", 1);
    forger.keep(&format!("forge 1 7 connect x1 {target}"));
    forger.helper.request("forge 1 7 send x1");
    forger.helper.request(&format!("forge 1 7 mknod {}", path("f1")));
    forger.helper.request("forge 1 7 fork");
    // The other direction, and a second goroutine of the same creator.
    client.request("accept t1 t");
    client.request("accept t2 t");
    client.request("send t2 1");
    forger.helper.request("forge 2 7 recv x1");
    forger.helper.request("forge 2 7 send la");
    // A byte read from a FIFO is sent on a connection.
    forger.helper.request(&format!("forge 3 7 copy {} la", path("f1")));
    // The victim continues.
    victim.keep(&format!("forge 1 7 connect y {target}"));
    trace.settle();
    let of = |pid: u32| -> Vec<Observation> { trace.of(pid).into_iter().cloned().collect() };
    for (who, own) in [(forger.helper.pid(), &forger.own), (victim.helper.pid(), &victim.own)] {
        for seen in of(who) {
            for socket in sockets(&seen.fact) {
                assert!(
                    socket.cookie.is_none_or(|cookie| own.contains(&cookie)),
                    "a socket of another process: {seen:#?}"
                );
            }
        }
    }
    let rules: BTreeSet<&str> = of(forger.helper.pid()).iter().filter_map(|seen| rule(&seen.fact)).collect();
    let all = ["FIFO made", "FIFO read", "both directions", "creator", "dial", "fork"];
    assert_eq!(rules, all.into(), "every rule takes the forgery for a goroutine: {:#?}", of(forger.helper.pid()));
}
