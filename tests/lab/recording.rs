//! A replayed recording shows the same sessions and samples as the live trace.

use std::{fs, time::Duration};

use execpath::{
    clock::{anchor, now},
    record::Reader,
    sink::view,
};
use execpath_tests::binary;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    env::wait_until,
    kubectl::{Exec, Mode, mark},
    reported::ReportedSession,
    tracer::Tracer,
};

/// Time for three samples, two seconds apart.
const MEASURED: Duration = Duration::from_secs(7);

fn list(arguments: &[&str]) -> Vec<Value> {
    let ran = binary::run(arguments);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    serde_json::from_str(&ran.stdout).expect("an array")
}

#[test]
fn replay_of_samples_equals_live_trace() {
    let mut tracer = Tracer::start(&["--measure", "2s", "-o", "tree=live.tree", "-o", "json=live.json"]);
    let mark = mark();
    let mut kubectl = Exec { mode: Mode::Stdin, ..Exec::sh(&format!(": {mark}; cat")) }.start();
    let open = tracer.wait_for(&mark, "is complete", ReportedSession::is_complete);
    // Only the recording shows that a sample was taken, and it must not be read yet.
    std::thread::sleep(MEASURED);
    let at = view::moment(anchor(), now());
    kubectl.close_stdin();
    assert!(kubectl.end().status.success());
    tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
    // `finish` compares the JSON Lines.
    let trace = tracer.finish();
    let recording = trace.path("recording.jsonl.zst").to_string_lossy().into_owned();
    for (format, live) in [("tree", "live.tree"), ("json", "live.json")] {
        let ran = binary::run(["replay", &recording, "-o", format]);
        assert_eq!(ran.stdout, trace.read(live), "{format}");
    }
    let listed = list(&["ls", "--from", &recording, "--at", &at, "-o", "json"]);
    let one = listed.iter().find(|one| one["id"] == open.id()).expect("the session is listed");
    assert_eq!(one["health"], "waiting", "{one}");
    let legs = one["links"].as_array().expect("links").iter().filter(|link| link["kind"] == "tcp");
    for leg in legs {
        assert!(leg["tcp"]["recv_q"].is_u64() && leg["tcp"]["peer_recv_q"].is_u64(), "{leg}");
    }
    let verdicts = list(&["diagnose", open.id(), "--from", &recording, "--at", &at, "-o", "json"]);
    let codes: Vec<&Value> = verdicts.iter().map(|verdict| &verdict["code"]).collect();
    assert_eq!(codes, ["F23"], "{verdicts:?}");
    let shown = binary::run(["show", open.id(), "--from", &recording, "--at", &at]);
    assert!(!shown.stdout.contains("not measured"), "{}", shown.stdout);
}

#[test]
fn remaining_parts_hold_older_session() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = folder.path().join("a.jsonl.zst");
    let child =
        binary::command().args(["record", "--rotate", "1s,keep=3"]).arg(&base).spawn().expect("execpath starts");
    // The first part exists only after the probes are attached.
    let first = folder.path().join("a.000001.jsonl.zst");
    wait_until("the first part exists", || Reader::open(&first).ok());
    let mark = mark();
    let mut kubectl = Exec { mode: Mode::Stdin, ..Exec::sh(&format!(": {mark}; cat")) }.start();
    wait_until("the path is complete", || {
        let listed = list(&["ls", "-o", "json"]);
        listed.into_iter().find(|one| one.to_string().contains(&mark) && one["complete"] == true)
    });
    std::thread::sleep(MEASURED);
    kill_process(Pid::from_child(&child), Signal::INT).expect("execpath is running");
    let ran = child.wait_with_output().expect("execpath exits");
    assert!(ran.status.success());
    let mut files: Vec<_> =
        fs::read_dir(folder.path()).expect("the folder").map(|file| file.expect("a file").path()).collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    let mut ls = binary::command();
    ls.args(["ls", "-o", "json"]);
    for file in &files {
        ls.arg("--from").arg(file);
    }
    let ran = binary::finish(&mut ls);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let listed: Vec<Value> = serde_json::from_str(&ran.stdout).expect("an array");
    let one = listed.iter().find(|one| one.to_string().contains(&mark)).expect("the session is listed");
    assert_eq!((&one["complete"], &one["confidence"]), (&true.into(), &"exact".into()), "{one}");
    assert_eq!(one["health"], "waiting", "{one}");
    kubectl.close_stdin();
    assert!(kubectl.end().status.success());
}
