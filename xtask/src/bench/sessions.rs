//! Measurements of a tracer beside sessions of the lab.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::exports::Exports;
use super::latency::{self, percentile, processor_ticks};
use super::table::{Row, median, spread};
use crate::lab::RunningLab;
use crate::tracer::Tracer;

/// Execs for the delay.
const EXECS: u32 = 200;
/// Open sessions, and how often and how long the tracers are measured beside them.
const OPEN: usize = 100;
/// See [`OPEN`].
const WINDOWS: usize = 5;
/// See [`OPEN`]. Metrics are scraped once in this time.
const WINDOW: Duration = Duration::from_secs(20);
/// Runs and bytes of a large output.
const RUNS: usize = 5;
/// See [`RUNS`].
const MEGABYTES: u32 = 200;

/// The delay of lines, and the tracer's processor time for a session.
pub(super) fn delays(program: &Path) -> Result<Vec<Row>> {
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

/// Share of a processor that a tracer takes beside open sessions that output a line each second; and beside the same sessions, at
/// the same time, one with metrics and OTLP.
pub(super) fn open(lab: &RunningLab, program: &Path, receiver: &Path) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let exports = Exports::start(receiver)?;
    let plain = Tracer::start(program, &folder.path().join("plain.jsonl.zst"))?;
    let exporting = Tracer::start_with(program, &folder.path().join("exporting.jsonl.zst"), &exports.arguments())?;
    let mut clients = Clients(Vec::new());
    for _ in 0..OPEN {
        clients.0.push(exec(lab, "while sleep 1; do echo .; done")?.spawn()?);
    }
    for tracer in [&plain, &exporting] {
        let mut complete = std::collections::BTreeSet::new();
        while complete.len() < OPEN {
            let line = tracer.next()?;
            if line.value["session"]["complete"] == true {
                complete.insert(line.value["session"]["id"].to_string());
            }
        }
    }
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..WINDOWS {
        let begin = Instant::now();
        let before = [processor_ticks(plain.pid())?, processor_ticks(exporting.pid())?];
        let scraped = exports.scrape("execpath_sessions_open")?;
        ensure!(scraped >= OPEN as f64, "the metrics count {scraped} open sessions of {OPEN}");
        thread::sleep(WINDOW.saturating_sub(begin.elapsed()));
        let percent = 100.0 / procfs::ticks_per_second() as f64 / begin.elapsed().as_secs_f64();
        without.push((processor_ticks(plain.pid())? - before[0]) as f64 * percent);
        with.push((processor_ticks(exporting.pid())? - before[1]) as f64 * percent);
    }
    drop(clients);
    plain.finish()?;
    exporting.finish()?;
    let arrived = exports.finish()?;
    ensure!(arrived.spans > 0 && arrived.logs > 0 && arrived.metrics > 0, "the OTLP receiver got {arrived:?}");
    let ratios: Vec<f64> = with.iter().zip(&without).map(|(with, without)| with / without).collect();
    let (share, exported, ratio) = (median(&without), median(&with), median(&ratios));
    Ok(vec![
        Row {
            what: format!("processor share of the tracer beside {OPEN} open sessions with output each second"),
            ours: format!("{share:.2} % of a core"),
            spread: Some(spread(&without)),
            target: "≤ 0.5 %",
            reached: Some(share <= 0.5),
            ..Row::default()
        },
        Row {
            what: "the same with metrics, scraped, and OTLP".into(),
            ours: format!("{exported:.2} % of a core"),
            rival: format!("without, at the same time, {share:.2} %"),
            ratio: Some(ratio),
            spread: Some(spread(&ratios)),
            target: "≤ 2",
            reached: Some(ratio <= 2.0),
        },
    ])
}

/// Throughput of an exec with a large output, with the tracer and without.
pub(super) fn output(lab: &RunningLab, program: &Path) -> Result<Vec<Row>> {
    // Busybox knows no suffix M.
    let command = format!("head -c {} /dev/zero", u64::from(MEGABYTES) << 20);
    let seconds = || -> Result<f64> {
        let begin = Instant::now();
        let ran = exec(lab, &command)?.stderr(Stdio::piped()).output()?;
        ensure!(ran.status.success(), "kubectl: {}: {}", ran.status, String::from_utf8_lossy(&ran.stderr));
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
    Ok(vec![Row {
        what: format!("throughput of an exec that outputs {MEGABYTES} MiB: with the tracer / without"),
        ours: format!("{:.3}", median(&shares)),
        spread: Some(spread(&shares)),
        target: "≥ 0.98",
        reached: Some(median(&shares) >= 0.98),
        ..Row::default()
    }])
}
