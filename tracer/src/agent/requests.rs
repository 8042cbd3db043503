//! SIGHUP, SIGTERM and SIGINT, for as long as the agent lives: each ends the present trace. A signal between two traces is not lost.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
};

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::{
    runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::confine;

#[derive(Default)]
struct State {
    /// A reload was asked for since the last [`Requests::reload`].
    reload: bool,
    /// The end was asked for.
    end: bool,
    /// Closed to end the present trace.
    present: Option<OwnedFd>,
}

/// Requests to reload or to end.
pub struct Requests(Arc<Mutex<State>>);

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Requests {
    /// Waits for signals from now on, on a thread of its own. `may_reload` is called for each SIGHUP; the trace goes on if it returns
    /// false, as for a configuration that is not valid.
    ///
    /// # Errors
    /// When the thread cannot be started, or a signal cannot be received.
    pub fn on_signals(may_reload: impl Fn() -> bool + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<Mutex<State>>::default();
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let kinds = [SignalKind::hangup(), SignalKind::terminate(), SignalKind::interrupt()];
        let [hangup, terminate, interrupt] = kinds.map(signal);
        let signals = (hangup?, terminate?, interrupt?);
        drop(guard);
        let state = Arc::clone(&shared);
        let (confined, is_confined) = mpsc::channel();
        thread::Builder::new().name("requests".to_owned()).spawn(move || {
            // Capabilities bind a thread alone, and the trace gives up those of its own thread later.
            confine::drop_capabilities();
            let _waits = confined.send(());
            runtime.block_on(watch(signals, &state, may_reload));
        })?;
        // The filter of system calls, which the trace installs for all threads, permits no prctl(2).
        is_confined.recv().map_err(io::Error::other)?;
        Ok(Self(shared))
    }

    /// A descriptor that is closed at its other end when a reload or the end is asked for; at once if it was asked for before.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn arm(&self) -> io::Result<OwnedFd> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut state = lock(&self.0);
        state.present = (!state.reload && !state.end).then_some(writer);
        Ok(reader)
    }

    /// True if a reload was asked for since the last call, and not the end.
    #[must_use]
    pub fn reload(&self) -> bool {
        let mut state = lock(&self.0);
        std::mem::take(&mut state.reload) && !state.end
    }
}

async fn watch(
    (mut hangup, mut terminate, mut interrupt): (Signal, Signal, Signal),
    state: &Mutex<State>,
    may_reload: impl Fn() -> bool,
) {
    loop {
        let is_end = tokio::select! {
            _ = hangup.recv() => false,
            _ = terminate.recv() => true,
            _ = interrupt.recv() => true,
        };
        if is_end || may_reload() {
            let mut state = lock(state);
            state.end |= is_end;
            state.reload |= !is_end;
            state.present = None;
        }
    }
}
