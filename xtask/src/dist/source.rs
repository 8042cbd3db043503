//! A clean clone of one commit: nothing that is not committed enters an artefact.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::repo::cargo;
use crate::tools::{command, run};

/// A clone with nothing but the files of its commit.
pub(super) struct Source {
    root: PathBuf,
    epoch: u64,
    version: String,
    repository: String,
}

impl Source {
    /// Clones the last commit of `from`, or brings an earlier clone to that commit.
    pub(super) fn clone_to(from: &Path, root: &Path) -> Result<Self> {
        let commit = git(from, &["rev-parse", "HEAD"])?;
        if root.join(".git").exists() {
            // Unchanged files keep their times, so that cargo compiles nothing twice.
            let from = from.to_str().context("the path is no Unicode text")?;
            git(root, &["fetch", "--quiet", from, "HEAD"])?;
            git(root, &["checkout", "--quiet", "--force", "--detach", &commit])?;
        } else {
            run(command("git").args(["clone", "--quiet", "--no-checkout", "--no-hardlinks"]).arg(from).arg(root))?;
            git(root, &["checkout", "--quiet", "--detach", &commit])?;
        }
        git(root, &["clean", "-ffdxq"])?;
        let epoch = git(root, &["log", "-1", "--format=%ct"])?.parse().context("git prints no time")?;
        let mut metadata = command(cargo());
        metadata.args(["metadata", "--format-version=1", "--no-deps", "--locked"]).current_dir(root);
        let metadata: Value = serde_json::from_str(&run(&mut metadata)?)?;
        let packages = metadata["packages"].as_array().context("cargo lists no packages")?;
        let package = packages.iter().find(|package| package["name"] == "execpath").context("no package execpath")?;
        let text = |name: &str| package[name].as_str().map(str::to_owned).with_context(|| format!("no {name}"));
        Ok(Self { root: root.canonicalize()?, epoch, version: text("version")?, repository: text("repository")? })
    }

    /// The directory of the clone.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Time of the commit in seconds since 1970, for every time stamp in an artefact.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Version of execpath.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Address of the repository.
    pub(super) fn repository(&self) -> &str {
        &self.repository
    }

    /// Directory of generated files that packages contain: `man` and `completions`. The manifest names it.
    pub(super) fn generated(&self) -> PathBuf {
        self.root.join("target/package")
    }

    /// A cargo command that runs in the clone, without settings of the caller's environment.
    pub(super) fn cargo(&self) -> std::process::Command {
        let mut command = command(cargo());
        command.current_dir(&self.root).env("SOURCE_DATE_EPOCH", self.epoch.to_string());
        for variable in ["RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
            command.env_remove(variable);
        }
        command
    }
}

fn git(dir: &Path, args: &[&str]) -> Result<String> {
    let text = run(command("git").arg("-C").arg(dir).args(args))?;
    Ok(text.trim().to_owned())
}
