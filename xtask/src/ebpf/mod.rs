//! `cargo xtask ebpf`: builds the BPF object.
//!
//! The object is committed, so that building execpath needs nothing but stable Rust. Beside it lies what it was made of:
//! a digest of the sources, which `--check` compares, and one of the object itself.

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

/// The committed object, from the root.
const OBJECT: &str = "tracer/bpf/execpath.bpf.o";

/// Build the BPF object from tracer-ebpf.
///
/// Takes rustup's nightly if it has rust-src, else Debian's rustc-web; what is missing is installed where that is possible.
#[derive(clap::Args)]
pub(crate) struct Ebpf {
    /// Build nothing: say whether the committed object is that of the sources.
    #[arg(long, conflicts_with = "out")]
    check: bool,
    /// Write the object there, and leave the committed one alone.
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
                progress.say(format!("{}: {size} bytes", out.display()));
            }
            None => {
                write(&root().join(OBJECT), &built.object)?;
                write(&root().join(digest::CARD), built.card.to_string().as_bytes())?;
                progress.say(format!("{OBJECT}: {size} bytes, {}", built.card.toolchain));
            }
        }
        Ok(())
    }
}

/// An object and what it was made of.
struct Built {
    object: Vec<u8>,
    card: Card,
}

/// Builds the object and takes out of it what tells of this machine.
fn build(progress: &Progress) -> Result<Built> {
    let toolchain = Toolchain::ensure(progress)?;
    let name = toolchain.name()?;
    progress.say(format!("building the BPF object with {name}"));
    let dir = root().join("tracer-ebpf");
    let target = target().join("bpf");
    let mut build = command(cargo());
    build.args(["build", "--quiet", "--release", "--locked", "--target", "bpfel-unknown-none", "--target-dir"]);
    build.arg(&target).current_dir(&dir);
    toolchain.apply(&mut build)?;
    run_through(&mut build)?;
    let raw = target.join("bpfel-unknown-none/release/execpath-bpf");
    let raw = fs::read(&raw).with_context(|| format!("cannot read {}", raw.display()))?;
    let object = object::reduced(&raw, &root())?;
    for secret in [Some(root()), env::var_os("HOME").map(PathBuf::from)].into_iter().flatten() {
        refuse_path(&object, &secret)?;
    }
    let card = Card { sources: of_sources(&root())?, object: of_object(&object), toolchain: name };
    Ok(Built { object, card })
}

/// An object that names a directory of this machine would be another one elsewhere.
fn refuse_path(object: &[u8], path: &Path) -> Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = path.as_os_str().as_bytes();
    // A root of "/" is in every path; it is no secret.
    if path.len() > 1 && object.windows(path.len()).any(|window| window == path) {
        let path = String::from_utf8_lossy(path);
        return Err(hinted(
            format!("the object names {path}"),
            "xtask/src/ebpf/btf.rs takes paths out: teach it this one",
        ));
    }
    Ok(())
}

fn check() -> Result<()> {
    let card = Card::committed(&root())?;
    let object = root().join(OBJECT);
    let object = fs::read(&object).with_context(|| format!("cannot read {}", object.display()))?;
    let again = "cargo xtask ebpf, and commit what it writes";
    if card.sources != of_sources(&root())? {
        return Err(hinted(format!("{OBJECT} was not built from these sources"), again));
    }
    if card.object != of_object(&object) {
        return Err(hinted(format!("{OBJECT} is not the object that {} tells of", digest::CARD), again));
    }
    Ok(())
}

/// Builds into the target directory, for tests. Where the toolchain is the one that the committed object was built with,
/// the two have to be identical; the second value says what was compared.
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
            format!("{OBJECT} differs from what its sources build to"),
            "cargo xtask ebpf, and commit what it writes",
        ));
    }
    Ok((out, format!("{size} bytes, identical with the committed one")))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
