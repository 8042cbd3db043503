//! Scenarios: handwritten facts, and the sessions that follow from them.
//!
//! ```text
//! # Comment. Times are milliseconds since boot; `0.03` is 30 µs.
//! 10    listen  60 10.0.0.1:6443             pid, address
//! 11    exec    50 kubectl exec web          pid, arguments; `@below`, `@contained`, `@parent=40`, `@tty=pts/0` before them
//! 12    connect 50 a 10.0.0.9:1000>10.0.0.1:6443 by g1 from b
//! 12.1  accept  60 b 10.0.0.1:6443<10.0.0.9:1000
//! expect
//! session e1 exec open
//! then
//! 20    exit    70 code 0
//! expect
//! …
//! ```
//!
//! * Processes are named by pid; `812/2` is the second process with this pid.
//! * Sockets are named by a word, the same in every fact; each has its own cookie and inode. `c2=c` reuses the inode of
//!   `c`. Addresses follow the first mention of a socket: `LOCAL>REMOTE`. `%2` behind them is the second network
//!   namespace, `%0` an unknown one.
//! * `~OWN/PEER` behind name and addresses are the initial sequence numbers chosen by this end and the peer. A socket
//!   keeps them. An end that does not connect on this line counts as accepting.
//! * Ports 6443 and 16443 belong to API servers, 10250 and 20250 to kubelets ([`options`]). `listen` takes `%2` as
//!   well.
//! * `by g1` is goroutine 1, `g1!` a goroutine with a known id, `g1/7` one started by goroutine 7. Without `by`, the
//!   actor is a thread. `from NAME` is the socket from which the actor received last. `fifo … from NAME!` adds the
//!   socket's addresses, as probes do: `from NAME! LOCAL>REMOTE` at its first mention. `from NAME?` is a socket without
//!   any other fact.
//! * Containers and exec ids are words; facts contain them as 64 hexadecimal digits. `=sh` is the literal exec id `sh`,
//!   as chosen by a user.
//! * `audit-follow` is the beginning of an audit log; `audit ID USER SUBRESOURCE NS/POD/CONTAINER at TIME` is a line of
//!   the log, read at the time of the fact. `from ADDR,ADDR`, `as USER`, `code N`, `over`, `older`, `tty`, `stdin` may
//!   follow, and `-- COMMAND`. `written TIME` is the writer's own time; the default is right before reading.
//! * `unix-listen PID PATH` is of an older format; `at PATH`, `nowhere` or `by-user PATH` behind it is the result of a
//!   snapshot's verification. `bound` behind a `unix-accept`: the path is a name alone. `@userns=host`, `@userns=7`:
//!   reported by snapshots only.
//! * `ancestry PID COMM:PID:UID… [UID=NAME…]`
//! * `older since 40` is a session older than the tracer, first active 40 ms after the host's start.
//! * Sessions follow `expect` in the format of [`render`]; `then` continues with facts. Before an `expect`, time passes
//!   until no fact waits in the reorder buffer.

mod facts;
mod parser;
mod render;

use std::fmt;

use execpath::{
    correlate::Options,
    model::{Observation, Span},
};

use self::parser::Parser;
pub use self::render::{render, render_session};

/// Time between the last fact and an `expect`: a little longer than the correlator's reordering window.
pub const SETTLE: Span = Span::from_millis(6);

/// A mistake in a scenario.
#[derive(Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// Name of the file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Description of the mistake.
    pub text: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

impl std::error::Error for ScenarioError {}

/// Facts, and the sessions expected after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Facts in order of arrival.
    pub facts: Vec<Observation>,
    /// Expected sessions in the format of [`render`].
    pub expected: String,
    /// Line of the `expect`.
    pub line: usize,
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Checkpoints in order of time.
    pub checkpoints: Vec<Checkpoint>,
}

impl Scenario {
    /// All facts, in order of arrival.
    #[must_use]
    pub fn facts(&self) -> Vec<Observation> {
        self.checkpoints.iter().flat_map(|checkpoint| checkpoint.facts.clone()).collect()
    }
}

/// Parses a scenario. Another `cluster` changes every identity, so that two scenarios can be mixed: pids, ids, cookies,
/// inodes, goroutines, addresses except loopback, and ports chosen by clients.
///
/// # Errors
/// If the text has a mistake.
pub fn parse(file: &str, text: &str, cluster: u32) -> Result<Scenario, ScenarioError> {
    let mut parser = Parser::new(cluster);
    let mut checkpoints = Vec::new();
    let mut facts = Vec::new();
    let mut expected: Option<(usize, String)> = None;
    for (index, whole) in text.lines().enumerate() {
        let error = |text: String| ScenarioError { file: file.to_owned(), line: index + 1, text };
        let line = whole.trim_end();
        if line.starts_with('#') || (line.is_empty() && expected.is_none()) {
            continue;
        }
        match (line, &mut expected) {
            ("expect", None) => expected = Some((index + 1, String::new())),
            ("then", Some(_)) => {
                let (line, expected) = expected.take().ok_or_else(|| error("`then` without `expect`".to_owned()))?;
                checkpoints.push(Checkpoint { facts: std::mem::take(&mut facts), expected: clean(&expected), line });
            }
            (_, Some((_, expected))) => {
                expected.push_str(line);
                expected.push('\n');
            }
            (_, None) => facts.push(parser.fact(line).map_err(error)?),
        }
    }
    let lines = text.lines().count();
    let Some((line, expected)) = expected else {
        return Err(ScenarioError { file: file.to_owned(), line: lines, text: "no `expect` at the end".to_owned() });
    };
    checkpoints.push(Checkpoint { facts, expected: clean(&expected), line });
    Ok(Scenario { checkpoints })
}

fn clean(text: &str) -> String {
    format!("{}\n", text.trim())
}

/// Options for tracing scenarios: a second cluster uses other ports.
#[must_use]
pub fn options() -> Options {
    Options { apiserver_port: Some(16443), kubelet_port: Some(20250), ..Options::default() }
}

/// A word as 64 hexadecimal digits. Behind `=` it stays as it is: an id chosen by a user.
#[must_use]
pub fn long_id(word: &str, cluster: u32) -> String {
    if let Some(chosen) = word.strip_prefix('=') {
        return chosen.to_owned();
    }
    let hex: String =
        word.bytes().chain([b'-', u8::try_from(cluster).unwrap_or(0)]).map(|b| format!("{b:02x}")).collect();
    format!("{hex:0<64}").chars().take(64).collect()
}

/// The word of an id made by [`long_id`].
#[must_use]
pub fn short_id(id: &str) -> String {
    if id.len() != 64 {
        return format!("={id}");
    }
    let bytes = (0..id.len() / 2).filter_map(|at| u8::from_str_radix(id.get(2 * at..2 * at + 2)?, 16).ok());
    let text: String = bytes.take_while(|byte| *byte != b'-').map(char::from).collect();
    if text.is_empty() { id.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::{parser::nanoseconds, *};

    #[test]
    fn parse_errors_name_file_and_line() {
        for (text, line, message) in [
            ("x exec 1 sh\n", 1, "a line begins with a time in milliseconds, not `x`"),
            ("# c\n\n1 dance 2\n", 3, "there is no fact `dance`"),
            ("1 exit 2 code 0 0\n", 1, "`0` is too much"),
            ("1 accept 2 a\n", 1, "`a` has no addresses yet: LOCAL>REMOTE"),
            ("1 close a\n", 1, "no socket `a` so far"),
            ("1 accept 2 a 10.0.0.1:1>10.0.0.2:2 ~7\n", 1, "sequence numbers are `~OWN/PEER`, not `~7`"),
            ("1 exec 5\n", 1, "arguments are missing"),
            ("1 tick\n", 1, "no `expect` at the end"),
        ] {
            let error = parse("s.txt", text, 0).unwrap_err();
            assert_eq!(error.to_string(), format!("s.txt:{line}: {message}"), "{text}");
        }
    }

    #[test]
    fn times_are_milliseconds_with_fraction() {
        assert_eq!(nanoseconds("10"), Ok(10_000_000));
        assert_eq!(nanoseconds("0.03"), Ok(30_000));
        assert!(nanoseconds("1.0000001").is_err() && nanoseconds(".1").is_err() && nanoseconds("-1").is_err());
    }

    #[test]
    fn ids_convert_to_words_and_back() {
        assert_eq!(long_id("web", 0).len(), 64);
        assert_ne!(long_id("web", 0), long_id("web", 1));
        assert_eq!(short_id(&long_id("web", 3)), "web");
    }
}
