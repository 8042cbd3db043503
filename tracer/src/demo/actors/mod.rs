//! Who plays: each is this binary again, under another name. All block: a thread for each connection, as programs that are
//! not Go do, so that the correlator has to join by threads.

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
    place::Place,
    stage::{self, READY},
};

/// Names that actors go by: what `ps` and the tracer show of them.
pub(super) const STAGE: &str = "demo-stage";
pub(super) const CLIENT: &str = "demo-kubectl";
pub(super) const APISERVER: &str = "demo-apiserver";
pub(super) const KUBELET: &str = "demo-kubelet";
pub(super) const RUNTIME: &str = "demo-containerd";
pub(super) const SHIM: &str = "demo-shim";
pub(super) const RUNC: &str = "demo-runc";

/// Plays the actor of that name.
pub(super) fn play(name: &str, folder: &Path, arguments: &[String]) -> Option<ExitCode> {
    let place = Place::at(folder);
    let played = match name {
        STAGE => return Some(stage::play(arguments)),
        CLIENT => mortal().and_then(|()| client::play(arguments)),
        APISERVER => mortal().and_then(|()| proxy::apiserver()),
        KUBELET => mortal().and_then(|()| proxy::kubelet(&place)),
        RUNTIME => mortal().and_then(|()| runtime::play(&place)),
        // The shim outlives its runtime to end what it started; runc's child is to outlive runc.
        SHIM => shim::play(&place),
        RUNC => runc::play(arguments),
        _ => return None,
    };
    Some(played.unwrap_or_else(|error| {
        // On stdout: whoever started it reads that.
        drop(writeln!(io::stdout(), "{error}"));
        ExitCode::FAILURE
    }))
}

/// Ends with who started it.
fn mortal() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Tells who started it that it listens.
fn ready() -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{READY}")?;
    out.flush()
}
