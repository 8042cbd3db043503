//! Guards that cause a fault and undo it on drop, even if a test fails.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;

use super::signal;
use crate::{
    cleanup::{cgroup_of, clear, end_leftovers, pids},
    env::{lab, output, xtask},
};

/// Guard: no leftover processes in the lab's containers at its start and after its end.
pub(super) struct CleanLab;

impl CleanLab {
    pub(super) fn new() -> Self {
        clear();
        Self
    }
}

impl Drop for CleanLab {
    fn drop(&mut self) {
        end_leftovers();
    }
}

/// A killed daemon of the lab, restarted on drop at the latest.
pub(super) struct KilledDaemon {
    name: &'static str,
    is_back: bool,
}

impl KilledDaemon {
    /// Kills the daemon with SIGKILL.
    pub(super) fn kill(name: &'static str) -> Self {
        output(&mut xtask(&["lab", "stop", "--kill", name]));
        Self { name, is_back: false }
    }

    /// Restarts the daemon; execs work again on return.
    pub(super) fn start_again(&mut self) {
        output(&mut xtask(&["lab", "start", self.name]));
        self.is_back = true;
        lab().daemons_changed();
    }
}

impl Drop for KilledDaemon {
    fn drop(&mut self) {
        if !self.is_back {
            let _started = xtask(&["lab", "start", self.name]).status();
        }
    }
}

/// A cgroup file with another content, restored on drop.
pub(super) struct CgroupOverride {
    file: PathBuf,
    before: String,
}

impl CgroupOverride {
    pub(super) fn new(file: PathBuf, text: &str) -> Self {
        let before = fs::read_to_string(&file).expect("a file of a cgroup");
        fs::write(&file, text).expect("the cgroup file accepts the value");
        Self { file, before }
    }
}

impl Drop for CgroupOverride {
    fn drop(&mut self) {
        let _undone = fs::write(&self.file, self.before.trim());
    }
}

/// Freezes the container of this process until the guard is dropped.
pub(super) fn frozen(pid: u32) -> CgroupOverride {
    let folder = cgroup_of(pid, "freezer");
    let (old, new) = (folder.join("freezer.state"), folder.join("cgroup.freeze"));
    if old.exists() { CgroupOverride::new(old, "FROZEN") } else { CgroupOverride::new(new, "1") }
}

/// A lower soft limit of a process's open files, restored on drop.
pub(super) struct DescriptorLimit {
    pid: u32,
    before: String,
}

impl DescriptorLimit {
    /// Limits the process to its current number of open files plus `more`.
    pub(super) fn new(pid: u32, more: usize) -> Self {
        let prlimit = |limit: &str| {
            let mut prlimit = Command::new("prlimit");
            prlimit.args(["--pid", &pid.to_string(), limit, "--noheadings", "-o", "SOFT"]);
            output(&mut prlimit).trim().to_owned()
        };
        let before = prlimit("--nofile");
        let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is alive").count();
        prlimit(&format!("--nofile={}:", open + more));
        Self { pid, before }
    }
}

impl Drop for DescriptorLimit {
    fn drop(&mut self) {
        let (pid, limit) = (self.pid.to_string(), format!("--nofile={}:", self.before));
        let _undone = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    }
}

/// A file system on a loop device, mounted here and in a container. Writes can be blocked until this is dropped.
pub(super) struct FrozenDisk {
    folder: tempfile::TempDir,
    device: String,
    inside: u32,
}

impl FrozenDisk {
    /// Mount point in the container.
    pub(super) const THERE: &str = "/mnt";

    /// Mounts the file system. `inside` is a process of the container.
    pub(super) fn new(inside: u32) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::File::create(path("disk")).and_then(|disk| disk.set_len(16 << 20)).expect("a file");
        fs::create_dir(path("mounted")).expect("a folder");
        output(Command::new("mkfs.ext4").arg("-q").arg(path("disk")));
        let device = output(Command::new("losetup").args(["--find", "--show"]).arg(path("disk"))).trim().to_owned();
        let disk = Self { folder, device, inside };
        output(Command::new("mount").arg(&disk.device).arg(disk.mounted()));
        let number = output(Command::new("lsblk").args(["-n", "-o", "MAJ:MIN", &disk.device]));
        let (major, minor) = number.trim().split_once(':').expect("the number of a device");
        output(disk.inside("mknod").args([Self::NODE, "b", major, minor]));
        output(disk.inside("mkdir").args(["-p", Self::THERE]));
        output(disk.inside("mount").args(["-t", "ext4", Self::NODE, Self::THERE]));
        disk
    }

    const NODE: &str = "/dev/lab-disk";

    /// Blocks every write from now on.
    pub(super) fn freeze(&self) {
        output(Command::new("fsfreeze").arg("--freeze").arg(self.mounted()));
    }

    fn mounted(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// A program of the container, run in its mount namespace.
    fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.inside.to_string(), "--mount", "--", program]);
        command
    }
}

impl Drop for FrozenDisk {
    fn drop(&mut self) {
        let _thawed = Command::new("fsfreeze").arg("--unfreeze").arg(self.mounted()).status();
        let _there = self.inside("umount").args(["-l", Self::THERE]).status();
        let _node = self.inside("rm").args(["-f", Self::NODE]).status();
        let _here = Command::new("umount").arg("-l").arg(self.mounted()).status();
        let _device = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

/// `tests/lab/faults/runc.rs`
const PROGRAM: &str = env!("CARGO_BIN_EXE_lab-runc");

/// A replacement of `runc`, removed on drop.
pub(super) struct RuncReplacement {
    folder: tempfile::TempDir,
    place: String,
}

impl RuncReplacement {
    /// File in which the replacement finds the path of the real runc.
    const PLAN: &str = "/run/execpath-lab-runc";

    /// Installs `tests/lab/faults/runc.rs`: before each exec it prints more warnings than a pipe takes.
    pub(super) fn printing_warnings() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let place = output(Command::new("which").arg("runc")).trim().to_owned();
        let real = folder.path().join("runc");
        fs::copy(&place, &real).expect("runc");
        fs::write(Self::PLAN, real.as_os_str().as_encoded_bytes()).expect("a file");
        output(Command::new("mount").args(["--bind", PROGRAM, &place]));
        Self { folder, place }
    }
}

impl Drop for RuncReplacement {
    fn drop(&mut self) {
        // Replacements that still run keep the program open.
        let _back = Command::new("umount").args(["--lazy", &self.place]).status();
        let file = |path: &Path| fs::metadata(path).map(|one| (one.dev(), one.ino())).ok();
        let own = file(Path::new(PROGRAM));
        for pid in pids().filter(|pid| file(Path::new(&format!("/proc/{pid}/exe"))) == own) {
            signal(pid, Signal::KILL);
        }
        let _forgotten = fs::remove_file(Self::PLAN);
        let _kept = &self.folder;
    }
}
