//! `cargo xtask fixtures`: recordings made from logs of real clusters.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::repo::test_cargo;

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
        // Recordings belong to the tracer, and xtask must build before the tracer does.
        let mut make = test_cargo("run");
        make.args(["--example", "fixtures", "--"]).arg(folder).args(self.check.then_some("--check"));
        ensure!(make.status().context("cannot start cargo")?.success(), "the command above failed");
        Ok(())
    }
}
