//! Recordings to be replayed, and the program that makes them and passes them to a correlator.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::callgrind::instructions;
use crate::repo::{cargo, root};
use crate::tools::{command, run};

/// 200 sessions at once, recorded on the lab.
pub(super) const CROWD: &str = "tests/recordings/crowds/crowd-200.jsonl.zst";
/// One session, from its start to its end.
const SESSION: &str = "tests/recordings/exit-3.jsonl.zst";

/// Builds a release of an example of the tests. What it uses of the tracer, xtask cannot: xtask must build before the tracer does.
pub(super) fn example(name: &str) -> Result<PathBuf> {
    let mut build = command(cargo());
    build.args(["build", "--quiet", "--release", "--package", "execpath-tests", "--example", name]);
    let messages = run(build.arg("--message-format=json").current_dir(root()))?;
    let executable = |line: &str| Some(serde_json::from_str::<Value>(line).ok()?["executable"].as_str()?.into());
    messages.lines().rev().find_map(executable).context("cargo built no executable")
}

/// The example `workload`.
pub(super) struct Workload {
    program: PathBuf,
}

/// A recording made for a measurement.
pub(super) struct Long {
    file: PathBuf,
    observations: u64,
}

impl Long {
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

impl Workload {
    pub(super) fn build() -> Result<Self> {
        Ok(Self { program: example("workload")? })
    }

    /// Makes a recording of at least `sessions` sessions, `at_once` at a time.
    pub(super) fn make(&self, sessions: u64, at_once: u64, folder: &Path) -> Result<Long> {
        let file = folder.join(format!("{sessions}-{at_once}.jsonl.zst"));
        let mut make = Command::new(&self.program);
        make.args(["make", SESSION, &sessions.to_string(), &at_once.to_string()]).arg(&file).current_dir(root());
        let made = run(&mut make)?;
        let observations = made.split_whitespace().next().and_then(|count| count.parse().ok());
        Ok(Long { file, observations: observations.context("no number of observations")? })
    }

    /// Instructions of the correlator for each observation of a recording: those of a program that reads and
    /// correlates, less those of one that only reads.
    pub(super) fn correlate(&self, long: &Long) -> Result<u64> {
        let count = |task: &str| instructions(Command::new(&self.program).arg(task).arg(&long.file));
        Ok(count("correlate")?.saturating_sub(count("read")?) / long.observations)
    }
}
