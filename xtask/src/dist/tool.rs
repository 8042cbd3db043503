//! Packaging tools from crates.io, of fixed versions, in the cache.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache;
use crate::hint::hinted;
use crate::progress::Progress;
use crate::repo::cargo;
use crate::tools::{command, is_program, run};

/// A subcommand of cargo.
pub(super) struct Tool {
    /// Name of the crate and of its program.
    pub(super) name: &'static str,
    /// Version. Another one may write other bytes.
    pub(super) version: &'static str,
}

impl Tool {
    /// Path of the program. The first call builds it.
    pub(super) fn ensure(&self, progress: &Progress) -> Result<PathBuf> {
        let Self { name, version } = self;
        let dir = cache::dir("execpath")?.join(format!("{name}-{version}"));
        let program = dir.join("bin").join(name);
        if is_program(&program) {
            return Ok(program);
        }
        progress.report(format!("building {name} {version} (a minute or two)"));
        let by_hand = format!("cargo install {name}@{version} --locked --root {}", dir.display());
        let mut install = command(cargo());
        install.args(["install", "--quiet", "--locked", "--force", &format!("{name}@{version}"), "--root"]).arg(&dir);
        // Build neither into the repository's target directory nor with its flags.
        install.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").current_dir(env::temp_dir());
        run(&mut install)
            .map_err(|error| hinted(format!("{error:#}"), by_hand))
            .with_context(|| format!("no {name}"))?;
        Ok(program)
    }

    /// Makes `cargo`, a command of cargo itself, run this subcommand.
    pub(super) fn on(&self, mut cargo: Command, progress: &Progress) -> Result<Command> {
        let program = self.ensure(progress)?;
        let dir = program.parent().context("the program has no directory")?;
        let mut dirs = vec![dir.to_owned()];
        dirs.extend(env::split_paths(&crate::tools::search_path()));
        cargo.env("PATH", env::join_paths(dirs)?);
        cargo.arg(self.name.trim_start_matches("cargo-"));
        Ok(cargo)
    }
}
