//! `ls` and `trace` of another user with the four documented capabilities equal root's. They run in the worker's network
//! namespace. Client and master have others, which they may not enter.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use execpath_tests::binary::{self, finish};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    env::{on, wait_until},
    kubectl::{Exec, Kubectl, Mode, mark},
    reported::ReportedSession,
    tracer::Tracer,
};

/// The documented capabilities (docs/privileges.md).
const CAPABILITIES: [&str; 4] = ["bpf", "perfmon", "sys_ptrace", "dac_read_search"];
/// Comparisons beside sessions that come and go.
const RUNS: usize = 20;

/// Arguments of the compared listing.
const LS: [&str; 4] = ["ls", "--kind", "exec", "-o"];

/// Constant facts of the sessions whose command has one of the marks, by mark.
fn facts(stdout: &str, marks: &[String]) -> Vec<(String, Value)> {
    let report: Value = serde_json::from_str(stdout).expect("JSON");
    let sessions = report.as_array().expect("sessions");
    let of = |mark: &String| {
        let mut found = sessions.iter().filter(|session| ReportedSession((*session).clone()).has(mark));
        let session = found.next()?;
        assert!(found.next().is_none(), "{mark} twice");
        Some((mark.clone(), constant(session)))
    };
    marks.iter().filter_map(of).collect()
}

/// Facts of a session that do not change.
fn constant(session: &Value) -> Value {
    let each = |list: &str, keys: &[&str]| {
        let rows = session[list].as_array().expect("a list").iter();
        rows.map(|row| keys.iter().map(|key| row[key].clone()).collect::<Value>()).collect::<Value>()
    };
    json!({
        "id": session["id"],
        "complete": session["complete"],
        "confidence": session["confidence"],
        "target": session["target"],
        "hops": each("hops", &["role", "pid", "netns"]),
        "links": each("links", &["kind", "confidence"]),
    })
}

fn list(command: &mut Command, marks: &[String]) -> Vec<(String, Value)> {
    let ran = finish(command);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    facts(&ran.stdout, marks)
}

fn roots(marks: &[String]) -> Vec<(String, Value)> {
    list(binary::command().args(LS).arg("json"), marks)
}

/// A folder with a copy of the program that every user may run.
pub(crate) struct Shared(tempfile::TempDir);

impl Shared {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))
            .expect("the folder's mode can be changed");
        let own = folder.path().join("execpath");
        // A link where both folders are on one file system: a copy takes 100 MB.
        if fs::hard_link(binary::path(), &own).is_err() {
            fs::copy(binary::path(), &own).expect("the program can be copied");
        }
        Self(folder)
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.0.path().join("execpath")
    }
}

/// The program as an unprivileged user with ambient capabilities.
fn as_user(shared: &Shared) -> Command {
    let only = format!("-all,{}", CAPABILITIES.map(|name| format!("+{name}")).join(","));
    let mut command = on("worker", "setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.args(["--inh-caps", &only, "--ambient-caps", &only, "--bounding-set", &only]);
    command.arg(shared.program());
    command
}

/// Sessions that stay open until their input ends.
fn opened() -> (Vec<String>, Vec<Kubectl>) {
    let places = [("web", "web"), ("web", "side"), ("own-net", "own-net")];
    let open = places.map(|(pod, container)| {
        let mark = mark();
        let kubectl = Exec { pod, container, mode: Mode::Stdin, ..Exec::sh(&format!(": {mark}; cat")) }.start();
        (mark, kubectl)
    });
    let (marks, kubectls): (Vec<String>, Vec<Kubectl>) = open.into_iter().unzip();
    wait_until("root lists the sessions", || {
        let listed = roots(&marks);
        (listed.len() == marks.len() && listed.iter().all(|(_, facts)| facts["complete"] == true)).then_some(())
    });
    (marks, kubectls)
}

#[test]
fn user_with_four_capabilities_lists_as_root() {
    let shared = Shared::new();
    lists_as_root(|| as_user(&shared));
}

/// Compares listings of this program with root's, beside sessions that come and go.
pub(crate) fn lists_as_root(program: impl Fn() -> Command) {
    let (marks, kubectls) = opened();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                Exec::sh("sleep 0.1").start().end();
            }
        });
        let equal = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for run in 0..RUNS {
                let wanted = roots(&marks);
                assert_eq!(wanted.len(), marks.len(), "run {run}");
                assert_eq!(list(program().args(LS).arg("json"), &marks), wanted, "run {run}");
            }
        }));
        stop.store(true, Ordering::Relaxed);
        if let Err(failed) = equal {
            std::panic::resume_unwind(failed);
        }
    });
    for mut kubectl in kubectls {
        kubectl.close_stdin();
        assert!(kubectl.end().status.success());
    }
}

/// A tracer with fewer rights, interrupted on drop.
struct Limited(Child);

impl Drop for Limited {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = kill_process(Pid::from_child(&self.0), Signal::INT);
        drop(self.0.wait());
    }
}

/// Both tracers see a session from its first to its last moment.
#[test]
fn user_with_four_capabilities_traces_as_root() {
    let shared = Shared::new();
    let mut root = Tracer::start(&[]);
    let mut limited = as_user(&shared);
    let limited = limited.args(["trace", "-o", "jsonl", "--duration", "60s"]).stdout(Stdio::piped());
    let mut limited = Limited(limited.spawn().expect("execpath starts"));
    let mut lines = BufReader::new(limited.0.stdout.take().expect("a pipe")).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().expect("a line").expect("text")).expect("JSON");
    assert_eq!(next()["type"], "host", "the first line is the header");
    let mark = mark();
    let kubectl = Exec::sh(&format!("echo {mark}; sleep 1")).start();
    let wanted = root.wait_for(&mark, "is closed", ReportedSession::is_closed);
    let found = loop {
        let session = ReportedSession::of(&next());
        if let Some(session) = session.filter(|session| session.has(&mark) && session.is_closed()) {
            break session;
        }
    };
    assert!(kubectl.end().status.success());
    assert!(wanted.is_complete(), "{wanted:?}");
    assert_eq!(constant(&found.0), constant(&wanted.0));
}
