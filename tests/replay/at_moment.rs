//! `ls`, `show` and `diagnose` on a recording, at its end or at an earlier moment.

use std::{path::PathBuf, time::Instant};

use execpath_tests::binary::{Ran, run};
use serde_json::Value;

fn recording() -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recordings/terminal.jsonl.zst");
    path.to_string_lossy().into_owned()
}

fn ran(arguments: &[&str]) -> Ran {
    let file = recording();
    let words: Vec<&str> = arguments.iter().map(|word| if *word == "FILE" { file.as_str() } else { word }).collect();
    run(words)
}

fn stdout_of(arguments: &[&str]) -> String {
    let ran = ran(arguments);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    ran.stdout
}

/// The session at the time when it was complete, and this time.
fn whole() -> (Value, String) {
    let lines_text = stdout_of(&["replay", "FILE", "-o", "jsonl"]);
    let mut lines = lines_text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let line = lines.rfind(|line| line["type"] == "session.changed").expect("a change");
    (line["session"].clone(), line["at"].as_str().expect("a time").to_owned())
}

#[test]
fn ls_lists_session_only_while_open() {
    let (whole, at) = whole();
    let list = |at: &[&str]| -> Vec<Value> {
        let words: Vec<&str> = ["ls", "--from", "FILE", "-o", "json"].iter().chain(at).copied().collect();
        serde_json::from_str(&stdout_of(&words)).expect("JSON")
    };
    // Times have milliseconds: use the end of that millisecond.
    let after = at.replace('Z', "999Z");
    let listed = list(&["--at", &after]);
    assert_eq!(listed.len(), 1);
    for field in ["id", "hops", "opened_at", "target", "command", "exec_id"] {
        assert_eq!(listed[0][field], whole[field], "{field}");
    }
    assert!(list(&["--at", "+0s"]).is_empty(), "before the session began");
    assert!(list(&[]).is_empty(), "after the session closed");
}

#[test]
fn replay_to_moment_equals_ls_at_moment() {
    for format in ["table", "tree", "json", "jsonl"] {
        let replayed = stdout_of(&["replay", "FILE", "--at", "+200ms", "-o", format]);
        assert_eq!(replayed, stdout_of(&["ls", "--from", "FILE", "--at", "+0.2", "-o", format]), "{format}");
        assert!(replayed.contains("s-"), "{replayed}");
    }
}

#[test]
fn show_finds_closed_session() {
    let text = stdout_of(&["show", "web", "--from", "FILE"]);
    assert!(text.contains(" closed after "), "{text}");
    let ran = ran(&["show", "nobody", "--from", "FILE"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.starts_with("error: no session matches `nobody`\n"), "{}", ran.stderr);
}

#[test]
fn moment_outside_recording_prints_notice() {
    let early = ran(&["ls", "--from", "FILE", "--at", "2020-01-01T00:00:00Z"]);
    assert!(
        early.stderr.starts_with("notice: this moment is before the start of the recording, 2026-"),
        "{}",
        early.stderr
    );
    let late = ran(&["ls", "--from", "FILE", "--at", "+1h"]);
    assert!(late.stderr.starts_with("notice: this moment is after the end of the recording, 2026-"), "{}", late.stderr);
    for wrong in ["yesterday", "+soon", "1960-01-01T00:00:00Z"] {
        assert_eq!(ran(&["ls", "--from", "FILE", "--at", wrong]).code, Some(2), "{wrong}");
    }
}

#[test]
fn replay_at_half_speed_takes_double_time() {
    let begin = Instant::now();
    // The recording lasts a third of a second.
    let slow = stdout_of(&["replay", "FILE", "-o", "jsonl", "--speed", "0.5"]);
    assert!(begin.elapsed().as_millis() > 500, "{:?}", begin.elapsed());
    assert_eq!(slow, stdout_of(&["replay", "FILE", "-o", "jsonl"]));
    for wrong in ["0", "-1", "NaN", "fast"] {
        assert_eq!(ran(&["replay", "FILE", &format!("--speed={wrong}")]).code, Some(2), "{wrong}");
    }
}
