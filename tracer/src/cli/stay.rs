//! `record --stay`: an idle end instead of a failure that recurs at every start.

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};

use super::{
    error::{Failure, tell},
    exit::Exit,
};

/// True for failures whose cause is the host, or the rights given by the service manager: another start fails too.
pub(super) fn is_permanent(exit: Exit) -> bool {
    matches!(exit, Exit::NeedPrivilege | Exit::Unsupported)
}

/// Reports the failure, then waits for SIGTERM or SIGINT.
pub(super) fn stay(failure: &Failure) -> Result<Exit, Failure> {
    let io = |error| Failure::writing(&error);
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(io)?;
    runtime.block_on(async {
        // Before the report: its reader may send the signal at once.
        let mut interrupt = signal(SignalKind::interrupt()).map_err(io)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(io)?;
        failure.tell();
        tell("notice", "nothing is recorded on this host: waiting for SIGTERM");
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(Exit::Done)
    })
}
