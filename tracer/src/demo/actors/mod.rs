//! The actors: each is this binary under another name. They use blocking calls and one thread per connection, like
//! programs not written in Go, so that the correlator must pair connections by threads.

mod client;
mod proxy;
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
    names::{APISERVER, CLIENT, KUBELET, READY, RUNC, RUNTIME, SHIM, STAGE},
    place::Place,
    stage,
};

/// Plays the actor with this name; `None` if there is none.
pub(super) fn play(name: &str, folder: &Path, arguments: &[String]) -> Option<ExitCode> {
    let place = Place::at(folder);
    let played = match name {
        STAGE => return Some(stage::play(arguments)),
        CLIENT => mortal().and_then(|()| client::play(arguments)),
        APISERVER => mortal().and_then(|()| proxy::apiserver()),
        KUBELET => mortal().and_then(|()| proxy::kubelet(&place)),
        RUNTIME => mortal().and_then(|()| runtime::play(&place)),
        // The shim must outlive its runtime to kill its commands; runc's child must outlive runc.
        SHIM => shim::play(&place),
        RUNC => runc::play(arguments),
        _ => return None,
    };
    Some(played.unwrap_or_else(|error| {
        // The parent reads stdout for the READY line, and reports any other line as an error.
        drop(writeln!(io::stdout(), "{error}"));
        ExitCode::FAILURE
    }))
}

/// Makes this process exit with its parent.
fn mortal() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Signals the parent that this actor listens.
fn ready() -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{READY}")?;
    out.flush()
}
