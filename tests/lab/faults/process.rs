//! What commands, and what holds them up, do.

use std::{fs, path::PathBuf, process::Command};

use super::{Session, signal};
use crate::kubectl::Mode;
use rustix::process::Signal;

/// A file of a process's cgroup, of the hierarchy of that controller (version 1, as the lab has it).
fn cgroup(pid: u32, controller: &str, file: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
    let path = text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        controllers.split(',').any(|one| one == controller).then(|| path.to_owned())
    });
    let path = path.expect("a hierarchy of that controller");
    PathBuf::from(format!("/sys/fs/cgroup/{controller}{path}/{file}"))
}

/// A file with another content until this goes.
struct Set(PathBuf, String);

impl Set {
    fn new(path: PathBuf, to: &str, back: &str) -> Self {
        fs::write(&path, to).expect("a file of the cgroup takes it");
        Self(path, back.to_owned())
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        drop(fs::write(&self.0, &self.1));
    }
}

#[test]
fn f10_a_frozen_container_runs_nothing() {
    let session = Session::start(Mode::Plain, "exec sleep 600");
    let path = cgroup(session.pid("process"), "freezer", "freezer.state");
    let _frozen = Set::new(path, "FROZEN", "THAWED");
    session.is("F10");
}

#[test]
fn f25_a_child_in_the_background_holds_the_output() {
    let session = Session::start(Mode::Plain, "sleep 2; sleep 600 & exit 0");
    session.is("F25");
    let _ended = Command::new("pkill").args(["-KILL", "-x", "-f", "sleep 600"]).status();
    signal(session.kubectl().pid(), Signal::TERM);
}
