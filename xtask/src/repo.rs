//! Paths of the repository, and its files in git.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::tools::{command, run};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    // Read cargo's variable at run time: a binary built in one clone may run in another.
    let here =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    here.parent().map_or_else(|| here.clone(), Path::to_path_buf)
}

/// cargo's target directory.
pub(crate) fn target() -> PathBuf {
    let dir = env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty());
    dir.map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// Cargo's profile for what tests run. It shares dependencies with `dev`, whose programs are quicker to build and slower.
pub(crate) const TEST_PROFILE: &str = "test";

/// The cargo that runs this program.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// A subcommand of cargo for a program that tests run. Select the program by `--bin` or `--example`: `--package` would compile its
/// dependencies once more, for the features of that package alone.
pub(crate) fn test_cargo(subcommand: &str) -> Command {
    let mut cargo = command(cargo());
    cargo.current_dir(root()).args([subcommand, "--quiet", "--locked", "--profile", TEST_PROFILE]);
    cargo
}

/// Files that git tracks or would add, relative to the root, sorted.
pub(crate) fn files() -> Result<Vec<PathBuf>> {
    let root = root();
    let mut git = command("git");
    git.arg("-C").arg(&root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let names = run(&mut git).context("cannot list the repository's files")?;
    let mut files: Vec<PathBuf> = names.split_terminator('\0').map(PathBuf::from).collect();
    files.retain(|file| root.join(file).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}
