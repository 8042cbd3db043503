//! The actors: each is this binary under another name. They use blocking calls and one thread per connection, like
//! programs not written in Go, so that the correlator must pair connections by threads.

mod client;
mod proxy;
mod ready;
mod runc;
mod runtime;
mod shim;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use rustix::process::{Signal, set_parent_process_death_signal};

use super::{
    dir::DemoDir,
    names::{APISERVER, CLIENT, KUBELET, RUNC, RUNTIME, SANDBOX, SHIM},
    sandbox,
};

/// Plays the actor with this name; `None` if there is none.
pub(super) fn play(name: &str, folder: &Path, arguments: &[String]) -> Option<ExitCode> {
    let dir = DemoDir::at(folder);
    let outcome = match name {
        SANDBOX => return Some(sandbox::play(arguments)),
        CLIENT => exit_with_parent().and_then(|()| client::play(arguments)),
        APISERVER => exit_with_parent().and_then(|()| proxy::apiserver()),
        KUBELET => exit_with_parent().and_then(|()| proxy::kubelet(&dir)),
        RUNTIME => exit_with_parent().and_then(|()| runtime::play(&dir)),
        // The shim must outlive its runtime to kill its commands; runc's child must outlive runc.
        SHIM => shim::play(&dir),
        RUNC => runc::play(arguments),
        _ => return None,
    };
    Some(outcome.unwrap_or_else(|error| {
        // The parent reads stdout for the READY line, and reports any other line as an error.
        drop(writeln!(io::stdout(), "{error}"));
        ExitCode::FAILURE
    }))
}

/// Makes this process exit with its parent.
fn exit_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}
