//! `cargo xtask go-offsets`: where Go's runtime keeps what the tracer reads, by version.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use self::layout::layout;
use crate::progress::Progress;
use crate::repo::root;
use crate::tools::{command, run};

/// The tracer's own table, which is checked here: it names nothing else of the tracer.
#[path = "../../../tracer/src/source/ebpf/goroutine.rs"]
mod layout;
mod toolchain;

pub(crate) use self::toolchain::{TESTED, ensure};

/// A program that reads what a program says of itself, compiled and read by the same Go: an older one need not understand it.
const SOURCE: &str = "xtask/src/golang/offsets.go";

/// One table has to do for both.
const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// Compare the tracer's table of Go's goroutines with what each version's compiler says.
///
/// Fetches the toolchains, 70 MB each, where they are not in the cache.
#[derive(clap::Args)]
pub(crate) struct GoOffsets {
    /// Only this version, which need not be one of those that are looked at otherwise; repeatable.
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
                let verdict = if right { "as in the table" } else { "NOT as in the table" };
                let line = format_args!("go {version:8} {architecture}  goid {goid}  parentGoid {parent}  {verdict}");
                writeln!(io::stdout(), "{line}")?;
            }
        }
        if wrong > 0 {
            bail!("{wrong} not as in tracer/src/source/ebpf/goroutine.rs");
        }
        Ok(())
    }
}

/// Offsets of `goid` and of `parentGoid`.
fn measure(go: &Path, architecture: &str) -> Result<(u16, Option<u16>)> {
    let folder = tempfile::tempdir()?;
    let (reader, subject) = (folder.path().join("reader"), folder.path().join("subject"));
    run(build(go).arg("-o").arg(&reader).arg(SOURCE))?;
    run(build(go).arg("-o").arg(&subject).arg(SOURCE).env("GOARCH", architecture))?;
    parse(&run(command(&reader).arg(&subject))?).context("it has no goid")
}

fn build(go: &Path) -> Command {
    let mut build = command(go);
    build.arg("build").current_dir(root());
    build.envs([("CGO_ENABLED", "0"), ("GO111MODULE", "off"), ("GOFLAGS", ""), ("GOTOOLCHAIN", "local")]);
    build
}

/// Lines of a name and a number.
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
