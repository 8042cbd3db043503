//! The tracer's reports: its lines as they arrive, and the history of each session.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::plan;
use crate::tracer::{Line, Tracer};

/// The evaluated fields of a session in a line of `-o jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Session {
    pub(super) id: String,
    /// `None` until the tracer has seen enough of the session.
    pub(super) kind: Option<String>,
    pub(super) state: String,
    pub(super) complete: bool,
    /// Id of the session that absorbed this one.
    pub(super) merged_into: Option<String>,
    pub(super) confidence: Option<String>,
    pub(super) target: Target,
    pub(super) command: Option<Vec<String>>,
    pub(super) exec_id: Option<String>,
    pub(super) hops: Vec<Hop>,
    pub(super) links: Vec<Link>,
    pub(super) gaps: Vec<Gap>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Target {
    pub(super) pod: Option<String>,
    pub(super) container: Option<String>,
    pub(super) container_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Hop {
    pub(super) role: String,
    pub(super) pid: u32,
    pub(super) argv: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Link {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) kind: String,
    pub(super) confidence: String,
    pub(super) tcp: Option<Tcp>,
    pub(super) relay: Option<Relay>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Tcp {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) inode: Option<u64>,
    pub(super) peer_inode: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Relay {
    pub(super) inbound_inode: Option<u64>,
    pub(super) outbound_inode: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(super) struct Gap {
    pub(super) code: String,
    pub(super) text: String,
}

impl Session {
    /// Number of the own session that this report describes: from the process's command, else from the client's
    /// arguments.
    pub(super) fn number(&self) -> Option<u32> {
        let command = plan::number_in(self.command.iter().flatten().map(String::as_str));
        command.or_else(|| self.requested())
    }

    /// Number in the token among the client's arguments.
    pub(super) fn requested(&self) -> Option<u32> {
        let argv = self.hop("kubectl")?.argv.as_ref()?;
        plan::number_in(argv.iter().map(String::as_str))
    }

    pub(super) fn hop(&self, role: &str) -> Option<&Hop> {
        self.hops.iter().find(|hop| hop.role == role)
    }

    /// True if nothing is missing and every link is proved. A command that outlives its client, for more than a
    /// second on a busy machine, is no gap in this sense.
    pub(super) fn is_exact(&self) -> bool {
        let is_hole = |gap: &Gap| gap.code != "process-left-running";
        self.complete && self.confidence.as_deref() == Some("exact") && !self.gaps.iter().any(is_hole)
    }

    /// True if the runtime was already starting this session when the tracer attached. The cluster's own probes may
    /// do so at any time; the tracer then reports their kind as unknown.
    pub(super) fn was_under_way(&self) -> bool {
        let text = "was starting when the tracer attached";
        self.gaps.iter().any(|gap| gap.code == "kind-unknown" && gap.text.contains(text))
    }

    /// True if the session is joined from client to stream, whatever is below.
    pub(super) fn reaches_stream(&self) -> bool {
        let relays = self.links.iter().filter(|link| link.relay.is_some() && link.confidence == "exact").count();
        self.number().is_some() && self.hop("kubectl").is_some() && relays >= 2
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == "closed"
    }
}

/// Printed with messages about wrong findings.
impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, kind, state, confidence, exec_id, .. } = self;
        write!(f, "{id}, {kind:?}, {state}, {confidence:?}, exec id {exec_id:?}")?;
        for (index, hop) in self.hops.iter().enumerate() {
            write!(f, "\n      {index} {} pid {}", hop.role, hop.pid)?;
        }
        for link in &self.links {
            write!(f, "\n      {} to {}: {}, {}", link.from, link.to, link.kind, link.confidence)?;
            if let Some(tcp) = &link.tcp {
                write!(f, ", {} {}, inodes {:?} {:?}", tcp.local, tcp.remote, tcp.inode, tcp.peer_inode)?;
            }
            if let Some(relay) = &link.relay {
                write!(f, ", inodes {:?} {:?}", relay.inbound_inode, relay.outbound_inode)?;
            }
        }
        for gap in &self.gaps {
            write!(f, "\n      gap {}", gap.code)?;
        }
        Ok(())
    }
}

/// Everything reported so far.
#[derive(Default)]
pub(super) struct Reported {
    /// Every report in order, with the boot time of its arrival.
    pub(super) reports: Vec<(u64, Session)>,
    /// The last report of each session: an index of `reports`.
    last: BTreeMap<String, usize>,
    /// Records lost, by counter.
    pub(super) lost: BTreeMap<String, u64>,
    /// Longest delay of each kind, in milliseconds. A delay loses no record.
    pub(super) delays: BTreeMap<String, u64>,
}

/// Losses whose count is a delay in milliseconds (docs/limitations.md).
const DELAYS: [&str; 2] = ["behind", "late-start"];

impl Reported {
    /// The last report of each session.
    pub(super) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.last.values().filter_map(|index| Some(&self.reports.get(*index)?.1))
    }

    /// Counts own sessions with a last report that satisfies `is`.
    pub(super) fn count(&self, is: impl Fn(&Session) -> bool) -> usize {
        let is_own = |session: &&Session| session.number().is_some() && session.merged_into.is_none();
        self.sessions().filter(is_own).filter(|session| is(session)).count()
    }

    /// Reads lines until `is` holds. Returns false if that takes longer than `limit`.
    pub(super) fn until(&mut self, tracer: &Tracer, limit: Duration, is: impl Fn(&Self) -> bool) -> Result<bool> {
        let end = Instant::now() + limit;
        loop {
            while let Some(line) = tracer.next_within(Duration::ZERO)? {
                self.take(line)?;
            }
            if is(self) {
                return Ok(true);
            }
            match tracer.next_within(end.saturating_duration_since(Instant::now()))? {
                Some(line) => self.take(line)?,
                None => return Ok(false),
            }
        }
    }

    pub(super) fn take(&mut self, mut line: Line) -> Result<()> {
        if line.value["type"] == "loss" {
            let what = line.value["what"].as_str().unwrap_or("unknown").to_owned();
            let count = line.value["count"].as_u64().unwrap_or(0);
            if DELAYS.contains(&what.as_str()) {
                let longest = self.delays.entry(what).or_default();
                *longest = count.max(*longest);
            } else {
                *self.lost.entry(what).or_default() += count;
            }
        }
        let Some(session) = line.value.get_mut("session").map(serde_json::Value::take) else { return Ok(()) };
        let session: Session = serde_json::from_value(session).context("cannot parse a session")?;
        self.last.insert(session.id.clone(), self.reports.len());
        self.reports.push((line.at, session));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Line, Reported};

    #[test]
    fn longest_delay_is_no_lost_record() {
        let mut reported = Reported::default();
        for (what, count) in [("behind", 1_133), ("ring-full", 2), ("behind", 1_034), ("ring-full", 3)] {
            let value = json!({ "type": "loss", "what": what, "count": count });
            reported.take(Line { at: 0, value }).expect("a loss");
        }
        assert_eq!(reported.delays.into_iter().collect::<Vec<_>>(), [("behind".to_owned(), 1_133)]);
        assert_eq!(reported.lost.into_iter().collect::<Vec<_>>(), [("ring-full".to_owned(), 5)]);
    }
}
