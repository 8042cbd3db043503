//! Commands give up the rights that they do not need: refused acts, and the state of a running command.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
};

use execpath_tests::{
    binary::{self, command, finish},
    status::{Status, of_threads},
};

/// Runs the program that confines itself and prints the outcome of each act.
fn confined(arguments: &[&str]) -> binary::Ran {
    finish(Command::new(env!("CARGO_BIN_EXE_confined")).args(arguments).stdin(Stdio::null()))
}

/// True if this kernel enforces Landlock.
fn has_landlock() -> bool {
    // The version of the ABI; an error without Landlock (landlock_create_ruleset(2)).
    // SAFETY: with the version flag the call reads no memory.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, 1) > 0 }
}

#[test]
fn landlock_refuses_other_files() {
    if !has_landlock() {
        return eprintln!("skipped: this kernel has no Landlock");
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("out")).expect("a folder");
    for name in ["input", "other"] {
        fs::write(folder.path().join(name), "text").expect("there is room");
    }
    let ran = confined(&["files", &folder.path().to_string_lossy()]);
    insta::assert_snapshot!(ran.stdout, @"
    read the input: ok
    create the output: ok
    read another file: PermissionDenied
    write the input: PermissionDenied
    create another file: PermissionDenied
    remove the input: PermissionDenied
    list the folder: PermissionDenied
    connect: PermissionDenied
    execute: PermissionDenied
    make a user namespace: PermissionDenied
    trace a process: PermissionDenied
    mount: PermissionDenied
    ");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn seccomp_refuses_other_system_calls() {
    let ran = confined(&["look"]);
    insta::assert_snapshot!(ran.stdout, @"
    open sock_diag: ok
    start a thread: ok
    accept a connection: PermissionDenied
    open a datagram socket: PermissionDenied
    open a unix socket: PermissionDenied
    listen: PermissionDenied
    connect: PermissionDenied
    execute: PermissionDenied
    make a user namespace: PermissionDenied
    trace a process: PermissionDenied
    mount: PermissionDenied
    ");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn serving_metrics_adds_accept_alone() {
    let acts = |work: &str| {
        let ran = confined(&[work]);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let (without, serving, exporting) = (acts("look"), acts("serve"), acts("export"));
    let added = |more: &[String], than: &[String]| -> Vec<String> {
        more.iter().filter(|act| !than.contains(act)).cloned().collect()
    };
    assert_eq!(added(&serving, &without), ["accept a connection: ok"]);
    // A refused connection is one that was tried.
    assert_eq!(added(&exporting, &serving), ["connect: ConnectionRefused"]);
}

#[test]
fn strict_sandbox_kills_at_first_denied_call() {
    let ran = confined(&["look", "", "kill"]);
    assert_eq!(ran.code, None, "killed by SIGSYS: {}", ran.stdout);
    assert!(ran.stdout.ends_with("start a thread: ok\n"), "{}", ran.stdout);
}

/// A command that has read its first line from a pipe, and waits for more.
struct Waiting(Child);

impl Drop for Waiting {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

fn replay_from_pipe(arguments: &[&str]) -> Waiting {
    let recording = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/recordings/hand-made.jsonl")).expect("a recording");
    let header = recording.split_inclusive(|byte| *byte == b'\n').next().expect("a header");
    let mut child =
        command().args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("execpath runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(header).expect("the command reads");
    child.stdin = Some(stdin);
    let mut waiting = Waiting(child);
    // The first output follows from the header, which is read after the confinement.
    let mut first = [0];
    std::io::Read::read_exact(waiting.0.stdout.as_mut().expect("a pipe"), &mut first).expect("a header is shown");
    waiting
}

#[test]
fn replay_has_no_capability_and_a_filter() {
    let waiting = replay_from_pipe(&["replay", "-", "-o", "jsonl"]);
    for status in of_threads(waiting.0.id()) {
        assert_eq!(status, Status { capabilities: 0, no_new_privs: true, seccomp: 2 });
    }
}

/// Landlock refuses to open the count later, and a recording could then take all memory.
#[test]
fn replay_opens_its_memory_count_before_confinement() {
    let waiting = replay_from_pipe(&["replay", "-", "-o", "jsonl"]);
    let pid = waiting.0.id();
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("the command runs");
    let mut names = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    assert!(names.any(|name| name == Path::new(&format!("/proc/{pid}/statm"))), "no open statm");
}

#[test]
fn no_sandbox_keeps_all_rights() {
    let waiting = replay_from_pipe(&["replay", "-", "-o", "jsonl", "--no-sandbox"]);
    let own = of_threads(std::process::id());
    for status in of_threads(waiting.0.id()) {
        assert_eq!(Some(status), own.first().copied());
    }
}

#[test]
fn confined_commands_write_their_outputs() {
    let folder = tempfile::tempdir().expect("a folder");
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let hosts = ["client", "master", "worker"].map(|name| recordings.join(format!("hosts/{name}.jsonl.zst")));
    let merged = finish(command().arg("merge").args(&hosts).args(["-o", "merged.jsonl"]).current_dir(folder.path()));
    assert_eq!(merged.code, Some(0), "{}", merged.stderr);
    for (arguments, output) in [
        (&["render", "merged.jsonl", "-o", "html=page.html"][..], "page.html"),
        (&["replay", "merged.jsonl", "-o", "tree=tree.txt"], "tree.txt"),
        (&["ls", "--from", "merged.jsonl", "-o", "json=ls.json"], "ls.json"),
    ] {
        let ran = finish(command().args(arguments).current_dir(folder.path()));
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.stderr);
        assert!(fs::metadata(folder.path().join(output)).is_ok_and(|file| file.len() > 0), "{output}");
    }
}
