//! SIGINT, SIGTERM and the end of a descriptor, noticed at once, even during a long step of the trace's thread.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime,
    signal::unix::{SignalKind, signal},
    sync::Notify,
};

#[derive(Default)]
struct Shared {
    /// Set when a signal has arrived.
    requested: AtomicBool,
    /// Wakes the trace.
    arrived: Notify,
    /// Ends the thread that waits for signals.
    over: Notify,
}

/// A request to end the trace, made by a signal. Dropping the value ends the thread that waits for signals.
pub(super) struct Stop(Arc<Shared>);

impl Stop {
    /// Waits for signals from now on, on a separate thread; also for `end` to become readable, or to be closed at its other end.
    ///
    /// # Errors
    /// When the thread cannot be started, or signals cannot be received.
    pub(super) fn on_signals(end: Option<OwnedFd>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // SAFETY: an `OwnedFd` stays open, and the same, until it is dropped.
        let end = end.map(|end| unsafe { AsyncFd::register_with_interest(end, Interest::READABLE) }).transpose();
        drop(guard);
        let end = end.map_err(io::Error::from)?;
        let waiting = Arc::clone(&shared);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                let arrived = tokio::select! {
                    _ = interrupt.recv() => true,
                    _ = terminate.recv() => true,
                    () = readable(end.as_ref()) => true,
                    () = waiting.over.notified() => false,
                };
                if arrived {
                    waiting.requested.store(true, Ordering::Relaxed);
                    waiting.arrived.notify_one();
                }
            });
        })?;
        Ok(Self(shared))
    }

    /// True if a signal has arrived.
    pub(super) fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::Relaxed)
    }

    /// Waits for a signal. The future may be dropped and made anew: a signal in between is not missed.
    pub(super) async fn requested(&self) {
        self.0.arrived.notified().await;
    }
}

/// Waits until the descriptor can be read; for ever without one.
async fn readable(end: Option<&AsyncFd<OwnedFd>>) {
    match end {
        // An error of the descriptor ends the trace, like its end.
        Some(end) => drop(end.readable().await),
        None => std::future::pending().await,
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.over.notify_one();
    }
}
