//! Three hosts on one machine: network namespaces joined by a bridge in the master's.
//!
//! The kubelet refuses a loopback node address. With one address for all hosts, tests would also miss every confusion
//! between them. Only the network is separate: mounts, pids and cgroups are the machine's.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use crate::hint::hinted;
use crate::tools::{command, run};

/// One of the lab's hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Host {
    /// Runs kubectl.
    Client,
    /// Runs etcd and kube-apiserver.
    Master,
    /// Runs the kubelet, containerd, dockerd and the pods on the host network.
    Worker,
}

impl Host {
    /// All hosts.
    pub(super) const ALL: [Self; 3] = [Self::Client, Self::Master, Self::Worker];

    /// Name of the network namespace, as in `ip netns`.
    pub(super) fn netns(self) -> &'static str {
        match self {
            Self::Client => "lab-c",
            Self::Master => "lab-m",
            Self::Worker => "lab-w",
        }
    }

    /// Address on the bridge.
    pub(super) fn address(self) -> &'static str {
        match self {
            Self::Client => "192.168.205.1",
            Self::Master => "192.168.205.10",
            Self::Worker => "192.168.205.11",
        }
    }

    /// The file that holds the namespace open.
    pub(super) fn netns_path(self) -> PathBuf {
        Path::new("/run/netns").join(self.netns())
    }

    /// Builds a command that runs on this host.
    ///
    /// Only the network namespace changes, as with `nsenter --net`. `ip netns exec` would also mount a new /sys,
    /// which hides the cgroups from the kubelet and the runtime.
    pub(super) fn command(self, program: impl Into<PathBuf>) -> Result<Command> {
        let mut command = command(program);
        let netns = OwnedFd::from(self.open()?);
        let enter = move || Ok(move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?);
        // SAFETY: between fork and exec, the closure makes one system call on a descriptor that it owns. It allocates
        // nothing and takes no lock.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }

    /// Moves this thread to the host, before another program replaces this process.
    pub(super) fn enter(self) -> Result<()> {
        let netns = OwnedFd::from(self.open()?);
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| hinted(format!("cannot enter {}: {error}", self.netns()), "run it as root"))
    }

    fn open(self) -> Result<File> {
        let path = self.netns_path();
        File::open(&path).with_context(|| format!("cannot open {}", path.display()))
    }
}

/// Hosts with an existing namespace.
pub(super) fn existing() -> Vec<Host> {
    Host::ALL.into_iter().filter(|host| host.netns_path().exists()).collect()
}

/// Creates the namespaces, their bridge and their links.
pub(super) fn up() -> Result<()> {
    for host in Host::ALL {
        ip(&["netns", "add", host.netns()])?;
        ip(&["-n", host.netns(), "link", "set", "lo", "up"])?;
    }
    let master = Host::Master.netns();
    ip(&["-n", master, "link", "add", "br0", "type", "bridge"])?;
    ip(&["-n", master, "addr", "add", &on_lan(Host::Master), "dev", "br0"])?;
    ip(&["-n", master, "link", "set", "br0", "up"])?;
    for host in [Host::Client, Host::Worker] {
        let port = format!("v-{}", host.netns());
        let there = host.netns();
        ip(&["-n", master, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", there])?;
        ip(&["-n", master, "link", "set", &port, "master", "br0", "up"])?;
        ip(&["-n", there, "addr", "add", &on_lan(host), "dev", "eth0"])?;
        ip(&["-n", there, "link", "set", "eth0", "up"])?;
        // No default route: a lookup outside, such as a cloud's metadata service, then fails at once. Otherwise the
        // kubelet would wait for two time-outs.
    }
    Ok(())
}

/// Deletes the namespaces' names. Processes still inside keep a namespace alive without a name.
pub(super) fn down() -> Result<()> {
    for host in existing() {
        ip(&["netns", "del", host.netns()])?;
    }
    Ok(())
}

fn on_lan(host: Host) -> String {
    format!("{}/24", host.address())
}

fn ip(args: &[&str]) -> Result<()> {
    run(command("ip").args(args)).map(drop).map_err(|error| {
        let needs = "the kernel needs CONFIG_NET_NS, CONFIG_BRIDGE and CONFIG_VETH, built in or as modules";
        hinted(format!("{error:#}"), format!("{needs}; `cargo xtask lab down` removes the network"))
    })
}
