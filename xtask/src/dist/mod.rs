//! `cargo xtask dist`: the artefacts of a release, the same bytes from every clone.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use self::source::Source;
pub(crate) use self::test_tools::test_tools;
use crate::ebpf;
use crate::kernels::Arch;
use crate::progress::Progress;
use crate::repo::{root, target};

mod archive;
mod binary;
mod image;
mod krew;
mod packages;
mod pages;
mod sbom;
mod source;
mod sums;
mod test_tools;
mod tool;
mod verify;

/// Build the artefacts of a release from the last commit: static binary, packages, image, SBOM and checksums.
///
/// Installs the packaging tools at the first use. Changes that are not committed are left out.
#[derive(clap::Args)]
pub(crate) struct Dist {
    /// Directory of the artefacts. Default: `dist` in the target directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Build for arm64 as well, with Debian's compilers.
    #[arg(long)]
    arm64: bool,
    /// Build all artefacts from two clones in different directories, and compare each byte.
    #[arg(long)]
    verify: bool,
}

impl Dist {
    pub(crate) fn run(self) -> Result<()> {
        let progress = Progress::new();
        let work = target().join("dist-work");
        // The packaging tools run in another directory.
        let out = std::path::absolute(self.out.unwrap_or_else(|| target().join("dist")))?;
        let source = Source::clone_to(&root(), &work.join("source"))?;
        let archs: &[Arch] = if self.arm64 { &[Arch::X86_64, Arch::Arm64] } else { &[Arch::X86_64] };
        let made = build(&source, archs, &work.join("target"), &out, &progress)?;
        print(&table(&made))?;
        if self.verify {
            verify::compare(&source, archs, &out, &work, &progress)?;
        }
        Ok(())
    }
}

/// An artefact and its size in bytes.
pub(super) struct Artefact {
    name: String,
    bytes: u64,
}

/// Builds every artefact into `out`, which then holds nothing else. The first architecture is this machine's.
fn build(source: &Source, archs: &[Arch], target: &Path, out: &Path, progress: &Progress) -> Result<Vec<Artefact>> {
    if out.exists() {
        fs::remove_dir_all(out).with_context(|| format!("cannot remove {}", out.display()))?;
    }
    fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    fs::write(out.join("execpath.bpf.o"), ebpf::committed(source.root())?)?;
    let mut archives = Vec::new();
    for &arch in archs {
        // Other compilers would build what is shared anew each time.
        let target = target.join(arch.name());
        let binary = binary::build(source, arch, &target, progress)?;
        if archives.is_empty() {
            pages::write(source, &binary)?;
        }
        let version = source.version();
        let named = |end: &str| out.join(format!("execpath-{version}-{end}"));
        let stem = format!("linux-{}", arch.go());
        fs::copy(&binary, named(&stem))?;
        archives.push((arch, archive::write(source, &binary, &named(&format!("{stem}.tar.gz")))?));
        packages::deb(source, arch, &target, out, progress)?;
        packages::rpm(source, arch, &target, out, progress)?;
        image::write(source, arch, &binary, &named(&format!("image-{}.tar", arch.go())))?;
        sbom::write(source, arch, &named(&format!("{}.cdx.json", arch.go())))?;
    }
    krew::write(source, &archives, &out.join("execpath.yaml"))?;
    sums::write(out)?;
    artefacts(out)
}

/// The files of a directory by name.
pub(super) fn artefacts(dir: &Path) -> Result<Vec<Artefact>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        found.push(Artefact { name, bytes: entry.metadata()?.len() });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn table(made: &[Artefact]) -> String {
    let rows = made.iter().map(|Artefact { name, bytes }| format!("{bytes:>12}  {name}\n"));
    rows.collect()
}

fn print(text: &str) -> Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
