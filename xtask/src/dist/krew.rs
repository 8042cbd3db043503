//! The manifest of the kubectl plugin for krew.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::source::Source;
use super::sums;
use crate::kernels::Arch;

/// The manifest with placeholders: version, address of the release, and a block for each platform.
const TEMPLATE: &str = "packaging/krew/execpath.yaml";

/// Beginning of the block of one platform in the template. The block ends with the file.
const PLATFORMS: &str = "  platforms:\n";

/// Writes the manifest for these archives.
pub(super) fn write(source: &Source, archives: &[(Arch, PathBuf)], path: &Path) -> Result<()> {
    let template = fs::read_to_string(source.root().join(TEMPLATE)).context(TEMPLATE)?;
    let (head, block) = template.split_once(PLATFORMS).context("the manifest has no platforms")?;
    let mut text = head.replace("{{version}}", source.version()) + PLATFORMS;
    let release = format!("{}/releases/download/v{}", source.repository(), source.version());
    for (arch, archive) in archives {
        let name = archive.file_name().context("the archive has no name")?.to_string_lossy();
        let filled = block
            .replace("{{architecture}}", arch.go())
            .replace("{{uri}}", &format!("{release}/{name}"))
            .replace("{{sha256}}", &sums::of_file(archive)?);
        text += &filled;
    }
    fs::write(path, text).with_context(|| path.display().to_string())
}
