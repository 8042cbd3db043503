//! Finds and ends leftovers of tests in the lab's containers: faults outside sessions need a quiet lab.

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command};

use rustix::process::Signal;

use crate::{
    env::{lab, output, wait_until, xtask},
    faults::{codes, diagnose, list, signal},
};

/// Where containerd's shims keep what belongs to a container of Kubernetes.
const TASKS: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";

/// Ends every process in the lab's containers except the first ones, and waits until `ls` shows no session but probes.
///
/// Restarts containerd if a diagnosis still finds a fault: containerd 1.6 keeps a connection of each exec that failed
/// to start.
pub(crate) fn clear() {
    wait_until("the lab is quiet", || {
        end_leftovers();
        // The kubelet's own probes come and go.
        list().iter().all(|session| session["kind"] == "probe").then_some(())
    });
    if !codes(&diagnose(&["diagnose"]).1).is_empty() {
        output(&mut xtask(&["lab", "restart", "containerd"]));
        lab().daemons_changed();
    }
}

/// Ends the leftovers without waiting for their sessions to close.
pub(crate) fn end_leftovers() {
    for process in leftovers() {
        signal(process, Signal::KILL);
    }
}

/// First processes of the containers, by container.
pub(crate) fn first_processes() -> BTreeMap<String, u32> {
    let entries = fs::read_dir(TASKS).expect("containerd has containers").map(|entry| entry.expect("an entry"));
    let first = |id: String| {
        let pid = fs::read_to_string(format!("{TASKS}/{id}/init.pid")).ok()?.trim().parse().ok()?;
        Some((id, pid))
    };
    entries.filter_map(|entry| first(entry.file_name().into_string().ok()?)).collect()
}

/// Pids of all processes on the machine.
pub(crate) fn pids() -> impl Iterator<Item = u32> {
    let processes = fs::read_dir("/proc").expect("procfs").filter_map(Result::ok);
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Processes in containers, except the first process of each container.
fn leftovers() -> Vec<u32> {
    let first = first_processes();
    let is_left = |pid: &u32| {
        // A process that ends meanwhile has no cgroup file, and needs no signal.
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.contains("/kubepods")
            && first.keys().any(|id| groups.contains(id))
            && !first.values().any(|one| one == pid)
    };
    pids().filter(is_left).collect()
}

/// Cgroup folder of a process for a controller. The lab's controllers use cgroup version 1, or there is one hierarchy
/// of version 2.
pub(crate) fn cgroup_of(pid: u32, controller: &str) -> PathBuf {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the process is alive");
    let lines = || groups.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let own = lines().find(|(controllers, _)| controllers.split(',').any(|one| one == controller));
    let (controllers, path) =
        own.or_else(|| lines().find(|(controllers, _)| controllers.is_empty())).expect("a cgroup");
    let top = output(Command::new("findmnt").args(match controllers {
        "" => vec!["-n", "-o", "TARGET", "-t", "cgroup2"],
        _ => vec!["-n", "-o", "TARGET", "-t", "cgroup", "-O", controller],
    }));
    format!("{}{path}", top.lines().next().expect("the cgroup hierarchy is mounted")).into()
}
