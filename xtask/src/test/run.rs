//! Running a command with its output in a log, and no longer than it may take.

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

/// How often is looked whether it has ended.
const POLL: Duration = Duration::from_millis(50);

/// Whether it succeeded. What it prints is appended to the log. After the deadline it is killed, with all that it started
/// and that is still its descendant.
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
                // One that has ended meanwhile needs no signal.
                let _ended = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
            }
            child.wait()?;
            writeln!(output, "killed: it took too long")?;
            return Ok(false);
        }
        thread::sleep(POLL);
    }
}

/// A process and what it started, itself first.
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
    fn output_is_kept_and_success_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = dir.path().join("log");
        let deadline = Instant::now() + Duration::from_secs(60);
        assert!(logged(Command::new("sh").args(["-c", "echo out; echo err >&2"]), &log, deadline).expect("sh runs"));
        assert!(!logged(Command::new("sh").args(["-c", "exit 3"]), &log, deadline).expect("sh runs"));
        let text = std::fs::read_to_string(&log).expect("the log");
        assert!(text.contains("\nout\nerr\n"), "{text}");
    }

    #[test]
    fn what_is_stuck_is_ended_with_its_children() {
        let dir = tempfile::tempdir().expect("a directory");
        let start = Instant::now();
        let deadline = start + Duration::from_millis(300);
        let mut stuck = Command::new("sh");
        assert!(!logged(stuck.args(["-c", "sleep 1000; true"]), &dir.path().join("log"), deadline).expect("sh runs"));
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
