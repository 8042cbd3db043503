//! What makes a fault, and undoes it when it goes: also where a test fails.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    process::{Child, Command},
};

use rustix::process::Signal;

use super::signal;
use crate::{
    clear::{cgroup_of, clear, end_leftovers, pids},
    env::{lab, output, wait_until, xtask},
};

/// Nobody's processes are left in the lab's containers when this begins, and when it goes.
pub(super) struct Quiet;

impl Quiet {
    pub(super) fn new() -> Self {
        clear();
        Self
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        end_leftovers();
    }
}

/// A daemon of the lab that was ended; it is started again at the latest when this goes.
pub(super) struct Ended {
    name: &'static str,
    is_back: bool,
}

impl Ended {
    /// By SIGKILL.
    pub(super) fn kill(name: &'static str) -> Self {
        output(&mut xtask(&["lab", "stop", "--kill", name]));
        Self { name, is_back: false }
    }

    /// Starts it again; an exec works by the time that this returns.
    pub(super) fn start_again(&mut self) {
        output(&mut xtask(&["lab", "start", self.name]));
        self.is_back = true;
        lab().daemons_changed();
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if !self.is_back {
            let _started = xtask(&["lab", "start", self.name]).status();
        }
    }
}

/// A file of a cgroup that says something else, until this goes.
pub(super) struct Written {
    file: PathBuf,
    before: String,
}

impl Written {
    pub(super) fn new(file: PathBuf, text: &str) -> Self {
        let before = fs::read_to_string(&file).expect("a file of a cgroup");
        fs::write(&file, text).expect("it takes that");
        Self { file, before }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let _undone = fs::write(&self.file, self.before.trim());
    }
}

/// Freezes the container of that process, until the result goes.
pub(super) fn frozen(pid: u32) -> Written {
    let folder = cgroup_of(pid, "freezer");
    let (old, new) = (folder.join("freezer.state"), folder.join("cgroup.freeze"));
    if old.exists() { Written::new(old, "FROZEN") } else { Written::new(new, "1") }
}

/// The soft limit of a process's open files, until this goes.
pub(super) struct Limited {
    pid: u32,
    before: String,
}

impl Limited {
    /// As many as it has open, and so many more.
    pub(super) fn new(pid: u32, more: usize) -> Self {
        let prlimit = |limit: &str| {
            let mut prlimit = Command::new("prlimit");
            prlimit.args(["--pid", &pid.to_string(), limit, "--noheadings", "-o", "SOFT"]);
            output(&mut prlimit).trim().to_owned()
        };
        let before = prlimit("--nofile");
        let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").count();
        prlimit(&format!("--nofile={}:", open + more));
        Self { pid, before }
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let (pid, limit) = (self.pid.to_string(), format!("--nofile={}:", self.before));
        let _undone = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    }
}

/// A file system on a disk in a file, mounted here and in a container, on which nothing can be written until this goes.
pub(super) struct FrozenDisk {
    folder: tempfile::TempDir,
    device: String,
    inside: u32,
}

impl FrozenDisk {
    /// Where the container sees it.
    pub(super) const THERE: &str = "/mnt";

    /// `inside` is a process of the container.
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

    /// From now on every write waits.
    pub(super) fn freeze(&self) {
        output(Command::new("fsfreeze").arg("--freeze").arg(self.mounted()));
    }

    fn mounted(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    /// A program of the container's, in its mount namespace.
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

/// Another program in the place of `runc`, until this goes.
pub(super) struct Runc {
    folder: tempfile::TempDir,
    place: String,
}

impl Runc {
    /// Where that program reads what to do.
    const PLAN: &str = "/run/execpath-lab-runc";

    /// Before each exec it does `what`: `tests/lab/faults/runc.rs`.
    pub(super) fn that(what: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let place = output(Command::new("which").arg("runc")).trim().to_owned();
        let real = folder.path().join("runc");
        fs::copy(&place, &real).expect("runc");
        fs::write(Self::PLAN, format!("{what}\n{}\n", real.display())).expect("a file");
        output(Command::new("mount").args(["--bind", PROGRAM, &place]));
        Self { folder, place }
    }
}

impl Drop for Runc {
    fn drop(&mut self) {
        // Those that still run have the program open.
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

/// A systemd that does not answer: it listens where the real one does, in a mount namespace of its own.
pub(super) struct Systemd(Child);

impl Systemd {
    const PLACE: &str = "/run/systemd/private";

    pub(super) fn silent() -> Self {
        let script = format!("mount -t tmpfs none {} && exec {PROGRAM} listen {}", "/run/systemd", Self::PLACE);
        fs::create_dir_all("/run/systemd").expect("a folder");
        let child = Command::new("unshare").args(["--mount", "--", "sh", "-c", &script]).spawn().expect("unshare");
        let systemd = Self(child);
        wait_until("it listens", || fs::metadata(systemd.place()).ok().filter(|place| place.file_type().is_socket()));
        systemd
    }

    /// As others reach it.
    pub(super) fn place(&self) -> String {
        format!("/proc/{}/root{}", self.0.id(), Self::PLACE)
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
