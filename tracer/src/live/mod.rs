//! A live trace: probes and snapshot in, the clock and signals beside them, all into the pump. The only place that waits.
//!
//! Each turn of the loop is bounded (`TURN`), whatever arrives meanwhile: a signal ends the trace between two steps of a
//! turn, and processes are watched before any other question is answered.

mod losses;
mod priority;
mod questions;
mod stop;

use std::{
    collections::BTreeSet,
    fmt, io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::PathBuf,
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use rustix::time::{ClockId, clock_gettime};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep, sleep_until},
};

use self::{
    losses::Losses,
    priority::Raised,
    questions::{Next, Questions},
    stop::Stop,
};
use crate::{
    correlate,
    decode::decode,
    engine::{Flow, Pump, Seen, Setup, Shown},
    model::{
        BootTime, ClockAnchor, Degraded, Fact, HostFacts, LATE_START, Observation, Source, Span, TaskKey, UNANSWERED,
        Want, WatchAs,
    },
    plan::{ProbePlan, plan},
    probe_host,
    record::{self, Place, Writer},
    sink,
    source::{
        audit::AuditLog,
        ebpf::{
            btf::{BtfError, KernelBtf},
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

/// How often the audit log is looked at. What is read 250 ms after it was written may be of any time between, and tells sessions apart
/// no more (`AUDIT_SKEW`): on a machine that has much else to do most of that is needed.
const AUDIT_EVERY: Duration = Duration::from_millis(50);
/// After the end of the audit log was read, what it says of sessions older than the tracer is known within this time.
pub(crate) const AUDIT_TAKEN_IN: Duration = Duration::from_millis(110);

/// Whoever watches is told of a change at most this often: faster than an eye sees.
const WATCHED: Duration = Duration::from_millis(100);
/// After the last session ended, what it left behind is measured for so long: a leftover is one that stays.
const MEASURED_AFTER: Duration = Duration::from_secs(60);
/// Of the time, measuring may take one in so many.
const SHARE: u32 = 10;

/// Longest time that a turn reads records and answers questions. What is left waits for the next turn, behind signals, the
/// counters of losses and a tick.
const TURN: Duration = Duration::from_millis(500);

/// Longest time after the probes are attached until the daemons are watched. A longer one is reported as the loss `late-start`.
const WATCHED_WITHIN: Span = Span::from_secs(2);

/// Longest time after the probes are attached until what existed before is shown. Questions that are not answered by then are
/// reported as the loss `unanswered`, and answered afterwards.
const START_WITHIN: Duration = Duration::from_secs(10);

/// The sessions that are open are measured once more at the end, unless the last turn took this long.
const END_WITHIN: Duration = Duration::from_secs(1);

/// How often the kernel's maps are searched for entries of processes that have exited.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

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

/// Somebody who wants to see how things stand, again and again.
pub struct Watcher {
    /// So often where nothing changes; what changes is told at once, at most ten times a second.
    pub every: Duration,
    /// Told how things stand; says whether to go on. Records wait meanwhile, so it should hand on and return.
    pub tell: Box<dyn FnMut(Seen) -> Flow + Send>,
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
    /// How often to measure the sessions that are open; `None`: never. Numbers older than a minute are forgotten.
    pub measure: Option<Duration>,
    /// Who is told how things stand, besides the sinks.
    pub watcher: Option<Watcher>,
    /// Where to record.
    pub record: Option<Place>,
    /// The command line, for the recording.
    pub command: String,
    /// Size of the kernel's ring buffer in bytes.
    pub ring_bytes: Option<u32>,
    /// Where the bundles of containers are, instead of the well-known folders: `FOLDER/<namespace>/<id>/config.json`.
    pub bundles: Option<String>,
    /// Leave the memory of the daemons alone.
    pub no_memory: bool,
    /// The API server's audit log, where it may be read.
    pub audit_log: Option<AuditLog>,
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
    /// The kernel's types cannot be read.
    Btf(BtfError),
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

/// Traces until Ctrl-C (or SIGTERM), the end of the duration, or enough was seen.
///
/// # Errors
/// When tracing is not possible here, or nothing can be written.
pub fn live(live: Live) -> Result<Shown, LiveError> {
    let _raised = Raised::new();
    // One thread: the kernel's buffer is read in order, and nothing else here is slow.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Trace::start(live)?.run())
}

/// What this host allows, by asking and then by attaching every probe once, for a moment.
#[must_use]
pub fn examine() -> (HostFacts, ProbePlan, Vec<Degraded>) {
    let btf = KernelBtf::load();
    let host = probe_host::probe(btf.as_ref().ok());
    let (plan, mut degraded) = plan(&host);
    if let (Ok(btf), false) = (btf, degraded.iter().any(|degraded| degraded.fatal)) {
        match loader::attach(&plan, btf.offsets(), &loader::Options::default()) {
            Ok((probes, _ring)) => degraded.extend(failed(&probes)),
            Err(error) => degraded.push(Degraded {
                code: "refused".to_owned(),
                text: error.to_string().lines().next().unwrap_or_default().to_owned(),
                hint: "`execpath -v trace` shows what the kernel said".to_owned(),
                fatal: true,
            }),
        }
    }
    (host, plan, degraded)
}

/// Probes that the plan had and the kernel refused, where the trace goes on without them.
fn failed(probes: &Probes) -> impl Iterator<Item = Degraded> + '_ {
    probes.failed.iter().map(|(probe, reason)| Degraded {
        code: "probe-failed".to_owned(),
        text: format!(
            "the probe {} could not be attached ({})",
            probe.program,
            reason.lines().next().unwrap_or_default()
        ),
        hint: format!("without it, execpath cannot {}", probe.ability.prose()),
        fatal: false,
    })
}

/// Boot time now.
#[must_use]
pub fn now() -> BootTime {
    BootTime(nanoseconds(ClockId::Boottime))
}

/// Ties boot time to UTC, as of now.
#[must_use]
pub fn anchor() -> ClockAnchor {
    // The two are not read at one instant: where something came in between, they are read again.
    const CLOSE: u64 = 20_000;
    const TRIES: usize = 10;
    let looks = (0..TRIES).map(|_| {
        let before = nanoseconds(ClockId::Boottime);
        let utc = nanoseconds(ClockId::Realtime);
        (nanoseconds(ClockId::Boottime).saturating_sub(before), utc.saturating_sub(before))
    });
    let mut best = (u64::MAX, 0);
    for look in looks {
        best = best.min(look);
        if best.0 <= CLOSE {
            break;
        }
    }
    ClockAnchor { boot_to_utc_ns: best.1 }
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither clock shows a time before its beginning.
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

struct Trace {
    pump: Pump,
    probes: Probes,
    ring: RingBuf<MapData>,
    snapshot: Snapshot,
    losses: Losses,
    questions: Questions,
    /// When the probes were attached.
    attached: BootTime,
    /// Time of the newest record that was read.
    newest: BootTime,
    sweeping: Again,
    stop: Stop,
    /// Whether the last turn has begun.
    closing: bool,
    audit_log: Option<AuditLog>,
    audit_read: Instant,
    measuring: Option<Measuring>,
    watching: Option<Watching>,
    duration: Option<Duration>,
    ready: Option<Box<dyn FnOnce() + Send>>,
}

/// Something that is done again and again.
struct Again {
    every: Duration,
    next: Instant,
}

impl Again {
    fn new(every: Duration) -> Self {
        Self { every, next: Instant::now() }
    }

    /// Done, and when it was begun: what takes long is done less often. Two measurements must not be closer than was asked for.
    fn done(&mut self, began: Instant) {
        self.next = Instant::now() + self.every.max(began.elapsed() * SHARE);
    }
}

struct Measuring {
    again: Again,
    /// Until when, where nothing is open any more.
    until: Instant,
}

struct Watching {
    watcher: Watcher,
    again: Again,
    /// [`Pump::told`] when it was told last.
    told: u64,
}

impl Trace {
    fn start(live: Live) -> Result<Self, LiveError> {
        let netns = match &live.netns {
            Some(netns) => Some(netns.inode().map_err(|error| LiveError::NetNs(netns.clone(), error))?),
            None => None,
        };
        let btf = KernelBtf::load();
        let host = probe_host::probe(btf.as_ref().ok());
        let (plan, mut degraded) = plan(&host);
        if let Some(fatal) = degraded.iter().find(|degraded| degraded.fatal) {
            return Err(LiveError::Host(fatal.clone()));
        }
        let (probes, ring) = Self::attach(&live, &plan, btf, netns)?;
        degraded.extend(failed(&probes));
        let attached = now();
        let anchor = anchor();
        let head = header(anchor, &host, &plan, &degraded, &live);
        let recorder = live.record.map(|place| Writer::begin(place, &head)).transpose()?;
        let shown = sink::Header { anchor, host, others: Vec::new(), abilities: plan.abilities(), degraded };
        let pump = Pump::new(live.setup, shown, &live.options, recorder);
        let snapshot = Snapshot::new(snapshot::Options {
            netns,
            places: live.options.places(),
            bundles: live.bundles,
            no_memory: live.no_memory,
            ..snapshot::Options::default()
        });
        let losses = Losses::default();
        let stop = Stop::on_signals()?;
        let (audit_log, audit_read) = (live.audit_log, Instant::now());
        Ok(Self {
            pump,
            probes,
            ring,
            snapshot,
            losses,
            questions: Questions::default(),
            attached,
            newest: BootTime::default(),
            sweeping: Again::new(SWEEP_EVERY),
            stop,
            closing: false,
            audit_log,
            audit_read,
            measuring: live.measure.map(|every| Measuring { again: Again::new(every), until: Instant::now() }),
            watching: live.watcher.map(|watcher| Watching {
                again: Again::new(watcher.every.min(WATCHED)),
                watcher,
                told: 0,
            }),
            duration: live.duration,
            ready: live.ready,
        })
    }

    fn attach(
        live: &Live,
        plan: &ProbePlan,
        btf: Result<KernelBtf, BtfError>,
        netns: Option<u32>,
    ) -> Result<(Probes, RingBuf<MapData>), LiveError> {
        let offsets = btf.map_err(LiveError::Btf)?.offsets();
        let options = loader::Options {
            netns,
            ports: live.options.places().ports().collect(),
            ring_bytes: live.ring_bytes,
            ..loader::Options::default()
        };
        loader::attach(plan, offsets, &options).map_err(LiveError::Load)
    }

    async fn run(mut self) -> Result<Shown, LiveError> {
        let end = self.duration.and_then(|duration| Instant::now().checked_add(duration));
        let readable = self.readable()?;
        let mut flow = self.begin().await?;
        let mut next_tick = Instant::now();
        let mut timed_out = false;
        while flow == Flow::Continue {
            flow = tokio::select! {
                biased;
                () = self.stop.asked() => Flow::Stop,
                () = sleep_until(end.unwrap_or(next_tick)), if end.is_some() => {
                    timed_out = true;
                    Flow::Stop
                }
                () = sleep_until(next_tick) => {
                    let flow = self.tick()?;
                    next_tick = Instant::now() + self.until_tick();
                    flow
                }
                guard = readable.readable() => {
                    let (flow, drained) = self.batch(Instant::now() + TURN)?;
                    if drained {
                        guard?.clear_ready();
                    }
                    next_tick = next_tick.min(Instant::now() + self.until_tick());
                    flow
                }
            };
        }
        self.stop().map(|shown| Shown { timed_out, ..shown })
    }

    /// Waits for records: on a file descriptor of its own, because the buffer itself must be borrowed to be read.
    fn readable(&self) -> io::Result<AsyncFd<OwnedFd>> {
        // SAFETY: the ring buffer is open for as long as it is borrowed here.
        let fd = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }.try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` stays open, and the same, until it is dropped.
        unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
    }

    /// Probes first; then daemons are watched; then everything is looked at: what happens in between is seen twice, never missed.
    /// The header is shown when all that is there is known: whoever waits for it knows that nothing is missed from then on.
    async fn begin(&mut self) -> Result<Flow, LiveError> {
        let deadline = Instant::now() + START_WITHIN;
        let daemons = self.watch_daemons(deadline).await?;
        let mut flow = Flow::Continue;
        let found = if self.is_stopped() { Vec::new() } else { self.snapshot.take(now()) };
        for seen in found {
            self.track(&seen);
            flow = flow.or(self.pump.take(seen)?);
        }
        for daemon in daemons {
            flow = flow.or(self.pump.take(Observation::of(now(), Source::Snapshot, daemon, Fact::Looked))?);
        }
        // After the snapshot: what is over by then was no session of it.
        if let Some(log) = &mut self.audit_log {
            for fact in log.begin(now(), anchor())? {
                flow = flow.or(self.pump.take(Observation::new(now(), Source::Snapshot, fact))?);
            }
        }
        // First the snapshot has to pass the reordering window, then the answers to the questions that it raised; then what the
        // audit log has for these is known.
        let audited = if self.audit_log.is_some() { AUDIT_TAKEN_IN } else { Duration::ZERO };
        for more in [Duration::ZERO, audited] {
            let until = now().plus(Span(u64::try_from(more.as_nanos()).unwrap_or(0)));
            flow = flow.or(self.settle(until, deadline).await?);
        }
        let unanswered = self.questions.len() as u64;
        if unanswered > 0 && !self.is_stopped() {
            let lost = Fact::Lost { what: UNANSWERED.to_owned(), count: unanswered };
            flow = flow.or(self.pump.take(Observation::new(now(), Source::Engine, lost))?);
        }
        flow = flow.or(self.pump.begin()?);
        if let Some(ready) = self.ready.take() {
            ready();
        }
        Ok(flow)
    }

    /// Sees to it that the daemons that are there are watched, and tells which. What they have open is looked at afterwards: nothing
    /// that one of them begins with then is missed by both.
    async fn watch_daemons(&mut self, deadline: Instant) -> Result<BTreeSet<TaskKey>, LiveError> {
        let mut daemons = BTreeSet::new();
        for seen in self.snapshot.listeners(now()) {
            if let Fact::ListeningUnix { listener: Some(listener), .. } = &seen.fact
                && listener.serves_at().is_some()
            {
                daemons.extend(seen.task);
            }
            self.pump.take(seen)?;
        }
        // Questions about strangers wait: until the daemons are watched, what they do is not seen.
        let until = now();
        while self.pump.settled() < until && self.goes_on(deadline) {
            sleep(TICK_WAITING).await;
            let at = now();
            let (_flow, drained) = self.read(Instant::now() + TURN)?;
            self.tell_time_of(at, drained)?;
            self.watch_asked();
        }
        let took = now().since(self.attached);
        if took > WATCHED_WITHIN {
            let lost = Fact::Lost { what: LATE_START.to_owned(), count: took.as_millis() };
            self.pump.take(Observation::new(now(), Source::Engine, lost))?;
        }
        for daemon in &daemons {
            self.pump.take(Observation::of(now(), Source::Snapshot, *daemon, Fact::Watched))?;
        }
        Ok(daemons)
    }

    /// Whether a signal asked for the end, and the end has not begun.
    fn is_stopped(&self) -> bool {
        !self.closing && self.stop.is_asked()
    }

    /// Whether a phase of the start goes on: no signal arrived, and there is time left.
    fn goes_on(&self, deadline: Instant) -> bool {
        !self.is_stopped() && Instant::now() < deadline
    }

    /// Lets time pass until everything before then was taken in, and what followed from it was answered.
    async fn settle(&mut self, until: BootTime, deadline: Instant) -> Result<Flow, LiveError> {
        let mut flow = Flow::Continue;
        while (self.pump.settled() < until || self.questions.len() > 0) && self.goes_on(deadline) {
            sleep(TICK_WAITING).await;
            flow = flow.or(self.tick()?);
        }
        Ok(flow)
    }

    /// Takes in what the ring buffer holds, at most [`BATCH`] records, and answers the questions that come up, up to that
    /// time. Returns whether the buffer was empty at the end.
    fn batch(&mut self, until: Instant) -> Result<(Flow, bool), LiveError> {
        let (flow, drained) = self.read_batch()?;
        Ok((flow.or(self.answer(until)?), drained))
    }

    /// Takes in at most [`BATCH`] records. Returns whether the buffer was empty at the end.
    fn read_batch(&mut self) -> Result<(Flow, bool), LiveError> {
        let mut flow = Flow::Continue;
        for read in 0..BATCH {
            flow = flow.or(self.read_audit_log()?);
            let Some(record) = self.ring.next() else { return Ok((flow, true)) };
            match decode(&record) {
                Ok(seen) => {
                    if read == 0 {
                        self.losses.read(seen.at, now());
                    }
                    self.newest = self.newest.max(seen.at);
                    flow = flow.or(self.pump.take(seen)?);
                }
                Err(error) => {
                    self.losses.add("not-understood");
                    tracing::debug!(?error, bytes = record.len(), "a record was not understood");
                }
            }
        }
        Ok((flow, false))
    }

    /// Takes in what the ring buffer holds, up to that time, and answers nothing. Returns whether the buffer was empty at
    /// the end.
    fn read(&mut self, until: Instant) -> Result<(Flow, bool), LiveError> {
        let mut flow = Flow::Continue;
        loop {
            let (enough, drained) = self.read_batch()?;
            flow = flow.or(enough);
            if drained || Instant::now() >= until || self.is_stopped() {
                return Ok((flow, drained));
            }
        }
    }

    /// Answers questions up to that time, at least one. An answer may raise the next question; questions are asked once, so
    /// this ends.
    fn answer(&mut self, until: Instant) -> Result<Flow, LiveError> {
        let mut flow = Flow::Continue;
        while flow == Flow::Continue && !self.is_stopped() {
            self.take_questions();
            let Some(next) = self.questions.next() else { break };
            flow = flow.or(self.read_audit_log()?);
            let found = match next {
                Next::One(Want::Watch(task, class)) => {
                    self.watch(task, class);
                    continue;
                }
                Next::One(want) => self.snapshot.answer(&want, now()),
                Next::Peers(wants) => self.snapshot.answers(&wants, now()),
            };
            for seen in found {
                self.enrolled(&seen);
                self.track(&seen);
                flow = flow.or(self.pump.take(seen)?);
            }
            if Instant::now() >= until {
                break;
            }
        }
        // Whatever is left, processes to be watched do not wait.
        self.watch_asked();
        Ok(flow)
    }

    /// Watches the processes that the correlator asked for.
    fn watch_asked(&mut self) {
        self.take_questions();
        while let Some(Want::Watch(task, class)) = self.questions.next_watch() {
            self.watch(task, class);
        }
    }

    fn take_questions(&mut self) {
        let refused = self.questions.extend(self.pump.wants());
        for _ in 0..refused {
            self.losses.add("questions-full");
        }
    }

    fn watch(&mut self, task: TaskKey, class: WatchAs) {
        // Asked before and after: a pid that changed hands in between must not be watched.
        let Some(mntns) = self.snapshot.mount_namespace(task) else { return };
        let mut watched = self.probes.watch(task.tgid, mntns, class);
        if let Some(program) = self.snapshot.program(task) {
            watched = watched.and_then(|()| self.probes.set_program(task.tgid, &program));
        }
        if let Err(error) = watched {
            self.losses.add("watch-full");
            tracing::warn!(tgid = task.tgid, %error, "a process cannot be watched");
        }
        if self.snapshot.mount_namespace(task).is_none() {
            self.probes.unwatch(task.tgid);
        }
    }

    /// A process that the kernel enrolled by itself: what it was built with is in the file, not in the process.
    fn enrolled(&mut self, seen: &Observation) {
        if let (Fact::ProcessSeen(info), Some(task)) = (&seen.fact, seen.task)
            && let Some(program) = &info.program
            && let Err(error) = self.probes.set_program(task.tgid, program)
        {
            tracing::debug!(tgid = task.tgid, %error, "the kernel cannot be told of a program");
        }
    }

    /// A connection that was there before the probes: its end is told from now on.
    fn track(&mut self, seen: &Observation) {
        if let (Fact::SocketSeen { socket }, Some(task)) = (&seen.fact, seen.task)
            && let Err(error) = self.probes.track(socket.id, task, socket.role)
        {
            self.losses.add("tracked-full");
            tracing::debug!(tgid = task.tgid, %error, "the end of a connection will not be told");
        }
    }

    /// Takes in what is there, lets time pass, and reports losses.
    fn tick(&mut self) -> Result<Flow, LiveError> {
        let until = Instant::now() + TURN;
        self.probes.flush_log();
        let at = now();
        let mut flow = Flow::Continue;
        let drained = loop {
            let (enough, drained) = self.batch(until)?;
            flow = flow.or(enough);
            if drained || Instant::now() >= until || self.is_stopped() {
                break drained;
            }
        };
        flow = flow.or(self.tell_time_of(at, drained)?);
        flow = flow.or(self.answer(until)?).or(self.measure_again()?).or(self.tell());
        if let Err(error) = self.probes.watch_reads(self.pump.needs_reads()) {
            tracing::warn!(%error, "reads of FIFOs cannot be watched");
        }
        if Instant::now() >= self.sweeping.next {
            let began = Instant::now();
            self.probes.sweep();
            self.sweeping.done(began);
        }
        Ok(flow)
    }

    /// Reports losses, and that time passed up to `at`. Where the buffer holds more (`drained` is false), time stands at the
    /// newest record: time may pass only where everything older is read.
    fn tell_time_of(&mut self, at: BootTime, drained: bool) -> Result<Flow, LiveError> {
        let mut flow = Flow::Continue;
        for (what, count) in self.losses.look(&self.probes) {
            let lost = Fact::Lost { what: what.to_owned(), count };
            flow = flow.or(self.pump.take(Observation::new(at, Source::Engine, lost))?);
        }
        let at = if drained { at } else { at.min(self.newest) };
        Ok(flow.or(self.pump.take(Observation::new(at, Source::Engine, Fact::Tick))?))
    }

    /// Looks at the audit log, where it is time: between records and between answers, which all together may take long.
    fn read_audit_log(&mut self) -> Result<Flow, LiveError> {
        let mut flow = Flow::Continue;
        let Some(log) = self.audit_log.as_mut().filter(|_| self.audit_read.elapsed() >= AUDIT_EVERY) else {
            return Ok(flow);
        };
        self.audit_read = Instant::now();
        // The clock is read after the log: what stands there was written before.
        for fact in log.poll(anchor()) {
            flow = flow.or(self.pump.take(Observation::new(now(), Source::Snapshot, fact))?);
        }
        Ok(flow)
    }

    /// Measures, where it is time. While nothing is open, and nothing was lately, there is nothing to measure.
    fn measure_again(&mut self) -> Result<Flow, LiveError> {
        let open = self.pump.is_anything_open();
        let Some(measuring) = &mut self.measuring else { return Ok(Flow::Continue) };
        let began = Instant::now();
        if open {
            measuring.until = began + MEASURED_AFTER;
        }
        if began < measuring.again.next || began > measuring.until {
            return Ok(Flow::Continue);
        }
        let flow = self.measure()?;
        if let Some(measuring) = &mut self.measuring {
            measuring.again.done(began);
        }
        Ok(flow)
    }

    fn measure(&mut self) -> Result<Flow, LiveError> {
        let mut flow = Flow::Continue;
        for seen in self.snapshot.measure(&self.pump.to_measure(), now()) {
            flow = flow.or(self.pump.take(seen)?);
        }
        Ok(flow)
    }

    /// Tells who watches, where there is something to tell.
    fn tell(&mut self) -> Flow {
        let told = self.pump.told();
        let Some(watching) = &mut self.watching else { return Flow::Continue };
        let began = Instant::now();
        let due = if told > watching.told { watching.again.next } else { watching.again.next + watching.watcher.every };
        if began < due {
            return Flow::Continue;
        }
        watching.told = told;
        let flow = (watching.watcher.tell)(self.pump.seen());
        watching.again.done(began);
        flow
    }

    fn until_tick(&self) -> Duration {
        match (self.pump.is_waiting(), &self.audit_log) {
            (true, _) => TICK_WAITING,
            (false, Some(_)) => AUDIT_EVERY,
            (false, None) => TICK_IDLE,
        }
    }

    fn stop(mut self) -> Result<Shown, LiveError> {
        let began = Instant::now();
        self.closing = true;
        // What the kernel had written when the signal came belongs to the trace.
        self.tick()?;
        if self.measuring.is_some() && self.pump.is_anything_open() && began.elapsed() < END_WITHIN {
            // How things stood in the end.
            self.measure()?;
        }
        self.pump.take(Observation::new(now(), Source::Engine, Fact::Stopped))?;
        Ok(self.pump.finish()?)
    }
}

fn header(
    anchor: ClockAnchor,
    host: &HostFacts,
    plan: &ProbePlan,
    degraded: &[Degraded],
    live: &Live,
) -> record::Header {
    let correlate::Options { apiserver_port, kubelet_port, runtime_socket, pairing: _ } = live.options.clone();
    record::Header {
        command: live.command.clone(),
        abilities: plan.abilities(),
        degraded: degraded.to_vec(),
        options: record::Settings {
            apiserver_port,
            kubelet_port,
            runtime_socket,
            netns: live.netns.as_ref().map(NetNs::to_string),
            redacted: !live.setup.redactor.is_idle(),
        },
        ..record::Header::new(anchor, host.clone())
    }
}
