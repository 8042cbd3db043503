//! SHA-256 sums of the artefacts, in the format of sha256sum(1).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::image::sha256;

/// Name of the list.
pub(super) const NAME: &str = "SHA256SUMS";

/// Writes the list into the directory of the artefacts.
pub(super) fn write(dir: &Path) -> Result<()> {
    let mut list = String::new();
    for artefact in super::artefacts(dir)?.iter().filter(|artefact| artefact.name != NAME) {
        writeln!(list, "{}  {}", of_file(&dir.join(&artefact.name))?, artefact.name)?;
    }
    fs::write(dir.join(NAME), list).with_context(|| dir.display().to_string())
}

/// The sum of a file in hexadecimal digits.
pub(super) fn of_file(path: &Path) -> Result<String> {
    let data = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(sha256(&data))
}
