//! `cargo xtask abi`: layouts of the records, kept in tracer-common/abi.lock.
//!
//! A test of tracer-common computes the layouts. So `cargo test` detects drift too, and an unfinished record does not
//! stop other tasks from building.

use anyhow::Result;

use crate::repo::{cargo, root};
use crate::tools::{command, run_through};

/// Write the layouts of the records into tracer-common/abi.lock, after ABI was raised.
#[derive(clap::Args)]
pub(crate) struct Abi {
    /// Write nothing; check that the file matches the layouts.
    #[arg(long)]
    check: bool,
}

impl Abi {
    pub(crate) fn run(self) -> Result<()> {
        let mut test = command(cargo());
        test.args(["test", "--quiet", "--package", "tracer-common", "--test", "abi"]).current_dir(root());
        if !self.check {
            test.env("EXECPATH_ABI_WRITE", "1");
        }
        run_through(&mut test)
    }
}
