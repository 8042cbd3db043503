//! Sessions by real kubectls.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::plan::Planned;
use crate::hint::hinted;

/// What a session may take to open or to end, also when many do so at once on a small machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// How often is looked whether a kubectl has ended.
const POLL: Duration = Duration::from_millis(5);

/// A kubectl whose process has got all its bytes; killed at the latest when this goes.
pub(super) struct Kubectl {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Kubectl {
    /// Opens a session, and returns when its process says that it has all that it was sent.
    pub(super) fn open(mut command: Command, session: &Planned) -> Result<Self> {
        command.args(["exec", "-i", session.pod, "-c", session.container, "--"]).args(session.command());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("a pipe")?;
        let mut stdout = BufReader::new(child.stdout.take().context("a pipe")?);
        let (send, done) = channel();
        let bytes = usize::try_from(session.bytes)?;
        // It may be stuck in either direction: then this thread is, and its kubectl is killed.
        std::thread::spawn(move || {
            let mut line = String::new();
            let said = stdin.write_all(&vec![0; bytes]).and_then(|()| stdout.read_line(&mut line));
            let over = said.map(|_length| line == "done\n").unwrap_or(false);
            // Nobody waits any more: too late.
            drop(send.send(over.then_some(stdin)));
            // What it says later is taken, so that it never waits for a reader.
            drop(std::io::copy(&mut stdout, &mut std::io::sink()));
        });
        let mut kubectl = Self { child, stdin: None };
        match done.recv_timeout(PATIENCE) {
            Ok(Some(stdin)) => kubectl.stdin = Some(stdin),
            Ok(None) | Err(RecvTimeoutError::Disconnected) => {
                let said = kubectl.complaint();
                return Err(hinted(format!("{} does not open: {said}", session.token), "the kubelet's log says more"));
            }
            Err(RecvTimeoutError::Timeout) => bail!("{} does not open within {PATIENCE:?}", session.token),
        }
        Ok(kubectl)
    }

    fn complaint(&mut self) -> String {
        drop(self.child.kill());
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            drop(stderr.read_to_string(&mut said));
        }
        said.trim().to_owned()
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A byte for its process to answer to.
    pub(super) fn poke(&mut self) -> Result<()> {
        Ok(self.stdin.as_mut().context("open")?.write_all(b"\n")?)
    }

    /// Ends its stdin: its process follows, and then itself.
    pub(super) fn close(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end.
    pub(super) fn end(mut self) -> Result<()> {
        self.close();
        let late = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                if !status.success() {
                    bail!("kubectl failed: {status}: {}", self.complaint());
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
