//! Measurements of a running tracer without a cluster: its start, its memory, its size.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use procfs::process::Process;

use super::table::{Row, median, spread};
use crate::tracer::Tracer;

/// Runs of each start.
const RUNS: usize = 7;

/// Rows for the start, the memory and the size of execpath.
pub(super) fn rows(program: &Path) -> Result<Vec<Row>> {
    let size = program.metadata()?.len() as f64 / 1e6;
    let (mut starts, mut lists) = (Vec::new(), Vec::new());
    let mut memory = Memory::default();
    for _ in 0..RUNS {
        let folder = tempfile::tempdir()?;
        let begin = Instant::now();
        let tracer = Tracer::start(program, &folder.path().join("recording.jsonl.zst"))?;
        starts.push(begin.elapsed().as_secs_f64() * 1e3);
        memory = Memory::of(tracer.pid())?;
        tracer.finish()?;
        let begin = Instant::now();
        let status = Command::new(program).arg("ls").stdin(Stdio::null()).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "ls: {status}");
        lists.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    let milliseconds = |what: &str, times: &[f64]| Row {
        what: what.to_owned(),
        ours: format!("{:.0} ms", median(times)),
        spread: Some(spread(times)),
        target: "≤ 150 ms",
        reached: Some(median(times) <= 150.0),
        ..Row::default()
    };
    let megabytes = |what: &str, value: f64, target: &'static str, limit: f64| Row {
        what: what.to_owned(),
        ours: format!("{value:.1} MB"),
        target,
        reached: Some(value <= limit),
        ..Row::default()
    };
    Ok(vec![
        milliseconds("`trace`: start to attached", &starts),
        milliseconds("`ls`: start to end", &lists),
        megabytes("resident memory of an idle `trace`", memory.resident, "≤ 30 MB", 30.0),
        megabytes("its BPF maps", memory.maps, "≤ 8 MB", 8.0),
        megabytes("program, stripped", size, "≤ 9 MB", 9.0),
    ])
}

/// Memory of a tracer, in megabytes.
#[derive(Default)]
struct Memory {
    resident: f64,
    maps: f64,
}

impl Memory {
    fn of(pid: u32) -> Result<Self> {
        let process = Process::new(i32::try_from(pid)?)?;
        let resident = process.status()?.vmrss.context("no resident memory")? as f64 * 1_024.0 / 1e6;
        let mut maps = std::collections::BTreeMap::new();
        for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
            // The descriptor may be closed by now.
            let Ok(text) = fs::read_to_string(file?.path()) else { continue };
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
            if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
                maps.insert(id, bytes);
            }
        }
        Ok(Self { resident, maps: maps.values().sum::<u64>() as f64 / 1e6 })
    }
}
