//! A live trace: probes and snapshot in, the clock and signals beside them, all into the pump. The only place that waits.

#![expect(clippy::disallowed_methods, reason = "edge: the clock is read here, once per batch, and becomes data")]

use std::{
    fmt, io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::PathBuf,
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    io::{Interest, unix::AsyncFd},
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};
use tracer_common::Counter;

use crate::{
    correlate,
    decode::decode,
    engine::{Flow, Pump, Setup, Shown},
    model::{BootTime, ClockAnchor, Degraded, Fact, HostFacts, Observation, RawText, Source, Want},
    plan::{ProbePlan, plan},
    probe_host,
    record::{self, Place, Writer},
    sink,
    source::{
        ebpf::{
            btf::KernelBtf,
            loader::{self, LoadError, Probes},
        },
        snapshot::{self, Snapshot},
    },
};

/// While records wait for their turn in the reordering window, time is told this often: a session is shown at most so much
/// later than the window asks for.
const TICK_WAITING: Duration = Duration::from_millis(3);
/// Otherwise this often: for what only time decides, and to read the loss counters.
const TICK_IDLE: Duration = Duration::from_millis(200);
/// Records taken in before questions are answered: answers come soon, and a flood cannot put them off for ever.
const BATCH: usize = 256;

/// Ports and sockets of the path, where nobody chose others; the correlator knows their roles.
const PORTS: [u16; 2] = [6443, 10250];

/// One host's side, where several hosts share a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetNs {
    /// A name, as `ip netns` has it.
    Name(String),
    /// A file.
    Path(PathBuf),
    /// That of a process.
    Pid(u32),
}

impl fmt::Display for NetNs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Pid(pid) => write!(f, "{pid}"),
        }
    }
}

impl NetNs {
    /// Its inode number.
    ///
    /// # Errors
    /// When there is no such namespace, or it may not be looked at.
    pub fn inode(&self) -> io::Result<u32> {
        let path = match self {
            Self::Name(name) => PathBuf::from("/run/netns").join(name),
            Self::Path(path) => path.clone(),
            Self::Pid(pid) => PathBuf::from(format!("/proc/{pid}/ns/net")),
        };
        let inode = std::fs::metadata(path)?.ino();
        u32::try_from(inode).map_err(|_too_large| io::Error::other("this file is no network namespace"))
    }
}

/// What a live trace was asked for.
pub struct Live {
    /// What to show, and where.
    pub setup: Setup,
    /// What changes what is found.
    pub options: correlate::Options,
    /// Which network namespace.
    pub netns: Option<NetNs>,
    /// When to stop.
    pub duration: Option<Duration>,
    /// Where to record.
    pub record: Option<Place>,
    /// The command line, for the recording.
    pub command: String,
    /// Size of the kernel's ring buffer in bytes.
    pub ring_bytes: Option<u32>,
    /// Called once, when every probe is attached and what existed before is known.
    pub ready: Option<Box<dyn FnOnce() + Send>>,
}

/// Why a trace did not come about or broke off.
#[derive(Debug)]
pub enum LiveError {
    /// The host does not allow it, or lacks something; the first of these says what.
    Host(Degraded),
    /// The network namespace is not there.
    NetNs(NetNs, io::Error),
    /// The probes cannot be loaded.
    Load(LoadError),
    /// A sink or the recording cannot be written, or the runtime cannot be started.
    Io(io::Error),
}

impl From<io::Error> for LiveError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Traces until Ctrl-C, the end of the duration, or enough was seen.
///
/// # Errors
/// When tracing is not possible here, or nothing can be written.
pub fn live(live: Live) -> Result<Shown, LiveError> {
    // One thread: the kernel's buffer is read in order, and nothing else here is slow.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Trace::start(live)?.run())
}

/// Boot time now.
#[must_use]
pub fn now() -> BootTime {
    BootTime(nanoseconds(ClockId::Boottime))
}

/// Ties boot time to UTC, as of now.
#[must_use]
pub fn anchor() -> ClockAnchor {
    ClockAnchor { boot_to_utc_ns: nanoseconds(ClockId::Realtime).saturating_sub(nanoseconds(ClockId::Boottime)) }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither clock shows a time before its beginning.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

struct Trace {
    pump: Pump,
    probes: Probes,
    ring: Ring,
    snapshot: Snapshot,
    losses: Losses,
    duration: Option<Duration>,
    ready: Option<Box<dyn FnOnce() + Send>>,
}

/// The ring buffer by its file descriptor: tokio wants an owner of it.
struct Ring(RingBuf<MapData>);

impl AsRawFd for Ring {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Counters of the object that say that something was missed, as of the last look.
#[derive(Default)]
struct Losses {
    ring_full: u64,
    watch_full: u64,
    /// Records that were not understood.
    decode: u64,
    decode_told: u64,
}

impl Trace {
    fn start(live: Live) -> Result<Self, LiveError> {
        let netns = match &live.netns {
            Some(netns) => Some(netns.inode().map_err(|error| LiveError::NetNs(netns.clone(), error))?),
            None => None,
        };
        let host = probe_host::host_facts();
        let (plan, mut degraded) = plan(&host);
        if let Some(fatal) = degraded.iter().find(|degraded| degraded.fatal) {
            return Err(LiveError::Host(fatal.clone()));
        }
        let (probes, ring) = Self::attach(&live, &plan, netns)?;
        degraded.extend(probes.failed.iter().map(|(probe, reason)| Degraded {
            code: "probe-failed".to_owned(),
            text: format!("the probe {} could not be attached ({reason})", probe.program),
            hint: format!("without it: no {}", probe.ability.token()),
            fatal: false,
        }));
        let anchor = anchor();
        let recorder = match live.record {
            Some(place) => Some(Writer::begin(
                place,
                &header(anchor, &host, &plan, &degraded, &live.options, live.netns.as_ref(), live.command),
            )?),
            None => None,
        };
        let shown = sink::Header { anchor, host, abilities: plan.abilities(), degraded };
        let pump = Pump::new(live.setup, &shown, &live.options, recorder)?;
        let snapshot = Snapshot::new(snapshot::Options {
            netns,
            ports: live.options.apiserver_port.into_iter().chain(live.options.kubelet_port).collect(),
            runtime_sockets: live.options.runtime_socket.as_deref().map(RawText::from).into_iter().collect(),
        });
        let losses = Losses::default();
        Ok(Self { pump, probes, ring: Ring(ring), snapshot, losses, duration: live.duration, ready: live.ready })
    }

    fn attach(
        live: &Live,
        plan: &ProbePlan,
        netns: Option<u32>,
    ) -> Result<(Probes, RingBuf<MapData>), LiveError> {
        let no_btf = |error: crate::source::ebpf::btf::BtfError| {
            LiveError::Host(Degraded {
                code: "no-btf".to_owned(),
                text: format!("the kernel's types cannot be read: {error}"),
                hint: "run `execpath doctor`".to_owned(),
                fatal: true,
            })
        };
        let offsets = KernelBtf::load().map_err(no_btf)?.offsets();
        let options = loader::Options {
            netns,
            ports: PORTS.into_iter().chain(live.options.apiserver_port).chain(live.options.kubelet_port).collect(),
            ring_bytes: live.ring_bytes,
        };
        loader::attach(plan, offsets, &options).map_err(LiveError::Load)
    }

    async fn run(mut self) -> Result<Shown, LiveError> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let end = self.duration.map(|duration| Instant::now() + duration);
        // Probes first, snapshot second: what happens in between is seen twice, never missed.
        let mut flow = Flow::Continue;
        for seen in self.snapshot.take(now()) {
            flow = flow.or(self.pump.take(seen)?);
        }
        flow = flow.or(self.answer()?);
        if let Some(ready) = self.ready.take() {
            ready();
        }
        let ring = AsyncFd::with_interest(self.ring, Interest::READABLE)?;
        let mut this = Running { ring, pump: self.pump, probes: self.probes, snapshot: self.snapshot, losses: self.losses };
        let mut next_tick = Instant::now();
        while flow == Flow::Continue {
            flow = tokio::select! {
                biased;
                _ = interrupt.recv() => Flow::Stop,
                _ = terminate.recv() => Flow::Stop,
                () = sleep_until(end.unwrap_or(next_tick)), if end.is_some() => Flow::Stop,
                () = sleep_until(next_tick) => {
                    let flow = this.tick()?;
                    next_tick = Instant::now() + this.until_tick();
                    flow
                }
                batch = this.batch() => {
                    let flow = batch?;
                    next_tick = next_tick.min(Instant::now() + this.until_tick());
                    flow
                }
            };
        }
        this.stop()
    }
}
