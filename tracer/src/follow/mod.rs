//! A live trace of all hosts of a cluster, from its message stream.
//!
//! Everything known is merged as recordings are, by the same code, and goes on as messages come. If something changes the
//! past — a host joins, restarts, or is late, or connections tell another clock — it is merged anew, and the differences are shown. So no link rests on the
//! order in which messages arrived.
#![expect(clippy::disallowed_methods, reason = "edge: hosts are waited for by the clock")]

mod epoch;
mod health;
mod pace;
mod shown;

use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use self::{epoch::Epoch, shown::Output};
pub use self::{health::Health, pace::Lag};
use crate::{
    engine::{Filter, Flow, Setup, Shown, Status},
    merge::{FromStream, FutureMerge},
    model::Span,
    redact::Redactor,
    stream::{Assembly, Delivered, Incoming, Message, ReadError, Subscription, Tail},
};

/// Longest time without a look at the clock.
const TURN: Duration = Duration::from_millis(20);

/// Most messages taken between two looks at the clock.
const MOST_MESSAGES: usize = 1_000;

/// Shortest time from one merge of everything to the next one, and as a multiple of the time that it took.
const MERGED_EVERY: Duration = Duration::from_millis(100);
const SHARE: u32 = 5;

/// Interval of reports on the hosts.
const REPORTED_EVERY: Duration = Duration::from_secs(1);

/// Why following ends early.
#[derive(Debug)]
pub enum FollowError {
    /// The stream cannot be read.
    Read(ReadError),
    /// A sink cannot be written.
    Sink(io::Error),
}

impl From<io::Error> for FollowError {
    fn from(error: io::Error) -> Self {
        Self::Sink(error)
    }
}

impl From<ReadError> for FollowError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// The sessions to show, and the receivers of the output and of the hosts' state.
pub struct Options {
    /// What to show, and where.
    pub setup: Setup,
    /// Time before now from which the stream is known. Sessions that ended before the call are not shown.
    pub since: Duration,
    /// End after this time.
    pub duration: Option<Duration>,
    /// Returns true once the caller wants an end.
    pub is_stopped: Box<dyn Fn() -> bool + Send>,
    /// Receives the state of the hosts, once a second and once at the beginning.
    pub health: Box<dyn FnMut(&Health) + Send>,
    /// Receives the state of the sessions whenever it changes, at this interval.
    pub watcher: Option<Watcher>,
}

/// Interval of reports, and their receiver.
pub type Watcher = (Duration, Box<dyn FnMut(Status) -> Flow + Send>);

/// A cluster that is followed.
pub struct Follow {
    subscription: Subscription,
    options: Options,
    filter: Filter,
    redactor: Redactor,
    output: Output,
    assembly: Assembly,
    merges: FutureMerge,
    /// Hosts in the order in which they were heard first: their numbers stay.
    order: Vec<String>,
    epoch: Option<Epoch>,
    /// Set if the present merge lacks something that is known.
    is_stale: bool,
    /// Earliest time of the next merge.
    next_merge: Instant,
    /// Earliest time of the next comparison of clocks.
    next_clocks: Instant,
    /// Latest time of the server, and when it was heard.
    server: (u64, Instant),
    health: Health,
    next_health: Instant,
    next_report: Instant,
    next_forget: Instant,
}

impl Follow {
    /// Follows a subscription.
    #[must_use]
    pub fn new(subscription: Subscription, mut options: Options) -> Self {
        let setup = std::mem::take(&mut options.setup);
        let now = Instant::now();
        Self {
            subscription,
            options,
            filter: setup.filter,
            redactor: setup.redactor,
            output: Output::new(setup.sinks, setup.until),
            assembly: Assembly::default(),
            merges: FutureMerge::default(),
            order: Vec::new(),
            epoch: None,
            is_stale: true,
            next_merge: now,
            next_clocks: now,
            server: (0, now),
            health: Health::default(),
            next_health: now,
            next_report: now,
            next_forget: now,
        }
    }

    /// Follows until the caller wants an end, the time is over, or enough was seen.
    ///
    /// # Errors
    /// The stream cannot be read, or a sink cannot be written.
    pub fn run(mut self) -> Result<Shown, FollowError> {
        let end = self.options.duration.and_then(|duration| Instant::now().checked_add(duration));
        let mut timed_out = false;
        let mut is_current = false;
        while !(self.options.is_stopped)() && self.output.flow() == Flow::Continue {
            timed_out = end.is_some_and(|end| Instant::now() >= end);
            if timed_out {
                break;
            }
            is_current |= self.receive()?;
            let flow = if is_current { self.turn()? } else { Flow::Continue };
            self.report_health();
            if flow == Flow::Stop {
                break;
            }
        }
        let sessions = self.output.sessions();
        let Some(epoch) = self.epoch else {
            self.output.finish_without_hosts()?;
            return Ok(Shown { sessions, timed_out, ..Shown::default() });
        };
        Ok(Shown { sessions, timed_out, ..epoch.finish()? })
    }

    /// Takes the messages that have arrived. Returns true if the stream has no more.
    fn receive(&mut self) -> Result<bool, FollowError> {
        let mut within = TURN;
        let mut is_current = false;
        for _ in 0..MOST_MESSAGES {
            match self.subscription.next(within)? {
                None => break,
                Some(Incoming::Message(message)) => {
                    self.health.trouble = None;
                    self.take(&message);
                }
                Some(Incoming::Current) => is_current = true,
                Some(Incoming::Trouble(why)) => self.health.trouble = Some(why),
            }
            within = Duration::ZERO;
        }
        Ok(is_current)
    }

    fn take(&mut self, message: &Delivered) {
        let Delivered { host, id, position, stored_ns, payload } = message;
        let (known, heard) = self.server;
        if *stored_ns > known.saturating_add(u64::try_from(heard.elapsed().as_nanos()).unwrap_or(u64::MAX)) {
            self.server = (*stored_ns, Instant::now());
        }
        let message = Message { host, id, position: *position, stored_ns: *stored_ns, payload: payload.as_slice() };
        for (host, messages) in self.assembly.take_and_discard(message) {
            *self.health.discarded.entry(host).or_default() += messages;
        }
        if !self.order.contains(host) {
            self.order.push(host.clone());
        }
        let is_merged = self.epoch.as_mut().is_some_and(|epoch| epoch.take(host, id, *stored_ns, payload));
        self.is_stale |= !is_merged;
    }

    /// UTC of the server now, in nanoseconds.
    fn now_ns(&self) -> u64 {
        let (known, heard) = self.server;
        known.saturating_add(u64::try_from(heard.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Goes on with the merge up to the present.
    fn turn(&mut self) -> Result<Flow, FollowError> {
        let now = Instant::now();
        if now >= self.next_forget {
            self.next_forget = now + REPORTED_EVERY * 60;
            let window = u64::try_from(self.options.since.as_nanos()).unwrap_or(u64::MAX);
            self.assembly.forget(self.now_ns().saturating_sub(window));
        }
        let now_ns = self.now_ns();
        if self.is_stale && now >= self.next_merge {
            self.merge(now_ns)?;
            tracing::debug!(took_ms = now.elapsed().as_millis(), "merged anew");
            self.next_merge = Instant::now() + MERGED_EVERY.max(now.elapsed() * SHARE);
        } else if let Some(epoch) = &mut self.epoch {
            epoch.advance(now_ns)?;
            self.is_stale |= epoch.has_late();
            if now >= self.next_clocks {
                let began = Instant::now();
                self.is_stale |= epoch.has_outdated_clock();
                self.next_clocks = Instant::now() + REPORTED_EVERY.max(began.elapsed() * SHARE);
            }
        }
        if let (Some((every, report)), Some(epoch)) = (&mut self.options.watcher, &self.epoch)
            && now >= self.next_report
        {
            self.next_report = now + *every;
            return Ok(report(epoch.status()));
        }
        Ok(Flow::Continue)
    }

    /// Merges everything anew.
    fn merge(&mut self, now_ns: u64) -> Result<(), FollowError> {
        self.is_stale = false;
        let mut known: Vec<_> = self.assembly.recordings();
        self.order.retain(|host| known.iter().any(|(one, _)| one.host == *host));
        known.sort_by_key(|(one, _)| self.order.iter().position(|host| *host == one.host));
        let mut tails: Vec<(Tail, u64)> = Vec::new();
        let (mut streams, mut unreadable) = (Vec::new(), BTreeSet::new());
        for (recording, tail) in known {
            if recording.bytes.is_empty() {
                unreadable.insert(recording.host.clone());
            } else {
                let host = recording.host.clone();
                streams.push(FromStream { host, bytes: Arc::from(recording.bytes), stored_ns: recording.last_ns });
            }
            tails.push((tail, recording.last_ns));
        }
        // A host whose times fit to no other one is left out.
        let merged = loop {
            if streams.is_empty() {
                break None;
            }
            match self.merges.begin(streams.clone()) {
                Ok((following, left_out)) => {
                    unreadable.extend(left_out.iter().map(|(host, _)| host.to_string_lossy().into_owned()));
                    break Some(following).filter(|following| !following.inputs().is_empty());
                }
                Err((host, _)) => {
                    let before = streams.len();
                    streams.retain(|stream| std::path::Path::new(&stream.host) != host);
                    unreadable.insert(host.to_string_lossy().into_owned());
                    if streams.len() == before {
                        break None;
                    }
                }
            }
        };
        self.health.unreadable = unreadable;
        let Some(following) = merged else {
            self.epoch = None;
            return Ok(());
        };
        let setup = Setup {
            filter: self.filter.clone(),
            redactor: self.redactor.clone(),
            sinks: vec![self.output.sink()],
            ..Setup::default()
        };
        let mut epoch = Epoch::begin(following, tails, setup)?;
        let at = epoch.advance(now_ns)?;
        self.output.caught_up(at)?;
        self.epoch = Some(epoch);
        Ok(())
    }

    fn report_health(&mut self) {
        let now = Instant::now();
        if now < self.next_health {
            return;
        }
        self.next_health = now + REPORTED_EVERY;
        let now_ns = self.now_ns();
        self.health.hosts = self.epoch.as_ref().map(|epoch| epoch.lags(now_ns)).unwrap_or_default();
        (self.options.health)(&self.health);
    }
}

/// Whole seconds.
#[must_use]
pub const fn seconds(span: Span) -> u64 {
    span.0 / 1_000_000_000
}
