//! Recordings from clusters that the lab does not run, and of faults that users met there. Each test states the right
//! answer.
//!
//! `tests/recordings/field/README.md` describes how each recording was made.

mod anchors;
mod crio;
mod daemons;
mod recordings;
mod tables;
mod verdicts;

use std::{collections::BTreeMap, path::PathBuf};

use execpath_tests::binary::{Ran, run};
use serde_json::Value;

/// Path of a recording in `tests/recordings/field`.
fn recording(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recordings/field").join(name);
    assert!(path.is_file(), "{} is missing", path.display());
    path.to_string_lossy().into_owned()
}

/// Runs `execpath`. The word `FILE` is replaced by the path of the recording `name`.
fn ran(name: &str, arguments: &[&str]) -> Ran {
    let file = recording(name);
    run(arguments.iter().map(|word| if *word == "FILE" { file.as_str() } else { word }))
}

/// Every line of `replay -o jsonl`, parsed.
fn lines(name: &str, options: &[&str]) -> Vec<Value> {
    let arguments: Vec<&str> = ["replay", "FILE", "-o", "jsonl"].iter().chain(options).copied().collect();
    let ran = ran(name, &arguments);
    assert_eq!(ran.code, Some(0), "{name}: {}", ran.stderr);
    ran.stdout.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// The last state of each session that the replay reports, by id.
fn sessions(name: &str, options: &[&str]) -> BTreeMap<String, Value> {
    let mut last = BTreeMap::new();
    for line in lines(name, options) {
        if let Some(id) = line["session"]["id"].as_str() {
            last.insert(id.to_owned(), line["session"].clone());
        }
    }
    last
}

/// Recordings that are refused as damaged.
const REFUSED: [&str; 3] = ["hostile-bomb-newlines", "hostile-bomb-waiting", "hostile-due-time"];

#[test]
fn field_recordings_replay_and_are_listed() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recordings/field");
    let list = std::fs::read_to_string(folder.join("README.md")).expect("a list");
    let files = std::fs::read_dir(&folder).expect("a folder").map(|file| file.expect("a file").file_name());
    let recordings: Vec<String> =
        files.map(|name| name.to_string_lossy().into_owned()).filter(|name| name.contains(".jsonl")).collect();
    assert!(!recordings.is_empty());
    for name in recordings {
        let stem = name.split('.').next().expect("a name");
        assert!(list.contains(&format!("| `{stem}` |")), "{name} is not in the list");
        if !REFUSED.contains(&stem) {
            sessions(&name, &[]);
        }
    }
}
