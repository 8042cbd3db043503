//! SIGINT and SIGTERM, noticed at once, even during a long step of the trace's thread.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use tokio::{
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
    /// Waits for signals from now on, on a separate thread.
    ///
    /// # Errors
    /// When the thread cannot be started, or signals cannot be received.
    pub(super) fn on_signals() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        drop(guard);
        let waiting = Arc::clone(&shared);
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            runtime.block_on(async {
                let arrived = tokio::select! {
                    _ = interrupt.recv() => true,
                    _ = terminate.recv() => true,
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

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.over.notify_one();
    }
}
