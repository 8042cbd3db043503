//! Go programs of the lab, built once for each version of their source.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::progress::Progress;
use crate::tools::{command, find, is_program, run};
use crate::{apt, cache};

/// Returns the program built from this source. Builds only if the source has changed.
pub(super) fn program(name: &str, text: &str) -> Result<PathBuf> {
    let dir = cache::dir("execpath-lab")?.join(name);
    let (program, source) = (dir.join(name), dir.join("main.go"));
    if is_program(&program) && fs::read_to_string(&source).is_ok_and(|built| built == text) {
        return Ok(program);
    }
    if find("go").is_none() {
        apt::install(&["golang-go"], &Progress::new())?;
    }
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let new = dir.join("new.go");
    fs::write(&new, text)?;
    let go = find("go").context("golang-go installed no go")?;
    let mut build = command(go);
    build.current_dir(&dir).envs([("GO111MODULE", "off"), ("CGO_ENABLED", "0")]);
    run(build.args(["build", "-o", name, "new.go"]))?;
    // Rename the source last: its presence marks the program beside it as complete.
    fs::rename(&new, &source)?;
    Ok(program)
}
