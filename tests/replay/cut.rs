//! `cut`: every session of every recording, cut out, is the same session.

use std::path::{Path, PathBuf};

use execpath_tests::binary::run;
use serde_json::Value;

use crate::lab::recordings;

/// Most sessions that are cut out of one recording: the crowds hold hundreds alike.
const MOST: usize = 2;

/// Every recording of the repository.
fn all() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let mut all: Vec<PathBuf> = recordings().into_iter().map(|(_, path)| path).collect();
    for more in ["crowds", "field", "hosts"] {
        let files = std::fs::read_dir(folder.join(more)).expect("a folder").map(|file| file.expect("a file").path());
        // Hostile files are no recordings.
        let is_recording = |path: &PathBuf| {
            let path = path.to_string_lossy();
            path.contains(".jsonl") && !path.contains("hostile")
        };
        all.extend(files.filter(is_recording));
    }
    all.push(folder.join("hand-made.jsonl"));
    all.sort();
    all
}

/// All sessions of a recording in their final state, as JSON.
fn sessions(path: &Path) -> Vec<Value> {
    let ran = run(["replay", "-o", "json", "--kind", "all", &path.to_string_lossy()]);
    // A host without a session of its own, as in a recording for `merge`.
    if ran.code == Some(1) && ran.stderr.contains("the recording has 0 sessions") {
        return Vec::new();
    }
    assert_eq!(ran.code, Some(0), "{}: {}", path.display(), ran.stderr);
    serde_json::from_str(&ran.stdout).expect("JSON")
}

/// Doubts about the health compare a session with the others on its host.
fn apart_from_health(session: &Value) -> Value {
    let mut session = session.clone();
    let fields = session.as_object_mut().expect("an object");
    fields.retain(|key, _| !key.starts_with("health"));
    session
}

#[test]
fn every_cut_session_equals_the_original() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut cuts, mut smaller) = (0, 0);
    for path in all() {
        let size = std::fs::metadata(&path).expect("a file").len();
        let whole = sessions(&path);
        let merged = whole.iter().filter(|session| session["merged_into"].is_null());
        for (number, session) in merged.take(MOST).enumerate() {
            let id = session["id"].as_str().expect("an id");
            let name = path.file_name().expect("a name").to_string_lossy();
            let to = folder.path().join(format!("{number}-{name}.jsonl.zst"));
            let ran = run(["cut".as_ref(), path.as_os_str(), id.as_ref(), "-o".as_ref(), to.as_os_str()]);
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{name} {id}: {}", ran.stderr);
            let cut = sessions(&to);
            let found = cut.iter().find(|session| session["id"] == id);
            assert_eq!(found.map(apart_from_health), Some(apart_from_health(session)), "{name} {id}");
            cuts += 1;
            smaller += usize::from(std::fs::metadata(&to).expect("a file").len() < size);
        }
    }
    eprintln!("{cuts} sessions cut out, {smaller} into a smaller file");
    assert!(cuts > 40 && 2 * smaller > cuts, "{smaller} of {cuts} are smaller");
}

#[test]
fn cut_drops_other_sessions() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/fixture-k8s-1.20-containerd-spdy-20.jsonl.zst");
    let whole = sessions(&path);
    assert!(whole.len() >= 20, "{}", whole.len());
    let id = whole.first().and_then(|session| session["id"].as_str()).expect("an id");
    let to = folder.path().join("cut.jsonl.zst");
    let ran = run(["cut".as_ref(), path.as_os_str(), id.as_ref(), "-o".as_ref(), to.as_os_str()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.starts_with(&format!("cut: {id}: ")), "{}", ran.stderr);
    let ids: Vec<String> = sessions(&to).iter().map(|session| session["id"].to_string()).collect();
    assert_eq!(ids, [format!("\"{id}\"")]);
    let again = run(["cut".as_ref(), path.as_os_str(), id.as_ref(), "-o".as_ref(), to.as_os_str()]);
    assert_eq!(again.code, Some(5), "a file is never overwritten: {}", again.stderr);
}

#[test]
fn cut_needs_one_session() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/waiting.jsonl.zst");
    let path = path.to_string_lossy();
    let none = run(["cut", &path, "no-such-pod", "-o", "/tmp/never-written.zst"]);
    assert_eq!(none.code, Some(1), "{}", none.stderr);
    assert!(none.stderr.starts_with("error: no session matches `no-such-pod`\nhint: "), "{}", none.stderr);
    let several = run(["cut", &path, "s-", "-o", "/tmp/never-written.zst"]);
    assert_eq!(several.code, Some(1), "{}", several.stderr);
}
