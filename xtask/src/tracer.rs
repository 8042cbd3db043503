//! Runs the tracer for tasks: builds a release, starts it, reads its lines and stops it.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

use crate::repo::cargo;
use crate::tools::command;

/// Longest wait for any event, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A line of `-o jsonl`, and the boot time of its arrival in nanoseconds.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) at: u64,
    pub(crate) value: Value,
}

/// A running `execpath trace -o jsonl …`. Dropping it kills the tracer.
pub(crate) struct Tracer {
    child: Child,
    lines: Receiver<Result<Line>>,
    ended: bool,
}

/// Nanoseconds since boot.
pub(crate) fn boot_time() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Builds a release of execpath and returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    let mut cargo = command(cargo());
    cargo.args(["build", "--quiet", "--release", "--package", "execpath", "--message-format=json"]);
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "execpath cannot be built");
    let messages = String::from_utf8(output.stdout)?;
    let mut executables = messages.lines().rev().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    executables.next().context("cargo built no executable")
}

impl Tracer {
    /// Starts a tracer. Its probes are attached when this returns.
    pub(crate) fn start(program: &Path, recording: &Path) -> Result<Self> {
        Self::start_with(program, recording, &[])
    }

    /// Starts a tracer with further arguments. Its probes are attached when this returns.
    pub(crate) fn start_with(program: &Path, recording: &Path, arguments: &[String]) -> Result<Self> {
        let mut trace = Command::new(program);
        trace.args(["trace", "-o", "jsonl", "--record"]).arg(recording).args(arguments);
        let mut child = trace.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("no pipe")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for text in BufReader::new(stdout).lines() {
                let at = boot_time();
                let line = text.map_err(Into::into);
                let line = line.and_then(|text| Ok(Line { at, value: serde_json::from_str(&text)? }));
                // The receiver was dropped.
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let tracer = Self { child, lines, ended: false };
        tracer.next().context("the tracer does not start")?;
        Ok(tracer)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the next line.
    pub(crate) fn next(&self) -> Result<Line> {
        self.next_within(PATIENCE)?.with_context(|| format!("the tracer reports nothing for {PATIENCE:?}"))
    }

    /// Returns the next line, or `None` after `limit`.
    pub(crate) fn next_within(&self, limit: Duration) -> Result<Option<Line>> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => line.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the tracer has ended"),
        }
    }

    /// Reads lines until `is` holds for one, and returns it.
    pub(crate) fn until(&self, mut is: impl FnMut(&Value) -> bool) -> Result<Line> {
        loop {
            let line = self.next()?;
            if is(&line.value) {
                return Ok(line);
            }
        }
    }

    /// Stops the tracer like Ctrl-C.
    pub(crate) fn finish(self) -> Result<()> {
        self.finish_with(|_line| Ok(()))
    }

    /// Stops the tracer like Ctrl-C and passes its remaining lines to `handle`.
    pub(crate) fn finish_with(mut self, mut handle: impl FnMut(Line) -> Result<()>) -> Result<()> {
        // The pid stays valid until the child is waited for.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no pid")?;
        kill_process(pid, Signal::INT)?;
        loop {
            let line = self.next()?;
            if line.value["type"] == "end" {
                break;
            }
            handle(line)?;
        }
        let status = self.child.wait()?;
        self.ended = true;
        ensure!(status.success(), "the tracer failed: {status}");
        Ok(())
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if !self.ended {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
