//! Debian packages: installed as root, named otherwise.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::hint::hinted;
use crate::progress::Progress;
use crate::tools::{command, find, run};

/// What is asked for before services are started by a package: 101 forbids it.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs these packages, or names the command that does.
pub(crate) fn install(packages: &[&str], progress: &Progress) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let by_hand = format!("apt-get install -y --no-install-recommends {list}");
    if !rustix::process::geteuid().is_root() || find("apt-get").is_none() {
        return Err(hinted(format!("missing: {list}"), format!("as root: {by_hand}")));
    }
    progress.say(format!("installing {list}"));
    let _services_stay_off = ServicesStayOff::new()?;
    let install = || {
        let mut apt = command("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        run(apt.args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
    };
    // Lists that are too old, or not there, are the usual reason for a failure.
    let done = install().or_else(|_| run(command("apt-get").args(["update", "-qq"])).and_then(|_| install()));
    done.map(drop).map_err(|error| hinted(format!("{error:#}"), format!("look at what it says: {by_hand}")))
}

/// Keeps packages from starting their daemons, which would take the sockets that the lab's own listen on.
struct ServicesStayOff {
    written: Option<PathBuf>,
}

impl ServicesStayOff {
    fn new() -> Result<Self> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = PathBuf::from(POLICY);
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&file) {
            Ok(mut policy) => policy.write_all(b"#!/bin/sh\nexit 101\n").context(POLICY)?,
            // The machine has a policy of its own.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(Self { written: None }),
            Err(error) => return Err(error).context(POLICY),
        }
        Ok(Self { written: Some(file) })
    }
}

impl Drop for ServicesStayOff {
    fn drop(&mut self) {
        if let Some(file) = &self.written {
            // Nothing is lost with it but a service's start; there is nobody left to tell.
            let _ = fs::remove_file(file);
        }
    }
}
