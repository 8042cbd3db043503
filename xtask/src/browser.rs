//! Sets up a real browser for tests and pictures of the pages that execpath draws.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::apt;
use crate::progress::Progress;
use crate::repo::{root, target, test_cargo};
use crate::tools::{command, find, run};

/// Directory of the scripts and their package lists, in the repository.
const SCRIPTS: &str = "tests/browser";
/// Copy of the lock file beside the installed packages.
const STAMP: &str = "installed.json";

/// Copies the scripts to a separate folder, installs their packages and builds the programs that they run. Returns a
/// command that runs `node` there.
pub(crate) fn node(progress: &Progress) -> Result<Command> {
    let needs = [("node", "nodejs"), ("npm", "npm"), ("chromium", "chromium")];
    let mut missing: Vec<&str> =
        needs.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    // Without this font, every machine would draw different letters.
    if !fs::exists("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")? {
        missing.push("fonts-dejavu-core");
    }
    apt::install(&missing, progress)?;

    let folder = target().join("browser");
    fs::create_dir_all(&folder)?;
    for file in fs::read_dir(root().join(SCRIPTS)).context(SCRIPTS)? {
        let file = file?;
        fs::copy(file.path(), folder.join(file.file_name()))?;
    }
    let lock = fs::read(folder.join("package-lock.json"))?;
    let stamp = folder.join("node_modules").join(STAMP);
    if fs::read(&stamp).ok().as_ref() != Some(&lock) {
        progress.report("installing the packages of tests/browser");
        run(command("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder))?;
        fs::write(&stamp, &lock)?;
    }

    run(test_cargo("build").args(["--bin", "execpath", "--example", "crowd"]))?;
    let built = |name: &str| -> PathBuf { target().join("debug").join(name) };
    let mut node = command("node");
    node.current_dir(&folder)
        .env("EXECPATH_PROGRAM", built("execpath"))
        .env("EXECPATH_CROWD", built("examples/crowd"))
        .env("EXECPATH_ROOT", root())
        .env("CHROMIUM", find("chromium").context("chromium is not installed")?);
    Ok(node)
}
