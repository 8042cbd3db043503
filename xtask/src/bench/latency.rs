//! Measures the delay from the execve of a session's process, by the kernel's clock, to the arrival of the `-o jsonl`
//! line that reports the session as complete. Both clocks are boot time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use crate::lab::RunningLab;
use crate::tracer::{self, Tracer};

/// Beyond this delay, a person would notice.
const LIMIT_NS: u64 = 50_000_000;

/// Measure the delay from a process's execve to the line that reports its session.
#[derive(clap::Args)]
pub(crate) struct Latency {
    /// Number of execs.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

impl Latency {
    pub(crate) fn run(self) -> Result<()> {
        let Measured { delays, missed, records, processor_ms } = measure(&tracer::build()?, self.runs)?;
        self.report(&delays, records, processor_ms)?;
        ensure!(missed == 0, "{missed} of {} sessions were not complete", self.runs);
        let p99 = percentile(&delays, 99);
        ensure!(p99 <= LIMIT_NS, "p99 is {} ms, over {} ms", p99 / 1_000_000, LIMIT_NS / 1_000_000);
        Ok(())
    }

    fn report(&self, delays: &[u64], records: u64, processor_ms: f64) -> Result<()> {
        let ms = |percent| {
            let ns = percentile(delays, percent);
            format!("{}.{:02}", ns / 1_000_000, ns % 1_000_000 / 10_000)
        };
        let runs = u64::from(self.runs);
        let text = format!(
            "execve to line, ms: p50 {}, p90 {}, p99 {}, max {} ({} of {runs} sessions)\n\
             kernel records per session: {} (all records divided by sessions)\n\
             processor time of the tracer per session: {:.2} ms\n",
            ms(50),
            ms(90),
            ms(99),
            ms(100),
            delays.len(),
            records / runs,
            processor_ms / f64::from(self.runs),
        );
        Ok(std::io::stdout().write_all(text.as_bytes())?)
    }
}

/// Result of some execs.
pub(super) struct Measured {
    /// Nanoseconds from each execve to the arrival of the line, sorted.
    pub(super) delays: Vec<u64>,
    /// Number of sessions that were not complete.
    pub(super) missed: u32,
    /// Number of kernel records.
    pub(super) records: u64,
    /// Processor time of the tracer, in milliseconds.
    pub(super) processor_ms: f64,
}

/// Runs execs one after another, beside a tracer.
pub(super) fn measure(program: &Path, runs: u32) -> Result<Measured> {
    let lab = RunningLab::find()?;
    let folder = tempfile::tempdir()?;
    let recording = folder.path().join("recording.jsonl.zst");
    let trace = Tracer::start(program, &recording)?;
    let idle = processor_ticks(trace.pid())?;
    let mut arrivals = BTreeMap::new();
    let mut missed = 0;
    for run in 0..runs {
        match run_once(&lab, &trace, run)? {
            Some((pid, at)) => drop(arrivals.insert(pid, at)),
            None => missed += 1,
        }
    }
    let busy = processor_ticks(trace.pid())? - idle;
    let processor_ms = busy as f64 * 1e3 / rustix::param::clock_ticks_per_second() as f64;
    trace.finish()?;
    let (execs, records) = execs(&recording)?;
    let mut delays: Vec<u64> = arrivals
        .iter()
        .map(|(pid, at)| execs.get(pid).map(|exec| at.saturating_sub(*exec)).context("no execve was recorded"))
        .collect::<Result<_>>()?;
    delays.sort_unstable();
    Ok(Measured { delays, missed, records, processor_ms })
}

/// The smallest value with at least `percent` per cent of the values no larger.
pub(super) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(u64::MAX)
}

/// Runs one exec. Returns the pid of its process and the arrival time of the line.
fn run_once(lab: &RunningLab, trace: &Tracer, run: u32) -> Result<Option<(u64, u64)>> {
    let mark = format!(": bench-{}-{run}; sleep 0.2", std::process::id());
    let mut kubectl = lab.kubectl(None)?;
    kubectl.args(["exec", "web", "-c", "web", "--", "sh", "-c", &mark]);
    let mut kubectl = kubectl.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
    let mut reported = None;
    let mut read = || -> Result<()> {
        loop {
            let line = trace.next()?;
            let session = &line.value["session"];
            if session["command"][2] != mark.as_str() {
                continue;
            }
            let process =
                session["hops"].as_array().and_then(|hops| hops.last()).filter(|hop| hop["role"] == "process");
            if let (None, true, Some(process)) = (reported, session["complete"] == true, process) {
                reported = Some((process["pid"].as_u64().context("no pid")?, line.at));
            }
            if line.value["type"] == "session.closed" {
                return Ok(());
            }
        }
    };
    let result = read();
    let status = kubectl.wait()?;
    result?;
    if !status.success() {
        bail!("kubectl failed: {status}");
    }
    Ok(reported)
}

/// Time of the first execve of each process in a container, and the number of kernel records.
fn execs(recording: &Path) -> Result<(BTreeMap<u64, u64>, u64)> {
    let mut execs = BTreeMap::new();
    let mut records = 0;
    for line in BufReader::new(zstd::Decoder::new(File::open(recording)?)?).lines().skip(1) {
        let observation: Value = serde_json::from_str(&line?)?;
        records += u64::from(observation["source"] == "ebpf");
        if observation["fact"]["exec"]["watched"] == "contained" {
            let pid = observation["task"]["tgid"].as_u64().context("no pid")?;
            execs.entry(pid).or_insert(observation["at"].as_u64().context("no time")?);
        }
    }
    Ok((execs, records))
}

pub(super) fn processor_ticks(pid: u32) -> Result<u64> {
    let stat = procfs::process::Process::new(i32::try_from(pid)?)?.stat()?;
    Ok(stat.utime + stat.stime)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_are_measured_values() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!([50, 90, 99, 100].map(|percent| percentile(&hundred, percent)), [50, 90, 99, 100]);
        assert_eq!([50, 99, 100].map(|percent| percentile(&[7, 9], percent)), [7, 9, 9]);
    }
}
