//! A runtime in Go: the FIFOs that its goroutines read, and the processes they start.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use aya::sys::{Stats, enable_stats};
use execpath::model::{Fact, FileId, Program, WatchAs};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{
    go_program::{Go, GoProgram},
    trace::Trace,
};

/// First minor version of Go with a known goroutine id.
const MINOR: u32 = 17;

struct DaemonFixture {
    daemon: GoProgram,
    trace: Trace,
    folder: tempfile::TempDir,
}

/// A FIFO that can be written to, and the connection to which the daemon copies it.
struct Stream {
    path: PathBuf,
    writer: File,
    client: TcpStream,
}

impl DaemonFixture {
    fn new(go: &Go, class: WatchAs, program: &Program) -> Self {
        let daemon = GoProgram::start(go, "daemon.go", &[]);
        let mut trace = Trace::on_ports(&[]);
        trace.watch(daemon.pid(), class);
        trace.probes.set_program(daemon.pid(), program).expect("the map can be written");
        Self { daemon, trace, folder: tempfile::tempdir().expect("a folder") }
    }

    fn stream(&mut self, verb: &str, name: &str) -> Stream {
        let path = self.folder.path().join(name);
        mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        self.stream_of(verb, path)
    }

    fn stream_of(&mut self, verb: &str, path: PathBuf) -> Stream {
        let mut writer = File::options().read(true).write(true).open(&path).expect("opens");
        writer.write_all(b"x").expect("there is room");
        let client = TcpStream::connect(self.daemon.address).expect("connects");
        self.daemon.request(&format!("{verb} {}", path.display()));
        let mut stream = Stream { path, writer, client };
        stream.client.read_exact(&mut [0]).expect("the first byte");
        stream
    }

    /// Reported pairs of FIFO and connection. Each is reported once.
    fn reported(&mut self) -> BTreeSet<(FileId, SocketAddr)> {
        self.trace.settle();
        let mut reported = BTreeSet::new();
        for seen in self.trace.of(self.daemon.pid()) {
            if let Fact::FifoRelayed { actor, fifo, to } = seen.fact {
                assert!(actor.g.is_some() && actor.goid.is_some(), "{seen:?}");
                assert!(reported.insert((fifo, to.tuple.expect("TCP").remote)), "reported twice: {seen:?}");
            }
        }
        reported
    }

    /// Run count of the probe of read(2).
    fn runs(&self) -> u64 {
        let programs = self.trace.probes.programs();
        let read = programs.into_iter().find(|(name, _)| *name == execpath::plan::READ);
        read.expect("the probe is loaded").1.run_count()
    }
}

impl Stream {
    fn pass(&mut self) {
        self.writer.write_all(b"y").expect("there is room");
        self.client.read_exact(&mut [0]).expect("the byte is copied");
    }

    fn join(&self) -> (FileId, SocketAddr) {
        let meta = Path::new(&self.path).metadata().expect("the FIFO");
        (FileId::from_stat(meta.dev(), meta.ino()), self.client.local_addr().expect("local"))
    }
}

#[test]
fn read_probe_pairs_copied_fifo_with_connection() {
    let _counted = enable_stats(Stats::RunTime).expect("the kernel counts");
    for go in Go::since(MINOR) {
        let mut fixture = DaemonFixture::new(&go, WatchAs::Daemon, &go.program());
        // Both goroutines already block in read(2) when the probe of reads attaches.
        let (mut one, mut two) = (fixture.stream("copy", "one"), fixture.stream("copy", "two"));
        assert_eq!((fixture.runs(), fixture.reported()), (0, BTreeSet::new()), "reads are not watched yet");
        fixture.trace.probes.watch_reads(true).expect("attaches");
        fixture.trace.probes.watch_reads(true).expect("once is enough");
        one.pass();
        assert_eq!(fixture.reported(), [one.join()].into(), "{}", go.version);
        for _ in 0..3 {
            two.pass();
            one.pass();
        }
        let three = fixture.stream("copy", "three");
        let all: BTreeSet<_> = [one.join(), two.join(), three.join()].into();
        assert_eq!(fixture.reported(), all, "{}", go.version);
        // A pipe, as the runtime has for each stream of a runc that stays.
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let pipe = fixture.stream_of("copy", format!("/proc/{}/fd/{}", std::process::id(), reader.as_raw_fd()).into());
        let all: BTreeSet<_> = [one.join(), two.join(), three.join(), pipe.join()].into();
        assert_eq!(fixture.reported(), all, "{}", go.version);
        drop(writer);
        // A goroutine that read from another file in between is not paired.
        let _other = fixture.stream("swap", "swapped");
        assert_eq!(fixture.reported(), all, "{}", go.version);
        fixture.trace.probes.watch_reads(false).expect("detaches");
        let runs = fixture.runs();
        assert!(runs > 0);
        let _four = fixture.stream("copy", "four");
        one.pass();
        assert_eq!((fixture.runs(), fixture.reported()), (runs, all), "reads are not watched any more");
        // Attaching works a second time.
        fixture.trace.probes.watch_reads(true).expect("attaches again");
        let five = fixture.stream("copy", "five");
        assert!(fixture.reported().contains(&five.join()), "{}", go.version);
        fixture.trace.probes.watch_reads(false).expect("detaches");
    }
}

#[test]
fn read_probe_ignores_endpoints_and_unknown_versions() {
    let Some(go) = Go::since(MINOR).into_iter().next() else { return };
    let mut endpoint = DaemonFixture::new(&go, WatchAs::Endpoint, &go.program());
    endpoint.trace.probes.watch_reads(true).expect("attaches");
    endpoint.stream("copy", "one").pass();
    assert_eq!(endpoint.reported(), BTreeSet::new(), "FIFOs of an endpoint are not reported");
    let mut unknown = DaemonFixture::new(&go, WatchAs::Daemon, &Program::Go("devel".to_owned()));
    unknown.trace.probes.watch_reads(true).expect("attaches");
    unknown.stream("copy", "one").pass();
    assert_eq!(unknown.reported(), BTreeSet::new(), "a goroutine without a known id is not paired");
}

#[test]
fn fork_reports_goroutine_and_served_connection() {
    for go in Go::since(MINOR) {
        let mut fixture = DaemonFixture::new(&go, WatchAs::Daemon, &go.program());
        let mut clients: Vec<TcpStream> = Vec::new();
        for _ in 0..3 {
            let mut client = TcpStream::connect(fixture.daemon.address).expect("connects");
            client.write_all(b"x").expect("sends");
            clients.push(client);
            fixture.daemon.request("serve");
        }
        fixture.trace.settle();
        let of_it = fixture.trace.of(fixture.daemon.pid());
        let mut served = Vec::new();
        for seen in &fixture.trace.seen {
            let (Fact::Exec(info), Some(task)) = (&seen.fact, seen.task) else { continue };
            assert_eq!(info.argv.len(), 1, "true(1): {info:?}");
            let fork = of_it.iter().find_map(|seen| match seen.fact {
                Fact::Fork { child, actor, inbound } if child == task => Some((actor, inbound)),
                _ => None,
            });
            let (actor, inbound) = fork.expect("forked before");
            assert!(actor.g.is_some() && actor.goid.is_some(), "{actor:?}");
            let remote = of_it.iter().find_map(|seen| match seen.fact {
                Fact::Accepted { socket } if Some(socket.id) == inbound => socket.tuple.map(|tuple| tuple.remote),
                _ => None,
            });
            served.push(remote.expect("accepted before"));
        }
        let expected: Vec<_> = clients.iter().map(|client| client.local_addr().expect("local")).collect();
        assert_eq!(served, expected, "{}", go.version);
    }
}
