//! Measurements of a tracer beside sessions of the lab.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::latency::{self, percentile, processor_ticks};
use super::table::{Row, median, spread};
use crate::lab::RunningLab;
use crate::progress::Progress;
use crate::tracer::Tracer;

/// Execs for the delay.
const EXECS: u32 = 200;
/// Open sessions, and the time for which the tracer is measured beside them.
const OPEN: usize = 100;
/// See [`OPEN`].
const BESIDE: Duration = Duration::from_secs(20);
/// Runs and bytes of a large output.
const RUNS: usize = 5;
/// See [`RUNS`].
const MEGABYTES: u32 = 200;

/// Rows of a running lab; none without one.
pub(super) fn rows(program: &Path, progress: &Progress) -> Result<Vec<Row>> {
    let Ok(lab) = RunningLab::find() else {
        progress.report("no lab is up: its rows are left out (`cargo xtask lab up`)");
        return Ok(Vec::new());
    };
    let mut rows = delays(program)?;
    progress.report(format!("{OPEN} open sessions"));
    rows.push(open(&lab, program)?);
    progress.report("a large output");
    rows.push(output(&lab, program)?);
    Ok(rows)
}

fn delays(program: &Path) -> Result<Vec<Row>> {
    let measured = latency::measure(program, EXECS)?;
    let ms = |percent| percentile(&measured.delays, percent) as f64 / 1e6;
    ensure!(measured.missed == 0, "{} of {EXECS} sessions were not complete", measured.missed);
    let cpu = measured.processor_ms / f64::from(EXECS);
    Ok(vec![
        Row {
            what: format!("execve of the process to its line, p50 / p99 / max of {EXECS}"),
            ours: format!("{:.1} / {:.1} / {:.1} ms", ms(50), ms(99), ms(100)),
            target: "p99 ≤ 10 ms",
            reached: Some(ms(99) <= 10.0),
            ..Row::default()
        },
        Row {
            what: "processor time of the tracer for a session".into(),
            ours: format!("{cpu:.2} ms"),
            target: "≤ 1 ms",
            reached: Some(cpu <= 1.0),
            ..Row::default()
        },
    ])
}

/// Clients that are killed when this is dropped.
struct Clients(Vec<Child>);

impl Drop for Clients {
    fn drop(&mut self) {
        for client in &mut self.0 {
            drop(client.kill());
            drop(client.wait());
        }
    }
}

fn exec(lab: &RunningLab, command: &str) -> Result<Command> {
    let mut kubectl = lab.kubectl(None)?;
    kubectl.args(["exec", "web", "-c", "web", "--", "sh", "-c", command]);
    kubectl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(kubectl)
}

/// Share of a processor that the tracer takes beside open sessions that output a line each second.
fn open(lab: &RunningLab, program: &Path) -> Result<Row> {
    let folder = tempfile::tempdir()?;
    let tracer = Tracer::start(program, &folder.path().join("recording.jsonl.zst"))?;
    let mut clients = Clients(Vec::new());
    for _ in 0..OPEN {
        clients.0.push(exec(lab, "while sleep 1; do echo .; done")?.spawn()?);
    }
    let mut complete = std::collections::BTreeSet::new();
    while complete.len() < OPEN {
        let line = tracer.next()?;
        if line.value["session"]["complete"] == true {
            complete.insert(line.value["session"]["id"].to_string());
        }
    }
    let (before, begin) = (processor_ticks(tracer.pid())?, Instant::now());
    thread::sleep(BESIDE);
    let ticks = processor_ticks(tracer.pid())? - before;
    let seconds = ticks as f64 / procfs::ticks_per_second() as f64;
    let share = seconds * 100.0 / begin.elapsed().as_secs_f64();
    drop(clients);
    tracer.finish()?;
    Ok(Row {
        what: format!("processor share of the tracer beside {OPEN} open sessions with output each second"),
        ours: format!("{share:.2} % of a core"),
        target: "≤ 0.5 %",
        reached: Some(share <= 0.5),
        ..Row::default()
    })
}

/// Throughput of an exec with a large output, with the tracer and without.
fn output(lab: &RunningLab, program: &Path) -> Result<Row> {
    let command = format!("head -c {MEGABYTES}M /dev/zero");
    let seconds = || -> Result<f64> {
        let begin = Instant::now();
        ensure!(exec(lab, &command)?.status()?.success(), "kubectl failed");
        Ok(begin.elapsed().as_secs_f64())
    };
    seconds()?;
    let mut shares = Vec::new();
    for _ in 0..RUNS {
        let without = seconds()?;
        let folder = tempfile::tempdir()?;
        let tracer = Tracer::start(program, &folder.path().join("recording.jsonl.zst"))?;
        let with = seconds()?;
        tracer.finish()?;
        shares.push(without / with);
    }
    Ok(Row {
        what: format!("throughput of an exec that outputs {MEGABYTES} MiB: with the tracer / without"),
        ours: format!("{:.3}", median(&shares)),
        spread: Some(spread(&shares)),
        target: "≥ 0.98",
        reached: Some(median(&shares) >= 0.98),
        ..Row::default()
    })
}
