//! Installs Debian packages if run as root; otherwise names the command.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::hint::hinted;
use crate::progress::Progress;
use crate::tools::{command, find, run};

/// Package scripts run this program before they start a service. Exit status 101 forbids the start.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs these packages, or fails with the command that installs them.
pub(crate) fn install(packages: &[&str], progress: &Progress) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let by_hand = format!("apt-get install -y --no-install-recommends {list}");
    if !rustix::process::geteuid().is_root() || find("apt-get").is_none() {
        return Err(hinted(format!("missing: {list}"), format!("run as root: {by_hand}")));
    }
    progress.report(format!("installing {list}"));
    let _block = ServiceBlock::new()?;
    let install = || {
        let mut apt = command("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        run(apt.args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages))
    };
    // Outdated or missing package lists are the usual reason for a failure.
    let done = install().or_else(|_| run(command("apt-get").args(["update", "-qq"])).and_then(|_| install()));
    done.map(drop).map_err(|error| hinted(format!("{error:#}"), format!("try by hand: {by_hand}")))
}

/// Prevents packages from starting their daemons, which would occupy the sockets of the lab's daemons.
struct ServiceBlock {
    written: Option<PathBuf>,
}

impl ServiceBlock {
    fn new() -> Result<Self> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let file = PathBuf::from(POLICY);
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&file) {
            Ok(mut policy) => policy.write_all(b"#!/bin/sh\nexit 101\n").context(POLICY)?,
            // The machine has its own policy.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(Self { written: None }),
            Err(error) => return Err(error).context(POLICY),
        }
        Ok(Self { written: Some(file) })
    }
}

impl Drop for ServiceBlock {
    fn drop(&mut self) {
        if let Some(file) = &self.written {
            // A leftover policy only prevents service starts, and `drop` cannot report errors.
            let _ = fs::remove_file(file);
        }
    }
}
