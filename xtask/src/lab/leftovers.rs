//! Processes of containers, which outlive the daemons that started them: shims and their descendants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::baseline::PODS_CGROUP;
use super::config::CONTAINERD_SOCKET;
use super::process::Process;

/// Properties of a process that decide if it belongs to the lab.
#[derive(Clone, Debug)]
struct Candidate {
    process: Process,
    parent: i32,
    is_shim: bool,
    in_pod: bool,
}

/// Kills all processes below the shims or in pods, then the shims. `containerd` is the lab's first containerd,
/// already stopped: only shims started after it that name its socket belong to the lab.
pub(super) fn stop(containerd: &Process) -> Result<()> {
    let (shims, others) = of_the_lab(&scan(containerd)?, containerd);
    for process in others.iter().chain(&shims) {
        process.signal(Signal::KILL)?;
    }
    for process in others.iter().chain(&shims) {
        process.wait(Duration::from_secs(10))?;
    }
    Ok(())
}

/// Returns the shims, and all other processes below them or in a pod's cgroup.
fn of_the_lab(candidates: &[Candidate], containerd: &Process) -> (Vec<Process>, Vec<Process>) {
    let is_younger = |it: &Candidate| it.process.start_time >= containerd.start_time;
    let shims: BTreeSet<i32> =
        candidates.iter().filter(|it| it.is_shim && is_younger(it)).map(|it| it.process.pid).collect();
    let parents: BTreeMap<i32, i32> = candidates.iter().map(|it| (it.process.pid, it.parent)).collect();
    let is_below = |pid: i32| {
        // Limit the steps to the number of processes: data read while it changes may contain a cycle.
        std::iter::successors(Some(pid), |pid| parents.get(pid).copied())
            .take(parents.len())
            .any(|pid| shims.contains(&pid))
    };
    let in_lab = candidates.iter().filter(|it| is_younger(it) && (it.in_pod || is_below(it.process.pid)));
    let (first, second): (Vec<&Candidate>, Vec<&Candidate>) = in_lab.partition(|it| shims.contains(&it.process.pid));
    let processes = |list: Vec<&Candidate>| list.into_iter().map(|it| it.process.clone()).collect();
    (processes(first), processes(second))
}

fn scan(containerd: &Process) -> Result<Vec<Candidate>> {
    let mut candidates = Vec::new();
    // Skip processes that end during the scan: there is nothing left to stop.
    for process in procfs::process::all_processes().context("cannot list /proc")?.filter_map(Result::ok) {
        let Ok(stat) = process.stat() else { continue };
        let cmdline = process.cmdline().unwrap_or_default();
        let names_socket = cmdline.windows(2).any(|pair| pair == ["-address", CONTAINERD_SOCKET]);
        candidates.push(Candidate {
            process: Process { pid: stat.pid, start_time: stat.starttime, boot_id: containerd.boot_id.clone() },
            parent: stat.ppid,
            is_shim: stat.comm.starts_with("containerd-shim") && names_socket,
            in_pod: is_in_pod(&process),
        });
    }
    Ok(candidates)
}

/// Returns a process in any pod's cgroup. With pods of another kubelet on the machine, `down` could not identify the
/// lab's own.
pub(super) fn process_in_pod() -> Option<i32> {
    let mut processes = procfs::process::all_processes().ok()?.filter_map(Result::ok);
    // Ignore dead processes that are not yet reaped: they may belong to the lab that was just stopped.
    let lives = |process: &procfs::process::Process| process.stat().is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'));
    processes.find(|process| is_in_pod(process) && lives(process)).map(|process| process.pid)
}

fn is_in_pod(process: &procfs::process::Process) -> bool {
    let pods = format!("/{PODS_CGROUP}/");
    process.cgroups().is_ok_and(|cgroups| cgroups.0.iter().any(|cgroup| cgroup.pathname.starts_with(&pods)))
}

#[cfg(test)]
mod tests {
    use super::{Candidate, Process, of_the_lab};

    fn process(pid: i32, start_time: u64) -> Process {
        Process { pid, start_time, boot_id: "boot".to_owned() }
    }

    fn candidate(pid: i32, start_time: u64, parent: i32, is_shim: bool, in_pod: bool) -> Candidate {
        Candidate { process: process(pid, start_time), parent, is_shim, in_pod }
    }

    #[test]
    fn shims_descendants_and_pod_processes_are_found() {
        let list = [
            candidate(1, 0, 0, false, false),
            candidate(10, 50, 1, true, false),    // a shim older than containerd
            candidate(20, 200, 1, true, false),   // the lab's shim
            candidate(21, 210, 20, false, true),  // a container's process
            candidate(22, 220, 21, false, false), // child of the previous process, moved to another cgroup
            candidate(30, 230, 1, false, true),   // in a pod, but its shim is gone
            candidate(40, 240, 1, false, false),  // a shell outside the lab
        ];
        let (shims, others) = of_the_lab(&list, &process(5, 100));
        assert_eq!(shims.iter().map(|it| it.pid).collect::<Vec<_>>(), [20]);
        assert_eq!(others.iter().map(|it| it.pid).collect::<Vec<_>>(), [21, 22, 30]);
    }
}
