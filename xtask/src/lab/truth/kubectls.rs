//! Sessions opened by real kubectls.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::plan::Planned;
use crate::hint::hinted;

/// Longest time for a session to open or end, even if many do so at once on a small machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Interval between checks if a kubectl has ended.
const POLL: Duration = Duration::from_millis(5);

/// A kubectl with all its bytes delivered to the process. Dropping it kills the kubectl.
pub(super) struct Kubectl {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Kubectl {
    /// Opens a session. Returns when its process reports that it has received all bytes.
    pub(super) fn open(mut command: Command, session: &Planned) -> Result<Self> {
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
                let output = kubectl.error_output();
                return Err(hinted(format!("{} does not open: {output}", session.token), "see the kubelet's log"));
            }
            Err(RecvTimeoutError::Timeout) => bail!("{} does not open within {PATIENCE:?}", session.token),
        }
        Ok(kubectl)
    }

    fn error_output(&mut self) -> String {
        drop(self.child.kill());
        let mut output = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            drop(stderr.read_to_string(&mut output));
        }
        output.trim().to_owned()
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one byte, which the session's process echoes.
    pub(super) fn poke(&mut self) -> Result<()> {
        Ok(self.stdin.as_mut().context("open")?.write_all(b"\n")?)
    }

    /// Closes stdin: first the session's process ends, then kubectl.
    pub(super) fn close(&mut self) {
        self.stdin = None;
    }

    /// Waits for the end of kubectl.
    pub(super) fn end(mut self) -> Result<()> {
        self.close();
        let late = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                if !status.success() {
                    bail!("kubectl failed: {status}: {}", self.error_output());
                }
                return Ok(());
            }
            if Instant::now() > late {
                bail!("kubectl, pid {}, does not end within {PATIENCE:?}", self.pid());
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Kubectl {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
