//! The Debian packages that the lab needs, and how they are had.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::hint::hinted;
use super::progress::Progress;
use super::state::Runtime;
use super::tools::{command, find, run};

/// Where Debian puts the CNI plug-ins.
pub(super) const CNI_PLUGINS: &str = "/usr/lib/cni";

/// What is asked for before services are started by a package: 101 forbids it.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Something the lab calls, and the package that brings it.
struct Need {
    program: &'static str,
    package: &'static str,
}

const ALWAYS: [Need; 6] = [
    Need { program: "containerd", package: "containerd" },
    Need { program: "runc", package: "runc" },
    Need { program: "etcd", package: "etcd-server" },
    Need { program: "ip", package: "iproute2" },
    Need { program: "busybox", package: "busybox-static" },
    Need { program: "/usr/lib/cni/bridge", package: "containernetworking-plugins" },
];

const DOCKER: [Need; 3] = [
    Need { program: "dockerd", package: "docker.io" },
    // dockershim calls them for port-forward and for a pod's address.
    Need { program: "socat", package: "socat" },
    Need { program: "nsenter", package: "util-linux" },
];

/// The packages of which something is missing.
fn missing(runtime: Runtime, present: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let docker = match runtime {
        Runtime::Docker => DOCKER.as_slice(),
        Runtime::Containerd => &[],
    };
    let needs = ALWAYS.iter().chain(docker);
    needs.filter(|need| !present(need.program)).map(|need| need.package).collect()
}

fn is_present(program: &str) -> bool {
    if program.starts_with('/') { Path::new(program).exists() } else { find(program).is_some() }
}

/// Installs what is missing, or names the command that does.
pub(super) fn ensure(runtime: Runtime, progress: &Progress) -> Result<()> {
    install(&missing(runtime, is_present), progress)
}

/// Installs these packages, or names the command that does.
pub(super) fn install(packages: &[&str], progress: &Progress) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::missing;
    use crate::lab::state::Runtime;

    #[test]
    fn a_machine_that_has_all_needs_nothing() {
        assert!(missing(Runtime::Docker, |_| true).is_empty());
    }

    #[test]
    fn docker_is_needed_only_for_docker() {
        assert!(!missing(Runtime::Containerd, |_| false).contains(&"docker.io"));
        assert!(missing(Runtime::Docker, |_| false).contains(&"docker.io"));
        assert_eq!(missing(Runtime::Containerd, |program| program != "etcd"), ["etcd-server"]);
    }
}
