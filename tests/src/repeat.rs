//! Repeats a recording: the same daemons, and in each copy new clients, processes, connections and execs, at later
//! times. The result is synthetic, but shaped like the recording.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use execpath::model::{Fact, Observation, Source, parse_fifo_path};
use serde_json::Value;

/// Distance between the cookies, inodes and goroutine ids of one copy and the next.
const STRIDE: u64 = 100_000;
/// Distance between pids; a recording of one session has some hundred.
const PIDS: u64 = 1_000;
/// Time between two copies, in nanoseconds.
const PAUSE: u64 = 1_000_000_000;
/// Time within which the copies of a round begin, in nanoseconds: less than an exec takes.
const ROUND_BEGINS: u64 = 10_000_000;
/// A clock tick, in nanoseconds.
const TICK: u64 = 10_000_000;
/// Ports that the kernel chooses for connecting sockets (ip_local_port_range).
const PORTS: std::ops::Range<u16> = 32_768..60_999;
/// Digits of an exec id that distinguish copies.
const DIGITS: usize = 12;

/// A recording to be copied.
pub struct Repeat {
    /// Observations emitted once, at the beginning.
    first: Vec<Value>,
    again: Vec<Value>,
    names: RenewedNames,
    /// Time from one copy to the next, in nanoseconds.
    period: u64,
    stopped: Option<Value>,
}

/// RenewedNames that each copy renews.
#[derive(Default)]
struct RenewedNames {
    /// Processes that started at this tick or later are renamed.
    began: u64,
    /// Cookies and inodes of connections made during the recording.
    cookies: BTreeSet<u64>,
    inodes: BTreeSet<u64>,
    /// Addresses of these connections.
    addresses: BTreeSet<SocketAddr>,
    execs: BTreeSet<String>,
}

impl Repeat {
    /// Reads the observations of a recording.
    ///
    /// # Panics
    /// If there are no observations.
    #[must_use]
    pub fn new(seen: &[Observation]) -> Self {
        let start = seen.first().expect("an observation").at;
        let end = seen.iter().map(|seen| seen.at).max().unwrap_or(start);
        let mut names = RenewedNames { began: start.0 / TICK, ..RenewedNames::default() };
        let mut older = BTreeSet::new();
        for seen in seen {
            if let Fact::SocketSeen { socket } | Fact::Listening { socket } = &seen.fact {
                older.extend(socket.id.inode);
            }
            if let Fact::FifoMade { path, .. } = &seen.fact {
                names.execs.extend(path.as_str().and_then(parse_fifo_path).map(|fifo| fifo.exec));
            }
            let (Fact::Connected { socket, .. } | Fact::Accepted { socket }) = &seen.fact else { continue };
            if socket.id.inode.is_none_or(|inode| !older.contains(&inode)) {
                names.cookies.extend(socket.id.cookie);
                names.inodes.extend(socket.id.inode);
                let ends = socket.tuple.iter().flat_map(|tuple| [tuple.local, tuple.remote]);
                names.addresses.extend(ends.filter(|end| PORTS.contains(&end.port())));
            }
        }
        let value = |seen: &Observation| serde_json::to_value(seen).expect("an observation is JSON");
        let is_first = |seen: &&Observation| seen.source == Source::Snapshot && seen.at == start;
        let is_stop = |seen: &&Observation| seen.fact == Fact::Stopped;
        Self {
            first: seen.iter().filter(is_first).map(value).collect(),
            again: seen.iter().filter(|seen| !is_first(seen) && !is_stop(seen)).map(value).collect(),
            names,
            period: end.since(start).0 + PAUSE,
            stopped: seen.iter().find(is_stop).map(value),
        }
    }

    /// Number of observations in one copy.
    #[must_use]
    pub fn len(&self) -> usize {
        self.again.len()
    }

    /// True if there is nothing to copy.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.again.is_empty()
    }

    /// JSON lines of `copies` consecutive copies.
    pub fn lines(&self, copies: u64) -> impl Iterator<Item = Value> + '_ {
        let copied = (0..copies).flat_map(move |copy| self.again.iter().map(move |value| self.copy(value, copy)));
        let last = self.stopped.iter().map(move |value| self.copy(value, copies.saturating_sub(1)));
        self.first.iter().cloned().chain(copied).chain(last)
    }

    /// Observations of `copies` consecutive copies.
    pub fn copies(&self, copies: u64) -> impl Iterator<Item = serde_json::Result<Observation>> + '_ {
        self.lines(copies).map(serde_json::from_value)
    }

    /// Text of the lines of at least `copies` copies, `at_once` at a time. The copies of a round begin within
    /// `ROUND_BEGINS`; the next round follows when all are over. One copy of each round has ticks.
    pub fn rounds(&self, copies: u64, at_once: u64) -> impl Iterator<Item = String> + '_ {
        let rounds = copies.div_ceil(at_once);
        let copied = (0..rounds).flat_map(move |round| self.round(round, at_once));
        let last = self.stopped.iter().map(move |value| self.late_copy(value, 0, rounds * self.period).to_string());
        self.first.iter().map(Value::to_string).chain(copied).chain(last)
    }

    fn round(&self, round: u64, at_once: u64) -> Vec<String> {
        let mut lines = Vec::new();
        for which in 0..at_once {
            let delay = round * self.period + which * (ROUND_BEGINS / at_once);
            for value in self.again.iter().filter(|value| which == 0 || value["fact"] != "tick") {
                let value = self.late_copy(value, round * at_once + which, delay);
                lines.push((value["at"].as_u64(), value.to_string()));
            }
        }
        lines.sort_by_key(|(at, _)| *at);
        lines.into_iter().map(|(_, line)| line).collect()
    }

    fn copy(&self, value: &Value, copy: u64) -> Value {
        self.late_copy(value, copy, copy * self.period)
    }

    fn late_copy(&self, value: &Value, copy: u64, delay: u64) -> Value {
        let mut value = value.clone();
        if let Some(at) = value.get_mut("at") {
            *at = (at.as_u64().unwrap_or_default() + delay).into();
        }
        if copy > 0 {
            self.names.rename(&mut value, copy, delay / TICK);
        }
        value
    }
}

impl RenewedNames {
    fn rename(&self, value: &mut Value, copy: u64, ticks: u64) {
        match value {
            Value::Object(fields) => {
                let started = fields.get("start_ticks").and_then(Value::as_u64).filter(|ticks| *ticks >= self.began);
                if let (Some(started), Some(tgid)) = (started, fields.get("tgid").and_then(Value::as_u64)) {
                    fields.insert("start_ticks".to_owned(), (started + ticks).into());
                    fields.insert("tgid".to_owned(), (tgid + copy * PIDS).into());
                    return;
                }
                for (name, value) in fields.iter_mut() {
                    let number = value.as_u64();
                    match (name.as_str(), number) {
                        ("cookie", Some(number)) if self.cookies.contains(&number) => {
                            *value = (number + copy * STRIDE).into();
                        }
                        ("inode", Some(number)) if self.inodes.contains(&number) => {
                            *value = (number + copy * STRIDE).into();
                        }
                        ("goid" | "parent_goid", Some(number)) => *value = (number + copy * STRIDE).into(),
                        ("g" | "seq" | "at", _) => {}
                        _ => self.rename(value, copy, ticks),
                    }
                }
            }
            Value::Array(values) => values.iter_mut().for_each(|value| self.rename(value, copy, ticks)),
            Value::String(text) => self.rename_text(text, copy),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn rename_text(&self, text: &mut String, copy: u64) {
        if let Ok(address) = text.parse::<SocketAddr>() {
            if self.addresses.contains(&address) {
                let most = u64::from(PORTS.end - PORTS.start);
                let port = (u64::from(address.port() - PORTS.start) + 7 * copy) % most;
                let port = PORTS.start + u16::try_from(port).unwrap_or_default();
                *text = SocketAddr::new(address.ip(), port).to_string();
            }
            return;
        }
        let renamed: BTreeMap<&String, String> = self
            .execs
            .iter()
            .filter(|exec| text.contains(exec.as_str()) && exec.len() > DIGITS)
            .map(|exec| (exec, format!("{copy:0DIGITS$x}{}", exec.get(DIGITS..).unwrap_or_default())))
            .collect();
        for (old, new) in renamed {
            *text = text.replace(old, &new);
        }
    }
}
