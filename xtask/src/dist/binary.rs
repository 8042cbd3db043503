//! The static binary.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use object::Endianness;
use object::elf::{DT_NEEDED, Dyn64, FileHeader64, PT_DYNAMIC, PT_INTERP};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};

use super::source::Source;
use crate::kernels::{Arch, toolchain};
use crate::progress::Progress;
use crate::tools::run;

/// Profile of the manifest, smaller than `release`.
pub(super) const PROFILE: &str = "dist";

/// Largest permitted size in bytes, so that growth is noticed. The goal is 12 MB: docs/performance.md has what it would cost.
const MAX_BYTES: usize = 15_700_000;

/// Builds the binary in a target directory of its architecture, and checks that it is static and small enough.
///
/// It contains glibc. `--otlp` alone resolves names: since 2.34 the library contains the resolvers of files and DNS, and loads no module
/// for them.
pub(super) fn build(source: &Source, arch: Arch, target: &Path, progress: &Progress) -> Result<PathBuf> {
    progress.report(format!("building a static release of execpath for {} (minutes)", arch.name()));
    let mut cargo = source.cargo();
    cargo.args(["rustc", "--quiet", "--locked", "--profile", PROFILE, "--package", "execpath", "--bin", "execpath"]);
    cargo.args(["--target", arch.target(), "--target-dir"]).arg(target);
    let paths = mapped_paths(source, target)?;
    // A static program that may be loaded anywhere relocates itself; packed relocations take a hundredth of the space.
    let mut flags: Vec<OsString> =
        ["-Ctarget-feature=+crt-static", "-Clink-arg=-Wl,-z,pack-relative-relocs"].map(OsString::from).to_vec();
    if arch == Arch::Arm64 {
        flags.push(toolchain(&mut cargo, progress)?);
    }
    flags.extend(paths.iter().map(|(from, to)| joined("--remap-path-prefix=", from, to)));
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new("\x1f")));
    // For C sources of crates.
    let c_flags: Vec<OsString> = paths.iter().map(|(from, to)| joined("-ffile-prefix-map=", from, to)).collect();
    cargo.env(format!("CFLAGS_{}", arch.target().replace('-', "_")), c_flags.join(OsStr::new(" ")));
    run(&mut cargo)?;
    let binary = target.join(arch.target()).join(PROFILE).join("execpath");
    check(&fs::read(&binary).with_context(|| binary.display().to_string())?)?;
    Ok(binary)
}

/// Directories of this machine, each with its replacement in the binary. The last match counts.
fn mapped_paths(source: &Source, target: &Path) -> Result<[(PathBuf, &'static str); 3]> {
    let home = std::env::var_os("CARGO_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let home = match home {
        Some(home) => home,
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
    };
    fs::create_dir_all(target)?;
    Ok([(home, "/cargo"), (source.root().to_owned(), "/execpath"), (target.canonicalize()?, "/target")])
}

fn joined(option: &str, from: &Path, to: &str) -> OsString {
    let mut flag = OsString::from(option);
    flag.push(from);
    flag.push("=");
    flag.push(to);
    flag
}

/// Checks size and linkage: no interpreter, no shared library.
fn check(binary: &[u8]) -> Result<()> {
    ensure!(binary.len() <= MAX_BYTES, "the binary has {} bytes; at most {MAX_BYTES} are permitted", binary.len());
    let header = FileHeader64::<Endianness>::parse(binary)?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, binary)? {
        ensure!(segment.p_type(endian) != PT_INTERP, "the binary names a dynamic loader");
        if segment.p_type(endian) == PT_DYNAMIC {
            let entries = segment.dynamic(endian, binary)?.unwrap_or_default();
            let needs = |entry: &Dyn64<Endianness>| entry.tag(endian) == DT_NEEDED;
            ensure!(!entries.iter().any(needs), "the binary needs a shared library");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, check};

    #[test]
    fn dynamic_program_is_refused() {
        let own = std::fs::read("/proc/self/exe").expect("this program is readable");
        // Tests are linked dynamically. An unstripped one may also be too large, which is not the point here.
        let own = &own[..own.len().min(MAX_BYTES)];
        let error = check(own).expect_err("this test is dynamic").to_string();
        assert!(error.contains("dynamic loader"), "{error}");
    }

    #[test]
    fn large_program_is_refused() {
        assert!(check(&vec![0; MAX_BYTES + 1]).expect_err("too large").to_string().contains("15700000"));
    }
}
