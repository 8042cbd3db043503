//! Commands that inspect other users' processes, run by an unprivileged user.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::{Command, Stdio},
};

use execpath_tests::binary::{self, Ran, finish};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

/// An unprivileged uid.
const NOBODY: u32 = 65_534;

/// A folder with a copy of the binary that every user may run.
fn shared() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("the folder's mode can be changed");
    // Another process copies: a test that forks meanwhile would hold the file open for writing, and it could not be run.
    let copied = Command::new("cp").arg(binary::path()).arg(folder.path().join("execpath")).status();
    assert!(copied.expect("cp runs").success(), "there is room");
    folder
}

fn run(folder: &TempDir, arguments: &[&str]) -> Ran {
    let mut command = Command::new(folder.path().join("execpath"));
    command.args(arguments).current_dir(folder.path()).stdin(Stdio::null());
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    finish(&mut command)
}

#[test]
fn live_commands_exit_3_without_privileges() {
    let folder = shared();
    for arguments in [
        &["ls"][..],
        &["ls", "-o", "json"],
        &["ls", "--kind", "all"],
        &["show", "web"],
        &["diagnose"],
        &["diagnose", "web"],
        &["diagnose", "-o", "json"],
        &["trace", "--duration", "1s"],
        &["record", "-", "--duration", "1s"],
    ] {
        let Ran { code, stdout, stderr } = run(&folder, arguments);
        assert_eq!((code, stdout.as_str()), (Some(3), ""), "{arguments:?}: {stderr}");
        let lines: Vec<&str> = stderr.lines().collect();
        assert!(
            matches!(lines[..], [error, hint] if error.starts_with("error: CAP_") && hint.starts_with("hint: run ")),
            "{arguments:?}: {stderr}"
        );
    }
}

/// The command runs all the same, and the line states the missing privilege.
#[test]
fn run_needs_no_privileges() {
    let folder = shared();
    let ran = run(&folder, &["run", "--wait", "--", "sh", "-c", "echo ran; exit 3"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), "ran\n"), "{}", ran.stderr);
    let lines: Vec<&str> = ran.stderr.lines().collect();
    assert!(
        matches!(lines[..], [line] if line.starts_with("execpath: no cause found: CAP_")
            && line.ends_with("no connection of the client was seen")),
        "{}",
        ran.stderr
    );
    let well = run(&folder, &["run", "--wait", "--", "true"]);
    assert_eq!((well.code, well.stderr.as_str()), (Some(0), ""));
}

#[test]
fn replay_commands_need_no_privileges() {
    let folder = shared();
    let recording = concat!(env!("CARGO_MANIFEST_DIR"), "/recordings/hand-made.jsonl");
    fs::copy(recording, folder.path().join("recording")).expect("there is room");
    for arguments in [&["ls", "--from", "recording"][..], &["diagnose", "--from", "recording"]] {
        let ran = run(&folder, arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
    }
}

/// Root of a user namespace has every capability there, and none over the daemons of the host.
#[test]
fn root_of_user_namespace_has_no_privileges() {
    let unshared = |command: &mut Command| finish(command.stdin(Stdio::null()));
    let can = unshared(Command::new("unshare").args(["--user", "--map-root-user", "true"]));
    if can.code != Some(0) {
        return eprintln!("skipped: this host allows no user namespace: {}", can.stderr);
    }
    let folder = shared();
    let binary = folder.path().join("execpath");
    let ran = unshared(Command::new("unshare").args(["--user", "--map-root-user"]).arg(binary).arg("ls"));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""), "{}", ran.stderr);
}

/// A service manager would restart a failed recorder for ever.
#[test]
fn record_stays_on_untraceable_host_until_sigterm() {
    let folder = shared();
    let mut command = Command::new(folder.path().join("execpath"));
    command.args(["record", "-", "--stay"]).current_dir(folder.path());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = command.spawn().expect("execpath runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let mut next = || stderr.next().expect("a line").expect("text");
    let (error, hint, notice) = (next(), next(), next());
    assert!(error.starts_with("error: CAP_") && hint.starts_with("hint: "), "{error}\n{hint}");
    assert_eq!(notice, "notice: nothing is recorded on this host: waiting for SIGTERM");
    assert_eq!(child.try_wait().expect("a child"), None, "it waits");
    kill_process(Pid::from_child(&child), Signal::TERM).expect("it lives");
    assert_eq!(child.wait().expect("a child").code(), Some(0));
}
