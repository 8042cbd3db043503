//! `cargo xtask ebpf`: builds the BPF object.
//!
//! The object is committed, so that execpath builds with stable Rust alone. A card beside it holds a digest of its
//! sources, checked by `--check`, and a digest of the object itself.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use self::digest::{Card, of_object, of_sources};
use self::toolchain::Toolchain;
use crate::hint::hinted;
use crate::progress::Progress;
use crate::repo::{cargo, root, target};
use crate::tools::{command, run_through};

mod btf;
mod digest;
mod object;
mod toolchain;

/// Path of the committed object, from the root.
const OBJECT: &str = "tracer/bpf/execpath.bpf.o.zst";
/// Level of its compression. It is packed rarely.
const LEVEL: i32 = 19;

/// Build the BPF object from tracer-ebpf.
///
/// Uses rustup's nightly if it has rust-src, else Debian's rustc-web. Installs missing tools where possible.
#[derive(clap::Args)]
pub(crate) struct Ebpf {
    /// Build nothing; check that the committed object matches its sources.
    #[arg(long, conflicts_with = "out")]
    check: bool,
    /// Write the object to PATH and leave the committed one unchanged.
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

impl Ebpf {
    pub(crate) fn run(self) -> Result<()> {
        if self.check {
            return check();
        }
        let progress = Progress::new();
        let built = build(&progress)?;
        let size = built.object.len();
        match self.out {
            Some(out) => {
                write(&out, &built.object)?;
                progress.report(format!("{}: {size} bytes", out.display()));
            }
            None => {
                write(&root().join(OBJECT), &zstd::encode_all(built.object.as_slice(), LEVEL)?)?;
                write(&root().join(digest::CARD), built.card.to_string().as_bytes())?;
                progress.report(format!("{OBJECT}: {size} bytes, {}", built.card.toolchain));
            }
        }
        Ok(())
    }
}

/// An object and its card.
struct Built {
    object: Vec<u8>,
    card: Card,
}

/// Builds the object and removes machine-specific data.
fn build(progress: &Progress) -> Result<Built> {
    let toolchain = Toolchain::ensure(progress)?;
    let name = toolchain.name()?;
    progress.report(format!("building the BPF object with {name}"));
    let dir = root().join("tracer-ebpf");
    let target = target().join("bpf");
    let mut build = command(cargo());
    build.args(["build", "--quiet", "--release", "--locked", "--target", "bpfel-unknown-none", "--target-dir"]);
    build.arg(&target).current_dir(&dir);
    toolchain.apply(&mut build)?;
    run_through(&mut build)?;
    let raw = target.join("bpfel-unknown-none/release/execpath-bpf");
    let raw = fs::read(&raw).with_context(|| format!("cannot read {}", raw.display()))?;
    let object = object::reduce(&raw, &root())?;
    for private in [Some(root()), env::var_os("HOME").map(PathBuf::from)].into_iter().flatten() {
        refuse_path(&object, &private)?;
    }
    let card = Card { sources: of_sources(&root())?, object: of_object(&object), toolchain: name };
    Ok(Built { object, card })
}

/// Fails if the object names a directory of this machine: elsewhere it would be built differently.
fn refuse_path(object: &[u8], path: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = path.as_os_str().as_bytes();
    // A root of "/" is in every path and reveals nothing.
    if path.len() > 1 && object.windows(path.len()).any(|window| window == path) {
        let path = String::from_utf8_lossy(path);
        return Err(hinted(format!("the object names {path}"), "extend xtask/src/ebpf/btf.rs, which removes paths"));
    }
    Ok(())
}

fn check() -> Result<()> {
    let card = Card::committed(&root())?;
    let object = committed(&root())?;
    let again = "run cargo xtask ebpf and commit its output";
    if card.sources != of_sources(&root())? {
        return Err(hinted(format!("{OBJECT} was not built from these sources"), again));
    }
    if card.object != of_object(&object) {
        return Err(hinted(format!("{OBJECT} does not match {}", digest::CARD), again));
    }
    Ok(())
}

/// Reads the committed object in a folder with the repository's files.
pub(crate) fn committed(root: &Path) -> Result<Vec<u8>> {
    let path = root.join(OBJECT);
    let packed = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    zstd::decode_all(packed.as_slice()).with_context(|| format!("{} is damaged", path.display()))
}

/// Builds into the target directory, for tests. With the toolchain of the committed object, both objects must be
/// identical. The second value describes the comparison.
pub(crate) fn build_fresh() -> Result<(PathBuf, String)> {
    let built = build(&Progress::new())?;
    let out = target().join("execpath.bpf.o");
    write(&out, &built.object)?;
    let committed = Card::committed(&root())?;
    let size = built.object.len();
    if committed.toolchain != built.card.toolchain {
        let other = committed.toolchain;
        return Ok((out, format!("{size} bytes; not compared with the committed one, which was built with {other}")));
    }
    if committed.object != built.card.object {
        return Err(hinted(
            format!("{OBJECT} differs from a fresh build of its sources"),
            "run cargo xtask ebpf and commit its output",
        ));
    }
    Ok((out, format!("{size} bytes, identical to the committed one")))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
