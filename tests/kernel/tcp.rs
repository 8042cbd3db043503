//! TCP: processes that join the path, and the life of their connections.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use execpath::{
    model::{Fact, Family, Observation, SocketId, SocketInfo, SocketRole, Tuple, WatchAs},
    source::ebpf::loader::Options,
};

use crate::{
    helper_process::HelperProcess,
    netns::NetNs,
    trace::{Trace, key, names, namespace, own_namespace},
};

fn id(words: &[String]) -> SocketId {
    let number = |word: &String| word.parse().expect("a number");
    SocketId::new(number(&words[0]), number(&words[1]))
}

fn address(word: &str) -> SocketAddr {
    word.parse().expect("an address")
}

fn connected(seen: &Observation) -> Option<SocketInfo> {
    match seen.fact {
        Fact::Connected { socket, .. } => Some(socket),
        _ => None,
    }
}

fn accepted(seen: &Observation) -> Option<SocketInfo> {
    match seen.fact {
        Fact::Accepted { socket } => Some(socket),
        _ => None,
    }
}

/// A helper process connects to our listener: both ends are reported from connect to close.
fn check_connection(listen: &str, connect: &str, families: [Family; 2]) {
    let listener = TcpListener::bind(listen).expect("listens");
    let port = listener.local_addr().expect("local").port();
    let mut trace = Trace::on_ports(&[port]);
    trace.watch(std::process::id(), WatchAs::Endpoint);
    let mut helper = HelperProcess::start();
    let to = format!("{connect}:{port}");
    let answer = helper.request(&format!("connect a {to}"));
    let (near, local, remote) = (id(&answer), address(&answer[2]), address(&answer[3]));
    let (mut stream, _) = listener.accept().expect("accepts");
    let far = names(&stream);
    stream.write_all(&[1; 500]).expect("sends");
    helper.request("recv a 500");
    helper.request("send a 1000");
    stream.read_exact(&mut [0; 1000]).expect("receives");
    helper.request("close a");
    assert_eq!(stream.read(&mut [0]).expect("receives"), 0, "EOF");
    drop(stream);
    let end = |id: SocketId| {
        move |seen: &Observation| match seen.fact {
            Fact::Closed { socket, received, acked } if socket.cookie == id.cookie => Some((received, acked)),
            _ => None,
        }
    };
    let near_end = trace.wait("the near end's close", end(near));
    let far_end = trace.wait("the far end's close", end(far));
    let of_it = trace.of(helper.pid());
    let Fact::Enrolled(info) = &of_it[0].fact else { panic!("the first fact enrols the process, not {of_it:#?}") };
    assert_eq!(of_it[0].task, Some(key(helper.pid())));
    assert!(info.argv.iter().any(|word| word.as_bytes() == b"helper-process"), "{info:?}");
    assert_eq!((info.uid, info.netns), (Some(0), Some(own_namespace("net"))), "{info:?}");
    assert_eq!(info.watched, Some(WatchAs::Endpoint));
    assert_eq!(info.parent, Some(key(std::process::id())));
    let expected = |id, role, family, tuple| SocketInfo {
        id,
        family,
        tuple: Some(tuple),
        netns: Some(own_namespace("net")),
        role: Some(role),
        isn: None,
    };
    let tuple = Tuple::new(local, remote);
    let without_isn = |socket: SocketInfo| SocketInfo { isn: None, ..socket };
    let near_seen = trace.seen.iter().find_map(connected).expect("the near end");
    assert_eq!(without_isn(near_seen), expected(near, SocketRole::Connected, families[0], tuple));
    let far_seen = trace.seen.iter().find_map(accepted).expect("the far end");
    assert_eq!(without_isn(far_seen), expected(far, SocketRole::Accepted, families[1], tuple.mirrored()));
    let (near_isn, far_isn) = (near_seen.isn.expect("known"), far_seen.isn.expect("known"));
    assert!(near_isn.is_other_end_of(far_isn), "{near_isn:?} {far_isn:?}");
    // A SYN and a FIN may each count as a byte (net/ipv4/tcp_input.c: tcp_snd_una_update, tcp_rcv_nxt_update).
    let about = |(received, acked): (Option<u64>, Option<u64>), bytes_in: u64, bytes_out: u64| {
        let (received, acked) = (received.expect("known"), acked.expect("known"));
        assert!((bytes_in..=bytes_in + 2).contains(&received), "received {received}, not {bytes_in}");
        assert!((bytes_out..=bytes_out + 2).contains(&acked), "acknowledged {acked}, not {bytes_out}");
    };
    about(near_end, 500, 1000);
    about(far_end, 1000, 500);
}

#[test]
fn connect_to_path_port_enrols_process() {
    check_connection("127.0.0.1:0", "127.0.0.1", [Family::Inet, Family::Inet]);
}

#[test]
fn connect_over_ipv6_enrols_process() {
    check_connection("[::1]:0", "[::1]", [Family::Inet6, Family::Inet6]);
}

#[test]
fn dual_stack_listener_reports_client_addresses() {
    check_connection("[::]:0", "127.0.0.1", [Family::Inet, Family::Inet6]);
    check_connection("[::]:0", "[::ffff:127.0.0.1]", [Family::Inet6, Family::Inet6]);
}

/// A port without a listener. The returned socket is bound but does not listen, and keeps the port reserved.
fn closed_port() -> (rustix::fd::OwnedFd, u16) {
    let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM);
    let socket = rustix::net::socket_with(family, kind, rustix::net::SocketFlags::CLOEXEC, None).expect("a socket");
    rustix::net::bind(&socket, &address("127.0.0.1:0")).expect("binds");
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket).expect("a name")).expect("an address");
    (socket, bound.port())
}

#[test]
fn dial_is_reported_with_its_result() {
    let (_held, port) = closed_port();
    let mut trace = Trace::on_ports(&[port]);
    let mut helper = HelperProcess::start();
    assert_eq!(helper.request(&format!("connect a 127.0.0.1:{port}")), ["error", "ConnectionRefused"]);
    trace.settle();
    let dials: Vec<_> = trace
        .of(helper.pid())
        .into_iter()
        .filter_map(|seen| match seen.fact {
            Fact::Dialled { socket, remote, failed, .. } => Some((socket.cookie, remote, failed)),
            _ => None,
        })
        .collect();
    let [(begun, to, None), (ended, again, Some(error))] = dials[..] else { panic!("{dials:?}") };
    assert_eq!((begun, to), (ended, again), "one socket, and one address");
    assert_eq!(to, Some(address(&format!("127.0.0.1:{port}"))));
    assert_eq!(error.errno, Some(rustix::io::Errno::CONNREFUSED.raw_os_error().unsigned_abs()));
}

/// Dials of a process in a namespace of its own, to a port that is not on the path and has no listener.
fn dials_for_nobody(address: &str) -> Vec<Option<execpath::model::DialError>> {
    let netns = NetNs::make("dial");
    netns.ip(&["-n", &netns.0, "addr", "add", "10.77.0.9/32", "dev", "lo"]);
    let mut trace = Trace::with(&Options { netns: None, ports: Vec::new(), ..Options::default() });
    let mut helper = HelperProcess::under("ip", &["netns", "exec", &netns.0]);
    trace.watch(helper.pid(), WatchAs::Endpoint);
    assert_eq!(helper.request(&format!("connect a {address}")), ["error", "ConnectionRefused"]);
    trace.settle();
    let of_it = trace.of(helper.pid()).into_iter();
    let dials = of_it.filter_map(|seen| match seen.fact {
        Fact::Dialled { failed, .. } => Some(failed),
        _ => None,
    });
    dials.collect()
}

#[test]
fn dial_for_nobody_to_another_port_is_not_reported() {
    assert_eq!(dials_for_nobody("10.77.0.9:81"), []);
}

#[test]
fn refused_dial_for_nobody_within_host_is_reported() {
    let dials = dials_for_nobody("127.0.0.1:81");
    let [Some(error)] = dials[..] else { panic!("{dials:?}") };
    assert_eq!(error.errno, Some(rustix::io::Errno::CONNREFUSED.raw_os_error().unsigned_abs()));
}

#[test]
fn refused_connect_reports_no_connection() {
    let (_held, port) = closed_port();
    let mut trace = Trace::on_ports(&[port]);
    let mut helper = HelperProcess::start();
    assert_eq!(helper.request(&format!("connect a 127.0.0.1:{port}")), ["error", "ConnectionRefused"]);
    trace.settle();
    let of_it = trace.of(helper.pid());
    assert!(matches!(of_it[0].fact, Fact::Enrolled(_)), "{of_it:#?}");
    assert!(!of_it.iter().any(|seen| matches!(seen.fact, Fact::Connected { .. })), "{of_it:#?}");
}

#[test]
fn listen_on_path_port_enrols_process() {
    let (held, port) = closed_port();
    let mut trace = Trace::on_ports(&[port]);
    let mut helper = HelperProcess::start();
    drop(held);
    let answer = helper.request(&format!("listen l 127.0.0.1:{port}"));
    let listening = trace.wait("the listener", |seen| match seen.fact {
        Fact::Listening { socket } => Some(socket),
        _ => None,
    });
    assert_eq!(listening.id, id(&answer));
    assert_eq!(listening.tuple.map(|tuple| tuple.local), Some(address(&format!("127.0.0.1:{port}"))));
    let of_it = trace.of(helper.pid());
    assert!(matches!(of_it[0].fact, Fact::Enrolled(_)), "{of_it:#?}");
    let client = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    let answer = helper.request("accept a l");
    let seen = trace.wait("the accepted end", accepted);
    assert_eq!(seen.id, id(&answer));
    assert_eq!(seen.tuple, Some(Tuple::new(client.peer_addr().expect("a"), client.local_addr().expect("b"))));
}

#[test]
fn other_ports_report_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let to = listener.local_addr().expect("local");
    let (_held, port) = closed_port();
    let mut trace = Trace::on_ports(&[port]);
    let mut helper = HelperProcess::start();
    helper.request(&format!("connect a {to}"));
    helper.request("listen l 127.0.0.1:0");
    helper.request("send a 10");
    helper.request("close a");
    trace.settle();
    assert_eq!(trace.facts(), Vec::<&Observation>::new());
}

#[test]
fn other_network_namespace_requires_option() {
    let (_held, port) = closed_port();
    let script = "ip link set lo up && exec \"$@\"";
    let mut helper = HelperProcess::under("unshare", &["-n", "sh", "-c", script, "sh"]);
    let theirs = namespace(helper.pid(), "net");
    assert_ne!(theirs, own_namespace("net"));
    helper.request(&format!("listen l 127.0.0.1:{port}"));
    let mut ours = Trace::on_ports(&[port]);
    let mut only = Trace::with(&Options { netns: Some(theirs), ports: vec![port], ..Options::default() });
    let mut all = Trace::with(&Options { netns: None, ports: vec![port], ..Options::default() });
    helper.request(&format!("connect a 127.0.0.1:{port}"));
    ours.settle();
    assert_eq!(ours.facts(), Vec::<&Observation>::new(), "connections of another namespace are not reported");
    for trace in [&mut only, &mut all] {
        let seen = trace.wait("the connection", connected);
        assert_eq!(seen.netns, Some(theirs));
    }
}

/// Connections in a listener's queue at attach have no cookie yet. A close without cookie must not be attributed to
/// another connection.
#[test]
fn accept_of_older_connection_reports_inode() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let to = listener.local_addr().expect("local");
    let queued = TcpStream::connect(to).expect("connects");
    let stranger = TcpListener::bind("127.0.0.1:0").expect("listens");
    let other = TcpStream::connect(stranger.local_addr().expect("local")).expect("connects");
    let mut trace = Trace::on_ports(&[]);
    trace.watch(std::process::id(), WatchAs::Endpoint);
    let (stream, _) = listener.accept().expect("accepts");
    let inode = rustix::fs::fstat(&stream).expect("fstat").st_ino;
    let seen = trace.wait("the accepted end", accepted);
    assert_eq!(seen.id.inode, Some(inode));
    // Another tracer on this machine may have created the cookie.
    assert!(seen.id.cookie.is_none() || seen.id == names(&stream), "{:?}, not {:?}", seen.id, names(&stream));
    drop(other);
    drop(stranger);
    trace.settle();
    let closed: Vec<_> = trace.seen.iter().filter(|seen| matches!(seen.fact, Fact::Closed { .. })).collect();
    assert_eq!(closed, Vec::<&Observation>::new(), "a close without cookie was attributed to another connection");
    drop((queued, stream));
}

#[test]
fn mptcp_listener_enrols_and_accepts() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with};
    // Go ≥ 1.24 listens like this if the kernel supports MPTCP; clients with plain TCP get plain TCP sockets.
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::MPTCP));
    let socket = socket.expect("this kernel has MPTCP: sysctl net.mptcp.enabled");
    bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
    let port = SocketAddr::try_from(getsockname(&socket).expect("local")).expect("IPv4").port();
    let mut trace = Trace::on_ports(&[port]);
    let own = std::process::id();
    trace.watch(own, WatchAs::Endpoint);
    listen(&socket, 8).expect("listens");
    trace.wait("the MPTCP listener", |seen| match &seen.fact {
        Fact::Listening { socket } if seen.task == Some(key(own)) => {
            socket.tuple.filter(|tuple| tuple.local.port() == port)
        }
        _ => None,
    });
    let listener = TcpListener::from(socket);
    let mut helper = HelperProcess::start();
    let near = id(&helper.request(&format!("connect a 127.0.0.1:{port}")));
    let (stream, _) = listener.accept().expect("accepts");
    let far = trace.wait("the accepted end", accepted);
    assert_eq!(far.id, names(&stream), "the accepted socket");
    let other = trace.wait("the connecting end", connected);
    assert_eq!((other.id, other.tuple.map(Tuple::mirrored)), (near, far.tuple));
}

#[test]
fn tracked_older_connection_reports_close() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let mut helper = HelperProcess::start();
    let near = id(&helper.request(&format!("connect a {}", listener.local_addr().expect("local"))));
    let (mut stream, _) = listener.accept().expect("accepts");
    stream.write_all(&[1; 700]).expect("sends");
    helper.request("recv a 700");
    let mut trace = Trace::on_ports(&[]);
    let owner = key(helper.pid());
    trace.probes.track(near, owner, Some(SocketRole::Connected)).expect("there is room");
    helper.request("close a");
    assert_eq!(stream.read(&mut [0]).expect("receives"), 0, "EOF");
    drop(stream);
    let (task, received) = trace.wait("the close", |seen| match seen.fact {
        Fact::Closed { socket, received, .. } if socket.cookie == near.cookie => Some((seen.task, received)),
        _ => None,
    });
    assert_eq!(task, Some(owner));
    assert!((700..=702).contains(&received.expect("known")), "{received:?}");
}

#[test]
fn track_keeps_entry_of_observed_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let to = listener.local_addr().expect("local");
    let mut trace = Trace::on_ports(&[to.port()]);
    let mut helper = HelperProcess::start();
    let near = id(&helper.request(&format!("connect a {to}")));
    trace.probes.track(near, key(std::process::id()), None).expect("the entry stays unchanged");
    drop(listener);
    helper.request("close a");
    let task = trace.wait("the close", |seen| match seen.fact {
        Fact::Closed { socket, .. } if socket.cookie == near.cookie => Some(seen.task),
        _ => None,
    });
    assert_eq!(task, Some(key(helper.pid())));
    trace.probes.track(SocketId::new(0, 7), key(helper.pid()), None).expect("a socket without cookie is ignored");
}
