//! `cargo xtask fixtures`: recordings made from logs of real clusters.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::repo::{TEST_PROFILE, cargo, root};

/// Make recordings from logs of real clusters.
#[derive(clap::Args)]
pub(crate) struct Fixtures {
    /// Directory with NAME.jsonl.zst and NAME.truth.json.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Write nothing; check that the committed recordings are up to date.
    #[arg(long)]
    check: bool,
}

impl Fixtures {
    pub(crate) fn run(self) -> Result<()> {
        let folder = std::path::absolute(self.folder)?;
        let mut make = Command::new(cargo());
        // Recordings belong to the tracer, and xtask must build before the tracer does.
        make.args([
            "run",
            "--quiet",
            "--profile",
            TEST_PROFILE,
            "--package",
            "execpath-tests",
            "--example",
            "fixtures",
            "--",
        ])
        .arg(folder);
        make.args(self.check.then_some("--check")).current_dir(root());
        ensure!(make.status().context("cannot start cargo")?.success(), "the command above failed");
        Ok(())
    }
}
