//! Runs a live trace in its own thread, and shares its newest report with the screen. Older reports are dropped.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use super::error::WatchError;
use crate::{
    engine::{Flow, Status},
    follow::{self, Follow, Health},
    live::{self, Live, Watcher},
    model::{Change, Finding, Report, Session},
    sink::{Header, Sink},
    stream::Subscription,
};

/// Interval of reports from the trace. Also the longest delay of quitting.
const EVERY: Duration = Duration::from_millis(300);
/// Most closed sessions that are still listed.
const CLOSED: usize = 100;

/// Newest state of the trace.
#[derive(Default)]
struct Latest {
    status: Option<Status>,
    /// Closed sessions, newest last.
    closed: VecDeque<Session>,
    header: Header,
    /// Set if the header has changed since the last look.
    is_header_new: bool,
    /// Note on the hosts, if it has changed since the last look.
    note: Option<String>,
    begun: bool,
    ended: bool,
}

#[derive(Clone, Default)]
struct Shared {
    latest: Arc<(Mutex<Latest>, Condvar)>,
    stop: Arc<AtomicBool>,
}

impl Shared {
    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Receives reports, until the screen has ended.
    fn receiver(&self) -> Box<dyn FnMut(Status) -> Flow + Send> {
        let shared = self.clone();
        Box::new(move |status| {
            shared.update(|latest| latest.status = Some(status));
            if shared.stop.load(Ordering::Relaxed) { Flow::Stop } else { Flow::Continue }
        })
    }

    fn update(&self, change: impl FnOnce(&mut Latest)) {
        change(&mut self.latest());
        self.latest.1.notify_all();
    }
}

/// A running trace and its newest state.
pub struct LiveTrace {
    shared: Shared,
    trace: JoinHandle<Result<(), WatchError>>,
}

/// Marks the trace as ended when dropped, so that a panic of its thread is noticed.
struct EndGuard(Shared);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.update(|latest| latest.ended = true);
    }
}

impl LiveTrace {
    /// Starts the trace.
    ///
    /// # Errors
    /// When the thread cannot be created.
    pub fn start(mut live: Live) -> io::Result<Self> {
        let shared = Shared::default();
        live.setup.sinks = vec![Box::new(ClosedSink(shared.clone()))];
        live.watcher = Some(Watcher { every: EVERY, report: shared.receiver() });
        Self::spawn(shared, move || live::live(live).map(drop).map_err(WatchError::Live))
    }

    /// Follows a cluster. `note` gives the state of its hosts in words.
    ///
    /// # Errors
    /// When the thread cannot be created.
    pub fn follow(
        subscription: Subscription,
        mut options: follow::Options,
        note: impl Fn(&Health) -> String + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Shared::default();
        options.setup.sinks = vec![Box::new(ClosedSink(shared.clone()))];
        options.watcher = Some((EVERY, shared.receiver()));
        let stop = Arc::clone(&shared.stop);
        options.is_stopped = Box::new(move || stop.load(Ordering::Relaxed));
        let for_note = shared.clone();
        options.health = Box::new(move |health| for_note.update(|latest| latest.note = Some(note(health))));
        // The screen need not wait for the first host.
        shared.update(|latest| latest.begun = true);
        Self::spawn(shared, move || Follow::new(subscription, options).run().map(drop).map_err(WatchError::Follow))
    }

    fn spawn(shared: Shared, work: impl FnOnce() -> Result<(), WatchError> + Send + 'static) -> io::Result<Self> {
        let guard = EndGuard(shared.clone());
        let trace = thread::Builder::new().name("trace".to_owned()).spawn(move || {
            let _guard = guard;
            work()
        })?;
        Ok(Self { shared, trace })
    }

    /// Header, if it has changed since the last call, and the note on the hosts likewise.
    #[must_use]
    pub fn take_news(&self) -> (Option<Header>, Option<String>) {
        let mut latest = self.shared.latest();
        let header = std::mem::take(&mut latest.is_header_new).then(|| latest.header.clone());
        (header, latest.note.take())
    }

    /// Waits until the trace is attached; false if it ended before.
    #[must_use]
    pub fn wait(&self) -> bool {
        let latest = self.shared.latest();
        let waiting = |latest: &mut Latest| !latest.begun && !latest.ended;
        let latest = self.shared.latest.1.wait_while(latest, waiting).unwrap_or_else(PoisonError::into_inner);
        latest.begun
    }

    /// Header of the trace.
    #[must_use]
    pub fn header(&self) -> Header {
        self.shared.latest().header.clone()
    }

    /// Report since the last call: open sessions, and recently closed ones. `None` if nothing is new.
    #[must_use]
    pub fn take_report(&self) -> Option<Report> {
        let mut latest = self.shared.latest();
        let mut report = latest.status.take()?.report;
        let is_open = |session: &Session| report.sessions.iter().any(|open| open.id == session.id);
        let closed: Vec<Session> = latest.closed.iter().filter(|session| !is_open(session)).cloned().collect();
        report.sessions.extend(closed);
        Some(report)
    }

    /// True if the trace ended by itself.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.latest().ended
    }

    /// Stops the trace and waits for its end.
    ///
    /// # Errors
    /// When the trace could not start, failed, or panicked.
    pub fn end(self) -> Result<(), WatchError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        match self.trace.join() {
            Ok(outcome) => outcome,
            Err(_panic) => Err(WatchError::Panic),
        }
    }
}

/// A sink that keeps the header and closed sessions.
struct ClosedSink(Shared);

impl Sink for ClosedSink {
    fn host(&mut self, header: &Header) -> io::Result<()> {
        self.0.update(|latest| {
            latest.header = header.clone();
            latest.is_header_new = true;
            latest.begun = true;
        });
        Ok(())
    }

    fn change(&mut self, finding: &Finding) -> io::Result<()> {
        if let Change::Closed(session) = &finding.change {
            self.0.update(|latest| {
                // A host that was late may have more to say about a closed session, or show that it is a part.
                latest.closed.retain(|known| known.id != session.id);
                if session.merged_into.is_none() {
                    latest.closed.push_back((**session).clone());
                }
                if latest.closed.len() > CLOSED {
                    latest.closed.pop_front();
                }
            });
        }
        Ok(())
    }

    fn finish(&mut self, _report: &Report) -> io::Result<()> {
        Ok(())
    }
}
