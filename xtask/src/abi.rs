//! `cargo xtask abi`: layouts of the records, kept in tracer-common/abi.lock.
//!
//! The layouts are known to a test of tracer-common, so that `cargo test` finds a drift too, and a record in the making does
//! not keep the other chores from being built.

use anyhow::Result;

use crate::repo::{cargo, root};
use crate::tools::{command, run_through};

/// Write the layouts of the records into tracer-common/abi.lock, once ABI was raised.
#[derive(clap::Args)]
pub(crate) struct Abi {
    /// Write nothing: say whether they are those of the file.
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
