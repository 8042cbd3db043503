//! The programs of a guest: execpath, its test executables, and Go programs for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::cross;
use super::guests::Arch;
use crate::golang;
use crate::progress::Progress;
use crate::repo::{TEST_PROFILE, cargo, root, target};
use crate::tools::{command, find, run};

/// Test targets that run in guests.
const TESTS: [&str; 2] = ["kernel", "demo"];

/// Files that Go programs consist of besides their own: `common` for all, `streaming` for these.
const STREAMING: [&str; 2] = ["streams", "translator"];

/// Built programs of one architecture.
pub(super) struct Built {
    pub(super) execpath: PathBuf,
    /// Test executables by target.
    pub(super) tests: Vec<(String, PathBuf)>,
    /// Go programs: version of Go, name, path.
    pub(super) go: Vec<(String, String, PathBuf)>,
}

/// Builds all programs of an architecture.
pub(super) fn build(arch: Arch, progress: &Progress) -> Result<Built> {
    progress.report(format!("building execpath and its tests for {}", arch.name()));
    let mut cargo = cargo_for(arch, progress)?;
    // One call: crates are then compiled with one set of features.
    cargo.args([
        "build",
        "--workspace",
        "--locked",
        "--profile",
        TEST_PROFILE,
        "--message-format=json",
        "--bin",
        "execpath",
    ]);
    for test in TESTS {
        cargo.args(["--test", test]);
    }
    let executables = executables(&mut cargo)?;
    let find = |name: &str, kind: &str| {
        let mut found = executables.iter().filter(|(of, is, _)| of == name && is == kind);
        found.next().map(|(.., path)| path.clone()).with_context(|| format!("cargo built no {kind} {name}"))
    };
    let tests = TESTS.iter().map(|name| Ok(((*name).to_owned(), find(name, "test")?))).collect::<Result<_>>()?;
    let execpath = find("execpath", "bin")?;
    Ok(Built { execpath, tests, go: go_programs(arch, progress)? })
}

fn cargo_for(arch: Arch, progress: &Progress) -> Result<Command> {
    let mut cargo = command(cargo());
    cargo.current_dir(root());
    if arch == Arch::Arm64 {
        cross::apply(&mut cargo, &[], progress)?;
    }
    Ok(cargo)
}

/// Runs cargo and returns the executables from its messages: target, kind, path.
fn executables(cargo: &mut Command) -> Result<Vec<(String, String, PathBuf)>> {
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "the programs of the guest do not build");
    Ok(parse_executables(&String::from_utf8(output.stdout)?))
}

fn parse_executables(messages: &str) -> Vec<(String, String, PathBuf)> {
    let rows = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let executable = PathBuf::from(message["executable"].as_str()?);
        let target = &message["target"];
        Some((target["name"].as_str()?.to_owned(), target["kind"][0].as_str()?.to_owned(), executable))
    });
    rows.collect()
}

/// Builds the Go programs with this machine's Go, if any, and with a newer one.
fn go_programs(arch: Arch, progress: &Progress) -> Result<Vec<(String, String, PathBuf)>> {
    let own = find("go");
    let newer = golang::ensure(golang::TESTED, progress)?;
    let sources = root().join("tests/kernel/go");
    let mut programs = Vec::new();
    for go in own.into_iter().chain([newer]) {
        let version = run(go_command(&go).args(["env", "GOVERSION"]))?.trim().to_owned();
        let dir = target().join("kernels").join(arch.name()).join(&version);
        fs::create_dir_all(&dir)?;
        for name in go_sources(&sources)? {
            let program = dir.join(&name);
            let streaming = STREAMING.contains(&name.as_str()).then_some("streaming");
            let files = [&name, "common"].into_iter().chain(streaming);
            let mut build = go_command(&go);
            build.env("GOARCH", arch.go()).args(["build", "-o"]).arg(&program);
            run(build.args(files.map(|file| sources.join(file).with_extension("go"))))?;
            programs.push((version.clone(), name, program));
        }
    }
    Ok(programs)
}

/// Names of the sources that are programs, and not parts of others.
fn go_sources(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let file = entry?.path();
        if fs::read_to_string(&file)?.contains("\nfunc main()") {
            names.push(file.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// A `go` command that neither switches to another toolchain nor uses the network.
fn go_command(go: &Path) -> Command {
    let mut build = command(go);
    build.envs([("CGO_ENABLED", "0"), ("GO111MODULE", "off"), ("GOFLAGS", ""), ("GOTOOLCHAIN", "local")]);
    build
}

#[cfg(test)]
mod tests {
    use super::parse_executables;

    #[test]
    fn executables_are_read_from_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"x"},"executable":null}
not a message
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"kernel"},"executable":"/t/deps/kernel-1"}"#;
        let expected = ("kernel".to_owned(), "test".to_owned(), "/t/deps/kernel-1".into());
        assert_eq!(parse_executables(messages), [expected]);
    }
}
