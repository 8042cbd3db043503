//! The image: the static binary and nothing else, as `packaging/image/Dockerfile` builds it with a container engine.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::source::Source;
use crate::image::{Image, append};
use crate::kernels::Arch;

/// Name of the image, without its tag.
const NAME: &str = "ghcr.io/execpath/execpath";

/// Writes the archive of the image.
pub(super) fn write(source: &Source, arch: Arch, binary: &Path, path: &Path) -> Result<()> {
    let program = fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "execpath", &program, 0o755)?;
    let layer = tar.into_inner()?;
    let name = format!("{NAME}:{}", source.version());
    let image = Image {
        name: &name,
        architecture: arch.go(),
        created: None,
        created_by: "cargo xtask dist",
        config: json!({
            "Entrypoint": ["/execpath"],
            "Cmd": ["trace"],
            "Labels": {
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
                "org.opencontainers.image.source": source.repository(),
                "org.opencontainers.image.version": source.version(),
            },
        }),
        layer: &layer,
    };
    fs::write(path, image.archive()?).with_context(|| path.display().to_string())
}
