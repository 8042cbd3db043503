//! The event loop of a live trace: records, snapshot, audit log, clock and signals, all into the pump.
//!
//! Each turn of the loop is bounded by [`TURN`], whatever arrives meanwhile: a signal ends the trace between two steps of a
//! turn, and processes to be watched go before every other question.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use aya::maps::{MapData, RingBuf};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep, sleep_until},
};

use super::{
    audit::{AUDIT_EVERY, AUDIT_TAKEN_IN, AuditFeed},
    enrol,
    error::LiveError,
    examine::after_attach,
    losses::Losses,
    options::Live,
    questions::{Next, Questions},
    sampling::{Feed, Sampling, Schedule},
    stop::Stop,
};
use crate::{
    clock, confine, correlate,
    decode::decode,
    engine::{Flow, Pump, Shown},
    model::{
        BootTime, ClockAnchor, Degraded, Fact, HostFacts, LATE_START, Observation, Source, Span, TaskKey, UNANSWERED,
        Want,
    },
    netns::NetNs,
    plan::{self, ProbePlan, plan},
    probe_host,
    record::{self, BATCH_EVERY, RecordTarget, Writer},
    sink,
    source::{
        ebpf::{
            btf::{BtfError, KernelBtf},
            loader::{self, Probes},
        },
        snapshot::{self, Snapshot},
    },
};

/// Interval of ticks while records wait in the reordering window. A session is shown at most this much later than the window
/// demands.
const TICK_WAITING: Duration = Duration::from_millis(3);
/// Interval of ticks otherwise: for decisions that only time makes, and to read the loss counters.
const TICK_IDLE: Duration = Duration::from_millis(200);
/// Records taken in before questions are answered, so that a flood of records cannot put answers off for ever.
const BATCH: usize = 256;

/// Longest time that a turn reads records and answers questions. The rest waits for the next turn, behind signals, loss counters
/// and a tick.
const TURN: Duration = Duration::from_millis(500);

/// Longest time from attaching the probes to watching the daemons. A longer one is reported as the loss `late-start`.
const WATCHED_WITHIN: Span = Span::from_secs(2);

/// Longest time from attaching the probes to showing the snapshot. Questions still open then are reported as the loss
/// `unanswered`, and answered afterwards.
const START_WITHIN: Duration = Duration::from_secs(10);

/// Longest last turn after which open sessions are measured once more.
const END_WITHIN: Duration = Duration::from_secs(1);

/// How often the kernel's maps are searched for entries of processes that have exited.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// How often the state is evaluated for exporters while nothing is measured.
const EVALUATED_EVERY: Duration = Duration::from_secs(15);

/// A running trace.
pub(super) struct Trace {
    pump: Pump,
    probes: Probes,
    ring: RingBuf<MapData>,
    snapshot: Snapshot,
    losses: Losses,
    questions: Questions,
    /// Time at which the probes were attached.
    attached: BootTime,
    /// Time of the newest record read so far.
    newest: BootTime,
    sweeps: Schedule,
    evaluations: Schedule,
    stop: Stop,
    /// Set when the last turn begins: from then on a signal no longer cuts a turn short.
    closing: bool,
    audit: Option<AuditFeed>,
    sampling: Option<Sampling>,
    feed: Option<Feed>,
    duration: Option<Duration>,
    ready: Option<Box<dyn FnOnce() + Send>>,
}

impl Trace {
    /// Attaches the probes, and writes the header of the recording.
    ///
    /// # Errors
    /// When the host does not allow tracing, or the recording cannot be written.
    pub(super) fn start(live: Live) -> Result<Self, LiveError> {
        let netns = match &live.netns {
            Some(netns) => Some(netns.inode().map_err(|error| LiveError::NetNs(netns.clone(), error))?),
            None => None,
        };
        let btf = KernelBtf::load();
        let mut host = probe_host::probe(btf.as_ref().ok());
        host.reach = plan::may_hide(host.capabilities).then(snapshot::reach);
        let (mut plan, mut degraded) = plan(&host);
        if let Some(fatal) = degraded.iter().find(|degraded| degraded.fatal) {
            return Err(LiveError::Host(fatal.clone()));
        }
        let (probes, ring) = attach(&live, &plan, btf, netns)?;
        degraded.extend(after_attach(&mut plan, &probes));
        // Before other threads start.
        confine::to_look(live.record.as_ref().and_then(RecordTarget::folder_of_parts), live.net);
        let attached = clock::now();
        let anchor = clock::anchor();
        let head = header(anchor, &host, &plan, &degraded, &live);
        let recorder = live.record.map(|place| Writer::begin(place, &head)).transpose()?;
        let shown = sink::Header { anchor, host, others: Vec::new(), abilities: plan.abilities(), degraded };
        let judges = live.setup.sinks.iter().any(|sink| sink.judges());
        let pump = Pump::new(live.setup, shown, &live.options, recorder);
        let pump = if judges { pump.judging() } else { pump };
        let snapshot = Snapshot::new(snapshot::Options {
            netns,
            endpoints: live.options.endpoints(),
            bundles: live.bundles,
            no_memory: live.no_memory,
            ..snapshot::Options::default()
        });
        Ok(Self {
            pump,
            probes,
            ring,
            snapshot,
            losses: Losses::default(),
            questions: Questions::default(),
            attached,
            newest: BootTime::default(),
            sweeps: Schedule::new(SWEEP_EVERY),
            evaluations: Schedule::new(live.measure.unwrap_or(EVALUATED_EVERY)),
            stop: Stop::on_signals(live.end)?,
            closing: false,
            audit: live.audit_log.map(AuditFeed::new),
            sampling: live.measure.map(Sampling::new),
            feed: live.watcher.map(Feed::new),
            duration: live.duration,
            ready: live.ready,
        })
    }

    /// Traces until a signal arrives, the duration has passed, or the pump has seen enough.
    ///
    /// # Errors
    /// When a sink or the recording cannot be written.
    pub(super) async fn run(mut self) -> Result<Shown, LiveError> {
        let end = self.duration.and_then(|duration| Instant::now().checked_add(duration));
        let readable = self.readable()?;
        let mut flow = self.begin().await?;
        let mut next_tick = Instant::now();
        let mut timed_out = false;
        while flow == Flow::Continue {
            flow = tokio::select! {
                biased;
                () = self.stop.requested() => Flow::Stop,
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

    /// Waits for records on a copy of the buffer's file descriptor: the buffer itself must be free to be read.
    fn readable(&self) -> io::Result<AsyncFd<OwnedFd>> {
        // SAFETY: the ring buffer is open for as long as it is borrowed here.
        let fd = unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }.try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` stays open, and the same, until it is dropped.
        unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
    }

    /// Takes in the state of the host before the trace, and shows the header. Acts that follow the header are never missed.
    async fn begin(&mut self) -> Result<Flow, LiveError> {
        // Order: probes, then watched daemons, then the snapshot. An act in between is seen twice, never missed.
        let deadline = Instant::now() + START_WITHIN;
        let daemons = self.watch_daemons(deadline).await?;
        let mut flow = Flow::Continue;
        let found = if self.is_stopped() { Vec::new() } else { self.snapshot.take(clock::now()) };
        for seen in found {
            enrol::track(&mut self.probes, &mut self.losses, &seen);
            flow = flow.or(self.pump.take(seen)?);
        }
        for daemon in daemons {
            flow = flow.or(self.pump.take(Observation::of(clock::now(), Source::Snapshot, daemon, Fact::Looked))?);
        }
        // The audit log comes after the snapshot: a request that is over by now belongs to none of its sessions.
        if let Some(audit) = &mut self.audit {
            for seen in audit.begin()? {
                flow = flow.or(self.pump.take(seen)?);
            }
        }
        // First the snapshot has to pass the reordering window, then the answers to the questions that it raised. Then the
        // audit log's lines about these sessions are matched.
        let audited = if self.audit.is_some() { AUDIT_TAKEN_IN } else { Duration::ZERO };
        for more in [Duration::ZERO, audited] {
            let until = clock::now().plus(Span(u64::try_from(more.as_nanos()).unwrap_or(0)));
            flow = flow.or(self.settle(until, deadline).await?);
        }
        let unanswered = self.questions.len() as u64;
        if unanswered > 0 && !self.is_stopped() {
            let lost = Fact::Lost { what: UNANSWERED.to_owned(), count: unanswered };
            flow = flow.or(self.pump.take(Observation::new(clock::now(), Source::Engine, lost))?);
        }
        flow = flow.or(self.pump.begin()?);
        if let Some(ready) = self.ready.take() {
            ready();
        }
        Ok(flow)
    }

    /// Watches the running daemons, and returns the verified ones. Their open files are scanned afterwards, so that each piece of
    /// work they begin is seen by the probes or by the scan.
    async fn watch_daemons(&mut self, deadline: Instant) -> Result<BTreeSet<TaskKey>, LiveError> {
        let mut daemons = BTreeSet::new();
        for seen in self.snapshot.listeners(clock::now()) {
            if let Fact::ListeningUnix { listener: Some(listener), .. } = &seen.fact
                && listener.serves_at().is_some()
            {
                daemons.extend(seen.task);
            }
            self.pump.take(seen)?;
        }
        // Other questions wait: acts of a daemon that is not watched yet are not seen.
        let until = clock::now();
        while self.pump.settled() < until && self.goes_on(deadline) {
            sleep(TICK_WAITING).await;
            self.report_losses()?;
            let at = clock::now();
            let (_flow, drained) = self.read(Instant::now() + TURN)?;
            self.pass_time(at, drained)?;
            self.watch_requested();
        }
        let took = clock::now().since(self.attached);
        if took > WATCHED_WITHIN {
            let lost = Fact::Lost { what: LATE_START.to_owned(), count: took.as_millis() };
            self.pump.take(Observation::new(clock::now(), Source::Engine, lost))?;
        }
        for daemon in &daemons {
            self.pump.take(Observation::of(clock::now(), Source::Snapshot, *daemon, Fact::Watched))?;
        }
        Ok(daemons)
    }

    /// True if a signal has arrived and the last turn has not begun.
    fn is_stopped(&self) -> bool {
        !self.closing && self.stop.is_requested()
    }

    /// True if a phase of the start goes on: no signal has arrived, and time is left.
    fn goes_on(&self, deadline: Instant) -> bool {
        !self.is_stopped() && Instant::now() < deadline
    }

    /// Lets time pass until everything before `until` is taken in and every question that followed is answered.
    async fn settle(&mut self, until: BootTime, deadline: Instant) -> Result<Flow, LiveError> {
        let mut flow = Flow::Continue;
        while (self.pump.settled() < until || self.questions.len() > 0) && self.goes_on(deadline) {
            sleep(TICK_WAITING).await;
            flow = flow.or(self.tick()?);
        }
        Ok(flow)
    }

    /// Takes in at most [`BATCH`] records, and answers questions until that time. Returns true with it if the ring buffer was
    /// empty at the end.
    fn batch(&mut self, until: Instant) -> Result<(Flow, bool), LiveError> {
        let (flow, drained) = self.read_batch()?;
        Ok((flow.or(self.answer(until)?), drained))
    }

    /// Takes in at most [`BATCH`] records. Returns true with it if the ring buffer was empty at the end.
    fn read_batch(&mut self) -> Result<(Flow, bool), LiveError> {
        let mut flow = Flow::Continue;
        for read in 0..BATCH {
            flow = flow.or(self.poll_audit_log()?);
            let Some(record) = self.ring.next() else { return Ok((flow, true)) };
            match decode(&record) {
                Ok(seen) => {
                    if read == 0 {
                        self.losses.note_read(seen.at, clock::now());
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

    /// Takes in records until that time, and answers no question. Returns true with it if the ring buffer was empty at the end.
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

    /// Answers questions until that time, at least one. An answer may raise another question; the correlator asks each question
    /// once, so the loop ends.
    fn answer(&mut self, until: Instant) -> Result<Flow, LiveError> {
        let mut flow = Flow::Continue;
        while flow == Flow::Continue && !self.is_stopped() {
            self.take_questions();
            let Some(next) = self.questions.next() else { break };
            flow = flow.or(self.poll_audit_log()?);
            let found = match next {
                Next::One(Want::Watch(task, class)) => {
                    enrol::watch(&mut self.probes, &self.snapshot, &mut self.losses, task, class);
                    continue;
                }
                Next::One(want) => self.snapshot.answer(&want, clock::now()),
                Next::Peers(wants) => self.snapshot.answers(&wants, clock::now()),
            };
            for seen in found {
                enrol::set_program(&mut self.probes, &seen);
                enrol::track(&mut self.probes, &mut self.losses, &seen);
                flow = flow.or(self.pump.take(seen)?);
            }
            if Instant::now() >= until {
                break;
            }
        }
        // Processes to be watched never wait for the next turn.
        self.watch_requested();
        Ok(flow)
    }

    /// Watches the processes that the correlator asked for.
    fn watch_requested(&mut self) {
        self.take_questions();
        while let Some(Want::Watch(task, class)) = self.questions.next_watch() {
            enrol::watch(&mut self.probes, &self.snapshot, &mut self.losses, task, class);
        }
    }

    fn take_questions(&mut self) {
        let refused = self.questions.extend(self.pump.wants());
        for _ in 0..refused {
            self.losses.add("questions-full");
        }
    }

    /// One turn: reports losses, takes in records, lets time pass, answers questions, and runs the repeated tasks that are due.
    fn tick(&mut self) -> Result<Flow, LiveError> {
        let until = Instant::now() + TURN;
        self.probes.flush_log();
        let mut flow = self.report_losses()?;
        let at = clock::now();
        let drained = loop {
            let (enough, drained) = self.batch(until)?;
            flow = flow.or(enough);
            if drained || Instant::now() >= until || self.is_stopped() {
                break drained;
            }
        };
        flow = flow.or(self.pass_time(at, drained)?);
        flow = flow.or(self.answer(until)?).or(self.sample()?).or(self.feed_watcher());
        if let Err(error) = self.probes.watch_reads(self.pump.needs_reads()) {
            tracing::warn!(%error, "reads of FIFOs cannot be watched");
        }
        let began = Instant::now();
        if self.sweeps.is_due(began) {
            self.probes.sweep();
            if self.pump.has_exporters() {
                self.pump.fill(&self.probes.fill());
            }
            self.sweeps.done(began);
        }
        if self.evaluations.is_due(began) {
            self.pump.evaluate()?;
            self.evaluations.done(began);
        }
        Ok(flow)
    }

    /// Reports the losses up to now. Called before records are read: those of a turn lead to conclusions about earlier acts, some of
    /// which may be lost. The report has the time after the counters were read, so that it is later than every act it counts.
    fn report_losses(&mut self) -> Result<Flow, LiveError> {
        let lost = self.losses.poll(&self.probes, clock::now(), self.closing);
        let at = clock::now();
        let mut flow = Flow::Continue;
        for (what, count) in lost {
            let lost = Fact::Lost { what: what.to_owned(), count };
            flow = flow.or(self.pump.take(Observation::new(at, Source::Engine, lost))?);
        }
        Ok(flow)
    }

    /// Lets time pass up to `at`. If the buffer holds more (`drained` is false), time stands at the newest record: time may pass only
    /// where everything older has been read.
    fn pass_time(&mut self, at: BootTime, drained: bool) -> Result<Flow, LiveError> {
        let at = if drained { at } else { at.min(self.newest) };
        Ok(self.pump.take(Observation::new(at, Source::Engine, Fact::Tick))?)
    }

    /// Polls the audit log if it is time. Called between records and between answers, because a whole turn may take long.
    fn poll_audit_log(&mut self) -> Result<Flow, LiveError> {
        let mut flow = Flow::Continue;
        for seen in self.audit.as_mut().map(AuditFeed::poll).unwrap_or_default() {
            flow = flow.or(self.pump.take(seen)?);
        }
        Ok(flow)
    }

    /// Measures open sessions if it is time.
    fn sample(&mut self) -> Result<Flow, LiveError> {
        let open = self.pump.is_anything_open();
        let began = Instant::now();
        if !self.sampling.as_mut().is_some_and(|sampling| sampling.is_due(open, began)) {
            return Ok(Flow::Continue);
        }
        let flow = self.measure()?;
        if let Some(sampling) = &mut self.sampling {
            sampling.done(began);
        }
        Ok(flow)
    }

    fn measure(&mut self) -> Result<Flow, LiveError> {
        let mut flow = Flow::Continue;
        for seen in self.snapshot.measure(&self.pump.to_measure(), clock::now()) {
            flow = flow.or(self.pump.take(seen)?);
        }
        Ok(flow)
    }

    /// Reports the current state to the watcher if it is time.
    fn feed_watcher(&mut self) -> Flow {
        let changes = self.pump.reported();
        let pump = &self.pump;
        self.feed.as_mut().map_or(Flow::Continue, |feed| feed.report(changes, || pump.status()))
    }

    fn until_tick(&self) -> Duration {
        if self.pump.is_waiting() {
            return TICK_WAITING;
        }
        let audit = self.audit.as_ref().map(|_| AUDIT_EVERY);
        let batch = self.pump.has_batch().then_some(Duration::from_nanos(BATCH_EVERY.0));
        [audit, batch].into_iter().flatten().fold(TICK_IDLE, Duration::min)
    }

    /// Takes in the last records, and ends the recording and the sinks.
    fn stop(mut self) -> Result<Shown, LiveError> {
        let began = Instant::now();
        self.closing = true;
        // Records that the kernel wrote before the signal belong to the trace.
        self.tick()?;
        self.report_losses()?;
        if self.sampling.is_some() && self.pump.is_anything_open() && began.elapsed() < END_WITHIN {
            // The state of open sessions at the end.
            self.measure()?;
        }
        self.pump.take(Observation::new(clock::now(), Source::Engine, Fact::Stopped))?;
        Ok(self.pump.finish()?)
    }
}

/// Loads the object and attaches the planned probes.
fn attach(
    live: &Live,
    plan: &ProbePlan,
    btf: Result<KernelBtf, BtfError>,
    netns: Option<u32>,
) -> Result<(Probes, RingBuf<MapData>), LiveError> {
    let layout = btf.map_err(LiveError::Btf)?.layout();
    let options = loader::Options {
        netns,
        ports: live.options.endpoints().ports().collect(),
        ring_bytes: live.ring_bytes,
        road: live.road,
        ..loader::Options::default()
    };
    loader::attach(plan, &layout, &options).map_err(LiveError::Load)
}

/// Header of the recording.
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
