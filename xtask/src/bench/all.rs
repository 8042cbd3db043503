//! `cargo xtask bench all`: all measurements, side by side with what people would use instead.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::callgrind::{self, instructions};
use super::ls::Ls;
use super::table::{self, Row, median, spread};
use super::workload::{self, CROWD, Workload};
use super::{hooks, live, sessions, strangers};
use crate::lab::RunningLab;
use crate::progress::Progress;
use crate::repo::root;
use crate::tools::{find, run};
use crate::{apt, browser, tracer};

/// Measure everything, print the table, and write it to docs/performance.md. Rows that need the lab are left out
/// without one.
#[derive(clap::Args)]
pub(crate) struct All {
    /// Measure only the parts with these names: replay, correlate, ls, live, hooks, strangers, page, delay, output, open.
    /// Print the rows, and write nothing.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
}

/// Programs of the rivals, with their packages.
const NEEDS: [(&str, &str); 4] = [("jq", "jq"), ("ss", "iproute2"), ("ps", "procps"), ("zstd", "zstd")];

impl All {
    pub(crate) fn run(self) -> Result<()> {
        let progress = Progress::new();
        callgrind::install(&progress)?;
        let missing: Vec<&str> =
            NEEDS.iter().filter(|(tool, _)| find(tool).is_none()).map(|(_, package)| *package).collect();
        apt::install(&missing, &progress)?;
        progress.report("building releases");
        let program = tracer::build()?;
        let workload = Workload::build()?;
        let receiver = workload::example("receiver")?;
        let (mut rows, mut failed) = (Vec::new(), Vec::new());
        // A part that fails does not take the rows of the others with it.
        let mut part = |name: &str, measure: &dyn Fn() -> Result<Vec<Row>>| {
            if self.only.is_empty() || self.only.iter().any(|only| only == name) {
                progress.report(format!("measuring: {name}"));
                match measure() {
                    Ok(measured) => rows.extend(measured),
                    Err(error) => failed.push(format!("part {name}: {error:#}")),
                }
            }
        };
        part("replay", &|| replay(&program, &workload));
        part("correlate", &|| correlate(&workload));
        part("ls", &|| lists(&program, &progress));
        part("live", &|| live::rows(&program));
        part("hooks", &|| hooks::rows(&program, &progress));
        part("strangers", &|| strangers::rows(&program, &progress));
        part("page", &|| page(&progress));
        if let Ok(lab) = RunningLab::find() {
            part("delay", &|| sessions::delays(&program));
            part("output", &|| sessions::output(&lab, &program));
            part("open", &|| sessions::open(&lab, &program, &receiver));
        } else {
            progress.report("no lab is up: its rows are left out (`cargo xtask lab up`)");
        }
        let text = table::markdown(&rows);
        std::io::stdout().write_all(text.as_bytes())?;
        ensure!(failed.is_empty(), "{}", failed.join("\n"));
        if self.only.is_empty() { table::write(&root(), &text) } else { Ok(()) }
    }
}

fn whole(value: u64) -> String {
    let digits = value.to_string();
    let first = digits.len() % 3;
    let groups = digits.as_bytes()[first..].chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let groups: Vec<String> =
        Some(digits[..first].to_owned()).filter(|head| !head.is_empty()).into_iter().chain(groups).collect();
    groups.join(",")
}

/// `replay -o jsonl` against `jq -c .`: instructions for 200 sessions at once, and times for a long recording.
fn replay(program: &Path, workload: &Workload) -> Result<Vec<Row>> {
    let folder = tempfile::tempdir()?;
    let plain = folder.path().join("crowd.jsonl");
    unpack(&root().join(CROWD), &plain)?;
    let observations = std::fs::read_to_string(&plain)?.lines().count() as u64 - 1;
    // valgrind cannot run below the program's own filter of system calls.
    let mut counted = Command::new(program);
    let own = instructions(counted.args(["--no-sandbox", "replay", "-o", "jsonl"]).arg(&plain))? / observations;
    let jq = instructions(Command::new("jq").args(["-c", "."]).arg(&plain))? / observations;
    let ratio = own as f64 / jq as f64;
    let counted = Row {
        what: "`replay -o jsonl` of 200 sessions at once: instructions per observation".into(),
        ours: whole(own),
        rival: format!("`jq -c .` {}", whole(jq)),
        ratio: Some(ratio),
        target: "≤ 8,000; ≤ 0.1",
        reached: Some(own <= 8_000 && ratio <= 0.1),
        ..Row::default()
    };
    let packed = workload.make(4_000, 1, folder.path())?;
    let long = folder.path().join("long.jsonl");
    unpack(packed.file(), &long)?;
    let (mut own, mut jq, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..5 {
        let one = processor_time(Command::new(program).arg("replay").arg(&long).args(["-o", "jsonl"]))?;
        let other = processor_time(Command::new("jq").args(["-c", "."]).arg(&long))?;
        own.push(one);
        jq.push(other);
        ratios.push(one / other);
    }
    let megabytes = long.metadata()?.len() as f64 / 1e6;
    let timed = Row {
        what: format!("replay of {megabytes:.0} MB, sessions one after another: processor time"),
        ours: format!("{:.2} s", median(&own)),
        rival: format!("`jq -c .` {:.2} s", median(&jq)),
        ratio: Some(median(&ratios)),
        spread: Some(spread(&ratios)),
        target: "≤ 0.1",
        reached: Some(median(&ratios) <= 0.1),
    };
    Ok(vec![counted, timed])
}

fn unpack(packed: &Path, plain: &Path) -> Result<()> {
    std::io::copy(&mut zstd::Decoder::new(File::open(packed)?)?, &mut File::create(plain)?)?;
    Ok(())
}

/// Processor time of a program in seconds, without its output.
fn processor_time(program: &mut Command) -> Result<f64> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let mut child = program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    // A zombie still has its times.
    let id = WaitId::Pid(rustix::process::Pid::from_child(&child));
    waitid(id, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let stat = procfs::process::Process::new(i32::try_from(child.id())?)?.stat()?;
    ensure!(child.wait()?.success(), "{} failed", crate::tools::shown(program));
    Ok((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

/// The correlator alone. The counts of long runs include the table growth of the first minute.
fn correlate(workload: &Workload) -> Result<Vec<Row>> {
    const LIMIT: u64 = 3_000;
    const FLAT: f64 = 0.2;
    let folder = tempfile::tempdir()?;
    let mut rows = Vec::new();
    let mut base = None;
    for (sessions, at_once) in [(1_000, 1), (1_000, 200), (2_000, 2_000), (10_000, 1), (10_000, 200)] {
        let count = workload.correlate(&workload.make(sessions, at_once, folder.path())?)?;
        let base = *base.get_or_insert(count);
        let ratio = count as f64 / base as f64;
        rows.push(Row {
            what: format!(
                "correlator alone, {} at once, {} in all: instructions per observation",
                whole(at_once),
                whole(sessions)
            ),
            ours: whole(count),
            rival: format!("1 at once {}", whole(base)),
            ratio: Some(ratio),
            target: "≤ 3,000; 0.8 to 1.2",
            reached: Some(count <= LIMIT && (ratio - 1.0).abs() <= FLAT),
            ..Row::default()
        });
    }
    Ok(rows)
}

/// `ls` against the usual commands.
fn lists(program: &Path, progress: &Progress) -> Result<Vec<Row>> {
    let rows = [(100, 20, "≤ 1.0", 1.0), (10_000, 1_000, "≤ 0.15", 0.15), (50_000, 2_000, "≤ 0.07", 0.07)];
    rows.into_iter()
        .map(|(sockets, processes, target, limit)| {
            let (own, others) = Ls::measured(sockets, processes, program, progress)?;
            let milliseconds = |times: &[Duration]| times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
            let (own, others): (Vec<f64>, Vec<f64>) = (milliseconds(&own), milliseconds(&others));
            let ratios: Vec<f64> = own.iter().zip(&others).map(|(own, other)| own / other).collect();
            let ratio = median(&own) / median(&others);
            Ok(Row {
                what: format!("`ls` with {} sockets", whole(sockets as u64)),
                ours: format!("{:.0} ms", median(&own)),
                rival: format!("`ss -tanpi; ss -xap; ps -efww` {:.0} ms", median(&others)),
                ratio: Some(ratio),
                spread: Some(spread(&ratios)),
                target,
                reached: Some(ratio <= limit),
            })
        })
        .collect()
}

/// The page of 5,000 sessions in headless Chromium.
fn page(progress: &Progress) -> Result<Vec<Row>> {
    let printed = run(browser::node(progress)?.arg("time.mjs"))?;
    let runs = printed.lines().filter_map(|line| line.split_once(' '));
    let number = |text: &str| text.trim().parse::<f64>().unwrap_or(f64::NAN);
    let (opened, filtered): (Vec<f64>, Vec<f64>) = runs.map(|(one, other)| (number(one), number(other))).unzip();
    ensure!(!opened.is_empty(), "the browser measured nothing: {printed}");
    let row = |what: &str, times: &[f64]| Row {
        what: what.to_owned(),
        ours: format!("{:.0} ms", median(times)),
        spread: Some(spread(times)),
        target: "≤ 1,000 ms",
        reached: Some(median(times) <= 1_000.0),
        ..Row::default()
    };
    Ok(vec![
        row("HTML page of 5,000 sessions: opens", &opened),
        row("HTML page of 5,000 sessions: filters, slowest of four filters", &filtered),
    ])
}

#[cfg(test)]
mod tests {
    use super::whole;

    #[test]
    fn numbers_have_groups_of_three_digits() {
        assert_eq!([0, 999, 1_000, 54_300, 1_234_567].map(whole), ["0", "999", "1,000", "54,300", "1,234,567"]);
    }
}
