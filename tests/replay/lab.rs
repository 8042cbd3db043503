//! Recordings made in the lab by `cargo xtask record`, in every format. Recordings made from logs of other clusters are
//! in the same folder.

use std::{
    fs,
    path::{Path, PathBuf},
};

use execpath::sink::FORMATS;
use execpath_tests::binary::run;

/// Names and paths of the recordings.
pub(crate) fn recordings() -> Vec<(String, PathBuf)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let files = fs::read_dir(folder).expect("the folder of recordings").map(|file| file.expect("a file").path());
    let mut found: Vec<(String, PathBuf)> = files
        .filter_map(|path| {
            let name = path.file_name()?.to_str()?.strip_suffix(".jsonl.zst")?.to_owned();
            Some((name, path))
        })
        .collect();
    found.sort();
    assert!(found.len() >= 5, "{found:?}");
    found
}

/// True if the recording was made from a log: `fixtures` compares it with the log's truth.
pub(crate) fn is_fixture(name: &str) -> bool {
    name.starts_with("fixture-")
}

#[test]
fn recordings_match_snapshots_in_every_format() {
    for (name, path) in recordings().into_iter().filter(|(name, _)| !is_fixture(name)) {
        for format in FORMATS {
            let ran = run(["replay", &path.to_string_lossy(), "--kind", "all", "-o", format.name]);
            assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{name}");
            insta::assert_snapshot!(format!("{name}.{}", format.name), ran.stdout);
        }
    }
}

#[test]
fn two_hundred_simultaneous_sessions_are_complete() {
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/crowds/crowd-200.jsonl.zst");
    let ran = run(["replay", &recording.to_string_lossy(), "-o", "json"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let sessions: Vec<serde_json::Value> = serde_json::from_str(&ran.stdout).expect("an array");
    assert_eq!(sessions.len(), 200);
    for one in &sessions {
        assert_eq!((&one["complete"], &one["confidence"]), (&true.into(), &"exact".into()), "{one}");
        assert_eq!(one["exit"]["code"], 0, "{one}");
    }
    // The requested command of kubectl is the command of the process in the same session.
    let mut scripts = std::collections::BTreeSet::new();
    for one in &sessions {
        let asked = one["hops"][0]["argv"].as_array().and_then(|words| words.last()).expect("a script");
        assert_eq!(Some(asked), one["command"].as_array().and_then(|words| words.last()), "{one}");
        assert!(scripts.insert(asked.as_str().expect("a text").to_owned()), "{one}");
    }
}

#[test]
fn only_slow_sessions_are_drawn_in_parts() {
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/crowds/crowd-200.jsonl.zst");
    let replay = |format: &str| run(["replay", &recording.to_string_lossy(), "-o", format]).stdout;
    // Age of each session when its path was first complete.
    let mut whole = std::collections::BTreeMap::new();
    for line in replay("jsonl").lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("an object");
        let session = &line["session"];
        if let (Some(id), Some(true)) = (session["id"].as_str(), session["complete"].as_bool()) {
            whole.entry(id.to_owned()).or_insert(session["age_ms"].as_u64().expect("an age"));
        }
    }
    let tree = replay("tree");
    let heads: Vec<&str> = tree.lines().filter(|line| line.starts_with('▸')).collect();
    let continued = heads.iter().filter(|head| head.ends_with("(continued)"));
    for head in continued.clone() {
        let id = head.split_whitespace().nth(1).expect("an id");
        let age = whole.get(id);
        assert!(age.is_none_or(|age| *age >= 5_000), "{head}: it was whole after {age:?} ms");
    }
    // The runtime was slow for most sessions, so that this test has drawings in parts to check.
    assert!(continued.count() > 100 && whole.values().filter(|age| **age < 5_000).count() > 20);
}

#[test]
fn recordings_have_cards_and_are_small() {
    for (name, path) in recordings() {
        assert!(fs::metadata(&path).expect("a file").len() < 200_000, "{name}");
        let card = fs::read_to_string(path.with_file_name(format!("{name}.toml"))).expect("a card");
        for field in ["about", "kernel", "runtime", "kubernetes", "kubectl", "command"] {
            assert!(card.lines().any(|line| line.starts_with(&format!("{field} = \""))), "{name}: {field}");
        }
    }
}
