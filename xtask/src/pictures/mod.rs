//! `cargo xtask pictures`: the pictures of the README, taken of the real program.

use anyhow::Result;

mod screen;

/// Take the pictures of docs/pictures anew.
#[derive(clap::Args)]
pub(crate) struct Pictures {}

impl Pictures {
    #[expect(clippy::unused_self, reason = "every chore is run the same way")]
    pub(crate) fn run(self) -> Result<()> {
        screen::take()
    }
}
