//! `cargo xtask pictures`: the pictures of the documents, taken of the real program and made of recordings.

use anyhow::Result;

mod page;
mod screen;

/// Make docs/pictures anew: what README shows of `execpath watch` and `execpath render`.
#[derive(clap::Args)]
pub(crate) struct Pictures {}

impl Pictures {
    #[expect(clippy::unused_self, reason = "every chore is run the same way")]
    pub(crate) fn run(self) -> Result<()> {
        screen::take()?;
        page::draw()
    }
}
