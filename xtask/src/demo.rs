//! `cargo xtask demo`: execpath's own demonstration, from these sources.

use anyhow::Result;

use crate::repo::{cargo, root, target};
use crate::tools::{command, run_through};

/// Build execpath and run `execpath demo`: the path in miniature, traced for real. Needs root.
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// Passed on to `execpath demo`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Demo {
    pub(crate) fn run(self) -> Result<()> {
        // The profile and the features of the tests: both commands of the README compile each crate once.
        run_through(command(cargo()).args(["build", "--workspace", "--bin", "execpath"]).current_dir(root()))?;
        run_through(command(target().join("debug/execpath")).arg("demo").args(self.args))
    }
}
