//! Builds everything again from a second clone and compares the artefacts.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use super::source::Source;
use super::{artefacts, build, print};
use crate::hint::hinted;
use crate::kernels::Arch;
use crate::progress::Progress;

/// Directory of the second clone: another length, another depth, and outside of the first one's parent.
const SECOND: &str = "verify/another-directory";

/// Compares the artefacts in `first` with those of a second clone.
pub(super) fn compare(source: &Source, archs: &[Arch], first: &Path, work: &Path, progress: &Progress) -> Result<()> {
    progress.report("building everything again from a second clone");
    let dir = work.join(SECOND);
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let again = Source::clone_to(source.root(), &dir.join("clone"))?;
    let second = dir.join("dist");
    build(&again, archs, &dir.join("target"), &second, progress)?;
    let names = |dir: &Path| Ok::<_, anyhow::Error>(artefacts(dir)?.into_iter().map(|it| it.name).collect::<Vec<_>>());
    let (of_first, of_second) = (names(first)?, names(&second)?);
    if of_first != of_second {
        bail!("the two builds have different artefacts: {of_first:?} and {of_second:?}");
    }
    let mut differing = Vec::new();
    for name in &of_first {
        if fs::read(first.join(name))? != fs::read(second.join(name))? {
            differing.push(name.as_str());
        }
    }
    if differing.is_empty() {
        return print(&format!("{} artefacts are equal in both builds, byte for byte\n", of_first.len()));
    }
    let what = format!("these artefacts differ between two builds: {}", differing.join(", "));
    Err(hinted(what, format!("compare {} with {}: `diffoscope`, or `cmp -l`", first.display(), second.display())))
}
