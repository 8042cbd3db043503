//! Sessions opened by one process: a load driver that speaks WebSocket.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::plan::{self, Planned};
use crate::lab::network::Host;
use crate::lab::state::State;
use crate::lab::{golang, pki};

const SOURCE: &str = include_str!("../../../../tests/lab/load/main.go");

/// Longest wait for the next session to open. The driver reports each session as it opens.
const PATIENCE: Duration = Duration::from_secs(300);

/// Characters, besides letters and digits, that need no escape in a query.
const PLAIN: &[u8] = b"-._~";

/// The load driver with all its sessions open. Dropping it kills the driver.
pub(super) struct Load {
    child: Child,
    stdin: Option<ChildStdin>,
    /// The driver's end of each session's connection.
    pub(super) addresses: BTreeMap<u32, SocketAddr>,
}

impl Load {
    /// Opens the sessions, at most `at_once` at the same time.
    pub(super) fn open(
        state: &State,
        sessions: &[Planned],
        at_once: usize,
        mut report: impl FnMut(usize),
    ) -> Result<Self> {
        let mut child = Host::Client
            .command(golang::program("load", SOURCE)?)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the load driver does not start")?;
        let mut stdin = child.stdin.take().context("a pipe")?;
        let stdout = child.stdout.take().context("a pipe")?;
        let mut load = Self { child, stdin: None, addresses: BTreeMap::new() };
        let mut requests = serde_json::to_string(&credentials(state, at_once)?)? + "\n";
        for session in sessions {
            writeln!(requests, "{}", json!({"token": session.token, "bytes": session.bytes, "path": path(session)}))?;
        }
        stdin.write_all((requests + "\n").as_bytes()).context("the load driver does not read its input")?;
        load.stdin = Some(stdin);
        let (send, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        while load.addresses.len() < sessions.len() {
            let line = match lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => bail!("the load driver opens no further session"),
                Err(RecvTimeoutError::Disconnected) => bail!("the load driver has ended; see its message above"),
            };
            let (token, address) = line.split_once(' ').context("the load driver printed no token and address")?;
            let number = plan::number_in([token]).context("the load driver printed an unknown token")?;
            load.addresses.insert(number, address.parse()?);
            report(load.addresses.len());
        }
        Ok(load)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends one byte through every session, which its process echoes.
    pub(super) fn poke(&mut self) -> Result<()> {
        Ok(self.stdin.as_mut().context("open")?.write_all(b"poke\n")?)
    }

    /// Closes every connection and waits for the driver to end.
    pub(super) fn end(mut self) -> Result<()> {
        self.stdin = None;
        let late = Instant::now() + PATIENCE;
        while Instant::now() < late {
            if let Some(status) = self.child.try_wait()? {
                anyhow::ensure!(status.success(), "the load driver failed: {status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("the load driver does not end")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The administrator's credentials from the kubeconfig.
fn credentials(state: &State, at_once: usize) -> Result<Value> {
    let file = state.kubeconfig(pki::ADMIN);
    let text = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let config: Value = serde_json::from_slice(&text)?;
    let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
    Ok(json!({
        "address": pki::API_SERVER.trim_start_matches("https://"),
        "ca": cluster["certificate-authority-data"],
        "cert": user["client-certificate-data"],
        "key": user["client-key-data"],
        "atOnce": at_once,
    }))
}

fn path(session: &Planned) -> String {
    let words = session.command().map(|word| format!("&command={}", escaped(&word))).concat();
    let Planned { pod, container, .. } = session;
    format!("/api/v1/namespaces/default/pods/{pod}/exec?container={container}&stdin=true&stdout=true{words}")
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || PLAIN.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn query_escapes_special_characters() {
        assert_eq!(escaped("a-1; >$x"), "a-1%3B%20%3E%24x");
    }
}
