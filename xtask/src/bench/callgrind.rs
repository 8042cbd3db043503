//! Counts instructions with valgrind. Unlike times, the counts hardly depend on the machine and its load.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::apt;
use crate::progress::Progress;
use crate::tools::{command, find, shown};

/// Line of callgrind's report before the number of instructions.
const COLLECTED: &str = "Collected :";

/// Installs valgrind if missing.
pub(super) fn install(progress: &Progress) -> Result<()> {
    if find("valgrind").is_some() { Ok(()) } else { apt::install(&["valgrind"], progress) }
}

/// Runs a program to its end and returns the number of its instructions in user space.
pub(super) fn instructions(program: &Command) -> Result<u64> {
    let mut counted = command("valgrind");
    counted.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    counted.arg(program.get_program()).args(program.get_args()).stdout(Stdio::null());
    let output = counted.output().with_context(|| format!("cannot start {}", shown(&counted)))?;
    let report = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}: {report}", shown(&counted), output.status);
    collected(&report).with_context(|| format!("valgrind reports no count: {report}"))
}

fn collected(report: &str) -> Option<u64> {
    let (_, count) = report.lines().find_map(|line| line.split_once(COLLECTED))?;
    count.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::collected;

    #[test]
    fn count_is_found_in_the_report() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 963385489\n==7== \n"), Some(963_385_489));
        assert_eq!(collected("==7== Process terminating with default action of signal 11\n"), None);
    }
}
