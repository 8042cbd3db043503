//! `execpath demo` without privileges: it replays a recording instead.

use execpath_tests::binary::{Ran, command, finish};

/// Runs the demo as for an unprivileged user, whatever the test's own user.
fn demo(arguments: &[&str]) -> Ran {
    finish(command().arg("demo").args(arguments).env("EXECPATH_DEMO", "replay"))
}

#[test]
fn demo_without_rights_replays_one_complete_session() {
    let ran = demo(&[]);
    assert_eq!(ran.code, Some(0));
    insta::assert_snapshot!("demo.recorded", format!("{}\n{}", ran.stderr, ran.stdout));
}

#[test]
fn demo_jsonl_prints_json_only() {
    let ran = demo(&["-o", "jsonl"]);
    assert_eq!(ran.code, Some(0));
    let lines: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let closed = lines.iter().find(|line| line["type"] == "session.closed").expect("a closed session");
    let session = &closed["session"];
    assert_eq!((&session["complete"], &session["confidence"]), (&true.into(), &"exact".into()), "{session}");
    let roles: Vec<&str> =
        session["hops"].as_array().expect("hops").iter().filter_map(|hop| hop["role"].as_str()).collect();
    assert_eq!(roles, ["kubectl", "apiserver", "kubelet", "runtime", "shim", "runc", "process"]);
}

#[test]
fn demo_without_rights_reports_skipped_actions() {
    let ran = demo(&["--", "sh", "-c", "exit 7"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.ends_with("; your command was not run\n"), "{}", ran.stderr);

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("demo.jsonl");
    let ran = demo(&["--record", &file.to_string_lossy()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(3), ""));
    assert!(ran.stderr.contains("\nhint: run with sudo"), "{}", ran.stderr);
    assert!(!file.exists());
}
