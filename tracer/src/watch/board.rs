//! A live trace in a thread of its own, and a board between it and the screen: the newest word counts, older ones are not kept.

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

use super::WatchError;
use crate::{
    engine::{Flow, Seen},
    live::{self, Live, LiveError, Watcher},
    model::{Change, Finding, Report, Session},
    sink::{Header, Sink},
};

/// The trace is asked whether anything is new so often: so long quitting takes at most.
const EVERY: Duration = Duration::from_millis(300);
/// Sessions that are over and still listed.
const CLOSED: usize = 100;

/// What the trace told last.
#[derive(Default)]
struct Told {
    seen: Option<Seen>,
    /// The newest last.
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

/// A trace that runs, and what it told.
pub struct Board {
    shared: Shared,
    trace: JoinHandle<Result<(), LiveError>>,
}

/// Says that the trace is over, also where it panicked.
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
    /// When there can be no thread.
    pub fn start(mut live: Live) -> io::Result<Self> {
        let shared = Shared::default();
        live.setup.sinks = vec![Box::new(Closings(shared.clone()))];
        let telling = shared.clone();
        let tell = move |seen: Seen| {
            telling.tell(|told| told.seen = Some(seen));
            if telling.stop.load(Ordering::Relaxed) { Flow::Stop } else { Flow::Continue }
        };
        live.watcher = Some(Watcher { every: EVERY, tell: Box::new(tell) });
        let over = Over(shared.clone());
        let trace = thread::Builder::new().name("trace".to_owned()).spawn(move || {
            let _over = over;
            live::live(live).map(drop)
        })?;
        Ok(Self { shared, trace })
    }

    /// Waits until it watches; `false`: it will not.
    #[must_use]
    pub fn wait(&self) -> bool {
        let told = self.shared.told();
        let waiting = |told: &mut Told| !told.begun && !told.over;
        let told = self.shared.told.1.wait_while(told, waiting).unwrap_or_else(PoisonError::into_inner);
        told.begun
    }

    /// Where it watches.
    #[must_use]
    pub fn header(&self) -> Header {
        self.shared.told().header.clone()
    }

    /// What is new: the sessions that are open, and those that ended lately.
    #[must_use]
    pub fn news(&self) -> Option<Report> {
        let mut told = self.shared.told();
        let mut report = told.seen.take()?.report;
        let is_open = |session: &Session| report.sessions.iter().any(|open| open.id == session.id);
        let closed: Vec<Session> = told.closed.iter().filter(|session| !is_open(session)).cloned().collect();
        report.sessions.extend(closed);
        Some(report)
    }

    /// Whether the trace has ended by itself.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.told().over
    }

    /// Ends the trace.
    ///
    /// # Errors
    /// When it had not come about, or had broken off.
    pub fn end(self) -> Result<(), WatchError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        match self.trace.join() {
            Ok(outcome) => outcome.map_err(WatchError::Live),
            Err(_panic) => Err(WatchError::Panic),
        }
    }
}

/// Keeps what is over.
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
