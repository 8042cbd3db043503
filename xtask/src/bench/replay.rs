//! Measures the processor time and memory of `execpath replay`, on a short recording that is repeated.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use procfs::process::Process;
use rustix::process::{WaitId, WaitIdOptions, waitid};

use crate::progress::Progress;
use crate::repo::{cargo, root};
use crate::tracer;

/// The recording to repeat: one session, from its start to its end.
const RECORDING: &str = "tests/recordings/exit-3.jsonl.zst";
/// Observations of the recording that each copy has.
const OBSERVATIONS: u64 = 59;
/// Limit of processor time for a million observations.
const MAX_PROCESSOR_TIME: Duration = Duration::from_secs(2);
/// Limit of growth for ten times the observations: of processor time per observation, and of memory.
const MAX_GROWTH: f64 = 1.3;
/// Sampling interval of memory. The value is a high-water mark, so the last sample counts.
const SAMPLE: Duration = Duration::from_millis(20);

/// Measure `execpath replay` of 1,000,000 and 10,000,000 observations. Fail if the first takes 2 s or more of
/// processor time, if the second takes more than in proportion, or if memory grows with the file.
#[derive(clap::Args)]
pub(crate) struct Replay {
    /// Number of observations in the shorter recording; the longer has ten times as many.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(10_000..))]
    observations: u64,
}

struct Cost {
    observations: u64,
    bytes: u64,
    processor: Duration,
    resident: u64,
}

impl Replay {
    pub(crate) fn run(self) -> Result<()> {
        let progress = Progress::new();
        let program = tracer::build()?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("long.jsonl.zst");
        let mut costs = Vec::new();
        for observations in [self.observations, self.observations.saturating_mul(10)] {
            progress.report(format!("making a recording of {observations} observations"));
            make(observations, &file)?;
            progress.report("replaying the recording");
            costs.push(cost(&program, observations, &file)?);
        }
        report(&costs)
    }
}

fn make(observations: u64, file: &Path) -> Result<()> {
    let mut make = Command::new(cargo());
    // Recordings belong to the tracer, and xtask must build before the tracer does.
    make.args(["run", "--quiet", "--release", "--package", "execpath-tests", "--example", "workload", "--", "make"]);
    let sessions = observations.div_ceil(OBSERVATIONS);
    make.args([RECORDING, &sessions.to_string(), "1"]).arg(file).current_dir(root());
    ensure!(make.status().context("cannot start cargo")?.success(), "the command above failed");
    Ok(())
}

fn cost(program: &Path, observations: u64, file: &Path) -> Result<Cost> {
    let mut replay = Command::new(program);
    replay.arg("replay").arg(file).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = replay.spawn().context("cannot start execpath")?;
    let process = Process::new(i32::try_from(child.id())?)?;
    let mut resident = 0;
    // A zombie still has its times, but no memory: read both before the wait.
    let id = || WaitId::Pid(rustix::process::Pid::from_child(&child));
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while waitid(id(), ended)?.is_none() {
        if let Some(high) = process.status().ok().and_then(|status| status.vmhwm) {
            resident = high * 1_024;
        }
        std::thread::sleep(SAMPLE);
    }
    let stat = process.stat()?;
    let ticks = stat.utime + stat.stime;
    ensure!(child.wait()?.success(), "the replay failed");
    let seconds = ticks as f64 / procfs::ticks_per_second() as f64;
    Ok(Cost { observations, bytes: file.metadata()?.len(), processor: Duration::from_secs_f64(seconds), resident })
}

fn report(costs: &[Cost]) -> Result<()> {
    let mut text = format!("{:>13} {:>9} {:>12} {:>9}\n", "observations", "file", "processor", "memory");
    for cost in costs {
        text.push_str(&format!(
            "{:>13} {:>6} MB {:>10.2} s {:>6} MB\n",
            cost.observations,
            cost.bytes / 1_000_000,
            cost.processor.as_secs_f64(),
            cost.resident / 1_000_000
        ));
    }
    std::io::stdout().write_all(text.as_bytes())?;
    let [short, long] = costs else { return Ok(()) };
    let million = short.processor.as_secs_f64() * 1e6 / short.observations as f64;
    ensure!(
        million < MAX_PROCESSOR_TIME.as_secs_f64(),
        "a million observations take {million:.2} s, limit {MAX_PROCESSOR_TIME:?}"
    );
    let times = long.processor.as_secs_f64() / short.processor.as_secs_f64();
    ensure!(times < 10.0 * MAX_GROWTH, "ten times as many observations take {times:.1} times as long");
    let more = long.resident as f64 / short.resident as f64;
    ensure!(more < MAX_GROWTH, "ten times as many observations take {more:.1} times the memory");
    Ok(())
}
