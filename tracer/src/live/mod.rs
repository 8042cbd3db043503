//! A live trace: probes and snapshot in, clock and signals beside them, all into the pump. Only this module waits for events.

mod audit;
mod enrol;
mod error;
mod examine;
mod losses;
mod options;
mod priority;
mod questions;
mod sampling;
mod stop;
mod trace;

pub(crate) use self::audit::AUDIT_TAKEN_IN;
pub use self::{
    error::LiveError,
    examine::examine,
    options::{Live, Watcher},
};
use std::{io, os::fd::OwnedFd};

use self::{priority::RaisedPriority, stop::Stop, trace::Trace};
use crate::engine::Shown;

/// Waits for a signal (SIGINT, SIGTERM), or until `end` becomes readable or is closed at its other end.
///
/// # Errors
/// When signals cannot be received.
pub fn wait(end: Option<OwnedFd>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = Stop::on_signals(end)?;
    runtime.block_on(stop.requested());
    Ok(())
}

/// Traces until a signal (SIGINT, SIGTERM) arrives, the duration has passed, or the pump has seen enough.
///
/// # Errors
/// When the host does not allow tracing, or a sink or the recording cannot be written.
pub fn live(live: Live) -> Result<Shown, LiveError> {
    let _raised = RaisedPriority::new();
    // One thread: the kernel's buffer is read in order, and nothing else here is slow.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(Trace::start(live)?.run())
}
