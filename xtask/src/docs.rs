//! `cargo xtask docs`: pages that are made of the tracer's own texts.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::repo::{cargo, root};

/// Write the pages of docs/faults out of the rules of the diagnosis, and docs/glossary.md out of the words of explanations.
#[derive(clap::Args)]
pub(crate) struct Docs {
    /// Write nothing: say whether they are what the rules say.
    #[arg(long)]
    check: bool,
}

impl Docs {
    pub(crate) fn run(self) -> Result<()> {
        for pages in ["fault_pages", "glossary"] {
            let mut make = Command::new(cargo());
            // The texts are the tracer's, and xtask has to build before the tracer does.
            make.args(["run", "--quiet", "--locked", "--package", "execpath-tests", "--example", pages, "--"]);
            make.args(self.check.then_some("--check")).current_dir(root());
            ensure!(make.status().context("cannot start cargo")?.success(), "see above");
        }
        Ok(())
    }
}
