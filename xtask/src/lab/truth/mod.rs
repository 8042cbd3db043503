//! `cargo xtask lab truth`: measures on the lab how much of the tracer's output is true.
//!
//! The oracle is built into the sessions. Each session has a token in its command, which the arguments of its kubectl
//! and of its process share. Each is also sent a unique number of bytes, so the kernel's byte counters, as shown by
//! `ss`, identify its connections on every leg of the path. The oracle shares no code with the correlator.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use self::figures::Figures;
use self::scenario::{How, Running, Scenario};
use self::suite::{Entry, Expected, Scale};
use super::state::{Runtime, State};
use super::{RunningLab, cluster};
use crate::hint::hinted;
use crate::progress::Progress;
use crate::repo::{root, target};
use crate::tracer;

pub(super) mod crowd;
pub(super) mod document;
mod evaluate;
mod figures;
pub(super) mod inspect;
pub(super) mod kubectls;
mod load;
pub(super) mod plan;
pub(super) mod reported;
mod scenario;
mod suite;

const EXAMPLES: &str = "\
Examples:
  cargo xtask lab truth                                 200 sessions open at once, each by a kubectl
  cargo xtask lab truth --kubectl 1.20                  the same by the oldest
  cargo xtask lab truth --how driver --sessions 1000    1,000 connections of one process
  cargo xtask lab truth --how short --sessions 2000     one after another, then 20 at a time
  cargo xtask lab truth --how older --sessions 50       older than the tracer
  cargo xtask lab truth --how older-driver --sessions 1000    the same, connections of one process
  cargo xtask lab truth --sessions 20 --ring-bytes 4096 with a buffer that is too small
  cargo xtask lab truth --suite tenth                   a tenth of each scenario, as in tests";

/// Measure how much of the tracer's output is true.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Truth {
    /// How to open the sessions.
    #[arg(long, value_enum, default_value = "kubectl")]
    how: How,
    /// Number of sessions.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    sessions: u32,
    /// Container runtime of the kubelet. A running lab must have this runtime; without a lab, one is started and
    /// stopped afterwards.
    #[arg(long, value_enum, default_value = "containerd")]
    runtime: Runtime,
    /// Number of sessions to start at the same time. Default: 8, or 20 for short sessions.
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..=100))]
    at_once: Option<u32>,
    /// kubectl to use: a version such as 1.20, or a path. Default: the newest found.
    #[arg(long, value_name = "VERSION|PATH")]
    kubectl: Option<String>,
    /// Size of the kernel's buffer. If it is too small, records are lost: the tracer must then report the loss, and
    /// may miss sessions.
    #[arg(long, value_name = "BYTES")]
    ring_bytes: Option<u32>,
    /// Count missing or incomplete sessions without failing, for cases that the tracer is known not to see.
    #[arg(long)]
    may_miss: bool,
    /// Run every scenario instead of one.
    #[arg(long, value_enum, value_name = "SCALE", conflicts_with_all = ["how", "sessions", "at_once", "kubectl", "ring_bytes", "may_miss"])]
    suite: Option<Scale>,
    /// With --suite: write the figures into this document, in the runtime's section.
    #[arg(long, value_name = "FILE", requires = "suite")]
    write: Option<PathBuf>,
}

impl Truth {
    pub(super) fn run(self, state: &State) -> Result<()> {
        let progress = Progress::new();
        let program = tracer::build()?;
        cluster::with(state, self.runtime, |lab| self.measure(lab, &program, &progress))
    }

    fn entries(&self, lab: &RunningLab) -> Result<Vec<Entry>> {
        if let Some(scale) = self.suite {
            return Ok(suite::all(scale, lab.kubectls().first().context("no kubectl")?, lab.facts.runtime));
        }
        let scenario = Scenario {
            how: self.how,
            sessions: self.sessions,
            at_once: self.at_once,
            kubectl: self.kubectl.clone(),
            ring_bytes: self.ring_bytes,
        };
        let expected = match (self.ring_bytes, self.may_miss) {
            (Some(_), _) => Expected::Losses,
            (None, true) => Expected::Counted,
            (None, false) => Expected::Whole,
        };
        Ok(vec![Entry { scenario, expected }])
    }

    fn measure(&self, lab: &RunningLab, program: &Path, progress: &Progress) -> Result<()> {
        let runtime = cluster::name_of(lab.facts.runtime);
        let (mut rows, mut failed) = (Vec::new(), Vec::new());
        for Entry { scenario, expected } in self.entries(lab)? {
            let (name, recording) = (scenario.name(), recording(&scenario, runtime)?);
            progress.report(format!("{name} with {runtime}"));
            let running = Running { lab, program, recording: &recording, scenario: &scenario, progress };
            // A scenario that fails must not hide the others.
            match running.run() {
                Ok(figures) => {
                    write!(std::io::stdout(), "{figures}")?;
                    let result = check(&figures, expected).and_then(|()| check_idle(&figures, expected));
                    failed.extend(result.err().map(|error| format!("{name}: {error}; {}", recording.display())));
                    rows.push((name, figures));
                }
                Err(error) => failed.push(format!("{name}: {error:#}")),
            }
        }
        if rows.len() > 1 {
            writeln!(std::io::stdout(), "{}", document::table(rows.iter().map(|(name, it)| (name.clone(), it))))?;
        }
        if !failed.is_empty() {
            return Err(hinted(failed.join("\n"), "the files are recordings: `execpath replay FILE`"));
        }
        self.write.as_ref().map_or(Ok(()), |file| document::write(&root().join(file), lab, runtime, &rows))
    }
}

/// Checks that the figures are as expected.
fn check(figures: &Figures, expected: Expected) -> Result<()> {
    let Figures { sessions, found, complete, left_open, wrong, overstated, .. } = figures;
    ensure!(wrong.is_empty(), "{} wrong findings", wrong.len());
    // After a loss, the tracer is known to overstate (docs/limitations.md).
    ensure!(overstated.is_empty() || expected == Expected::Losses, "{} overstated sessions", overstated.len());
    ensure!(figures.memory_is_flat(), "the tracer's memory grows: {:?} KiB", figures.memory);
    match expected {
        Expected::Whole => {
            ensure_no_full_buffer(figures)?;
            ensure!(
                figures.is_complete(),
                "of {sessions} sessions, {found} were found, {complete} are complete, {left_open} are left open"
            );
        }
        Expected::Counted => ensure_no_full_buffer(figures)?,
        Expected::Losses => {
            ensure!(figures.refused() > 0, "no loss was reported: use a smaller buffer or more sessions")
        }
    }
    Ok(())
}

fn ensure_no_full_buffer(figures: &Figures) -> Result<()> {
    ensure!(figures.refused() == 0, "records were lost: {:?}", figures.lost);
    Ok(())
}

/// Checks idle sessions that are older than the tracer. Pending reads must join them from client to stream, with or
/// without heartbeats. kubectl before 1.27 sends none (client-go: transport/spdy, remotecommand). `ls` must list one
/// row for each.
fn check_idle(figures: &Figures, expected: Expected) -> Result<()> {
    if expected == Expected::Counted {
        return Ok(());
    }
    let Figures { sessions, joined_idle, listed, .. } = figures;
    if let Some(joined) = joined_idle {
        ensure!(joined == sessions, "{joined} of {sessions} sessions were joined before any input");
    }
    if let Some(rows) = listed {
        ensure!(rows == sessions, "`ls` lists {rows} sessions instead of {sessions}");
    }
    Ok(())
}

/// Path of the tracer's recording, which the next run of the same name replaces.
fn recording(scenario: &Scenario, runtime: &str) -> Result<PathBuf> {
    let folder = target().join("truth");
    std::fs::create_dir_all(&folder)?;
    Ok(folder.join(format!("{}-{runtime}.jsonl.zst", scenario.name())))
}

#[cfg(test)]
mod tests {
    use super::{Expected, Figures, check, check_idle};

    fn of(found: usize, lost: u64) -> Figures {
        let lost = std::iter::once(("ring-full".to_owned(), lost)).collect();
        Figures { sessions: 2, found, complete: found, lost, ..Figures::default() }
    }

    #[test]
    fn wrong_finding_fails_every_expectation() {
        for expected in [Expected::Whole, Expected::Counted, Expected::Losses] {
            let lost = u64::from(expected == Expected::Losses);
            assert!(check(&of(2, lost), expected).is_ok());
            let wrong = Figures { wrong: vec!["a leg".to_owned()], ..of(2, lost) };
            assert!(check(&wrong, expected).is_err());
        }
    }

    #[test]
    fn only_losses_of_full_buffers_fail() {
        let skipped = std::iter::once(("runs-skipped".to_owned(), 2)).collect();
        let figures = Figures { lost: skipped, ..of(2, 0) };
        assert!(check(&figures, Expected::Whole).is_ok());
        assert!(check(&figures, Expected::Losses).is_err());
        assert!(check(&of(2, 1), Expected::Whole).is_err());
    }

    #[test]
    fn growing_memory_fails() {
        assert!(check(&Figures { memory: Some((70_000, 70_500)), ..of(2, 0) }, Expected::Whole).is_ok());
        assert!(check(&Figures { memory: Some((70_000, 80_000)), ..of(2, 0) }, Expected::Whole).is_err());
    }

    #[test]
    fn missing_session_fails_if_all_are_expected() {
        assert!(check(&of(1, 0), Expected::Whole).is_err());
        assert!(check(&Figures { left_open: 1, ..of(2, 0) }, Expected::Whole).is_err());
        assert!(check(&of(1, 0), Expected::Counted).is_ok());
        let overstated = Figures { overstated: vec!["complete".to_owned()], ..of(2, 0) };
        assert!(check(&overstated, Expected::Whole).is_err());
        assert!(check(&of(2, 1), Expected::Whole).is_err(), "a loss");
        assert!(check(&of(1, 0), Expected::Losses).is_err(), "no loss was reported");
    }

    #[test]
    fn idle_session_must_be_joined_and_listed_once() {
        let of = |joined, rows| Figures { joined_idle: Some(joined), listed: Some(rows), ..of(2, 0) };
        for (joined, rows, right) in [(2, 2, true), (1, 2, false), (2, 3, false), (2, 1, false)] {
            assert_eq!(check_idle(&of(joined, rows), Expected::Whole).is_ok(), right, "{joined} {rows}");
            assert_eq!(check_idle(&of(joined, rows), Expected::Losses).is_ok(), right, "{joined} {rows}");
            assert!(check_idle(&of(joined, rows), Expected::Counted).is_ok());
        }
    }
}
