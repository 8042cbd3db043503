//! The artefacts of a release, used as their users would.
//!
//! Run `cargo xtask test --only dist`, or, as root, `cargo xtask dist` and then
//! `EXECPATH_DIST=target/dist cargo test --test dist -- --test-threads=1`.

mod archive;
mod arm64;
mod chart;
mod deb;
mod debian;
mod pod;
mod pod_metrics;
mod root;
mod rpm;
mod sandbox;
mod sbom;
mod unit;
mod workflow;

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use execpath_tests::binary::{Ran, finish};

/// Directory of the artefacts.
///
/// # Panics
/// If `EXECPATH_DIST` names none.
fn dist() -> PathBuf {
    let dir = std::env::var_os("EXECPATH_DIST").expect("EXECPATH_DIST names the directory of `cargo xtask dist`");
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(dir).canonicalize().expect("the directory exists")
}

/// The only artefact with this ending.
fn artefact(ending: &str) -> PathBuf {
    let files = fs::read_dir(dist()).expect("a directory").map(|entry| entry.expect("an entry").path());
    let found: Vec<PathBuf> = files.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    assert_eq!(found.len(), 1, "artefacts that end with {ending}: {found:?}");
    found[0].clone()
}

/// A program of the Python environment that `cargo xtask test --only dist` installs: `python` with Helm as a library,
/// `actionlint`.
fn python_tool(name: &str) -> PathBuf {
    let dir = std::env::var_os("EXECPATH_PYTHON_TOOLS").expect("EXECPATH_PYTHON_TOOLS names a Python environment");
    Path::new(&dir).join("bin").join(name)
}

/// A file of this repository.
fn repository(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path)
}

/// Runs a program that must succeed, and returns its stdout.
#[track_caller]
fn run<S: AsRef<OsStr>>(program: &str, arguments: impl IntoIterator<Item = S>) -> String {
    succeed(Command::new(program).args(arguments))
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let Ran { code, stdout, stderr } = finish(command);
    assert_eq!(code, Some(0), "{command:?}\n{stdout}\n{stderr}");
    stdout
}

#[test]
fn sums_match_every_artefact() {
    let checked = succeed(Command::new("sha256sum").args(["--check", "SHA256SUMS"]).current_dir(dist()));
    let files = fs::read_dir(dist()).expect("a directory").count();
    assert_eq!(checked.lines().count(), files - 1, "{checked}");
}
