//! SIGINT and SIGTERM: noticed at once, also while the thread of the trace is at a long step.

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
    asked: AtomicBool,
    /// Wakes the trace.
    arrived: Notify,
    /// Ends the thread that waits for signals.
    over: Notify,
}

/// Whether a signal asked the trace to end. The thread that waits for signals ends with this value.
pub(super) struct Stop(Arc<Shared>);

impl Stop {
    /// Waits for signals from now on, on a thread of its own.
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
                    waiting.asked.store(true, Ordering::Relaxed);
                    waiting.arrived.notify_one();
                }
            });
        })?;
        Ok(Self(shared))
    }

    /// Whether a signal arrived.
    pub(super) fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Relaxed)
    }

    /// Waits for a signal. It may be dropped and called anew: a signal in between is not missed.
    pub(super) async fn asked(&self) {
        self.0.arrived.notified().await;
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.over.notify_one();
    }
}
