//! The probes under test, and the facts they reported.

use std::{
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::{
            fs::MetadataExt,
            net::{UnixListener, UnixStream},
        },
    },
    sync::{Once, OnceLock},
    time::{Duration, Instant},
};

use aya::maps::{MapData, RingBuf};
use execpath::{
    decode::decode,
    model::{Fact, Observation, SocketId, TaskKey, WatchAs},
    plan::{ProbePlan, Road, plan},
    probe_host,
    source::ebpf::{
        btf::{KernelBtf, Layout},
        loader::{self, LoadError, Options, Probes},
    },
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Maximum time of any wait. On an idle machine conditions hold within milliseconds, on an emulated one within seconds.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Environment variable with the road of every test that names none.
const ROAD_VARIABLE: &str = "EXECPATH_ROAD";

/// Capabilities of this host, probed once.
fn host() -> &'static (ProbePlan, Layout) {
    static HOST: OnceLock<(ProbePlan, Layout)> = OnceLock::new();
    HOST.get_or_init(|| {
        let btf = KernelBtf::load().expect("the kernel shows its types");
        let (plan, missing) = plan(&probe_host::probe(Some(&btf)));
        let fatal: Vec<_> = missing.iter().filter(|one| one.fatal).collect();
        assert!(fatal.is_empty(), "these tests need root and a kernel that can be traced: {fatal:?}");
        (plan, btf.layout())
    })
}

/// Attached probes and the records read so far.
pub(crate) struct Trace {
    pub(crate) probes: Probes,
    ring: RingBuf<MapData>,
    /// Decoded records.
    pub(crate) seen: Vec<Observation>,
    pub(crate) raw: Vec<Vec<u8>>,
    markers: u32,
}

impl Trace {
    /// Attaches for this network namespace. Only processes acting on these ports are watched.
    pub(crate) fn on_ports(ports: &[u16]) -> Self {
        Self::with(&Options { netns: Some(own_namespace("net")), ports: ports.to_vec(), ..Options::default() })
    }

    pub(crate) fn with(options: &Options) -> Self {
        Self::try_with(options).expect("the probes attach")
    }

    /// Attaches by the road that `EXECPATH_ROAD` names, if it is set and the options name none.
    pub(crate) fn try_with(options: &Options) -> Result<Self, LoadError> {
        let (plan, layout) = host();
        let forced = std::env::var(ROAD_VARIABLE).ok().map(|token| Road::from_token(&token).expect("a road"));
        let options = Options { road: options.road.or(forced), ..options.clone() };
        let (probes, ring) = loader::attach(plan, layout, &options)?;
        assert!(probes.failed.is_empty(), "probes that did not attach: {:?}", probes.failed);
        static REPORTED: Once = Once::new();
        REPORTED.call_once(|| eprintln!("road: {}", probes.road.map_or("none", Road::token)));
        Ok(Self { probes, ring, seen: Vec::new(), raw: Vec::new(), markers: 0 })
    }

    pub(crate) fn watch(&mut self, pid: u32, class: WatchAs) {
        self.probes.watch(pid, own_namespace("mnt"), class).expect("the map has room");
    }

    /// Reads all available records.
    pub(crate) fn drain(&mut self) {
        while let Some(record) = self.ring.next() {
            self.seen.push(decode(&record).unwrap_or_else(|error| panic!("{error:?} in {:?}", &*record)));
            self.raw.push(record.to_vec());
        }
    }

    /// Waits until `find` returns a value for an observation.
    pub(crate) fn wait<T>(&mut self, what: &str, find: impl Fn(&Observation) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            self.drain();
            if let Some(found) = self.seen.iter().find_map(&find) {
                return found;
            }
            assert!(Instant::now() < end, "not seen: {what}; seen: {:#?}", self.seen);
            // SAFETY: the ring buffer is open for as long as it is borrowed here.
            let fd = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) };
            let wake = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
            // A signal only shortens the wait.
            let _ready = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&wake));
        }
    }

    /// Reads all records of earlier events: the buffer is ordered, and an act of this process marks its end.
    pub(crate) fn settle(&mut self) {
        self.markers += 1;
        if self.probes.watched_as(std::process::id()).is_none() {
            self.watch(std::process::id(), WatchAs::Endpoint);
        }
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(format!("marker-{}", self.markers));
        let listener = UnixListener::bind(&path).expect("a unix socket");
        let _near = UnixStream::connect(&path).expect("connects");
        drop(listener);
        let marker = path.to_string_lossy().into_owned();
        self.wait("the marker", |seen| is_marker(seen, &marker).then_some(()));
    }

    /// All observations except markers.
    pub(crate) fn facts(&self) -> Vec<&Observation> {
        self.seen.iter().filter(|seen| !is_marker(seen, "/marker-")).collect()
    }

    /// Observations of this process, without markers.
    pub(crate) fn of(&self, pid: u32) -> Vec<&Observation> {
        self.facts().into_iter().filter(|seen| seen.task.is_some_and(|task| task.tgid == pid)).collect()
    }
}

fn is_marker(seen: &Observation, path: &str) -> bool {
    match &seen.fact {
        Fact::UnixConnected { path: of, .. } | Fact::UnixAccepted { path: of, .. } => of.to_text().contains(path),
        _ => false,
    }
}

/// Inode number of a namespace of this process.
pub(crate) fn own_namespace(kind: &str) -> u32 {
    namespace(std::process::id(), kind)
}

pub(crate) fn namespace(pid: u32, kind: &str) -> u32 {
    let inode = std::fs::metadata(format!("/proc/{pid}/ns/{kind}")).expect("a namespace").ino();
    u32::try_from(inode).expect("32 bits")
}

/// The process's key from procfs: the second source of this key.
pub(crate) fn key(pid: u32) -> TaskKey {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process is running");
    let behind = stat.rsplit_once(')').expect("a name").1;
    let start = behind.split_whitespace().nth(19).and_then(|word| word.parse().ok()).expect("field 22");
    TaskKey::from_ticks(pid, start)
}

/// Cookie and inode of a socket, from the owner's descriptor.
pub(crate) fn names(socket: impl AsFd) -> SocketId {
    let cookie = rustix::net::sockopt::socket_cookie(&socket).expect("SO_COOKIE");
    let inode = rustix::fs::fstat(&socket).expect("fstat").st_ino;
    SocketId::new(cookie, inode)
}
