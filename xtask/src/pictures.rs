//! `cargo xtask pictures`: the pictures of the documents, made of recordings.

use std::fs;

use anyhow::Result;

use crate::browser;
use crate::progress::Progress;
use crate::repo::root;
use crate::tools::run_through;

/// Draw docs/pictures anew: what README shows of `execpath render`.
#[derive(clap::Args)]
pub(crate) struct Pictures {}

impl Pictures {
    #[expect(clippy::unused_self, reason = "every chore is run the same way")]
    pub(crate) fn run(self) -> Result<()> {
        let folder = root().join("docs/pictures");
        fs::create_dir_all(&folder)?;
        run_through(browser::node(&Progress::new())?.arg("pictures.mjs").arg(folder))
    }
}
