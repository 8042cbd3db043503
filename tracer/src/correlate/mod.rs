//! Turns observations into findings. Start reading at [`Correlator`].
//!
//! * `reorder` puts observations into the order of their times;
//! * `intake` applies them: each handler changes `state` and notes in `effects` what follows;
//! * `timers` holds work that becomes due later;
//! * `assemble` builds a session from the state, backwards from its exec;
//! * `sessions` rebuilds what changed and emits the difference;
//! * `report` and `carry_over` select from the whole: for output, and for the next file of a recording.
//!
//! The same observations give the same findings, byte for byte, on any machine: findings depend on the sequence of
//! observations alone, never on how often [`Correlator::drain`] is called.

mod assemble;
mod carry_over;
mod effects;
mod intake;
mod limits;
mod reorder;
mod report;
mod sessions;
mod start;
mod state;
#[cfg(test)]
mod tests;
mod timers;

pub use self::limits::REORDER_WITHIN;
use self::{
    effects::Effects,
    limits::{MEASURES_KEPT, REFUSED_EVERY, SWEEP_EVERY, TOGETHER},
    reorder::Order,
    sessions::Sessions,
    start::Start,
    state::State,
    timers::{Phase, Timer},
};
use crate::model::{
    BootTime, Endpoints, Fact, Finding, HostFacts, LATE_START, Measures, Observation, Pairing, Report, Want,
};

/// What the user asked for that changes what is found; part of a replay's input.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Options {
    /// TCP port of the API server, beside 6443.
    pub apiserver_port: Option<u16>,
    /// TCP port of the kubelet, beside 10250.
    pub kubelet_port: Option<u16>,
    /// Path of the runtime's socket, beside the well-known ones.
    pub runtime_socket: Option<String>,
    /// How the ends of connections are paired: recordings up to format 3 have a rule of their own.
    pub pairing: Pairing,
}

impl Options {
    /// Ports and sockets of the path.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        Endpoints::new(self.apiserver_port, self.kubelet_port, self.runtime_socket.as_deref())
    }
}

/// Facts in, findings out.
///
/// # Protocol
///
/// 1. Create with [`new`](Self::new). For a recording of several hosts add the others with [`with`](Self::with); for one whose
///    start lies in an earlier file call [`started_before`](Self::started_before).
/// 2. Pass every observation to [`ingest`](Self::ingest) in order of arrival. An observation takes effect once no earlier one can
///    follow: after a newer kernel record, or a [`Fact::Tick`], has moved the clock by [`REORDER_WITHIN`]. Where records stop,
///    ticks must go on, as long as [`is_waiting`](Self::is_waiting).
/// 3. After any call that takes `&mut self`, collect the output: findings with [`drain`](Self::drain), queries with
///    [`wants`](Self::wants). Answers to queries are observations like all others. A query may stay without an answer.
/// 4. Move the clock without a record with [`reach`](Self::reach) (no record before that time can follow) or
///    [`settle`](Self::settle) (everything that can be known is known). Call [`flush`](Self::flush) at the end of the input.
/// 5. [`report`](Self::report) gives the complete result at any time. It includes observations up to
///    [`settled`](Self::settled) only.
///
/// # Order of effects
///
/// The clock moves in steps of one millisecond, and sessions are rebuilt at the end of a step. One step emits at most one
/// change of a session. In each step,
///
/// 1. observations are applied, in the order of their times;
/// 2. due timers expire, which may invalidate or create sessions;
/// 3. invalidated sessions are rebuilt in the order of their ids, and differences are emitted;
/// 4. kubectls whose request no session shows become sessions of their own, and these are emitted;
/// 5. refusals of full tables are reported, at most once a second;
/// 6. expired entries are discarded.
///
/// # Example
///
/// containerd creates the FIFO of an exec. Nothing earlier can arrive once 5 ms have passed, and the session is emitted.
///
/// ```
/// use execpath::correlate::{Correlator, Options};
/// use execpath::model::{Actor, BootTime, Change, Fact, HostFacts, Observation, Source, TaskKey, Want};
///
/// let containerd = TaskKey::from_ticks(700, 1);
/// let (container, exec) = ("a".repeat(64), "b".repeat(64));
/// let path = format!("/run/containerd/io.containerd.grpc.v1.cri/containers/{container}/io/1/{exec}-stdout");
/// let made = Fact::FifoMade { actor: Actor::default(), inbound: None, from: None, path: path.as_str().into() };
///
/// let mut correlator = Correlator::new(&HostFacts::default(), &Options::default()).started_before();
/// correlator.ingest(Observation::of(BootTime(1_000_000), Source::Ebpf, containerd, made));
/// assert!(correlator.is_waiting() && correlator.drain().is_empty(), "an earlier record may follow");
///
/// correlator.ingest(Observation::new(BootTime(20_000_000), Source::Engine, Fact::Tick));
/// let findings = correlator.drain();
/// assert!(matches!(&findings[..], [only] if matches!(only.change, Change::Opened(_))));
/// assert!(correlator.wants().iter().any(|want| matches!(want, Want::Container { .. })), "the pod's name is unknown");
/// assert_eq!(correlator.report().sessions.len(), 1);
/// ```
pub struct Correlator {
    order: Order,
    start: Start,
    state: State,
    effects: Effects,
    sessions: Sessions,
    measures: Measures,
    is_overfull: bool,
    /// Time from which refusals of full tables may be reported again.
    next_refusal: BootTime,
}

impl Correlator {
    /// Knows nothing yet. `host` gives the boot id that session ids are made of.
    #[must_use]
    pub fn new(host: &HostFacts, options: &Options) -> Self {
        let mut effects = Effects::default();
        effects.timers.set(BootTime::default(), Timer::Sweep);
        Self {
            order: Order::default(),
            start: Start::default(),
            state: State::new(host, options.endpoints(), options.pairing),
            effects,
            sessions: Sessions::default(),
            measures: Measures::default(),
            is_overfull: false,
            next_refusal: BootTime::default(),
        }
    }

    /// Adds further hosts, for a recording of several. Observations refer to them by number, from 1.
    #[must_use]
    pub fn with(mut self, others: &[HostFacts]) -> Self {
        self.state.hosts.add(others);
        self
    }

    /// Skips the check of the start phase, for a recording whose start lies in an earlier file.
    #[must_use]
    pub fn started_before(mut self) -> Self {
        self.start = Start::Over;
        self
    }

    /// Takes one observation. Never fails: an observation that makes no sense is ignored.
    pub fn ingest(&mut self, seen: Observation) {
        self.effects.totals.observations += 1;
        if seen.at > BootTime::LATEST {
            return;
        }
        // The start is measured in order of arrival: reordering would move the tick that ends it.
        if let Some((until, took)) = self.start.observe(&seen) {
            self.state.losses.doubt_until(until);
            self.effects.report_loss(LATE_START.to_owned(), took.0 / 1_000_000);
            self.sessions.absorb(&mut self.state, &mut self.effects);
        }
        // A tick does not wait in the buffer: it reports that time has passed, which releases others.
        if seen.fact == Fact::Tick {
            self.order.advance(seen.at);
        } else {
            self.order.push(seen);
        }
        self.effects.totals.late = self.order.late;
        while let Some(seen) = self.order.pop() {
            self.take(seen);
        }
        while let Some(seen) = self.order.pop_excess() {
            self.is_overfull = true;
            self.take(seen);
        }
        self.elapse(self.order.settled());
    }

    /// True if the reorder buffer was full, so that some observations were applied early. A recording that leads to this was not
    /// written by this program.
    #[must_use]
    pub const fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// Applies everything in the reorder buffer, and reports refusals of full tables. Valid only at the end of the input.
    pub fn flush(&mut self) {
        self.release_all();
        self.report_refused();
    }

    /// Flushes the reorder buffer and advances the clock to `at`. Valid only if nothing earlier can still arrive.
    pub fn reach(&mut self, at: BootTime) {
        self.release_all();
        self.elapse(at);
        self.conclude();
    }

    /// Flushes the reorder buffer and advances the clock to `now`, for input without kernel records: answers to queries arrive in
    /// order, and nothing but answers can follow.
    pub fn settle(&mut self, now: BootTime) {
        self.flush();
        self.effects.timers.reschedule_requests(intake::kubectl::served_by);
        self.elapse(now);
        self.conclude();
        if self.effects.has_no_wants() {
            // No answer is outstanding that could still name a process: session ids are final.
            self.effects.invalidate_all(self.state.execs.identify_all(&self.state.hosts));
            self.conclude();
        }
    }

    /// Time up to which all findings were emitted. No earlier finding will follow.
    #[must_use]
    pub fn settled(&self) -> BootTime {
        let settled = self.order.settled();
        if self.is_told() { settled } else { settled.min(self.effects.now.whole(TOGETHER)) }
    }

    /// True if no applied observation waits for its findings to be emitted.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.effects.is_settled()
    }

    /// True if an observation waits to be applied, or findings wait to be emitted. The next [`Fact::Tick`] should then come soon.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !(self.order.is_empty() && self.is_told())
    }

    /// True if a session is open.
    #[must_use]
    pub fn is_anything_open(&self) -> bool {
        self.sessions.is_any_open()
    }

    /// True if reads of FIFOs are of use: they would reveal the exec of a stream.
    #[must_use]
    pub fn needs_reads(&self) -> bool {
        self.state.execs.unresolved().next().is_some()
    }

    /// Removes the queries since the last call.
    pub fn wants(&mut self) -> Vec<Want> {
        self.effects.take_wants()
    }

    /// Removes the findings since the last call.
    pub fn drain(&mut self) -> Vec<Finding> {
        self.effects.take_findings()
    }

    /// Complete result as of now.
    #[must_use]
    pub fn report(&self) -> Report {
        report::report(&self.state, &self.sessions, &self.effects, &self.measures)
    }

    /// Observations that the next file of a recording must begin with, out of all of this one in order of arrival.
    #[must_use]
    pub fn still_matter(&self, told: Vec<Observation>) -> Vec<Observation> {
        carry_over::still_matter(&self.state, self.settled(), told)
    }

    fn release_all(&mut self) {
        while let Some(seen) = self.order.pop_any() {
            self.take(seen);
        }
        self.conclude();
    }

    fn take(&mut self, seen: Observation) {
        self.elapse(seen.at);
        self.measures.take(&seen);
        intake::apply(&mut self.state, &mut self.effects, seen);
        intake::note_refused(&mut self.state, self.effects.now);
        self.sessions.absorb(&mut self.state, &mut self.effects);
    }

    /// Advances the clock. Everything before `until` was applied.
    fn elapse(&mut self, until: BootTime) {
        // Timers are set for times after `now`: the largest number leaves no room for them.
        let until = until.min(BootTime::LATEST);
        if until.whole(TOGETHER) > self.effects.now {
            // The step of the last observation ends first, with its own time.
            if !self.is_told() {
                self.effects.now = self.effects.now.whole(TOGETHER).plus(TOGETHER);
                self.conclude();
            }
            self.effects.now = until.whole(TOGETHER);
            self.conclude();
        }
        self.effects.now = self.effects.now.max(until);
    }

    /// Ends a step: expires due timers, and emits what changed.
    fn conclude(&mut self) {
        self.expire(Phase::BeforeRebuild);
        self.rebuild();
        self.expire(Phase::AfterRebuild);
        self.rebuild();
        if self.effects.now >= self.next_refusal {
            self.report_refused();
        }
        self.expire(Phase::Sweep);
    }

    fn rebuild(&mut self) {
        self.sessions.rebuild_invalidated(&mut self.state, &mut self.effects);
    }

    fn expire(&mut self, phase: Phase) {
        while let Some((due, timer)) = self.effects.timers.pop(phase, self.effects.now) {
            let (state, effects) = (&mut self.state, &mut self.effects);
            match timer {
                Timer::PeerMissing(leg) => intake::legs::look_after(state, effects, leg),
                Timer::StreamUnclaimed(idx) => intake::streams::look_at_stream(state, effects, due, idx),
                Timer::ExecUnclaimed(id) => intake::processes::look_at_unclaimed(state, effects, &id),
                Timer::Rebuild(id) => effects.invalidate(id),
                Timer::RequestUnshown(task) => {
                    if intake::kubectl::is_unshown(state, task) {
                        let may_be_shown = self.sessions.lacks_any_client(state);
                        intake::kubectl::show_request(state, effects, due, task, may_be_shown);
                    }
                }
                Timer::Sweep => {
                    effects.timers.set(effects.now.plus(SWEEP_EVERY), Timer::Sweep);
                    intake::sweep::sweep(state, effects);
                    self.measures.forget_before(effects.now.minus(MEASURES_KEPT));
                }
                // Expired by the sweep itself.
                Timer::UnixIdle(_) | Timer::ExecUnused(_) | Timer::SessionOver(_) => {}
            }
            self.sessions.absorb(&mut self.state, &mut self.effects);
        }
    }

    /// Reports refusals of full tables since the last report.
    fn report_refused(&mut self) {
        if self.state.refused.is_empty() {
            return;
        }
        self.next_refusal = self.effects.now.plus(REFUSED_EVERY);
        for (what, count) in self.state.refused.take() {
            self.effects.report_loss(what.to_owned(), count);
        }
        self.rebuild();
    }
}
