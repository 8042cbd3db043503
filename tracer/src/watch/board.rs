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
    live::{self, Live, LiveError, Watcher},
    model::{Change, Finding, Report, Session},
    sink::{Header, Sink},
};

/// Interval of reports from the trace. Also the longest delay of quitting.
const EVERY: Duration = Duration::from_millis(300);
/// Most closed sessions that are still listed.
const CLOSED: usize = 100;

/// Newest state of the trace.
#[derive(Default)]
struct Told {
    seen: Option<Status>,
    /// Closed sessions, newest last.
    closed: VecDeque<Session>,
    header: Header,
    begun: bool,
    over: bool,
}

#[derive(Clone, Default)]
struct Shared {
    told: Arc<(Mutex<Told>, Condvar)>,
    stop: Arc<AtomicBool>,
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told());
        self.told.1.notify_all();
    }
}

/// A running trace and its newest state.
pub struct Board {
    shared: Shared,
    trace: JoinHandle<Result<(), LiveError>>,
}

/// Marks the trace as ended when dropped, so that a panic of its thread is noticed.
struct Over(Shared);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.tell(|told| told.over = true);
    }
}

impl Board {
    /// Starts the trace.
    ///
    /// # Errors
    /// When the thread cannot be created.
    pub fn start(mut live: Live) -> io::Result<Self> {
        let shared = Shared::default();
        live.setup.sinks = vec![Box::new(Closings(shared.clone()))];
        let telling = shared.clone();
        let tell = move |seen: Status| {
            telling.tell(|told| told.seen = Some(seen));
            if telling.stop.load(Ordering::Relaxed) { Flow::Stop } else { Flow::Continue }
        };
        live.watcher = Some(Watcher { every: EVERY, report: Box::new(tell) });
        let over = Over(shared.clone());
        let trace = thread::Builder::new().name("trace".to_owned()).spawn(move || {
            let _over = over;
            live::live(live).map(drop)
        })?;
        Ok(Self { shared, trace })
    }

    /// Waits until the trace is attached; false if it ended before.
    #[must_use]
    pub fn wait(&self) -> bool {
        let told = self.shared.told();
        let waiting = |told: &mut Told| !told.begun && !told.over;
        let told = self.shared.told.1.wait_while(told, waiting).unwrap_or_else(PoisonError::into_inner);
        told.begun
    }

    /// Header of the trace.
    #[must_use]
    pub fn header(&self) -> Header {
        self.shared.told().header.clone()
    }

    /// Report since the last call: open sessions, and recently closed ones. `None` if nothing is new.
    #[must_use]
    pub fn news(&self) -> Option<Report> {
        let mut told = self.shared.told();
        let mut report = told.seen.take()?.report;
        let is_open = |session: &Session| report.sessions.iter().any(|open| open.id == session.id);
        let closed: Vec<Session> = told.closed.iter().filter(|session| !is_open(session)).cloned().collect();
        report.sessions.extend(closed);
        Some(report)
    }

    /// True if the trace ended by itself.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.told().over
    }

    /// Stops the trace and waits for its end.
    ///
    /// # Errors
    /// When the trace could not start, failed, or panicked.
    pub fn end(self) -> Result<(), WatchError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        match self.trace.join() {
            Ok(outcome) => outcome.map_err(WatchError::Live),
            Err(_panic) => Err(WatchError::Panic),
        }
    }
}

/// A sink that keeps the header and closed sessions.
struct Closings(Shared);

impl Sink for Closings {
    fn host(&mut self, header: &Header) -> io::Result<()> {
        self.0.tell(|told| {
            told.header = header.clone();
            told.begun = true;
        });
        Ok(())
    }

    fn change(&mut self, finding: &Finding) -> io::Result<()> {
        if let Change::Closed(session) = &finding.change
            && session.merged_into.is_none()
        {
            self.0.tell(|told| {
                told.closed.push_back((**session).clone());
                if told.closed.len() > CLOSED {
                    told.closed.pop_front();
                }
            });
        }
        Ok(())
    }

    fn finish(&mut self, _report: &Report) -> io::Result<()> {
        Ok(())
    }
}
