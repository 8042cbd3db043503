//! Compiler and linker for the object.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::hint::hinted;
use crate::progress::Progress;
use crate::repo::cargo;
use crate::tools::{command, find, is_program, run};
use crate::{apt, cache};

/// Linker version of the committed object.
const LINKER: &str = "0.10.3";
/// Debian's rustc: the one first on PATH may be rustup's.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The compiler, and `core` for the BPF target.
const DEBIAN_PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];
const TARGET: &str = "bpfel-unknown-none";

enum Compiler {
    /// rustup's nightly with rust-src, which builds `core` itself.
    Nightly,
    /// Debian's compiler, with a prebuilt `core` for BPF. It is a stable compiler, so the unstable features of
    /// aya-ebpf are enabled explicitly.
    Debian,
}

/// A compiler and a linker.
pub(super) struct Toolchain {
    compiler: Compiler,
    linker: PathBuf,
}

impl Toolchain {
    /// Returns the installed toolchain, or installs one.
    pub(super) fn ensure(progress: &Progress) -> Result<Self> {
        let compiler = match present() {
            Some(compiler) => compiler,
            None => install(progress)?,
        };
        Ok(Self { compiler, linker: linker(progress)? })
    }

    /// Versions, for the card.
    pub(super) fn name(&self) -> Result<String> {
        let mut rustc = self.rustc();
        let version = run(rustc.arg("--version"))?;
        let kind = match self.compiler {
            Compiler::Nightly => "rustup",
            Compiler::Debian => "rustc-web",
        };
        // "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)"
        let version: Vec<&str> = version.split_whitespace().take(4).collect();
        Ok(format!("{} from {kind}, bpf-linker {LINKER}", version.join(" ")))
    }

    fn rustc(&self) -> Command {
        match self.compiler {
            Compiler::Nightly => nightly_rustc(),
            Compiler::Debian => command(DEBIAN_RUSTC),
        }
    }

    /// Configures a cargo command to build for BPF.
    pub(super) fn apply(&self, build: &mut Command) -> Result<()> {
        // The linker is linked with LLVM of the toolchain that built it, and finds the library only through this
        // path.
        let llvm = match self.compiler {
            Compiler::Nightly => sysroot(nightly_rustc())?,
            Compiler::Debian => sysroot(command("rustc"))?,
        };
        build.env("LD_LIBRARY_PATH", llvm.join("lib"));
        for variable in
            ["RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"]
        {
            build.env_remove(variable);
        }
        let mut linker = OsString::from("-Clinker=");
        linker.push(&self.linker);
        let flags = [
            linker,
            // The linker makes BTF from debug information, and needs all of it.
            "-Cdebuginfo=2".into(),
            "-Clink-arg=--btf".into(),
            // The same on every machine. The loader passes differences between architectures to the object.
            "--cfg=bpf_target_arch=\"x86_64\"".into(),
        ];
        build.env("CARGO_ENCODED_RUSTFLAGS", flags.join(&OsString::from("\x1f")));
        match self.compiler {
            Compiler::Nightly => {
                build.env("RUSTUP_TOOLCHAIN", "nightly").env_remove("RUSTC").args(["-Z", "build-std=core"]);
            }
            Compiler::Debian => {
                build.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            }
        }
        Ok(())
    }
}

fn present() -> Option<Compiler> {
    let nightly = sysroot(nightly_rustc()).ok();
    if nightly.is_some_and(|sysroot| sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()) {
        return Some(Compiler::Nightly);
    }
    debian_is_ready().then_some(Compiler::Debian)
}

fn debian_is_ready() -> bool {
    let mut rustc = command(DEBIAN_RUSTC);
    let libdir = run(rustc.args(["--print", "target-libdir", "--target", TARGET]));
    let Ok(entries) = libdir.and_then(|dir| Ok(fs::read_dir(dir.trim())?)) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libcore-"))
}

fn install(progress: &Progress) -> Result<Compiler> {
    let nightly = "rustup toolchain install nightly --profile minimal --component rust-src";
    if find("apt-get").is_none() {
        return Err(hinted(
            "no compiler for BPF: neither rustup's nightly with rust-src nor Debian's rustc-web",
            nightly,
        ));
    }
    apt::install(&DEBIAN_PACKAGES, progress)?;
    if !debian_is_ready() {
        return Err(hinted(format!("{DEBIAN_RUSTC} still has no target {TARGET}"), nightly));
    }
    Ok(Compiler::Debian)
}

/// rustc through rustup's proxy. If rustup is installed, cargo itself runs through it too.
fn nightly_rustc() -> Command {
    let mut rustc = command("rustc");
    rustc.env("RUSTUP_TOOLCHAIN", "nightly");
    // Without this, the query would download a missing toolchain.
    rustc.env("RUSTUP_AUTO_INSTALL", "0");
    rustc
}

fn sysroot(mut rustc: Command) -> Result<PathBuf> {
    Ok(PathBuf::from(run(rustc.args(["--print", "sysroot"]))?.trim()))
}

/// Returns a linker of the right version: from PATH, from the cache, or built now.
fn linker(progress: &Progress) -> Result<PathBuf> {
    let cached = cache::dir("execpath")?.join(format!("bpf-linker-{LINKER}"));
    let built = cached.join("bin/bpf-linker");
    if let Some(there) =
        find("bpf-linker").into_iter().chain([built.clone()]).find(|program| has_right_version(program))
    {
        return Ok(there);
    }
    progress.report(format!("building bpf-linker {LINKER} (a minute)"));
    let by_hand = format!("cargo install bpf-linker@{LINKER} --locked");
    let mut install = command(cargo());
    install.args(["install", "--quiet", "--locked", "--force", &format!("bpf-linker@{LINKER}"), "--root"]).arg(&cached);
    // Build neither into the repository's target directory nor with its flags.
    install.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").current_dir(env::temp_dir());
    run(&mut install).map_err(|error| hinted(format!("{error:#}"), by_hand)).context("no bpf-linker")?;
    Ok(built)
}

fn has_right_version(linker: &Path) -> bool {
    // Without LLVM the linker does not even print its version.
    let Ok(llvm) = sysroot(command("rustc")) else { return false };
    let version = || run(command(linker).arg("--version").env("LD_LIBRARY_PATH", llvm.join("lib")));
    is_program(linker) && version().is_ok_and(|text| text.split_whitespace().nth(1) == Some(LINKER))
}
