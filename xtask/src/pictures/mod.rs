//! `cargo xtask pictures`: the pictures of the documents, drawn by the real program from recordings.

use anyhow::Result;

mod page;
mod screen;

/// Redraw docs/pictures: the README's pictures of `execpath watch` and `execpath render`.
#[derive(clap::Args)]
pub(crate) struct Pictures {}

impl Pictures {
    #[expect(clippy::unused_self, reason = "every task is run the same way")]
    pub(crate) fn run(self) -> Result<()> {
        screen::take()?;
        page::draw()
    }
}
