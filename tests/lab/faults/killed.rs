//! Commands that are killed. Their verdicts come from the recording.

use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use super::{
    attempts::HalfEnded,
    first_of,
    guards::{CgroupOverride, CleanLab},
    signal,
};
use crate::{
    cleanup::cgroup_of,
    env::{lab, output},
    kubectl::{Exec, Kubectl, kubectl, mark},
    reported::ReportedSession,
    tracer::Tracer,
};

/// Traces an exec that `kill` ends with SIGKILL. Returns the sender of the signal as reported.
fn killed(exec: impl Fn(&str) -> Exec, kill: impl FnOnce(u32)) -> Value {
    let mark = mark();
    let mut tracer = Tracer::start(&[]);
    let kubectl: Kubectl = exec(&mark).start();
    let session = tracer.wait_for(&mark, "is complete", ReportedSession::is_complete);
    kill(session.pid("process").expect("a process"));
    assert_eq!(kubectl.end().status.code(), Some(137));
    let session = tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
    assert_eq!(session.exit(), (None, Some(9), "signalled"), "{session:?}");
    assert_eq!(tracer.finish().faults(&mark), (Some(10), vec!["F42".to_owned()]));
    session.0["exit"]["killed_by"].clone()
}

#[test]
fn f42_process_kills_command() {
    let _clean = CleanLab::new();
    let by = killed(
        |mark| Exec::sh(&format!(": {mark}; exec sleep 600")),
        |process| {
            signal(process, Signal::KILL);
        },
    );
    assert_eq!((&by["origin"], &by["pid"]), (&"process".into(), &std::process::id().into()), "{by:#}");
    assert_eq!(by["container_stopped_at"], Value::Null);
}

/// File with the memory limit of this process's container.
fn memory_limit(pid: u32) -> PathBuf {
    let folder = cgroup_of(pid, "memory");
    let (old, new) = (folder.join("memory.limit_in_bytes"), folder.join("memory.max"));
    if old.exists() { old } else { new }
}

#[test]
fn f42_memory_limit_kills_command() {
    let _clean = CleanLab::new();
    let _limit = CgroupOverride::new(memory_limit(first_of("web", "web")), "33554432");
    let by = killed(|mark| Exec::sh(&format!(": {mark}; exec tail /dev/zero")), |_process| {});
    assert_eq!(by["origin"], "out-of-memory", "{by:#}");
}

#[test]
fn f42_deletion_of_pod_kills_command() {
    let _clean = CleanLab::new();
    let _pod = HalfEnded::new();
    let exec =
        |mark: &str| Exec { pod: "half-ended", container: "web", ..Exec::sh(&format!(": {mark}; exec sleep 600")) };
    let by = killed(exec, |_process| {
        let mut delete = kubectl(lab().newest(), "admin", 0);
        output(delete.args(["delete", "pod", "half-ended", "--now", "--wait=false"]));
    });
    assert!(by["container_stopped_at"].is_string(), "{by:#}");
}
