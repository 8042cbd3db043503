//! Run time of the tracer's BPF programs for processes that are not on the path, above empty programs at the same hooks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::strangers;
use super::table::Row;
use crate::apt;
use crate::progress::Progress;
use crate::tools::{command, find, run};
use crate::tracer::Tracer;

/// The kernel measures each run of each program while this is 1.
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";
/// Runs below this number give no stable mean.
const ENOUGH: u64 = 1_000;
/// Longest name of a BPF program without BTF (include/uapi/linux/bpf.h: BPF_OBJ_NAME_LEN). bpftrace's programs have none.
const NAME: usize = 15;

/// Limits above an empty program, in nanoseconds.
const LIMIT: f64 = 60.0;
/// See [`LIMIT`].
const LIMIT_EXEC: f64 = 150.0;

/// Programs of one process by name: number of runs, total run time in nanoseconds.
type Costs = BTreeMap<String, (u64, u64)>;

/// Measures the hooks during the work of strangers.
pub(super) fn rows(program: &Path, progress: &Progress) -> Result<Vec<Row>> {
    let missing: Vec<&str> = ["bpftool", "bpftrace"].into_iter().filter(|tool| find(tool).is_none()).collect();
    apt::install(&missing, progress)?;
    let _stats = Stats::enable()?;
    let folder = tempfile::tempdir()?;
    let tracer = Tracer::start(program, &folder.path().join("recording.jsonl.zst"))?;
    let own = costs(tracer.pid())?;
    let empty = Empty::attach(own.keys())?;
    let (own_before, empty_before) = (costs(tracer.pid())?, costs(empty.0.id())?);
    strangers::work()?;
    let own = since(costs(tracer.pid())?, &own_before);
    let empty = since(costs(empty.0.id())?, &empty_before);
    tracer.finish()?;
    let mean = |(runs, time): &(u64, u64)| *time as f64 / *runs as f64;
    let rows = own.iter().filter(|(_, (runs, _))| *runs >= ENOUGH).map(|(name, cost)| {
        let base = empty.get(name).or_else(|| empty.get(cut(name))).filter(|(runs, _)| *runs >= ENOUGH).map(mean);
        let above = base.map(|base| mean(cost) - base);
        let (target, limit) =
            if name == "sched_process_exec" { ("≤ 150 ns", LIMIT_EXEC) } else { ("≤ 60 ns", LIMIT) };
        Row {
            what: format!("hook `{name}`, off the path, above an empty program"),
            ours: above.map_or_else(|| "no empty program".to_owned(), |above| format!("{above:.0} ns")),
            rival: format!("in all {:.0} ns, empty {:.0} ns", mean(cost), base.unwrap_or(f64::NAN)),
            target,
            reached: above.map(|above| above <= limit),
            ..Row::default()
        }
    });
    Ok(rows.collect())
}

/// Switches the kernel's measurement on until this is dropped.
struct Stats(String);

impl Stats {
    fn enable() -> Result<Self> {
        let before = fs::read_to_string(STATS).context(STATS)?;
        fs::write(STATS, "1").context(STATS)?;
        Ok(Self(before))
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        drop(fs::write(STATS, &self.0));
    }
}

/// Empty programs at hooks, by bpftrace.
struct Empty(Child);

impl Empty {
    fn attach<'a>(names: impl Iterator<Item = &'a String>) -> Result<Self> {
        let known = run(command("bpftrace").arg("-l"))?;
        let hooks: Vec<String> = names
            .filter_map(|name| {
                let is_hook = |line: &&str| {
                    line.rsplit(':')
                        .next()
                        .is_some_and(|hook| hook == name || (name.len() == NAME && cut(hook) == name))
                };
                let mut hooks = known.lines().filter(is_hook);
                hooks.find(|line| line.starts_with("tracepoint:syscalls:") || line.starts_with("rawtracepoint:"))
            })
            .map(|hook| format!("{hook} {{}}"))
            .collect();
        ensure!(!hooks.is_empty(), "bpftrace knows no hook of the tracer");
        let mut bpftrace = Command::new("bpftrace");
        bpftrace.args(["-e", &hooks.join(" ")]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut empty = Self(bpftrace.spawn().context("cannot start bpftrace")?);
        while costs(empty.0.id())?.len() < hooks.len() {
            ensure!(empty.0.try_wait()?.is_none(), "bpftrace cannot attach empty programs");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(empty)
    }
}

impl Drop for Empty {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Costs of the BPF programs that a process holds.
fn costs(pid: u32) -> Result<Costs> {
    let mut ids = Vec::new();
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // The descriptor may be closed by now.
        let text = fs::read_to_string(file?.path()).unwrap_or_default();
        ids.extend(text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse::<u64>().ok()));
    }
    let programs: Value = serde_json::from_str(&run(command("bpftool").args(["-j", "prog", "show"]))?)?;
    let programs = programs.as_array().context("bpftool lists no programs")?;
    let of_pid = programs.iter().filter(|program| program["id"].as_u64().is_some_and(|id| ids.contains(&id)));
    let number = |program: &Value, field: &str| program[field].as_u64().unwrap_or_default();
    Ok(of_pid
        .filter_map(|program| {
            let cost = (number(program, "run_cnt"), number(program, "run_time_ns"));
            Some((program["name"].as_str()?.to_owned(), cost))
        })
        .collect())
}

fn cut(name: &str) -> &str {
    name.get(..NAME).unwrap_or(name)
}

fn since(mut costs: Costs, before: &Costs) -> Costs {
    for (name, (runs, time)) in &mut costs {
        let (runs_before, time_before) = before.get(name).copied().unwrap_or_default();
        (*runs, *time) = (runs.saturating_sub(runs_before), time.saturating_sub(time_before));
    }
    costs
}
