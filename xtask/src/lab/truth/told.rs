//! What the tracer tells: its lines as they come, and of each session what was said.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::plan;
use crate::tracer::{Line, Tracer};

/// A session, as a line of `-o jsonl` has it: what is judged of it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Session {
    pub(super) id: String,
    /// Not known until more of it is seen.
    pub(super) kind: Option<String>,
    pub(super) state: String,
    pub(super) complete: bool,
    /// It was a part of that session, which goes on.
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
    /// Which of our sessions it says to be: by what its process runs, else by what its client asks for.
    pub(super) fn number(&self) -> Option<u32> {
        let command = plan::number_in(self.command.iter().flatten().map(String::as_str));
        command.or_else(|| self.asked())
    }

    /// The token among the client's arguments.
    pub(super) fn asked(&self) -> Option<u32> {
        let argv = self.hop("kubectl")?.argv.as_ref()?;
        plan::number_in(argv.iter().map(String::as_str))
    }

    pub(super) fn hop(&self, role: &str) -> Option<&Hop> {
        self.hops.iter().find(|hop| hop.role == role)
    }

    /// Whether nothing is missing, and all is proved. That its command goes on when its client is gone, on a busy machine for
    /// longer than a second, is no hole in what is known.
    pub(super) fn is_exact(&self) -> bool {
        let is_hole = |gap: &Gap| gap.code != "process-left-running";
        self.complete && self.confidence.as_deref() == Some("exact") && !self.gaps.iter().any(is_hole)
    }

    /// Whether the runtime was at work with it when the tracer began to look, which the cluster's own probes may be at any time: it
    /// is told then that what it is is not known.
    pub(super) fn was_under_way(&self) -> bool {
        let told = "was being started when the tracer began to look";
        self.gaps.iter().any(|gap| gap.code == "kind-unknown" && gap.text.contains(told))
    }

    /// Whether it is joined from its client to the stream, whatever is below.
    pub(super) fn reaches_stream(&self) -> bool {
        let relays = self.links.iter().filter(|link| link.relay.is_some() && link.confidence == "exact").count();
        self.number().is_some() && self.hop("kubectl").is_some() && relays >= 2
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == "closed"
    }
}

/// For messages about what is wrong.
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

/// Everything that was told so far.
#[derive(Default)]
pub(super) struct Told {
    /// Each saying, with the boot time at which it was there, in order.
    pub(super) sayings: Vec<(u64, Session)>,
    /// The last of each session: an index of `sayings`.
    last: BTreeMap<String, usize>,
    /// Records lost, by counter.
    pub(super) lost: BTreeMap<String, u64>,
}

impl Told {
    /// The sessions as last told.
    pub(super) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.last.values().filter_map(|index| Some(&self.sayings.get(*index)?.1))
    }

    /// Those of our sessions that are so, as last told.
    pub(super) fn count(&self, is: impl Fn(&Session) -> bool) -> usize {
        let ours = |session: &&Session| session.number().is_some() && session.merged_into.is_none();
        self.sessions().filter(ours).filter(|session| is(session)).count()
    }

    /// Takes in lines until it is so, or until nothing came of it in time. Tells which.
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
            *self.lost.entry(what).or_default() += line.value["count"].as_u64().unwrap_or(0);
        }
        let Some(session) = line.value.get_mut("session").map(serde_json::Value::take) else { return Ok(()) };
        let session: Session = serde_json::from_value(session).context("a session that is none")?;
        self.last.insert(session.id.clone(), self.sayings.len());
        self.sayings.push((line.at, session));
        Ok(())
    }
}
