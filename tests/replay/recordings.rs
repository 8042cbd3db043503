//! Recordings through the real binary.

use std::{fs, path::PathBuf};

use execpath_tests::binary::{Ran, run};

fn hand_made() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recordings/hand-made.jsonl")
}

fn replay(arguments: &[&str]) -> Ran {
    let file = hand_made();
    run(["replay", &file.to_string_lossy()].iter().chain(arguments))
}

#[test]
fn json_lines_start_with_host_and_end_with_totals() {
    let ran = replay(&["-o", "jsonl"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let lines: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let first = lines.first().expect("a first line");
    assert_eq!(first["type"], "host");
    assert_eq!(first["hostname"], "worker");
    assert_eq!(first["abilities"], serde_json::json!(["processes", "tcp"]));
    assert_eq!(first["degraded"][0]["code"], "no-splice");
    let last = lines.last().expect("a last line");
    assert_eq!(last["type"], "end");
    assert!(last["totals"]["lost"].is_object());
}

#[test]
fn tree_prints_degradations_and_totals() {
    let ran = replay(&[]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert!(
        ran.stdout.starts_with(
            "on worker, Linux 6.18.5, x86_64\n\
             ! splice(2) cannot be seen, so plain TCP relays are not joined [no-splice]\n  \
             hint: needs the tracepoints of system calls\n"
        ),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.trim_end().lines().last().expect("a last line").contains(" seen, "), "{}", ran.stdout);
}

#[test]
fn replay_is_deterministic_with_and_without_zstd() {
    let folder = tempfile::tempdir().expect("a folder");
    let packed = folder.path().join("packed");
    let bytes = zstd::encode_all(fs::File::open(hand_made()).expect("the recording"), 3).expect("zstd packs");
    fs::write(&packed, bytes).expect("the folder can be written");
    for format in ["tree", "jsonl"] {
        let first = replay(&["-o", format]).stdout;
        assert_eq!(first, replay(&["-o", format]).stdout);
        assert_eq!(first, run(["replay", &packed.to_string_lossy(), "-o", format]).stdout);
    }
}

#[test]
fn replay_writes_file_and_stdout_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("out.jsonl");
    let ran = replay(&["-o", "tree", "-o", &format!("jsonl={}", file.display())]);
    assert_eq!(ran.code, Some(0));
    assert_eq!(ran.stdout, replay(&[]).stdout);
    assert_eq!(fs::read_to_string(file).expect("the file"), replay(&["-o", "jsonl"]).stdout);
}
