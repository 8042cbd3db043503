//! `cargo xtask bench --check`: instruction budgets.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::callgrind::{self, instructions};
use super::workload::CROWD;
use crate::hint::hinted;
use crate::progress::Progress;
use crate::repo::root;
use crate::tracer;

/// The budgets: a name and a number of instructions on each line.
const FILE: &str = "xtask/budgets.txt";
/// Per cent by which a count may differ from its budget. A larger gain needs a new budget, else a later loss up to the old
/// one would pass.
const TOLERANCE: u64 = 5;

/// Counts all rows, and compares them with their budgets, or writes new budgets.
pub(super) fn check(write: bool) -> Result<()> {
    let progress = Progress::new();
    callgrind::install(&progress)?;
    let counts = counts(&progress)?;
    if write {
        let lines = counts.iter().fold(String::new(), |mut text, (name, count)| {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name} {count}");
            text
        });
        return Ok(fs::write(file(), lines)?);
    }
    let budgets = fs::read_to_string(file()).context(FILE)?;
    let budget = |name: &str| {
        let line = budgets.lines().filter_map(|line| line.split_once(' ')).find(|(known, _)| *known == name);
        line.and_then(|(_, count)| count.parse::<u64>().ok())
    };
    let mut over = Vec::new();
    for (name, count) in &counts {
        let budget = budget(name).with_context(|| format!("{FILE} has no budget for {name}"))?;
        let keeps = count.abs_diff(budget) * 100 <= budget * TOLERANCE;
        writeln!(
            std::io::stdout(),
            "{:6} {name}: {count} instructions, budget {budget}",
            if keeps { "ok" } else { "FAILED" }
        )?;
        over.extend((!keeps).then_some(*name));
    }
    if over.is_empty() {
        return Ok(());
    }
    Err(hinted(
        format!("more than {TOLERANCE} % from the budget: {}", over.join(", ")),
        "find the cause in a profile; `cargo xtask bench --check --write` sets new budgets",
    ))
}

fn file() -> PathBuf {
    root().join(FILE)
}

/// Instructions of each row.
fn counts(progress: &Progress) -> Result<Vec<(&'static str, u64)>> {
    progress.report("building a release");
    let program = tracer::build()?;
    progress.report("counting instructions");
    let mut replay = Command::new(program);
    // valgrind cannot run below the program's own filter of system calls.
    replay.args(["--no-sandbox", "replay", "-o", "jsonl"]).arg(root().join(CROWD));
    let counts = vec![("replay-jsonl-of-200-sessions-at-once", instructions(&replay)?)];
    ensure!(counts.iter().all(|(_, count)| *count > 0), "nothing was counted");
    Ok(counts)
}
