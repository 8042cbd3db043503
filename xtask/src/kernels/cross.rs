//! Cross-builds for arm64 with Debian's packages: rustc-web, its standard library for arm64, and a cross C compiler.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::guests::Arch;
use super::packages::Suite;
use crate::hint::hinted;
use crate::progress::Progress;
use crate::repo::target;
use crate::tools::{command, find, run};
use crate::{apt, cache};

/// Debian's rustc: the one first on PATH may be rustup's, which has no standard library for arm64.
const RUSTC: &str = "/usr/bin/rustc";
/// C compiler and linker. The zstd library is in C.
const CC: &str = "aarch64-linux-gnu-gcc";
const PACKAGES: [(&str, &str); 3] = [
    (RUSTC, "rustc-web"),
    (CC, "gcc-aarch64-linux-gnu"),
    ("/usr/aarch64-linux-gnu/lib/libc.so.6", "libc6-dev-arm64-cross"),
];

/// Configures a cargo command to build for arm64. Artifacts have a target directory of their own: another compiler
/// builds them.
pub(super) fn apply(cargo: &mut Command, progress: &Progress) -> Result<()> {
    let present = |name: &str| if name.starts_with('/') { Path::new(name).exists() } else { find(name).is_some() };
    let missing: Vec<&str> = PACKAGES.iter().filter(|(file, _)| !present(file)).map(|(_, package)| *package).collect();
    apt::install(&missing, progress)?;
    let sysroot = sysroot(progress)?;
    for variable in ["RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(variable);
    }
    let mut flags = OsString::from("--sysroot=");
    flags.push(&sysroot);
    cargo
        .env("RUSTC", RUSTC)
        .env("CARGO_BUILD_TARGET", Arch::Arm64.target())
        .env("CARGO_TARGET_DIR", target().join("arm64"))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", CC)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", flags)
        .env("CC_aarch64_unknown_linux_gnu", CC);
    Ok(())
}

/// A sysroot with the standard library for arm64, of exactly the compiler's version.
fn sysroot(progress: &Progress) -> Result<PathBuf> {
    let version = run(command("dpkg-query").args(["-W", "-f", "${Version}", "rustc-web"]))?;
    let suite = Suite::open("bookworm", Arch::Arm64)?;
    let name = format!("libstd-rust-web-dev-{version}");
    let package = format!("libstd-rust-web-dev={version}");
    let unpacked = suite.unpack_alone(&name, &[&package], progress).map_err(|error| {
        hinted(format!("{error:#}"), "install rustc-web of the newest version: its library for arm64 must equal it")
    })?;
    let own = PathBuf::from(run(command(RUSTC).args(["--print", "sysroot"]))?.trim());
    let library = unpacked.join("usr/lib/rustlib").join(Arch::Arm64.target());
    let sysroot = cache::dir("execpath")?.join(format!("arm64-sysroot-{version}"));
    let targets = sysroot.join("lib/rustlib");
    fs::create_dir_all(&targets)?;
    for (from, to) in [
        (library, targets.join(Arch::Arm64.target())),
        (own.join("lib/rustlib").join(Arch::X86_64.target()), targets.join(Arch::X86_64.target())),
    ] {
        if !to.exists() {
            symlink(&from, &to).with_context(|| to.display().to_string())?;
        }
    }
    Ok(sysroot)
}
