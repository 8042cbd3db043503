//! `execpath run` with the real kubectl: its own exit code, and the cause of each failure.

use std::process::Command;

use execpath_tests::binary::{self, Ran, finish};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::kubectl::{Exec, kubectl, mark};

/// Runs the words before the command line of kubectl, and kubectl, under `execpath run`.
fn run(options: &[&str], before: &[&str], exec: &Exec) -> Ran {
    let inner: Command = kubectl(exec.version, exec.user, exec.uid);
    let mut command = binary::command();
    command.arg("run").args(options).arg("--").args(before);
    command.arg(inner.get_program()).args(inner.get_args()).args(exec.arguments());
    for (name, value) in inner.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    finish(&mut command)
}

/// The line of execpath, which follows kubectl's own.
fn line(ran: &Ran) -> &str {
    let lines: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("execpath: ")).collect();
    assert_eq!(lines.len(), 1, "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().last(), lines.first().copied(), "{}", ran.stderr);
    lines.first().copied().unwrap_or_default()
}

#[test]
fn run_states_the_cause_of_a_failure() {
    let mark = mark();
    let well = run(&["--wait", "--fail-on-lie"], &[], &Exec::sh(&format!("echo {mark}")));
    assert_eq!((well.code, well.stdout.trim(), well.stderr.as_str()), (Some(0), mark.as_str(), ""));
    let failed = run(&["--wait"], &[], &Exec::sh("exit 3"));
    assert_eq!(failed.code, Some(3), "{}", failed.stderr);
    assert!(line(&failed).contains("the command exited with code 3 (default/web/web, s-"), "{}", failed.stderr);
    let killed = run(&["--wait"], &[], &Exec::sh("kill -9 $$"));
    assert_eq!(killed.code, Some(137), "{}", killed.stderr);
    assert!(line(&killed).contains("signal 9"), "{}", killed.stderr);
    let missing = run(&["--wait"], &[], &Exec::of(&["/no/such/command"]));
    assert_ne!(missing.code, Some(0));
    // kubectl's own line names the command.
    assert!(line(&missing).contains("F41 the command cannot be executed (default/web/web, s-"), "{}", missing.stderr);
}

#[test]
fn run_starts_at_once_and_finds_a_session_that_lasts() {
    let failed = run(&[], &[], &Exec::sh("sleep 3; exit 4"));
    assert_eq!(failed.code, Some(4), "{}", failed.stderr);
    assert!(line(&failed).contains("the command exited with code 4"), "{}", failed.stderr);
}

#[test]
fn run_records_a_failure() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fail.jsonl.zst").to_string_lossy().into_owned();
    let failed = run(&["--wait", "--record", &path], &[], &Exec::sh("exit 5"));
    assert_eq!(failed.code, Some(5), "{}", failed.stderr);
    let line = line(&failed);
    assert!(line.ends_with(&format!("; recording: {path}")), "{line}");
    let replayed = binary::run(["replay", "-o", "json", &path]);
    let sessions: Vec<Value> = serde_json::from_str(&replayed.stdout).expect("JSON");
    let session = sessions.iter().find(|session| session["exit"]["code"] == 5).expect("the session");
    let id = session["id"].as_str().expect("an id");
    assert!(line.contains(id), "{line}: {id}");
}

/// A script that loses its kubectl and reports success all the same, as a kubectl without heartbeats does.
#[test]
fn fail_on_lie_exits_125_if_the_command_has_not_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("out").to_string_lossy().into_owned();
    let lose = format!("\"$@\" > {out} & until grep -q started {out}; do sleep 0.05; done; kill -9 $!; wait; exit 0");
    let exec = Exec::sh("echo started; sleep 600; exit 0");
    let ran = run(&["--wait", "--fail-on-lie"], &["sh", "-c", &lose, "sh"], &exec);
    let line = line(&ran);
    let pid = line.split("pid ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|pid| pid.parse().ok());
    let pid = pid.and_then(Pid::from_raw);
    assert!(line.contains("the command has not ended"), "{line}");
    // A child of the shim: no other process ends it.
    kill_process(pid.expect("a pid"), Signal::KILL).expect("the command still runs");
    assert_eq!(ran.code, Some(125), "{}", ran.stderr);
}
