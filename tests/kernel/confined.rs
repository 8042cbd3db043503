//! A live command keeps four capabilities, a filter of system calls, and a helper for network namespaces.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
};

use execpath_tests::{
    binary::{self, finish},
    status::{Status, of_threads},
};

/// Numbers of capabilities (include/uapi/linux/capability.h).
const DAC_READ_SEARCH: u32 = 2;
const SYS_PTRACE: u32 = 19;
const SYS_ADMIN: u32 = 21;
const PERFMON: u32 = 38;
const BPF: u32 = 39;
/// An unprivileged uid.
const NOBODY: u32 = 65_534;

fn mask(capabilities: &[u32]) -> u64 {
    capabilities.iter().fold(0, |mask, number| mask | 1 << number)
}

/// A running trace, killed on drop.
struct Running(Child);

impl Running {
    /// Starts a trace, and waits until it is attached and has taken its snapshot.
    fn trace(arguments: &[&str]) -> Self {
        let mut child = binary::command()
            .args(["trace", "-o", "jsonl", "--apiserver-port", "1"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("execpath starts");
        let stdout = child.stdout.take().expect("a pipe");
        let running = Self(child);
        let first = BufReader::new(stdout).lines().next().expect("a line").expect("text");
        assert!(first.contains(r#""type":"host""#), "{first}");
        running
    }

    /// The helper: the only child.
    fn helper(&self) -> Option<u32> {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("the trace runs");
        children.split_whitespace().next()?.parse().ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The trace may have exited already.
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

#[test]
fn every_thread_of_trace_keeps_four_capabilities() {
    let running = Running::trace(&[]);
    let found = of_threads(running.0.id());
    assert!(found.len() > 1, "signals have a thread: {found:?}");
    let kept = mask(&[BPF, PERFMON, SYS_PTRACE, DAC_READ_SEARCH]);
    for status in found {
        assert_eq!(status, Status { capabilities: kept, no_new_privs: true, seccomp: 2 });
    }
}

#[test]
fn helper_keeps_two_capabilities_and_ends_with_trace() {
    let running = Running::trace(&[]);
    let helper = running.helper().expect("a helper");
    let only = Status { capabilities: mask(&[SYS_ADMIN, DAC_READ_SEARCH]), no_new_privs: true, seccomp: 2 };
    assert_eq!(of_threads(helper), [only]);
    let open = fs::read_dir(format!("/proc/{helper}/fd")).expect("it runs").count();
    assert_eq!(open, 2, "its end of the pair, and its own namespace");
    drop(running);
    let gone = crate::wait::wait_for(crate::trace::DEADLINE, || {
        (!Path::new(&format!("/proc/{helper}")).exists()).then_some(())
    });
    assert!(gone.is_some(), "the helper ends after a trace that was killed");
}

/// A second sample reads files, processes and sockets: a denied call kills.
#[test]
fn confined_diagnosis_runs_in_strict_sandbox() {
    let ran = finish(binary::command().args(["diagnose", "-o", "json"]));
    assert!([Some(0), Some(10)].contains(&ran.code), "{}", ran.stderr);
}

#[test]
fn trace_without_sandbox_keeps_all_rights() {
    let running = Running::trace(&["--no-sandbox"]);
    let own = of_threads(std::process::id());
    assert_eq!(of_threads(running.0.id()).first(), own.first());
    assert_eq!(running.helper(), None);
}

/// Arguments of a command that loads the object and ends.
const SHORT: [&str; 5] = ["-v", "trace", "--duration", "1ms", "--no-memory"];

#[test]
fn other_object_is_ignored_under_sudo() {
    let run = |sudo: Option<&str>| {
        let mut command = binary::command();
        command.args(SHORT).env("EXECPATH_BPF", "/none/other.o");
        match sudo {
            Some(uid) => command.env("SUDO_UID", uid),
            None => command.env_remove("SUDO_UID"),
        };
        finish(&mut command)
    };
    let own = run(None);
    assert_ne!(own.code, Some(0));
    assert!(own.stderr.contains("/none/other.o"), "{}", own.stderr);
    let ran = run(Some("1000"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("EXECPATH_BPF is ignored under sudo"), "{}", ran.stderr);
}

#[test]
fn other_object_is_ignored_in_setuid_program() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("the folder's mode can be changed");
    let program = folder.path().join("execpath");
    fs::copy(binary::path(), &program).expect("there is room");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("the file's mode can be changed");
    let run = |program: &Path| {
        let mut command = Command::new(program);
        command.args(SHORT).env("EXECPATH_BPF", "/none/other.o").env_remove("SUDO_UID");
        finish(command.stdin(Stdio::null()).uid(NOBODY).gid(NOBODY))
    };
    let ran = run(&program);
    if ran.code == Some(3) {
        return eprintln!("skipped: the temporary folder is mounted with nosuid");
    }
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("EXECPATH_BPF is ignored"), "{}", ran.stderr);
}

#[test]
fn confined_listing_equals_unconfined_one() {
    let ids = |arguments: &[&str]| {
        let ran = finish(binary::command().args(["ls", "--kind", "all", "-o", "json"]).args(arguments));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let sessions: Vec<serde_json::Value> = serde_json::from_str(&ran.stdout).expect("JSON");
        sessions.into_iter().map(|session| session["id"].to_string()).collect::<BTreeSet<_>>()
    };
    assert_eq!(ids(&[]), ids(&["--no-sandbox"]));
}
