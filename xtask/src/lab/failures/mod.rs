//! `cargo xtask lab failures`: measures on the lab which failures are reported with their stage and cause, and how soon.
//!
//! The oracle is kubectl itself: its pid, its exit code, its message and the moment of its end. Each kind of failure is
//! made in one way, so its stage and cause are known.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use self::judge::{Faults, Row};
use self::kinds::{Act, Client, Kind};
use self::make::{Made, end_commands, make};
use super::state::{Runtime, State};
use super::truth::plan::Planned;
use super::truth::reported::{Reported, Session};
use super::{RunningLab, cluster};
use crate::hint::hinted;
use crate::progress::Progress;
use crate::repo::{root, target};
use crate::tools::{command, run};
use crate::tracer::{self, Tracer};

mod document;
mod guards;
mod judge;
mod kinds;
mod make;

/// Longest wait for the reports after the last client has ended.
const SETTLE: Duration = Duration::from_secs(10);

/// Most failures under one trace: a report keeps the last thousand closed sessions.
const KEPT: usize = 800;

/// Number of wrong reports that are printed for each kind.
const SHOWN: usize = 3;

const EXAMPLES: &str = "\
Examples:
  cargo xtask lab failures                              each kind 40 times
  cargo xtask lab failures --runtime docker
  cargo xtask lab failures --count 2 --kind stream      the kinds with \"stream\" in their names";

/// Measure how many failures of each kind are reported with their stage and cause, and how soon.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Failures {
    /// Number of failures of each kind.
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=200))]
    count: u32,
    /// Container runtime of the kubelet. A running lab must have this runtime; without a lab, one is started and
    /// stopped afterwards.
    #[arg(long, value_enum, default_value = "containerd")]
    runtime: Runtime,
    /// Only kinds with this text in their names; repeatable.
    #[arg(long, value_name = "TEXT")]
    kind: Vec<String>,
    /// Write the table into this document, in the runtime's section. Rows of other kinds stay.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

impl Failures {
    pub(super) fn run(self, state: &State) -> Result<()> {
        let progress = Progress::new();
        let program = tracer::build()?;
        cluster::with(state, self.runtime, |lab| self.measure(lab, &program, &progress))
    }

    fn kinds(&self) -> Result<Vec<Kind>> {
        let mut kinds = kinds::all();
        if !self.kind.is_empty() {
            kinds.retain(|kind| self.kind.iter().any(|text| kind.name.contains(text.as_str())));
        }
        ensure!(!kinds.is_empty(), "no kind has such a name");
        Ok(kinds)
    }

    fn measure(&self, lab: &RunningLab, program: &Path, progress: &Progress) -> Result<()> {
        let runtime = cluster::name_of(lab.facts.runtime);
        let mut kinds = self.kinds()?;
        let (mut rows, mut first) = (Vec::new(), 1);
        while !kinds.is_empty() {
            let rest = kinds.split_off(kinds.len().min(KEPT / usize::try_from(self.count)?));
            let recording = recording(runtime, rows.len())?;
            let traced = Traced { lab, program, recording: &recording, progress };
            rows.extend(traced.rows(kinds, &mut first, self.count)?);
            kinds = rest;
        }
        self.print(lab, runtime, &rows)?;
        if rows.iter().any(|(_, row)| !row.is_right()) {
            let hint = format!("recordings: {}", target().join("failures").display());
            return Err(hinted("not all failures were reported as they must be", hint));
        }
        Ok(())
    }

    fn print(&self, lab: &RunningLab, runtime: &str, rows: &[(&str, Row)]) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", document::table(rows.iter().map(|(name, row)| document::cells(name, row))))?;
        for (name, row) in rows {
            for wrong in row.wrong.iter().take(SHOWN) {
                writeln!(out, "WRONG: {name}: {}", wrong.trim())?;
            }
        }
        self.write.as_ref().map_or(Ok(()), |file| document::write(&root().join(file), lab, runtime, rows))
    }
}

/// Kinds of failures that are made under one trace.
struct Traced<'a> {
    lab: &'a RunningLab,
    program: &'a Path,
    recording: &'a Path,
    progress: &'a Progress,
}

impl Traced<'_> {
    /// Makes the failures. `first` is the number of the next one.
    fn rows(&self, kinds: Vec<Kind>, first: &mut u32, count: u32) -> Result<Vec<(&'static str, Row)>> {
        let tracer = Tracer::start_with(self.program, self.recording, &[])?;
        // The API server has then dialled a kubelet during the trace (docs/attempts.md).
        run(self.lab.kubectl(None)?.args(["exec", "web", "-c", "web", "--", "true"]))?;
        let mut reported = Reported::default();
        let mut all: Vec<(Kind, Vec<Made>)> = Vec::new();
        for kind in kinds {
            let sessions = planned(&kind, *first, count);
            *first += count;
            // A kind that fails must not hide the others.
            let made = make(self.lab, &kind, &sessions).unwrap_or_else(|error| {
                self.progress.report(format!("{}: {error:#}", kind.name));
                Vec::new()
            });
            reported.until(&tracer, SETTLE, |reported| made.iter().all(|one| is_told(one, reported)))?;
            end_commands(&sessions)?;
            self.progress.report(format!("{}: {}", kind.name, made.len()));
            all.push((kind, made));
        }
        tracer.finish_with(|line| reported.take(line))?;
        // After a loss, the tracer is sure of less: the rows show what that costs.
        if !reported.lost.is_empty() {
            self.progress.report(format!("records were lost: {:?}", reported.lost));
        }
        let faults = diagnosed(self.program, self.recording)?;
        Ok(all.iter().map(|(kind, made)| (kind.name, Row::of(kind, made, &reported, &faults))).collect())
    }
}

/// True if the session of this client is reported as closed.
fn is_told(made: &Made, reported: &Reported) -> bool {
    let is_own = |session: &&Session| session.hop("kubectl").is_some_and(|client| client.pid == made.pid);
    reported.sessions().find(is_own).is_some_and(Session::is_closed)
}

fn planned(kind: &Kind, first: u32, count: u32) -> Vec<Planned> {
    let place = |session: Planned| match kind.client {
        Client::Holds(pod, Act::KillClient | Act::KillCommand | Act::ForAll(_)) => {
            Planned { pod, container: "web", ..session }
        }
        Client::Asks(_) | Client::OldAsks(_) | Client::Waits(..) | Client::Forwards => session,
    };
    (first..first + count).map(|number| place(Planned::new(number, 0, 0))).collect()
}

/// Path of a recording, which the next run replaces.
fn recording(runtime: &str, number: usize) -> Result<PathBuf> {
    let folder = target().join("failures");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(format!("{runtime}-{number}.jsonl.zst"));
    // The tracer never overwrites a recording.
    if file.exists() {
        std::fs::remove_file(&file)?;
    }
    Ok(file)
}

/// Diagnoses every session of the recording.
fn diagnosed(program: &Path, recording: &Path) -> Result<Faults> {
    let mut diagnose = command(program);
    diagnose.args(["diagnose", "--all", "-o", "json", "--from"]).arg(recording).stderr(Stdio::inherit());
    // It exits with 10 if it has found a fault.
    let verdicts: Vec<Value> = serde_json::from_slice(&diagnose.output()?.stdout).context("no verdicts")?;
    let mut faults: Faults = BTreeMap::new();
    for verdict in verdicts.iter().filter(|verdict| verdict["severity"] == "fault") {
        if let (Some(session), Some(code)) = (verdict["session"].as_str(), verdict["code"].as_str()) {
            faults.entry(session.to_owned()).or_default().push(code.to_owned());
        }
    }
    Ok(faults)
}
