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
pub(in crate::lab) struct Session {
    pub(in crate::lab) id: String,
    /// `None` until the tracer has seen enough of the session.
    pub(in crate::lab) kind: Option<String>,
    pub(in crate::lab) state: String,
    pub(in crate::lab) complete: bool,
    /// Id of the session that absorbed this one.
    pub(in crate::lab) merged_into: Option<String>,
    pub(in crate::lab) confidence: Option<String>,
    pub(in crate::lab) target: Target,
    pub(in crate::lab) command: Option<Vec<String>>,
    pub(in crate::lab) exec_id: Option<String>,
    pub(in crate::lab) hops: Vec<Hop>,
    pub(in crate::lab) links: Vec<Link>,
    pub(in crate::lab) gaps: Vec<Gap>,
    pub(in crate::lab) attempt: Attempt,
    pub(in crate::lab) client: Client,
    /// Exit of the command.
    pub(in crate::lab) exit: Option<Exit>,
}

/// How far the client's request came.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(in crate::lab) struct Attempt {
    pub(in crate::lab) reached: Option<String>,
    pub(in crate::lab) failed_at: Option<String>,
    pub(in crate::lab) errno: Option<u32>,
    pub(in crate::lab) forward_failed: Option<ForwardFailed>,
}

/// A connection to a pod's port that failed.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(in crate::lab) struct ForwardFailed {
    pub(in crate::lab) errno: Option<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(in crate::lab) struct Client {
    pub(in crate::lab) exit: Option<Exit>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(in crate::lab) struct Exit {
    pub(in crate::lab) code: Option<i32>,
    pub(in crate::lab) signal: Option<i32>,
    pub(in crate::lab) killed_by: Option<KilledBy>,
}

/// Sender of a signal.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(in crate::lab) struct KilledBy {
    pub(in crate::lab) origin: String,
    pub(in crate::lab) pid: Option<u32>,
    pub(in crate::lab) container_stopped_at: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(in crate::lab) struct Target {
    pub(in crate::lab) pod: Option<String>,
    pub(in crate::lab) container: Option<String>,
    pub(in crate::lab) container_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(in crate::lab) struct Hop {
    pub(in crate::lab) role: String,
    pub(in crate::lab) pid: u32,
    pub(in crate::lab) argv: Option<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(in crate::lab) struct Link {
    pub(in crate::lab) from: usize,
    pub(in crate::lab) to: usize,
    pub(in crate::lab) kind: String,
    pub(in crate::lab) confidence: String,
    pub(in crate::lab) tcp: Option<Tcp>,
    pub(in crate::lab) relay: Option<Relay>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(in crate::lab) struct Tcp {
    pub(in crate::lab) local: SocketAddr,
    pub(in crate::lab) remote: SocketAddr,
    pub(in crate::lab) inode: Option<u64>,
    pub(in crate::lab) peer_inode: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(in crate::lab) struct Relay {
    pub(in crate::lab) inbound_inode: Option<u64>,
    pub(in crate::lab) outbound_inode: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(in crate::lab) struct Gap {
    pub(in crate::lab) code: String,
    pub(in crate::lab) text: String,
}

impl Session {
    /// Number of the own session that this report describes: from the process's command, else from the client's
    /// arguments.
    pub(in crate::lab) fn number(&self) -> Option<u32> {
        let command = plan::number_in(self.command.iter().flatten().map(String::as_str));
        command.or_else(|| self.requested())
    }

    /// Number in the token among the client's arguments.
    pub(in crate::lab) fn requested(&self) -> Option<u32> {
        let argv = self.hop("kubectl")?.argv.as_ref()?;
        plan::number_in(argv.iter().map(String::as_str))
    }

    pub(in crate::lab) fn hop(&self, role: &str) -> Option<&Hop> {
        self.hops.iter().find(|hop| hop.role == role)
    }

    /// True if nothing is missing and every link is proved. A command that outlives its client, for more than a
    /// second on a busy machine, is no gap in this sense.
    pub(in crate::lab) fn is_exact(&self) -> bool {
        let is_hole = |gap: &Gap| gap.code != "process-left-running";
        self.complete && self.confidence.as_deref() == Some("exact") && !self.gaps.iter().any(is_hole)
    }

    /// True if the runtime was already starting this session when the tracer attached. The cluster's own probes may
    /// do so at any time; the tracer then reports their kind as unknown.
    pub(in crate::lab) fn was_under_way(&self) -> bool {
        let text = "was starting when the tracer attached";
        self.gaps.iter().any(|gap| gap.code == "kind-unknown" && gap.text.contains(text))
    }

    /// True if the session is joined from client to stream, whatever is below.
    pub(in crate::lab) fn reaches_stream(&self) -> bool {
        let relays = self.links.iter().filter(|link| link.relay.is_some() && link.confidence == "exact").count();
        self.number().is_some() && self.hop("kubectl").is_some() && relays >= 2
    }

    pub(in crate::lab) fn is_closed(&self) -> bool {
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
pub(in crate::lab) struct Reported {
    /// Every report in order, with the boot time of its arrival.
    pub(in crate::lab) reports: Vec<(u64, Session)>,
    /// The last report of each session: an index of `reports`.
    last: BTreeMap<String, usize>,
    /// Records lost, by counter.
    pub(in crate::lab) lost: BTreeMap<String, u64>,
    /// Longest delay of each kind, in milliseconds. A delay loses no record.
    pub(in crate::lab) delays: BTreeMap<String, u64>,
}

/// Losses whose count is a delay in milliseconds (docs/limitations.md).
const DELAYS: [&str; 2] = ["behind", "late-start"];

impl Reported {
    /// The last report of each session.
    pub(in crate::lab) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.last.values().filter_map(|index| Some(&self.reports.get(*index)?.1))
    }

    /// Counts own sessions with a last report that satisfies `is`.
    pub(in crate::lab) fn count(&self, is: impl Fn(&Session) -> bool) -> usize {
        let is_own = |session: &&Session| session.number().is_some() && session.merged_into.is_none();
        self.sessions().filter(is_own).filter(|session| is(session)).count()
    }

    /// Reads lines until `is` holds. Returns false if that takes longer than `limit`.
    pub(in crate::lab) fn until(
        &mut self,
        tracer: &Tracer,
        limit: Duration,
        is: impl Fn(&Self) -> bool,
    ) -> Result<bool> {
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

    pub(in crate::lab) fn take(&mut self, mut line: Line) -> Result<()> {
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
