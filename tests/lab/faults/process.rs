//! Faults caused by commands and their containers.

use std::{path::Path, process::Command};

use super::{
    Session, alone, first_of,
    guards::{CgroupOverride, CleanLab, FrozenDisk, frozen},
    signal,
};
use crate::{cleanup::cgroup_of, env::wait_until, faults::list, kubectl::Mode};
use rustix::process::Signal;

#[test]
fn f10_frozen_container_runs_nothing() {
    let _clean = CleanLab::new();
    let session = Session::start(Mode::Stdin, "exec cat");
    let _frozen = frozen(session.pid("process"));
    session.is("F10");
}

#[test]
fn f12_container_reaches_process_limit() {
    let _clean = CleanLab::new();
    // The command starts another process every second, and continues if it cannot.
    let session = Session::start(Mode::Plain, "exec watch -n 1 true");
    let _full = CgroupOverride::new(cgroup_of(session.pid("process"), "pids").join("pids.max"), "1");
    session.is("F12");
}

/// A limit of one per cent of a CPU for the container of this process, until the guard is dropped.
fn one_per_cent(pid: u32) -> CgroupOverride {
    let folder = cgroup_of(pid, "cpu");
    let (old, new) = (folder.join("cpu.cfs_quota_us"), folder.join("cpu.max"));
    if old.exists() { CgroupOverride::new(old, "1000") } else { CgroupOverride::new(new, "1000 100000") }
}

#[test]
fn f43_container_may_use_one_per_cent_of_cpu() {
    let _clean = CleanLab::new();
    let mut session = Session::start(Mode::Stdin, "read -r line; while :; do :; done");
    let _limit = one_per_cent(session.pid("process"));
    session.write("go\n");
    session.is("F43");
}

#[test]
fn f22_write_waits_for_disk() {
    let _clean = CleanLab::new();
    let disk = FrozenDisk::new(first_of("web", "web"));
    let script = format!("read -r line; exec dd if=/dev/zero of={}/file bs=4k count=4 conv=fsync", FrozenDisk::THERE);
    let mut session = Session::start(Mode::Stdin, &script);
    disk.freeze();
    session.write("go\n");
    session.is("F22");
}

#[test]
fn f25_background_child_holds_output() {
    let session = Session::start(Mode::Plain, "sleep 2; sleep 600 & exit 0");
    session.is("F25");
    let _ended = Command::new("pkill").args(["-KILL", "-x", "-f", "sleep 600"]).status();
    signal(session.kubectl().pid(), Signal::TERM);
}

#[test]
fn f26_advice_ends_interactive_shell() {
    /// Bit of SIGTERM in a mask of `/proc/PID/status`.
    const TERM: u64 = 1 << 14;
    let _clean = CleanLab::new();
    let mut session = Session::start(Mode::Tty, "exec sh");
    let process = session.pid("process");
    session.kill_client();
    let found = alone("F26");
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the shell runs");
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
    assert_ne!(u64::from_str_radix(ignored.trim(), 16).expect("a mask") & TERM, 0, "{status}");
    let verdict = found.iter().find(|verdict| verdict["pid"] == process).expect("the shell's verdict");
    let commands = verdict["manual"].as_array().expect("commands").iter().filter_map(|command| command.as_str());
    let advice =
        commands.into_iter().find(|command| command.starts_with("kill")).expect("a command that ends the shell");
    assert!(Command::new("sh").args(["-c", advice]).status().expect("sh").success(), "{advice}");
    wait_until("the shell ends", || (!Path::new(&format!("/proc/{process}")).exists()).then_some(()));
}

#[test]
fn f26_command_outlives_kubectl() {
    for mode in [Mode::Stdin, Mode::Tty] {
        let _clean = CleanLab::new();
        let mut session = Session::start(mode, "exec sleep 600");
        let process = session.pid("process");
        session.kill_client();
        let found = alone("F26");
        assert!(found.iter().any(|verdict| verdict["pid"] == process), "{found:#?}");
        let listed = list().into_iter().find(|one| one["health"] == "F26").expect("`ls` shows the same fault");
        assert_eq!(listed["kind"], "exec", "{listed:#}");
    }
}
