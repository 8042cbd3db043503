//! The tracer for chores: a release build, started, listened to, ended.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

/// Nothing that is waited for takes longer, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A line of `-o jsonl`, and the boot time at which it was there.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) at: u64,
    pub(crate) value: Value,
}

/// `execpath trace -o jsonl …` that runs; killed at the latest when this goes.
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

/// Builds execpath as it is shipped, and tells where it is.
pub(crate) fn build() -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
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
    /// Starts one; it watches by the time this returns.
    pub(crate) fn start(program: &Path, recording: &Path) -> Result<Self> {
        Self::start_with(program, recording, &[])
    }

    /// Starts one with further arguments; it watches by the time this returns.
    pub(crate) fn start_with(program: &Path, recording: &Path, arguments: &[String]) -> Result<Self> {
        let mut trace = Command::new(program);
        trace.args(["trace", "-o", "jsonl", "--record"]).arg(recording).args(arguments);
        let mut child = trace.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().context("a pipe")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for text in BufReader::new(stdout).lines() {
                let at = boot_time();
                let line = text.map_err(Into::into);
                let line = line.and_then(|text| Ok(Line { at, value: serde_json::from_str(&text)? }));
                // Nobody listens any more: the end.
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

    /// The next line.
    pub(crate) fn next(&self) -> Result<Line> {
        self.next_within(PATIENCE)?.with_context(|| format!("the tracer has nothing to say for {PATIENCE:?}"))
    }

    /// The next line, if it comes in time.
    pub(crate) fn next_within(&self, limit: Duration) -> Result<Option<Line>> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => line.map(Some),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the tracer has ended"),
        }
    }

    /// Lines until one is so.
    pub(crate) fn until(&self, mut is: impl FnMut(&Value) -> bool) -> Result<Line> {
        loop {
            let line = self.next()?;
            if is(&line.value) {
                return Ok(line);
            }
        }
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn finish(self) -> Result<()> {
        self.finish_with(|_line| Ok(()))
    }

    /// Ends it as Ctrl-C does, and hands over what it still says.
    pub(crate) fn finish_with(mut self, mut hear: impl FnMut(Line) -> Result<()>) -> Result<()> {
        // A child that was not waited for keeps its pid.
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a pid")?;
        kill_process(pid, Signal::INT)?;
        loop {
            let line = self.next()?;
            if line.value["type"] == "end" {
                break;
            }
            hear(line)?;
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
