//! Sessions opened by real kubectls.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::plan::Planned;
use crate::hint::hinted;
use crate::lab::process::Process;
use crate::tracer::boot_time;

/// Longest time for a session to open or end, even if many do so at once on a small machine.
pub(in crate::lab) const PATIENCE: Duration = Duration::from_secs(120);

/// End of a kubectl.
#[derive(Debug)]
pub(in crate::lab) struct Ended {
    pub(in crate::lab) status: ExitStatus,
    /// Nanoseconds since boot.
    pub(in crate::lab) at: u64,
    /// What it printed to standard error.
    pub(in crate::lab) said: String,
}

/// A kubectl with all its bytes delivered to the process. Dropping it kills the kubectl.
pub(in crate::lab) struct Kubectl {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Kubectl {
    /// Starts a kubectl without input. Its output is discarded.
    pub(in crate::lab) fn start(mut command: Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        Ok(Self { child, stdin: None })
    }

    /// Opens a session. Returns when its process reports that it has received all bytes.
    pub(in crate::lab) fn open(mut command: Command, session: &Planned) -> Result<Self> {
        command.args(["exec", "-i", session.pod, "-c", session.container, "--"]).args(session.command());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("a pipe")?;
        let mut stdout = BufReader::new(child.stdout.take().context("a pipe")?);
        let (send, done) = channel();
        let bytes = usize::try_from(session.bytes)?;
        // Use a thread: kubectl may block in either direction. On a time-out the kubectl is killed, which ends the
        // thread.
        std::thread::spawn(move || {
            let mut line = String::new();
            let output = stdin.write_all(&vec![0; bytes]).and_then(|()| stdout.read_line(&mut line));
            let over = output.map(|_length| line == "done\n").unwrap_or(false);
            // An error means that the receiver has given up.
            drop(send.send(over.then_some(stdin)));
            // Drain later output, so that kubectl never waits for a reader.
            drop(std::io::copy(&mut stdout, &mut std::io::sink()));
        });
        let mut kubectl = Self { child, stdin: None };
        match done.recv_timeout(PATIENCE) {
            Ok(Some(stdin)) => kubectl.stdin = Some(stdin),
            Ok(None) | Err(RecvTimeoutError::Disconnected) => {
                drop(kubectl.kill());
                let output = kubectl.error_output();
                return Err(hinted(format!("{} does not open: {output}", session.token), "see the kubelet's log"));
            }
            Err(RecvTimeoutError::Timeout) => bail!("{} does not open within {PATIENCE:?}", session.token),
        }
        Ok(kubectl)
    }

    /// What kubectl printed to standard error, after its end.
    fn error_output(&mut self) -> String {
        let mut output = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            drop(stderr.read_to_string(&mut output));
        }
        output.trim().to_owned()
    }

    pub(in crate::lab) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one byte, which the session's process echoes.
    pub(in crate::lab) fn poke(&mut self) -> Result<()> {
        Ok(self.stdin.as_mut().context("open")?.write_all(b"\n")?)
    }

    /// Closes stdin: first the session's process ends, then kubectl.
    pub(in crate::lab) fn close(&mut self) {
        self.stdin = None;
    }

    /// Closes stdin, and waits for the end of kubectl.
    pub(in crate::lab) fn end(mut self) -> Result<()> {
        self.close();
        let ended = self.wait(PATIENCE)?;
        ensure!(ended.status.success(), "kubectl failed: {}: {}", ended.status, ended.said);
        Ok(())
    }

    /// Waits until kubectl has ended, at most so long.
    pub(in crate::lab) fn wait(&mut self, patience: Duration) -> Result<Ended> {
        let pid = self.pid();
        let is_over = Process::of(i32::try_from(pid)?)?.wait(patience)?;
        let at = boot_time();
        ensure!(is_over, "kubectl, pid {pid}, does not end within {patience:?}");
        let status = self.child.wait()?;
        Ok(Ended { status, at, said: self.error_output() })
    }

    /// Kills kubectl, so that it cannot take leave.
    pub(in crate::lab) fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill()?)
    }
}

impl Drop for Kubectl {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
