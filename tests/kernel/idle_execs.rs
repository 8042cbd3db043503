//! Connections for which FIFOs are read, from the memory of idle Go programs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use execpath::{
    model::{BootTime, Fact, TaskKey, Want, parse_fifo_path},
    source::snapshot::{Options, Snapshot},
};

use crate::{
    go_program::{Go, GoBinary, GoProgram},
    wait::{fill_up, wait_for},
};

/// First minor version of Go with known memory layouts.
const SINCE: u32 = 18;
/// Number of programs per Go version in `stale_stack_words_name_no_wrong_connection`. Each seed ends other sessions.
const SEEDS: u64 = 8;
/// Sessions in that test with `EXECPATH_SOAK`, counted at each look, and rounds per program.
const SOAK: usize = 100_000;
const ROUNDS: usize = 8;
/// First minor version of Go with a goroutine's creator in memory: only the creator shows the connection of an exec
/// with opaque output.
const CREATOR_SINCE: u32 = 21;
/// Time for the goroutines to start and block.
const WITHIN: Duration = crate::trace::DEADLINE;

/// A runtime, and its true sessions.
struct Runtime {
    program: GoProgram,
    folder: PathBuf,
    sessions: BTreeMap<String, TcpStream>,
    opaque: BTreeSet<String>,
    made: u64,
    _root: tempfile::TempDir,
}

impl Runtime {
    fn start(go: &Go) -> Self {
        Self::run(&Rc::new(GoBinary::of(go, "streams.go")))
    }

    fn run(binary: &Rc<GoBinary>) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("containers").join("c".repeat(64)).join("io/1");
        std::fs::create_dir_all(&folder).expect("a folder");
        let program = GoProgram::run(binary, &[folder.to_str().expect("text")]);
        Self { program, folder, sessions: BTreeMap::new(), opaque: BTreeSet::new(), made: 0, _root: root }
    }

    fn open(&mut self, kind: &str) -> String {
        self.made += 1;
        let exec = format!("{:064x}", self.made);
        let mut stream = TcpStream::connect(self.program.address).expect("connects");
        write!(stream, "GET /{exec}?as={kind} HTTP/1.1\r\nHost: x\r\n\r\n").expect("sends");
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).expect("an answer");
        assert_eq!(line, "ready\n");
        self.sessions.insert(exec.clone(), stream);
        if kind == "opaque" {
            self.opaque.insert(exec.clone());
        }
        exec
    }

    /// Writes to stdout and stderr until all buffers are full: the client does not read.
    fn fill_up(&self, exec: &str) {
        for stream in ["stdout", "stderr"] {
            let fifo = self.folder.join(format!("{exec}-{stream}"));
            let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("small");
            fill_up(File::options().write(true).custom_flags(flags).open(fifo).expect("the exec's FIFO"), WITHIN);
        }
    }

    /// Ends a session from its client: FIFOs and connection close, and their inodes and goroutines are reused.
    fn close(&mut self, exec: &str) {
        drop(self.sessions.remove(exec).expect("open"));
        self.opaque.remove(exec);
        let gone = |path: &Path| {
            let files = std::fs::read_dir(format!("/proc/{}/fd", self.program.pid())).expect("the runtime is running");
            files.flatten().all(|file| std::fs::read_link(file.path()).ok().as_deref() != Some(path))
        };
        for stream in ["stdout", "stderr"] {
            let path = self.folder.join(format!("{exec}-{stream}"));
            wait_for(WITHIN, || gone(&path).then_some(())).expect("the session ends");
        }
    }

    fn key(&self) -> TaskKey {
        let facts = snapshot().answer(&Want::Pid(self.program.pid()), BootTime(1));
        facts[0].task.expect("the runtime is running")
    }

    /// Client addresses that a snapshot reports for each exec.
    fn reported(&self) -> BTreeSet<(String, SocketAddr)> {
        let clients = connections(self.program.pid());
        let facts = snapshot().answer(&Want::Fifos(self.key()), BootTime(1));
        let reported = |fact| {
            let Fact::FifoAwaited { path, socket, .. } = fact else { return None };
            let exec = parse_fifo_path(path.as_str()?).expect("a FIFO of an exec").exec;
            Some((exec, clients[&socket.inode.expect("from a snapshot")]))
        };
        facts.into_iter().filter_map(|seen| reported(seen.fact)).collect()
    }

    /// Takes snapshots until `right` sessions are reported correctly, or one is wrong.
    fn check(&self, right: usize) -> Counts {
        let mut counts = Counts::default();
        wait_for(WITHIN, || {
            counts = self.counts();
            (counts.wrong > 0 || counts.right >= right).then_some(())
        });
        counts
    }

    fn counts(&self) -> Counts {
        let reported = self.reported();
        let mut counts = Counts { none: self.sessions.len(), ..Counts::default() };
        for (exec, client) in reported {
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

/// Sessions with a right, a wrong or no connection.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    right: usize,
    wrong: usize,
    none: usize,
}

impl Counts {
    fn all(self) -> usize {
        self.right + self.wrong + self.none
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.none += other.none;
    }
}

/// Small, repeatable random numbers (xorshift).
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn snapshot() -> Snapshot {
    Snapshot::new(Options::default())
}

/// Client addresses of its accepted connections, by inode.
fn connections(pid: u32) -> BTreeMap<u64, SocketAddr> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("the runtime is running");
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, port) = words[2].split_once(':')?;
        let address = u32::from_str_radix(address, 16).ok()?.to_ne_bytes();
        Some((words[9].parse().ok()?, SocketAddr::from((address, u16::from_str_radix(port, 16).ok()?))))
    };
    text.lines().skip(1).filter_map(line).collect()
}

/// Protocols between client and runtime.
const STREAMS: [&str; 2] = ["spdy", "websocket"];

#[test]
fn snapshot_finds_connections_of_idle_execs() {
    for go in Go::since(SINCE) {
        let mut runtime = Runtime::start(&go);
        for index in 0..60 {
            runtime.open(STREAMS[index % STREAMS.len()]);
        }
        let counts = runtime.check(60);
        assert_eq!((counts.right, counts.wrong), (60, 0), "{counts:?}");
        let mut without = Snapshot::new(Options { no_memory: true, ..Options::default() });
        let facts = without.answer(&Want::Fifos(runtime.key()), BootTime(1));
        assert!(facts.iter().all(|seen| matches!(seen.fact, Fact::FifoHeld { .. })), "the memory is not read");
        eprintln!("{}: {counts:?}", go.version);
    }
}

#[test]
fn snapshot_finds_connections_of_stuck_execs() {
    for go in Go::since(SINCE) {
        let mut runtime = Runtime::start(&go);
        for index in 0..10 {
            let exec = runtime.open(STREAMS[index % STREAMS.len()]);
            runtime.fill_up(&exec);
        }
        let counts = runtime.check(10);
        assert_eq!((counts.right, counts.wrong), (10, 0), "{counts:?}");
        eprintln!("{}: {counts:?}", go.version);
    }
}

/// Competes with the inspected program on every processor, until dropped.
struct Load {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let spin = || {
            let ended = Arc::clone(&ended);
            std::thread::spawn(move || while !ended.load(Ordering::Relaxed) {})
        };
        let threads = (0..processors).map(|_| spin()).collect();
        Self { ended, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

/// Sessions open and close, and leave stacks, goroutines, inodes and memory to later ones. Every known connection must
/// be found: stale words must not hide one, either.
fn reuse_names(go: &Go, binary: &Rc<GoBinary>, seed: u64, rounds: usize) -> Counts {
    let mut runtime = Runtime::run(binary);
    let mut state = seed;
    let mut counts = Counts::default();
    for round in 0..rounds {
        for kind in ["ended", "spdy", "ended", "opaque", "ended", "websocket"].into_iter().cycle().take(18) {
            runtime.open(kind);
        }
        // A soak closes fewer sessions, so that each look covers more of them.
        let share = if round < ROUNDS { 3 } else { 5 };
        let some: Vec<String> =
            runtime.sessions.keys().filter(|_| next(&mut state).is_multiple_of(share)).cloned().collect();
        for exec in some {
            runtime.close(&exec);
        }
        let unknown = if go.is_since(CREATOR_SINCE) { 0 } else { runtime.opaque.len() };
        let reported = runtime.check(runtime.sessions.len() - unknown);
        assert_eq!(
            (reported.wrong, reported.none),
            (0, unknown),
            "{}, seed {seed}, round {round}: {reported:?}",
            go.version
        );
        counts += reported;
    }
    counts
}

#[test]
fn stale_stack_words_name_no_wrong_connection() {
    let is_soak = std::env::var_os("EXECPATH_SOAK").is_some_and(|value| !value.is_empty());
    let goes = Go::since(SINCE);
    for go in &goes {
        let binary = Rc::new(GoBinary::of(go, "streams.go"));
        let _load = Load::start();
        let mut counts = Counts::default();
        let (least, rounds) = if is_soak { (SOAK.div_ceil(goes.len()), 10 * ROUNDS) } else { (0, ROUNDS) };
        for seed in 1.. {
            if seed > SEEDS && counts.all() >= least {
                break;
            }
            counts += reuse_names(go, &binary, seed, rounds);
            if is_soak {
                eprintln!("{}: seed {seed}: {counts:?}", go.version);
            }
        }
        eprintln!("{}: {counts:?}", go.version);
    }
}
