//! What a tracer exports to during a measurement: a real OTLP receiver, and a scraper of its metrics.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// Longest wait for a scrape.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running receiver, and the address of the metrics. Dropping it kills the receiver.
pub(super) struct Exports {
    receiver: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    otlp: String,
    metrics: SocketAddr,
}

/// Numbers of what has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrived {
    pub(super) spans: u64,
    pub(super) logs: u64,
    pub(super) metrics: u64,
}

impl Exports {
    /// Starts `receiver`, an example of the tests.
    pub(super) fn start(receiver: &Path) -> Result<Self> {
        let mut receiver =
            Command::new(receiver).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("the OTLP receiver")?;
        let stdin = receiver.stdin.take();
        let mut stdout = BufReader::new(receiver.stdout.take().context("no pipe")?);
        let mut otlp = String::new();
        stdout.read_line(&mut otlp)?;
        ensure!(!otlp.is_empty(), "the OTLP receiver does not start");
        // A port that was free a moment ago.
        let metrics = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Ok(Self { receiver, stdin, stdout, otlp: otlp.trim_end().to_owned(), metrics })
    }

    /// Arguments of a tracer that exports to these.
    pub(super) fn arguments(&self) -> Vec<String> {
        ["--metrics", &self.metrics.to_string(), "--otlp", &self.otlp].map(str::to_owned).to_vec()
    }

    /// Scrapes the metrics, as a Prometheus with exemplars does, and returns the sum of a family's series.
    pub(super) fn scrape(&self, family: &str) -> Result<f64> {
        let mut stream = TcpStream::connect(self.metrics)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: execpath\r\nAccept: application/openmetrics-text\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        sum(&answer, family).with_context(|| format!("no {family} in: {answer}"))
    }

    /// Ends the receiver. Call it after the tracer's end.
    pub(super) fn finish(mut self) -> Result<Arrived> {
        drop(self.stdin.take());
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        let numbers: Vec<u64> = line.split_whitespace().map_while(|number| number.parse().ok()).collect();
        let [spans, logs, metrics] = numbers[..] else { anyhow::bail!("the OTLP receiver printed {line:?}") };
        Ok(Arrived { spans, logs, metrics })
    }
}

impl Drop for Exports {
    fn drop(&mut self) {
        drop(self.receiver.kill());
        drop(self.receiver.wait());
    }
}

/// Sum of the series of a family, without its comments and exemplars.
fn sum(answer: &str, family: &str) -> Option<f64> {
    let values = answer.lines().filter_map(|line| {
        let rest = line.strip_prefix(family)?;
        let value = rest.starts_with([' ', '{']).then(|| rest.split(" # ").next())??;
        value.rsplit_once(' ')?.1.parse::<f64>().ok()
    });
    values.reduce(|one, other| one + other)
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn series_of_a_family_are_added() {
        let answer = "HTTP/1.1 200 OK\r\n\r\n# TYPE open gauge\nopen{kind=\"exec\"} 2\nopen{kind=\"cp\"} 3 # {id=\"7\"} 1\nopened 9\n";
        assert_eq!(sum(answer, "open"), Some(5.0));
        assert_eq!(sum(answer, "opened"), Some(9.0));
        assert_eq!(sum(answer, "ope"), None);
    }
}
