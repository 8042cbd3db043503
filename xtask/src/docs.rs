//! `cargo xtask docs`: pages generated from the tracer's own texts.

use anyhow::{Context as _, Result, ensure};

use crate::repo::test_cargo;

/// Write docs/faults from the rules of the diagnosis, docs/glossary.md from the words of explanations, docs/metrics.md from the
/// table of metrics, and docs/otlp.md from that of attributes.
#[derive(clap::Args)]
pub(crate) struct Docs {
    /// Write nothing; check that the pages are up to date.
    #[arg(long)]
    check: bool,
}

impl Docs {
    pub(crate) fn run(self) -> Result<()> {
        for pages in ["fault_pages", "glossary", "metrics_page", "otlp_page"] {
            // The texts belong to the tracer, and xtask must build before the tracer does.
            let mut make = test_cargo("run");
            make.args(["--example", pages, "--"]).args(self.check.then_some("--check"));
            ensure!(make.status().context("cannot start cargo")?.success(), "the command above failed");
        }
        Ok(())
    }
}
