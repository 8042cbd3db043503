//! `cargo xtask demo`: builds execpath from these sources and runs its demonstration.

use anyhow::Result;

use crate::repo::{cargo, root, target};
use crate::tools::{command, run_through};

/// Build execpath and run `execpath demo`: a miniature of the path, really traced. Needs root.
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// Arguments for `execpath demo`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Demo {
    pub(crate) fn run(self) -> Result<()> {
        // Use the features of the tests and a profile with the same dependencies, so that both commands of the README compile
        // each dependency only once.
        run_through(command(cargo()).args(["build", "--workspace", "--bin", "execpath"]).current_dir(root()))?;
        run_through(command(target().join("debug/execpath")).arg("demo").args(self.args))
    }
}
