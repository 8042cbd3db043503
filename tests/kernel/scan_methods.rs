//! Two scan methods of a snapshot report the same facts: the BPF iterator, and the walk over procfs with sock_diag. The
//! host has sockets of all kinds, pipes, FIFOs and terminals in several network namespaces.

use std::{
    collections::BTreeMap,
    fs,
    net::{TcpListener, TcpStream},
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use execpath::{
    model::{BootTime, Depth, Endpoints, Fact, Observation, Scope, Want},
    source::snapshot::{Options, ScanMethod, Snapshot},
};

use crate::netns::NetNs;

/// Attempts: differences caused by other processes disappear in the next attempt.
const TRIES: usize = 20;

/// A process killed on drop.
struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

fn hold(files: [Stdio; 3]) -> Holder {
    let [stdin, stdout, stderr] = files;
    Holder(Command::new("sleep").arg("1000").stdin(stdin).stdout(stdout).stderr(stderr).spawn().expect("starts"))
}

/// Sockets of all kinds that a snapshot reports, and some that it skips.
struct Sockets {
    port: u16,
    _open: Vec<OwnedFd>,
    _unix: Vec<UnixStream>,
    _listeners: (TcpListener, UnixListener, UnixListener),
}

fn sockets(folder: &Path, port: u16) -> Sockets {
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("listens");
    let address = listener.local_addr().expect("local");
    let mut open: Vec<OwnedFd> = Vec::new();
    let connect = || {
        let client = TcpStream::connect(address).expect("connects");
        (client, listener.accept().expect("accepts").0)
    };
    let (client, server) = connect();
    // A half-closed connection.
    let (half, rest) = connect();
    half.shutdown(std::net::Shutdown::Write).expect("shuts");
    open.extend([client, server, half, rest].map(OwnedFd::from));
    if let Ok(six) = TcpListener::bind("[::]:0") {
        let to = six.local_addr().expect("local").port();
        // An IPv4 address in an IPv6 socket, and a real IPv6 address.
        for to in [("127.0.0.1", to), ("::1", to)] {
            let client = TcpStream::connect(to).expect("connects");
            open.extend([client, six.accept().expect("accepts").0].map(OwnedFd::from));
        }
        open.push(six.into());
    }
    // A UDP socket, and a TCP socket that was never connected.
    open.push(std::net::UdpSocket::bind("127.0.0.1:0").expect("binds").into());
    let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM);
    open.push(rustix::net::socket(family, kind, None).expect("a socket"));
    let named = UnixListener::bind(folder.join(format!("{}.sock", address.port()))).expect("listens");
    let name = SocketAddr::from_abstract_name(format!("execpath-test-{}", address.port())).expect("a name");
    let nameless = UnixListener::bind_addr(&name).expect("listens");
    let mut unix = Vec::new();
    for listener in [&named, &nameless] {
        let client = UnixStream::connect_addr(&listener.local_addr().expect("local")).expect("connects");
        unix.extend([client, listener.accept().expect("accepts").0]);
    }
    let (near, far) = UnixStream::pair().expect("a pair");
    unix.extend([near, far]);
    Sockets { port: address.port(), _open: open, _unix: unix, _listeners: (listener, named, nameless) }
}

fn options(method: ScanMethod, port: u16, path: &Path) -> Options {
    Options {
        endpoints: Endpoints::new(Some(port), None, path.to_str()),
        method,
        no_memory: true,
        ..Options::default()
    }
}

/// Sorted facts about these processes.
fn sorted_facts(facts: Vec<Observation>, own: &[u32]) -> Vec<String> {
    let is_own = |seen: &Observation| seen.task.is_none_or(|task| own.contains(&task.tgid));
    let text = |mut seen: Observation| {
        // sock_diag has no sequence numbers.
        if let Fact::SocketSeen { socket } = &mut seen.fact {
            socket.isn = None;
        }
        format!("{:?} {:?}", seen.task, seen.fact)
    };
    let mut sorted: Vec<String> = facts.into_iter().filter(is_own).map(text).collect();
    sorted.sort_unstable();
    sorted
}

/// Compares the facts of both scan methods about these processes.
fn compare(port: u16, ask: impl Fn(&mut Snapshot) -> Vec<Observation>, own: &[u32]) -> Vec<String> {
    compare_at(port, Path::new("/none"), ask, own)
}

fn compare_at(port: u16, path: &Path, ask: impl Fn(&mut Snapshot) -> Vec<Observation>, own: &[u32]) -> Vec<String> {
    let by = |method| {
        let mut snapshot = Snapshot::new(options(method, port, path));
        let facts = sorted_facts(ask(&mut snapshot), own);
        assert_eq!(snapshot.method_used(), method, "this kernel supports both methods");
        facts
    };
    let mut last = (Vec::new(), Vec::new());
    for _ in 0..TRIES {
        last = (by(ScanMethod::Walk), by(ScanMethod::Iterator));
        if last.0 == last.1 {
            return last.0;
        }
    }
    let lacks =
        |one: &[String], other: &[String]| one.iter().filter(|fact| !other.contains(fact)).cloned().collect::<Vec<_>>();
    panic!("only by the walk: {:#?}\nonly by the iterator: {:#?}", lacks(&last.0, &last.1), lacks(&last.1, &last.0));
}

#[test]
fn both_scan_methods_report_same_sockets() {
    let folder = tempfile::tempdir().expect("a folder");
    let namespaces = [NetNs::make("a"), NetNs::make("b")];
    let here = sockets(folder.path(), 0);
    let path = folder.path().join(format!("{}.sock", here.port));
    let mut elsewhere = Vec::new();
    let mut holders = Vec::new();
    for netns in &namespaces {
        elsewhere.push(netns.enter(|| sockets(tempfile::tempdir().expect("a folder").path(), here.port)));
        // Keep a process in the namespace; named namespaces are scanned even without one.
        holders.push(netns.enter(|| hold([Stdio::null(), Stdio::null(), Stdio::null()])));
    }
    let own: Vec<u32> = holders.iter().map(|holder| holder.0.id()).chain([std::process::id()]).collect();
    let facts = compare_at(here.port, &path, |snapshot| snapshot.take(BootTime(1)), &own);
    let count = |what: &str| facts.iter().filter(|fact| fact.contains(what)).count();
    assert_eq!(count(" Listening {"), 3 * 2, "{facts:#?}");
    assert!(count("SocketSeen") >= 3 * 4 && count("UnixAccepted") >= 1 && count("ListeningUnix") >= 1, "{facts:#?}");
}

#[test]
fn both_scan_methods_report_same_files_and_holders() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
    let fifo = || fs::File::options().read(true).write(true).open(&path).expect("opens");
    let kept = fifo();
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let master = rustix::pty::openpt(flags).expect("a terminal");
    rustix::pty::unlockpt(&master).expect("unlocks");
    let slave = PathBuf::from(rustix::pty::ptsname(&master, Vec::new()).expect("a name").into_string().expect("text"));
    let slave = || fs::File::options().read(true).write(true).open(&slave).expect("opens");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let one = hold([fifo().into(), writer.into(), slave().into()]);
    let other = hold([reader.into(), fifo().into(), slave().into()]);
    let own = [one.0.id(), other.0.id(), std::process::id()];
    let measure = |snapshot: &mut Snapshot| {
        let task = snapshot.answer(&Want::Pid(one.0.id()), BootTime(1))[0].task.expect("the holder is running");
        let scope = Scope { tasks: [(task, Depth::Whole)].into(), files: true, ..Scope::default() };
        let mut facts = snapshot.measure(&scope, BootTime(1));
        // Processor time changes between the two samples.
        facts.retain(|seen| matches!(seen.fact, Fact::Descriptors { .. } | Fact::FileMeasured { .. }));
        facts
    };
    let facts = compare(1, measure, &own);
    let tasks: BTreeMap<&str, usize> =
        facts.iter().filter(|fact| fact.contains("Descriptors")).fold(BTreeMap::new(), |mut tasks, fact| {
            *tasks.entry(fact.split("start_ticks").next().expect("a task")).or_default() += 1;
            tasks
        });
    assert_eq!(tasks.len(), 3, "one, the other, and this process: {facts:#?}");
    for kind in ["kind: Fifo", "kind: Pipe", "kind: Pty"] {
        assert!(facts.iter().any(|fact| fact.contains("FileMeasured") && fact.contains(kind)), "{kind}: {facts:#?}");
    }
    drop((kept, master));
}

#[test]
fn both_scan_methods_report_mptcp_listener() {
    const MPTCP: u32 = 262;
    let protocol = std::num::NonZero::new(MPTCP).map(rustix::net::Protocol::from_raw);
    let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM);
    let Ok(socket) = rustix::net::socket(family, kind, protocol) else { return eprintln!("skipped: no MPTCP") };
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    rustix::net::bind(&socket, &any).expect("binds");
    rustix::net::listen(&socket, 5).expect("listens");
    let listener = TcpListener::from(socket);
    let port = listener.local_addr().expect("local").port();
    let own = [std::process::id()];
    let facts = compare(port, |snapshot| snapshot.take(BootTime(1)), &own);
    assert!(facts.iter().any(|fact| fact.contains("Listening")), "{facts:#?}");
}
