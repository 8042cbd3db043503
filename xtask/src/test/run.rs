//! Runs a command with its output in a log and with a deadline.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::tools::shown;

/// Interval between checks if the command has ended.
const POLL: Duration = Duration::from_millis(50);

/// Runs a command and returns true if it succeeds. Its output is appended to the log. After the deadline, the command
/// is killed with all its descendants.
pub(super) fn logged(command: &mut Command, log: &Path, deadline: Instant) -> Result<bool> {
    let mut output =
        OpenOptions::new().append(true).create(true).open(log).with_context(|| log.display().to_string())?;
    writeln!(output, "$ {}", shown(command))?;
    command.stdout(output.try_clone()?).stderr(output.try_clone()?);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", shown(command)))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() > deadline {
            for pid in descendants(child.id().try_into()?) {
                // A process that has ended by now needs no signal.
                let _ended = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
            }
            child.wait()?;
            writeln!(output, "killed: deadline exceeded")?;
            return Ok(false);
        }
        thread::sleep(POLL);
    }
}

/// A process and its descendants, the process first.
fn descendants(pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    let mut known = BTreeSet::from([pid]);
    let stats: Vec<_> = procfs::process::all_processes()
        .map(|all| all.flatten().filter_map(|process| process.stat().ok()).collect())
        .unwrap_or_default();
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        at += 1;
        found.extend(stats.iter().filter(|stat| stat.ppid == parent && known.insert(stat.pid)).map(|stat| stat.pid));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::{Duration, Instant};

    use super::logged;

    #[test]
    fn output_is_logged_and_success_returned() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let log = dir.path().join("log");
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(logged(Command::new("sh").args(["-c", "echo out; echo err >&2"]), &log, deadline).expect("sh runs"));
        assert!(!logged(Command::new("sh").args(["-c", "exit 3"]), &log, deadline).expect("sh runs"));
        let text = std::fs::read_to_string(&log).expect("log is readable");
        assert!(text.contains("\nout\nerr\n"), "{text}");
    }

    #[test]
    fn stuck_command_is_killed_with_children() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let start = Instant::now();
        let deadline = start + Duration::from_millis(300);
        let mut stuck = Command::new("sh");
        assert!(!logged(stuck.args(["-c", "sleep 1000; true"]), &dir.path().join("log"), deadline).expect("sh runs"));
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
