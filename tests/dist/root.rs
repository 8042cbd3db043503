//! The static binary in a root without any other file.

use std::{fs, path::Path};

use execpath_tests::binary::{Ran, finish};
use tempfile::TempDir;

use crate::{artefact, repository, sandbox, succeed};

/// A root with the binary, a recording and mount points.
fn root() -> TempDir {
    let root = tempfile::tempdir().expect("a folder");
    let at = |name: &str| root.path().join(name);
    fs::copy(artefact("-linux-amd64"), at("execpath")).expect("a copy");
    fs::copy(repository("tests/recordings/terminal.jsonl.zst"), at("terminal.jsonl.zst")).expect("a copy");
    for folder in ["dev", "proc", "sys", "tmp"] {
        fs::create_dir(at(folder)).expect("a folder");
    }
    root
}

/// Runs the binary in the root, with nothing mounted.
fn bare(root: &Path, words: &str) -> Ran {
    finish(&mut sandbox::script(&format!("chmod 755 \"$1/execpath\"; exec chroot \"$1\" /execpath {words}"), &[root]))
}

/// Runs the binary in the root, with /proc, /sys and /dev as a container has them.
fn mounted(root: &Path, words: &str) -> Ran {
    let mounts = "chmod 755 \"$1/execpath\"\nmount -t proc proc \"$1/proc\"\nmount --rbind /sys \"$1/sys\"\nmount --rbind /dev \"$1/dev\"";
    finish(&mut sandbox::script(&format!("{mounts}\nexec chroot \"$1\" /execpath {words}"), &[root]))
}

#[test]
fn commands_without_kernel_run_in_empty_root() {
    let root = root();
    let version = bare(root.path(), "--version");
    assert_eq!(version.stdout, format!("execpath {}\n", env!("CARGO_PKG_VERSION")), "{}", version.stderr);
    for words in ["--help", "schema", "completions bash", "man", "man trace"] {
        let Ran { code, stdout, stderr } = bare(root.path(), words);
        assert!(code == Some(0) && stdout.len() > 500, "{words}: {code:?} {stderr}");
    }
    let replay = bare(root.path(), "replay /terminal.jsonl.zst");
    assert!(replay.stdout.contains("✓ the whole path, every link exact"), "{}{}", replay.stdout, replay.stderr);
}

#[test]
fn doctor_finds_nothing_missing_in_empty_root() {
    let root = root();
    let Ran { code, stdout, stderr } = mounted(root.path(), "doctor");
    assert_eq!(code, Some(0), "{stdout}{stderr}");
}

#[test]
fn trace_waits_for_sessions_in_empty_root() {
    let root = root();
    // Exit code 1: traced, and no session.
    let Ran { code, stdout, stderr } = mounted(root.path(), "trace --once --duration 500ms --kind debug");
    assert_eq!(code, Some(1), "{stdout}{stderr}");
    assert!(stderr.contains("no session within the duration"), "{stderr}");
}

#[test]
fn demo_is_traced_in_empty_root() {
    let root = root();
    let Ran { code, stdout, stderr } = mounted(root.path(), "demo -- /execpath --version");
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(stderr.contains("a miniature"), "traced, not replayed: {stderr}");
    assert!(stdout.contains("✓ the whole path"), "{stdout}");
}

#[test]
fn binary_names_no_library_and_no_path_of_the_builder() {
    let binary = artefact("-linux-amd64");
    let data = fs::read(&binary).expect("a file");
    assert!(data.len() <= 15_700_000, "{} bytes", data.len());
    let home = std::env::var("HOME").expect("a home");
    for path in [format!("{home}/.cargo"), repository("").canonicalize().expect("a path").display().to_string()] {
        let found = data.windows(path.len()).any(|window| window == path.as_bytes());
        assert!(!found, "the binary contains {path}");
    }
    let segments = succeed(std::process::Command::new("readelf").arg("-lW").arg(&binary));
    assert!(!segments.contains("INTERP"), "{segments}");
}
