//! Initial sequence numbers: both ends of a connection always have the same pair, and no other connection has this
//! pair.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::Path,
    process::Command,
    thread,
};

use execpath::{
    correlate::{Correlator, Options},
    model::{
        BootTime, Endpoints, Fact, HostFacts, Isn, Observation, Pairing, SocketId, SocketInfo, SocketRole, TaskKey,
        UnattributedEnd, WatchAs,
    },
    source::{
        ebpf::loader,
        snapshot::{self, ScanMethod, Snapshot},
    },
};

use crate::{
    helper_process::{HelperProcess, own_path},
    netns::NetNs,
    trace::{Trace, key, names},
};

fn isn_of(fact: &Fact) -> Option<(SocketId, Isn)> {
    match fact {
        Fact::Connected { socket, .. } | Fact::Accepted { socket } | Fact::SocketSeen { socket } => {
            Some((socket.id, socket.isn?))
        }
        _ => None,
    }
}

/// Sequence numbers that the iterator reads for sockets of this port, by cookie.
fn read(port: u16) -> BTreeMap<u64, Isn> {
    let options = snapshot::Options {
        endpoints: Endpoints::new(Some(port), None, None),
        method: ScanMethod::Iterator,
        no_memory: true,
        ..snapshot::Options::default()
    };
    let facts = Snapshot::new(options).take(BootTime(1));
    facts.iter().filter_map(|seen| isn_of(&seen.fact)).filter_map(|(id, isn)| Some((id.cookie?, isn))).collect()
}

/// Both ends of a connection.
struct Ends {
    port: u16,
    near: TcpStream,
    far: TcpStream,
}

impl Ends {
    fn make(on: &str) -> Self {
        let listener = TcpListener::bind(on).expect("listens");
        let address = listener.local_addr().expect("local");
        let near = TcpStream::connect(address).expect("connects");
        Self { port: address.port(), near, far: listener.accept().expect("accepts").0 }
    }

    fn isns(&self) -> (Isn, Isn) {
        let all = read(self.port);
        let of = |stream: &TcpStream| all[&names(stream).cookie.expect("a cookie")];
        (of(&self.near), of(&self.far))
    }

    /// Sends `count` bytes from one end to the other.
    fn pass(&self, count: usize, back: bool) {
        let (mut from, mut to) = if back { (&self.far, &self.near) } else { (&self.near, &self.far) };
        thread::scope(|scope| {
            let sends = scope.spawn(move || from.write_all(&vec![7; count]).expect("sends"));
            to.read_exact(&mut vec![0; count]).expect("receives");
            sends.join().expect("the sender ends");
        });
    }
}

#[test]
fn isns_agree_at_every_stage_of_connection() {
    for on in ["127.0.0.1:0", "[::1]:0"] {
        let ends = Ends::make(on);
        let first = ends.isns();
        assert!(first.0.is_other_end_of(first.1), "{first:?}");
        ends.pass(1, false);
        assert_eq!(ends.isns(), first, "after one byte");
        ends.pass(3_000_000, true);
        ends.pass(100_000, false);
        assert_eq!(ends.isns(), first, "after data in both directions");
        (&ends.near).write_all(&[7; 1000]).expect("sends");
        assert_eq!(ends.isns(), first, "with unread data");
        ends.near.shutdown(Shutdown::Write).expect("shuts");
        (&ends.far).read_to_end(&mut Vec::new()).expect("receives");
        assert_eq!(ends.isns(), first, "half closed");
        ends.pass(1_000_000, true);
        assert_eq!(ends.isns(), first, "data into a half-closed connection");
        // After the last FIN, a snapshot no longer lists the sockets in their state.
    }
}

#[test]
fn isns_agree_if_accepting_end_closes_first() {
    let ends = Ends::make("127.0.0.1:0");
    let first = ends.isns();
    ends.pass(5000, true);
    ends.far.shutdown(Shutdown::Write).expect("shuts");
    (&ends.near).read_to_end(&mut Vec::new()).expect("receives");
    assert_eq!(ends.isns(), first);
    ends.pass(5000, false);
    assert_eq!(ends.isns(), first);
}

/// Sets the ISN of a socket's next connect (include/uapi/linux/tcp.h).
fn choose_isn(socket: &impl AsRawFd, isn: u32) {
    const REPAIR_OFF_WITHOUT_PROBE: libc::c_int = -1;
    const SEND_QUEUE: libc::c_int = 2;
    let set = |option: libc::c_int, value: libc::c_int| {
        let (at, size) =
            ((&raw const value).cast(), libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("small"));
        // SAFETY: an option of an open socket, with an integer as value.
        let done = unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, at, size) };
        assert_eq!(done, 0, "option {option}: {}", std::io::Error::last_os_error());
    };
    set(libc::TCP_REPAIR, 1);
    set(libc::TCP_REPAIR_QUEUE, SEND_QUEUE);
    set(libc::TCP_QUEUE_SEQ, isn.cast_signed());
    set(libc::TCP_REPAIR, REPAIR_OFF_WITHOUT_PROBE);
}

#[test]
fn isns_survive_wrap_around() {
    for isn in [1, u32::MAX - 1, u32::MAX - 2_000, u32::MAX - 500_000] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("local");
        let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM);
        let socket = rustix::net::socket_with(family, kind, rustix::net::SocketFlags::CLOEXEC, None).expect("a socket");
        choose_isn(&socket, isn);
        rustix::net::connect(&socket, &address).expect("connects");
        let ends = Ends { port: address.port(), near: socket.into(), far: listener.accept().expect("accepts").0 };
        let first = ends.isns();
        assert_eq!((first.0.own, first.1.peer), (isn.wrapping_sub(1), isn), "the chosen ISN");
        assert!(first.0.is_other_end_of(first.1), "{first:?}");
        ends.pass(1_000_000, false);
        ends.pass(1_000, true);
        assert_eq!(ends.isns(), first, "after the wrap-around");
        ends.near.shutdown(Shutdown::Write).expect("shuts");
        (&ends.far).read_to_end(&mut Vec::new()).expect("receives");
        assert_eq!(ends.isns(), first, "half closed");
    }
}

/// Readings during data flow may miss a pair, but never report a wrong one.
#[test]
fn isns_read_during_data_flow_are_right_or_missing() {
    const READINGS: usize = 30;
    let ends = Ends::make("127.0.0.1:0");
    let first = ends.isns();
    let (near, far) = (names(&ends.near).cookie.expect("a cookie"), names(&ends.far).cookie.expect("a cookie"));
    let mut right = 0;
    thread::scope(|scope| {
        let mut sink = &ends.far;
        let mut source = &ends.near;
        scope.spawn(move || std::io::copy(&mut sink, &mut std::io::sink()).expect("receives"));
        let sends = scope.spawn(move || {
            // Ends with the connection.
            while source.write_all(&[7; 65_536]).is_ok() {}
        });
        for _ in 0..READINGS {
            let all = read(ends.port);
            right += usize::from(all.get(&near) == Some(&first.0)) + usize::from(all.get(&far) == Some(&first.1));
        }
        ends.near.shutdown(Shutdown::Both).expect("shuts");
        sends.join().expect("the sender ends");
    });
    assert!(right >= 2 * READINGS - 3, "{right} of {}", 2 * READINGS);
}

/// Two namespaces with a veth pair between them: addresses 10.77.0.1 and 10.77.0.2.
fn wired(name: &str) -> [NetNs; 2] {
    let ends = [NetNs::make(&format!("{name}1")), NetNs::make(&format!("{name}2"))];
    let [one, other] = &ends;
    one.ip(&["-n", &one.0, "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", &other.0]);
    for (netns, address) in [(one, "10.77.0.1/24"), (other, "10.77.0.2/24")] {
        netns.ip(&["-n", &netns.0, "addr", "add", address, "dev", "wire"]);
        netns.ip(&["-n", &netns.0, "link", "set", "wire", "up"]);
    }
    ends
}

fn inside(netns: &NetNs) -> HelperProcess {
    HelperProcess::under("ip", &["netns", "exec", &netns.0])
}

/// A helper process of an unprivileged user, in user and network namespaces of its own. It runs a copy of this program
/// that every user may execute.
fn stranger(folder: &Path) -> HelperProcess {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("the folder's mode can be changed");
    let program = folder.join("stranger");
    fs::copy(own_path(), &program).expect("copies");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "unshare", "-Urn"]).arg(program);
    HelperProcess::by(command)
}

fn loose<'a>(facts: impl IntoIterator<Item = &'a Observation>, port: u16, pairing: Pairing) -> Vec<UnattributedEnd> {
    let options = Options { apiserver_port: Some(port), pairing, ..Options::default() };
    let mut correlator = Correlator::new(&HostFacts::default(), &options);
    facts.into_iter().for_each(|seen| correlator.ingest(seen.clone()));
    correlator.flush();
    correlator.report().unattributed
}

/// Owner of the peer of this process's connection in this role.
fn peer_of(loose: &[UnattributedEnd], task: TaskKey, role: SocketRole) -> Option<TaskKey> {
    let is_it = |one: &&UnattributedEnd| one.task == task && one.socket.role == Some(role);
    loose.iter().find(is_it).unwrap_or_else(|| panic!("{task:?} has no end with this role: {loose:#?}")).peer
}

const PORT: u16 = 46_443;

#[test]
fn isns_reject_forged_addresses_in_other_namespace() {
    let folder = tempfile::tempdir().expect("a folder");
    let [near, far] = wired("forged");
    let mut trace = Trace::with(&loader::Options { netns: None, ports: vec![PORT], ..loader::Options::default() });
    let (mut victim, mut server, mut forger) = (inside(&near), inside(&far), stranger(folder.path()));
    server.request(&format!("listen l 10.77.0.2:{PORT}"));
    let local = victim.request(&format!("connect c 10.77.0.2:{PORT}"))[2].clone();
    server.request("accept s l");
    // The forger uses the same addresses and ports at the same time.
    for arguments in ["link set lo up", "addr add 10.77.0.1/32 dev lo", "addr add 10.77.0.2/32 dev lo"] {
        assert_eq!(forger.request(&format!("run ip {arguments}")), ["Some(0)"], "{arguments}");
    }
    forger.request(&format!("listen l 10.77.0.2:{PORT}"));
    forger.request(&format!("connect-from c {local} 10.77.0.2:{PORT}"));
    forger.request("accept s l");
    let [victim, server, forger_key] = [&victim, &server, &forger].map(|helper| key(helper.pid()));
    for (task, accepts) in [(victim, false), (server, true), (forger_key, false), (forger_key, true)] {
        trace.wait("an end", |seen| {
            let is_it = if accepts {
                matches!(seen.fact, Fact::Accepted { .. })
            } else {
                matches!(seen.fact, Fact::Connected { .. })
            };
            (is_it && seen.task == Some(task)).then_some(())
        });
    }
    let tuple = |task: TaskKey| {
        trace.seen.iter().find_map(|seen| match seen.fact {
            Fact::Connected { socket, .. } if seen.task == Some(task) => socket.tuple,
            _ => None,
        })
    };
    assert_eq!(tuple(victim), tuple(forger_key), "the forger's addresses equal the victim's");

    let all = loose(&trace.seen, PORT, Pairing::SequenceNumbers);
    assert_eq!(peer_of(&all, victim, SocketRole::Connected), Some(server));
    assert_eq!(peer_of(&all, forger_key, SocketRole::Accepted), Some(forger_key));

    // Now the server is on another host, and the forger hides its own client.
    let is_left = |seen: &&Observation| {
        seen.task != Some(server) && !(seen.task == Some(forger_key) && matches!(seen.fact, Fact::Connected { .. }))
    };
    let left = loose(trace.seen.iter().filter(is_left), PORT, Pairing::SequenceNumbers);
    assert_eq!(peer_of(&left, victim, SocketRole::Connected), None);
    assert_eq!(peer_of(&left, forger_key, SocketRole::Accepted), None);
    let fooled = loose(trace.seen.iter().filter(is_left), PORT, Pairing::Addresses);
    assert_eq!(peer_of(&fooled, victim, SocketRole::Connected), Some(forger_key), "addresses alone accept the forgery");

    // The same checks with a snapshot.
    let options =
        snapshot::Options { endpoints: Endpoints::new(Some(PORT), None, None), ..snapshot::Options::default() };
    let seen = Snapshot::new(options).take(BootTime(1));
    let all = loose(&seen, PORT, Pairing::SequenceNumbers);
    assert_eq!(peer_of(&all, victim, SocketRole::Connected), Some(server));
    let left = loose(seen.iter().filter(|seen| seen.task != Some(server)), PORT, Pairing::SequenceNumbers);
    assert_eq!(peer_of(&left, victim, SocketRole::Connected), None);
}

/// A client, a router that translates both addresses, and a server, each in its own namespace.
struct Cluster {
    client: NetNs,
    _router: NetNs,
    server: NetNs,
}

impl Cluster {
    /// Builds a cluster; all clusters use the same addresses.
    fn make(name: &str) -> Self {
        let [client, router, server] = ["c", "r", "s"].map(|end| NetNs::make(&format!("{name}{end}")));
        for (netns, wire, address) in [(&client, "front", "10.1.0"), (&server, "back", "10.2.0")] {
            netns
                .ip(&["-n", &router.0, "link", "add", wire, "type", "veth", "peer", "name", "wire", "netns", &netns.0]);
            netns.ip(&["-n", &router.0, "addr", "add", &format!("{address}.1/24"), "dev", wire]);
            netns.ip(&["-n", &router.0, "link", "set", wire, "up"]);
            netns.ip(&["-n", &netns.0, "addr", "add", &format!("{address}.2/24"), "dev", "wire"]);
            netns.ip(&["-n", &netns.0, "link", "set", "wire", "up"]);
        }
        client.ip(&["-n", &client.0, "route", "add", "default", "via", "10.1.0.1"]);
        router.enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("forwards"));
        let to = format!("10.2.0.2:{PORT}");
        for rule in [
            &["-A", "PREROUTING", "-p", "tcp", "-d", "10.96.0.1", "-j", "DNAT", "--to-destination", &to][..],
            &["-A", "POSTROUTING", "-o", "back", "-j", "MASQUERADE"],
        ] {
            let mut iptables = Command::new("ip");
            iptables.args(["netns", "exec", &router.0, "iptables", "-w", "-t", "nat"]).args(rule);
            assert!(iptables.status().expect("ip runs").success(), "{rule:?}");
        }
        Self { client, _router: router, server }
    }

    /// Opens `count` connections. Returns their ends and the listener.
    fn connect(&self, count: usize) -> (Vec<(TcpStream, TcpStream)>, TcpListener) {
        let address = SocketAddr::from(([10, 2, 0, 2], PORT));
        let listener = self.server.enter(|| TcpListener::bind(address).expect("listens"));
        let mut ends = Vec::new();
        for _ in 0..count {
            let near = self.client.enter(|| TcpStream::connect(("10.96.0.1", PORT)).expect("connects"));
            ends.push((near, listener.accept().expect("accepts").0));
        }
        (ends, listener)
    }
}

#[test]
fn isns_pair_connections_through_nat() {
    const EACH: usize = 150;
    let clusters = [Cluster::make("nat1"), Cluster::make("nat2")];
    let mut trace = Trace::with(&loader::Options { netns: None, ports: vec![PORT], ..loader::Options::default() });
    trace.watch(std::process::id(), WatchAs::Endpoint);
    let made: Vec<_> = clusters.iter().map(|cluster| cluster.connect(EACH)).collect();
    let mut seen: BTreeMap<u64, SocketInfo> = BTreeMap::new();
    for (near, far) in made.iter().flat_map(|(ends, _)| ends) {
        for (end, accepted) in [(near, false), (far, true)] {
            let id = names(end);
            let socket = trace.wait("an end", |seen| match seen.fact {
                Fact::Connected { socket, .. } if !accepted => (socket.id == id).then_some(socket),
                Fact::Accepted { socket } if accepted => (socket.id == id).then_some(socket),
                _ => None,
            });
            seen.insert(id.cookie.expect("a cookie"), socket);
        }
    }
    let (mut joined, mut wrong) = (0, 0);
    let isn = |end: &TcpStream| seen[&names(end).cookie.expect("a cookie")].isn.expect("known");
    let all: Vec<_> = made.iter().flat_map(|(ends, _)| ends).collect();
    for (index, (near, far)) in all.iter().enumerate() {
        let ends = [near, far].map(|end| seen[&names(end).cookie.expect("a cookie")].tuple.expect("addresses"));
        assert_ne!(ends[0].mirrored(), ends[1], "the addresses are translated");
        joined += usize::from(isn(near).is_other_end_of(isn(far)));
        wrong +=
            all.iter().enumerate().filter(|(at, (_, far))| *at != index && isn(near).is_other_end_of(isn(far))).count();
    }
    assert_eq!((joined, wrong), (2 * EACH, 0));
    // The correlator finds the peer of each end.
    let loose = loose(&trace.seen, PORT, Pairing::SequenceNumbers);
    let own = key(std::process::id());
    let paired = loose.iter().filter(|one| one.task == own && one.peer == Some(own)).count();
    assert_eq!(paired, 4 * EACH, "{:#?}", loose.iter().find(|one| one.peer.is_none()));
}
