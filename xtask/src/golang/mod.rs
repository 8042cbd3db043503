//! `cargo xtask go-offsets`: offsets of the fields that the tracer reads in Go's runtime, by version.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use self::layout::layout;
use crate::progress::Progress;
use crate::repo::root;
use crate::tools::{command, run};

/// The tracer's own table, included to be checked. It depends on nothing else of the tracer.
#[path = "../../../tracer/src/source/ebpf/goroutine.rs"]
mod layout;
mod toolchain;

pub(crate) use self::toolchain::{TESTED, ensure};

/// A Go program that reads field offsets from a Go binary's DWARF. The same Go version compiles the reader and its
/// subject, since an older reader may not understand a newer format.
const SOURCE: &str = "xtask/src/golang/offsets.go";

/// Architectures that share one table.
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// Compare the tracer's table of goroutine fields with the output of each Go version's compiler.
///
/// Downloads toolchains that are not in the cache, 70 MB each.
#[derive(clap::Args)]
pub(crate) struct GoOffsets {
    /// Check only this version, which may be one outside the usual list; repeatable.
    #[arg(long, value_name = "1.X.Y")]
    version: Vec<String>,
}

impl GoOffsets {
    pub(crate) fn run(self) -> Result<()> {
        let progress = Progress::new();
        let all = toolchain::VERSIONS.map(str::to_owned).to_vec();
        let mut wrong = 0;
        for version in if self.version.is_empty() { all } else { self.version } {
            let go = ensure(&version, &progress)?;
            for architecture in ARCHITECTURES {
                let measured = measure(&go, architecture)?;
                let known = layout(&format!("go{version}")).map(|known| (known.goid, known.parent_goid));
                let right = known == Some(measured);
                wrong += u32::from(!right);
                let (goid, parent) = measured;
                let parent = parent.map_or("none".to_owned(), |at| at.to_string());
                let result = if right { "matches the table" } else { "DIFFERS from the table" };
                let line = format_args!("go {version:8} {architecture}  goid {goid}  parentGoid {parent}  {result}");
                writeln!(io::stdout(), "{line}")?;
            }
        }
        if wrong > 0 {
            bail!("{wrong} offsets differ from tracer/src/source/ebpf/goroutine.rs");
        }
        Ok(())
    }
}

/// Measures the offsets of `goid` and `parentGoid`.
fn measure(go: &Path, architecture: &str) -> Result<(u16, Option<u16>)> {
    let folder = tempfile::tempdir()?;
    let (reader, subject) = (folder.path().join("reader"), folder.path().join("subject"));
    run(build(go).arg("-o").arg(&reader).arg(SOURCE))?;
    run(build(go).arg("-o").arg(&subject).arg(SOURCE).env("GOARCH", architecture))?;
    parse(&run(command(&reader).arg(&subject))?).context("the program has no goid")
}

fn build(go: &Path) -> Command {
    let mut build = command(go);
    build.arg("build").current_dir(root());
    build.envs([("CGO_ENABLED", "0"), ("GO111MODULE", "off"), ("GOFLAGS", ""), ("GOTOOLCHAIN", "local")]);
    build
}

/// Parses lines of a name and a number.
fn parse(text: &str) -> Option<(u16, Option<u16>)> {
    let of = |name: &str| {
        let mut rows = text.lines().filter_map(|line| line.split_once(' '));
        rows.find(|(field, _)| *field == name)?.1.parse().ok()
    };
    Some((of("goid")?, of("parentGoid")))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn older_versions_have_no_parent() {
        assert_eq!(parse("goid 152\nparentGoid 280\n"), Some((152, Some(280))));
        assert_eq!(parse("goid 152\n"), Some((152, None)));
        assert_eq!(parse("parentGoid 280\n"), None);
    }
}
