//! Which connection FIFOs are read for, from the memory of Go programs that stand still.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use execpath::{
    model::{BootTime, Fact, TaskKey, Want, parse_fifo_path},
    source::snapshot::{Options, Snapshot},
};

use crate::{
    gopher::{Go, Gopher},
    wait::{stuff, wait_for},
};

/// The layouts are listed from here on.
const SINCE: u32 = 18;
/// Goroutines are started, and have to be waiting.
const WITHIN: Duration = Duration::from_secs(10);

/// A runtime, and the truth about it.
struct Runtime {
    gopher: Gopher,
    folder: PathBuf,
    sessions: BTreeMap<String, TcpStream>,
    made: u64,
    _root: tempfile::TempDir,
}

impl Runtime {
    fn start(go: &Go) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("containers").join("c".repeat(64)).join("io/1");
        std::fs::create_dir_all(&folder).expect("a folder");
        let gopher = Gopher::start(go, "streams.go", &[folder.to_str().expect("text")]);
        Self { gopher, folder, sessions: BTreeMap::new(), made: 0, _root: root }
    }

    fn open(&mut self, kind: &str) -> String {
        self.made += 1;
        let exec = format!("{:064x}", self.made);
        let mut stream = TcpStream::connect(self.gopher.address).expect("connects");
        write!(stream, "GET /{exec}?as={kind} HTTP/1.1\r\nHost: x\r\n\r\n").expect("sends");
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).expect("an answer");
        assert_eq!(line, "ready\n");
        self.sessions.insert(exec.clone(), stream);
        exec
    }

    /// The command writes until nobody takes more, to stdout and stderr: the client does not read.
    fn stuff(&self, exec: &str) {
        for stream in ["stdout", "stderr"] {
            let fifo = self.folder.join(format!("{exec}-{stream}"));
            let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("small");
            stuff(File::options().write(true).custom_flags(flags).open(fifo).expect("its FIFO"), WITHIN);
        }
    }

    /// Ended by its client: FIFOs and connection are closed, and their numbers and goroutines used again.
    fn close(&mut self, exec: &str) {
        drop(self.sessions.remove(exec).expect("open"));
        let gone = |path: &Path| {
            let files = std::fs::read_dir(format!("/proc/{}/fd", self.gopher.pid())).expect("it runs");
            files.flatten().all(|file| std::fs::read_link(file.path()).ok().as_deref() != Some(path))
        };
        for stream in ["stdout", "stderr"] {
            let path = self.folder.join(format!("{exec}-{stream}"));
            wait_for(WITHIN, || gone(&path).then_some(())).expect("the session ends");
        }
    }

    fn key(&self) -> TaskKey {
        let facts = snapshot().answer(&Want::Pid(self.gopher.pid()), BootTime(1));
        facts[0].task.expect("it runs")
    }

    /// Which client's connection each exec was said to be read for.
    fn told(&self) -> BTreeSet<(String, SocketAddr)> {
        let clients = connections(self.gopher.pid());
        let facts = snapshot().answer(&Want::Fifos(self.key()), BootTime(1));
        let told = |fact| {
            let Fact::FifoAwaited { path, socket, .. } = fact else { return None };
            let exec = parse_fifo_path(path.as_str()?).expect("a FIFO of an exec").exec;
            Some((exec, clients[&socket.inode.expect("from a snapshot")]))
        };
        facts.into_iter().filter_map(|seen| told(seen.fact)).collect()
    }

    /// Compares what is told with what is so, until `right` sessions are told of; nothing may be wrong meanwhile.
    fn check(&self, right: usize) -> Counts {
        let mut counts = Counts::default();
        wait_for(WITHIN, || {
            counts = self.counts();
            (counts.wrong > 0 || counts.right >= right).then_some(())
        });
        counts
    }

    fn counts(&self) -> Counts {
        let told = self.told();
        let mut counts = Counts { none: self.sessions.len(), ..Counts::default() };
        for (exec, client) in told {
            if self.sessions.get(&exec).and_then(|stream| stream.local_addr().ok()) == Some(client) {
                counts.right += 1;
            } else {
                counts.wrong += 1;
            }
            counts.none -= 1;
        }
        counts
    }
}

/// Of sessions.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    right: usize,
    wrong: usize,
    none: usize,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.none += other.none;
    }
}

/// Small and repeatable: xorshift.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn snapshot() -> Snapshot {
    Snapshot::new(Options::default())
}

/// Clients of its accepted connections, by inode.
fn connections(pid: u32) -> BTreeMap<u64, SocketAddr> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("it runs");
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = words[2].split_once(':')?;
        let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
        Some((words[9].parse().ok()?, SocketAddr::from((address, u16::from_str_radix(port, 16).ok()?))))
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// How streams of an exec reach its client.
const STREAMS: [&str; 2] = ["spdy", "websocket"];

#[test]
fn idle_execs_lead_to_their_connections() {
    for go in Go::since(SINCE) {
        let mut runtime = Runtime::start(&go);
        for index in 0..60 {
            runtime.open(STREAMS[index % STREAMS.len()]);
        }
        let counts = runtime.check(60);
        assert_eq!((counts.right, counts.wrong), (60, 0), "{counts:?}");
        let mut without = Snapshot::new(Options { no_memory: true, ..Options::default() });
        let facts = without.answer(&Want::Fifos(runtime.key()), BootTime(1));
        assert!(facts.iter().all(|seen| matches!(seen.fact, Fact::FifoHeld { .. })), "left alone");
        eprintln!("{}: {counts:?}", go.version);
    }
}

#[test]
fn stuck_execs_lead_to_their_connections() {
    for go in Go::since(SINCE) {
        let mut runtime = Runtime::start(&go);
        for index in 0..10 {
            let exec = runtime.open(STREAMS[index % STREAMS.len()]);
            runtime.stuff(&exec);
        }
        let counts = runtime.check(10);
        assert_eq!((counts.right, counts.wrong), (10, 0), "{counts:?}");
        eprintln!("{}: {counts:?}", go.version);
    }
}

#[test]
fn what_others_left_on_stacks_names_no_stranger() {
    for go in Go::since(SINCE) {
        let mut runtime = Runtime::start(&go);
        let mut state = 7_u64;
        let mut counts = Counts::default();
        for _ in 0..8 {
            for kind in ["ended", "spdy", "ended", "opaque", "ended", "websocket"].into_iter().cycle().take(18) {
                runtime.open(kind);
            }
            let some: Vec<String> =
                runtime.sessions.keys().filter(|_| next(&mut state).is_multiple_of(3)).cloned().collect();
            for exec in some {
                runtime.close(&exec);
            }
            counts += runtime.check(1);
        }
        assert_eq!(counts.wrong, 0, "{counts:?}");
        eprintln!("{}: {counts:?}", go.version);
    }
}
