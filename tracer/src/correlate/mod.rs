//! Turns observations into findings. Start reading at [`Correlator`], which drives the other modules.
//!
//! * `reorder` puts observations into the order of their times.
//! * `intake` applies one observation: a handler changes the `state` and notes the `effects`.
//! * `timers` holds work that becomes due later.
//! * `assemble` builds a session from the state, backwards from its exec.
//! * `sessions` rebuilds invalidated sessions and emits the differences.
//! * `report` and `carry_over` select output, and the beginning of a recording's next file.
//!
//! The same observations give the same findings, byte for byte, on any machine: findings depend on the sequence of
//! observations alone, never on how often [`Correlator::drain`] is called.

mod assemble;
mod carry_over;
mod effects;
mod intake;
mod limits;
mod options;
mod reorder;
mod report;
mod sessions;
mod start;
mod state;
#[cfg(test)]
mod tests;
mod timers;

use self::{
    effects::Effects,
    limits::STEP,
    reorder::ReorderBuffer,
    sessions::Sessions,
    start::Start,
    state::State,
    timers::{Phase, Timer},
};
pub use self::{limits::REORDER_WITHIN, options::Options};
use crate::model::{BootTime, Fact, Finding, HostFacts, LATE_START, Observation, Report, Want};

/// Facts in, findings out.
///
/// # Protocol
///
/// 1. Create with [`new`](Self::new). Add the other hosts of a recording with [`with`](Self::with). Call
///    [`started_before`](Self::started_before) for a recording that begins in an earlier file.
/// 2. Pass every observation to [`ingest`](Self::ingest), in order of arrival. It takes effect [`REORDER_WITHIN`] later, by
///    the clock of kernel records and ticks. Send ticks where records stop, while [`is_waiting`](Self::is_waiting).
/// 3. Collect findings with [`drain`](Self::drain) and queries with [`wants`](Self::wants). Any call with `&mut self` may
///    add to both. An answer is an observation like any other; a query may stay unanswered.
/// 4. Where no earlier record can follow, move the clock with [`reach`](Self::reach). Without a stream of kernel records,
///    use [`settle`](Self::settle). At the end of the input, call [`flush`](Self::flush).
/// 5. [`report`](Self::report) returns the complete result at any time, up to [`settled`](Self::settled).
///
/// # Order of effects
///
/// The clock moves in steps of one millisecond. A session changes at most once in a step, at its end:
///
/// * Observations of the step are applied, in the order of their times.
/// * Due timers expire. They may create and invalidate sessions.
/// * Invalidated sessions are rebuilt in the order of their ids. Each difference is a finding.
/// * Kubectls without a session become provisional sessions, and are emitted likewise.
/// * Refusals of full tables are reported, at most once a second. Expired entries are discarded.
///
/// # Example
///
/// containerd creates the FIFO of an exec. No earlier record can arrive after 5 ms, and the session is emitted.
///
/// ```
/// use execpath::correlate::{Correlator, Options};
/// use execpath::model::{Actor, BootTime, Change, Fact, HostFacts, Observation, Source, TaskKey};
/// let path = format!("/run/io.containerd.grpc.v1.cri/containers/{}/io/1/{}-stdout", "a".repeat(64), "b".repeat(64));
/// let made = Fact::FifoMade { actor: Actor::default(), inbound: None, from: None, path: path.as_str().into() };
/// let containerd = TaskKey::from_ticks(700, 1);
/// let mut correlator = Correlator::new(&HostFacts::default(), &Options::default());
/// correlator.ingest(Observation::of(BootTime(1_000_000), Source::Ebpf, containerd, made));
/// assert!(correlator.is_waiting() && correlator.drain().is_empty());
/// correlator.ingest(Observation::new(BootTime(20_000_000), Source::Engine, Fact::Tick));
/// assert!(matches!(correlator.drain()[0].change, Change::Opened(_)));
/// assert!(!correlator.wants().is_empty(), "asks for the names of the container");
/// assert_eq!(correlator.report().sessions.len(), 1);
/// ```
pub struct Correlator {
    buffer: ReorderBuffer,
    start: Start,
    state: State,
    effects: Effects,
    sessions: Sessions,
    is_overfull: bool,
}

impl Correlator {
    /// Knows nothing yet. `host` gives the boot id that session ids are made of.
    #[must_use]
    pub fn new(host: &HostFacts, options: &Options) -> Self {
        let mut effects = Effects::default();
        effects.timers.set(BootTime::default(), Timer::Sweep);
        Self {
            buffer: ReorderBuffer::default(),
            start: Start::default(),
            state: State::new(host, options.endpoints(), options.pairing),
            effects,
            sessions: Sessions::default(),
            is_overfull: false,
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
        self.state.losses.note_arrival(&seen);
        // A tick does not wait in the buffer: it reports that time has passed, which releases others.
        if seen.fact == Fact::Tick {
            self.buffer.advance(seen.at);
        } else {
            self.buffer.push(seen);
        }
        self.effects.totals.late = self.buffer.late;
        while let Some(seen) = self.buffer.pop() {
            self.take(seen);
        }
        while let Some(seen) = self.buffer.pop_excess() {
            self.is_overfull = true;
            self.take(seen);
        }
        self.elapse(self.buffer.settled());
    }

    /// True if the reorder buffer was full and some observations were applied early. No own recording leads to this.
    #[must_use]
    pub const fn is_overfull(&self) -> bool {
        self.is_overfull
    }

    /// Applies everything in the reorder buffer, and reports refusals of full tables. Valid only at the end of the input.
    pub fn flush(&mut self) {
        self.release_all();
        self.sessions.emit_ends(&mut self.state, &mut self.effects);
        self.report_refused();
    }

    /// Flushes the reorder buffer and advances the clock to `at`. Valid only if nothing earlier can still arrive.
    pub fn reach(&mut self, at: BootTime) {
        self.release_all();
        self.elapse(at);
        self.conclude();
    }

    /// Flushes the reorder buffer and advances the clock to `now`, for input without kernel records: answers arrive in order.
    pub fn settle(&mut self, now: BootTime) {
        self.flush();
        intake::end_snapshot(&mut self.effects);
        self.elapse(now);
        self.conclude();
        if self.effects.has_no_wants() {
            // No answer is outstanding that could still name a process: session ids are final.
            self.effects.invalidate_all(self.state.anchors.identify_all(&self.state.hosts));
            self.conclude();
        }
    }

    /// Time up to which all findings were emitted. No earlier finding will follow.
    #[must_use]
    pub fn settled(&self) -> BootTime {
        let settled = self.buffer.settled();
        if self.is_reported() { settled } else { settled.min(self.effects.now.whole(STEP)) }
    }

    /// True if no applied observation waits for its findings to be emitted.
    #[must_use]
    pub fn is_reported(&self) -> bool {
        self.effects.is_settled()
    }

    /// True if observations or findings wait. The next [`Fact::Tick`] should then come soon.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        !(self.buffer.is_empty() && self.is_reported())
    }

    /// True if a session is open.
    #[must_use]
    pub fn is_anything_open(&self) -> bool {
        self.sessions.is_any_open()
    }

    /// True if records of FIFO reads are of use, to reveal the exec of a stream.
    #[must_use]
    pub fn needs_reads(&self) -> bool {
        self.state.anchors.unresolved().next().is_some()
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
        report::report(&self.state, &self.sessions, &self.effects)
    }

    /// Time and totals of the complete result, without the rest.
    #[must_use]
    pub fn summary(&self) -> Report {
        Report { at: self.effects.now, totals: self.effects.totals.clone(), ..Report::default() }
    }

    /// Selects the observations that the next file of a recording must begin with, from all of this file.
    #[must_use]
    pub fn still_matter(&self, observations: Vec<Observation>) -> Vec<Observation> {
        carry_over::still_matter(&self.state, self.settled(), observations)
    }

    fn release_all(&mut self) {
        while let Some(seen) = self.buffer.pop_any() {
            self.take(seen);
        }
        self.conclude();
    }

    fn take(&mut self, seen: Observation) {
        self.elapse(seen.at);
        intake::apply(&mut self.state, &mut self.effects, seen);
        intake::note_refused(&mut self.state, self.effects.now);
        self.sessions.absorb(&mut self.state, &mut self.effects);
    }

    /// Advances the clock. Everything before `until` was applied.
    fn elapse(&mut self, until: BootTime) {
        // Timers are set for times after `now`: the largest number leaves no room for them.
        let until = until.min(BootTime::LATEST);
        if until.whole(STEP) > self.effects.now {
            // The step of the last observation ends first, with its own time.
            if !self.is_reported() {
                self.effects.now = self.effects.now.whole(STEP).plus(STEP);
                self.conclude();
            }
            self.effects.now = until.whole(STEP);
            self.conclude();
        }
        self.effects.now = self.effects.now.max(until);
    }

    /// Ends a step: expires due timers, and emits what changed.
    fn conclude(&mut self) {
        self.expire(Phase::BeforeRebuild);
        self.sessions.rebuild_invalidated(&mut self.state, &mut self.effects);
        self.expire(Phase::AfterRebuild);
        self.sessions.rebuild_invalidated(&mut self.state, &mut self.effects);
        if self.effects.now >= self.state.next_refusal {
            self.report_refused();
        }
        self.expire(Phase::Sweep);
    }

    fn expire(&mut self, phase: Phase) {
        while let Some((due, timer)) = self.effects.timers.pop(phase, self.effects.now) {
            let lacks_client = |state: &State, since| self.sessions.lacks_any_client(state, since);
            intake::expire(&mut self.state, &mut self.effects, due, timer, lacks_client);
            self.sessions.absorb(&mut self.state, &mut self.effects);
        }
    }

    /// Emits refusals of full tables, and what they change.
    fn report_refused(&mut self) {
        if intake::report_refused(&mut self.state, &mut self.effects) {
            self.sessions.rebuild_invalidated(&mut self.state, &mut self.effects);
        }
    }
}
