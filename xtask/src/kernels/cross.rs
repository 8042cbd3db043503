//! Cross-builds for arm64 with Debian's packages: rustc-web, its standard library for arm64, and a cross C compiler.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::guests::Arch;
use super::packages::Suite;
use super::report::print;
use crate::hint::hinted;
use crate::progress::Progress;
use crate::repo::{TEST_PROFILE, cargo, root, target};
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

/// Cross-build a static binary of execpath for arm64, with Debian's packages.
///
/// Needs Debian 12; installs missing packages as root.
#[derive(clap::Args)]
pub(crate) struct Cross {
    /// Build without optimization, in a fifth of the time.
    #[arg(long)]
    quick: bool,
}

/// Flags for a static program.
const STATIC: &str = "-Ctarget-feature=+crt-static";

impl Cross {
    pub(crate) fn run(self) -> Result<()> {
        let progress = Progress::new();
        let (profile, folder) = if self.quick { (TEST_PROFILE, "debug") } else { ("dist", "dist") };
        let mut build = command(cargo());
        build.current_dir(root()).args([
            "build",
            "--locked",
            "--profile",
            profile,
            "--package",
            "execpath",
            "--bin",
            "execpath",
        ]);
        apply(&mut build, &[STATIC], &progress)?;
        // Static artifacts beside others of the same directory would be built anew at each change of flags.
        build.env("CARGO_TARGET_DIR", target().join("arm64-static"));
        progress.report("building execpath for arm64");
        ensure!(build.status().context("cannot start cargo")?.success(), "execpath does not build for arm64");
        let binary = target().join("arm64-static").join(Arch::Arm64.target()).join(folder).join("execpath");
        let bytes = fs::metadata(&binary).with_context(|| binary.display().to_string())?.len();
        print(&format!("{} ({bytes} bytes)", binary.display()))
    }
}

/// Configures a cargo command to build for arm64, with further flags for rustc. Artifacts have a target directory of their own: another
/// compiler builds them.
pub(super) fn apply(cargo: &mut Command, more: &[&str], progress: &Progress) -> Result<()> {
    let mut flags = toolchain(cargo, progress)?;
    for variable in ["RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(variable);
    }
    for flag in more {
        flags.push(" ");
        flags.push(flag);
    }
    cargo
        .env("CARGO_BUILD_TARGET", Arch::Arm64.target())
        .env("CARGO_TARGET_DIR", target().join("arm64"))
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", flags);
    Ok(())
}

/// Installs compilers for arm64 and sets them for a cargo command. Returns the flag for rustc that names its libraries.
pub(crate) fn toolchain(cargo: &mut Command, progress: &Progress) -> Result<OsString> {
    let present = |name: &str| if name.starts_with('/') { Path::new(name).exists() } else { find(name).is_some() };
    let missing: Vec<&str> = PACKAGES.iter().filter(|(file, _)| !present(file)).map(|(_, package)| *package).collect();
    apt::install(&missing, progress)?;
    cargo
        .env("RUSTC", RUSTC)
        .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", CC)
        .env("CC_aarch64_unknown_linux_gnu", CC);
    let mut flag = OsString::from("--sysroot=");
    flag.push(sysroot(progress)?);
    Ok(flag)
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
