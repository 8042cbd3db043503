//! Writes `docs/truth.md` with the figures of the last complete run.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use tabled::Table;
use tabled::builder::Builder;
use tabled::settings::Style;

use super::evaluate::Part;
use super::figures::{Count, Figures};
use crate::lab::RunningLab;
use crate::tools::{command, run};

const HEAD: &str = "\
# How much of the tracer's output is true

`cargo xtask soak` writes this page; by hand: `cargo xtask lab truth --suite whole --write docs/truth.md`. `cargo xtask test` runs a
tenth of each scenario. Any wrong link fails both.

The sessions are real and run on the lab's cluster. Each has a token in its command, which the arguments of its kubectl and of its
process share. Each is sent a number of bytes that no other session is sent at the same time. So the kernel's byte counters, as `ss` shows
them, identify the TCP connections of a session; pid files, parents and cgroups identify the rest. The load driver opens all connections
from one process, and the port of the client's end identifies each. This oracle shares no code with the tracer.

* **kubectl**: all open at once, each by a kubectl. **driver**: all open at once, by one process. **short**: one half one after
  another, the other half twenty at a time. **older**: open and idle before the tracer starts, by kubectls or by the driver.
  **ring**: the buffer is 4,096 bytes and the tracer is stopped while half of the sessions open, so that records are lost. Sessions
  may be missing; nothing may be wrong.
* **found**: reported at all. **complete**: with every hop. **exact**: complete, every link proved, no gap. **wrong**: links, ends,
  names or whole sessions that contradict the oracle, in any report, not only the last. **overstated**: sessions reported as complete
  with a part missing, as another kind, or twice; after a loss, also sessions that the oracle cannot identify. **left open**: reported
  as open after their end.
";

/// Beginning of a section, before the runtime's name.
const SECTION: &str = "\n## With ";

/// Renders the table of scenarios, one row each.
pub(super) fn table<'a>(rows: impl IntoIterator<Item = (String, &'a Figures)>) -> String {
    let mut builder = Builder::default();
    builder.push_record(
        [
            "scenario",
            "found",
            "complete",
            "exact",
            "wrong",
            "overstated",
            "ambiguous",
            "left open",
            "records lost",
            "took",
        ]
        .map(str::to_owned),
    );
    for (name, figures) in rows {
        let of = |count: usize| format!("{count} of {}", figures.sessions);
        builder.push_record([
            name,
            of(figures.found),
            of(figures.complete),
            of(figures.exact),
            figures.wrong.len().to_string(),
            figures.overstated.len().to_string(),
            figures.ambiguous.to_string(),
            figures.left_open.to_string(),
            figures.lost().to_string(),
            format!("{:.0} s", figures.took.as_secs_f64()),
        ]);
    }
    markdown(builder)
}

/// Renders the table of links and ends, summed over all scenarios.
fn parts(figures: &[&Figures]) -> String {
    let mut builder = Builder::default();
    builder.push_record(["what", "right", "wrong", "missing"].map(str::to_owned));
    let all: BTreeSet<Part> = figures.iter().flat_map(|figures| figures.parts.keys().copied()).collect();
    for part in all {
        let counts = figures.iter().filter_map(|figures| figures.parts.get(&part));
        let sum = counts.fold(Count::default(), |sum, count| Count {
            right: sum.right + count.right,
            wrong: sum.wrong + count.wrong,
            missing: sum.missing + count.missing,
        });
        let Count { right, wrong, missing } = sum;
        builder.push_record([part.name().to_owned(), right.to_string(), wrong.to_string(), missing.to_string()]);
    }
    markdown(builder)
}

pub(in crate::lab) fn markdown(builder: Builder) -> String {
    let mut table: Table = builder.build();
    table.with(Style::markdown()).to_string()
}

/// Rewrites the section of this lab's runtime and keeps the sections of other runtimes.
pub(super) fn write(file: &Path, lab: &RunningLab, runtime: &str, rows: &[(String, Figures)]) -> Result<()> {
    let mut body = format!("{runtime}\n\n{}.\n\n", circumstances(lab, runtime)?);
    writeln!(body, "{}\n", table(rows.iter().map(|(name, figures)| (name.clone(), figures))))?;
    for (name, figures) in rows {
        for note in &figures.notes {
            writeln!(body, "* {name}: {note}")?;
        }
    }
    let all: Vec<&Figures> = rows.iter().map(|(_, figures)| figures).collect();
    writeln!(body, "\nAll of these together, by part:\n\n{}", parts(&all))?;
    let old = std::fs::read_to_string(file).unwrap_or_default();
    std::fs::write(file, renewed(HEAD, &old, runtime, &body))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// The section of a runtime in a page, without its title.
pub(in crate::lab) fn section<'a>(page: &'a str, runtime: &str) -> Option<&'a str> {
    page.split(SECTION).skip(1).find_map(|section| section.strip_prefix(runtime))
}

/// The page with another section of this runtime. `head` is what comes before all sections.
pub(in crate::lab) fn renewed(head: &str, old: &str, runtime: &str, body: &str) -> String {
    let others = old.split(SECTION).skip(1).filter(|section| section.lines().next() != Some(runtime));
    let mut sections: Vec<&str> = others.chain([body]).collect();
    sections.sort_unstable();
    sections.iter().fold(head.to_owned(), |text, section| text + SECTION + section.trim_end() + "\n")
}

/// When and where the figures were measured.
pub(in crate::lab) fn circumstances(lab: &RunningLab, runtime: &str) -> Result<String> {
    let date = run(command("date").args(["-u", "+%F"]))?;
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let version = run(command(runtime).arg("--version"))?;
    let version = version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let cores = std::thread::available_parallelism()?;
    let kubectls = lab.kubectls();
    let (oldest, newest) = (kubectls.first().context("no kubectl")?, kubectls.last().context("no kubectl")?);
    Ok(format!(
        "{}; Linux {kernel}, {cores} cores; Kubernetes {}, {runtime} {}; kubectl {newest}, and {oldest} where it is named",
        date.trim(),
        lab.kubernetes(),
        version.unwrap_or("of unknown version").trim_end_matches(','),
    ))
}

#[cfg(test)]
mod tests {
    use super::{HEAD, renewed};

    #[test]
    fn other_runtimes_section_is_kept() {
        let first = renewed(HEAD, "", "docker", "docker\n\none\n");
        let second = renewed(HEAD, &first, "containerd", "containerd\n\ntwo\n");
        let third = renewed(HEAD, &second, "docker", "docker\n\nthree\n");
        assert_eq!(third, format!("{HEAD}\n## With containerd\n\ntwo\n\n## With docker\n\nthree\n"));
    }
}
