//! The packages of Debian and of RPM. Their contents are listed in the manifest of the tracer.

use std::path::Path;

use anyhow::Result;

use super::binary::PROFILE;
use super::source::Source;
use super::tool::Tool;
use crate::kernels::Arch;
use crate::progress::Progress;
use crate::tools::run;

const DEB: Tool = Tool { name: "cargo-deb", version: "3.8.0" };
const RPM: Tool = Tool { name: "cargo-generate-rpm", version: "0.21.1" };

/// Writes the package for Debian.
pub(super) fn deb(source: &Source, arch: Arch, target: &Path, out: &Path, progress: &Progress) -> Result<()> {
    progress.report("packing for Debian");
    let mut cargo = DEB.on(source.cargo(), progress)?;
    cargo.args([
        "--package",
        "execpath",
        "--no-build",
        "--no-strip",
        "--locked",
        "--profile",
        PROFILE,
        "--target",
        arch.target(),
    ]);
    cargo.env("CARGO_TARGET_DIR", target).arg("--output").arg(out);
    run(&mut cargo).map(drop)
}

/// Writes the package for distributions with RPM.
pub(super) fn rpm(source: &Source, arch: Arch, target: &Path, out: &Path, progress: &Progress) -> Result<()> {
    progress.report("packing for RPM");
    let mut cargo = RPM.on(source.cargo(), progress)?;
    cargo.args([
        "--package",
        "tracer",
        "--profile",
        PROFILE,
        "--target",
        arch.target(),
        "--source-date",
        &source.epoch().to_string(),
    ]);
    cargo.arg("--target-dir").arg(target).arg("--output").arg(out);
    run(&mut cargo).map(drop)
}
