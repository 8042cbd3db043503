//! Verdicts of a diagnosis: fault, location, evidence and remedy.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{BootTime, RawText, SessionId};

/// Severity of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A fault that needs action.
    Fault,
    /// Information; nothing is broken.
    Info,
}

impl Severity {
    /// Stable token for JSON.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Info => "info",
        }
    }
}

/// Value of a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number, in the reading's unit.
    Number(u64),
    /// A state or name, possibly text chosen by another program.
    Text(RawText),
}

/// One line of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Name of the examined property.
    pub what: String,
    /// Value of the property.
    pub value: Value,
    /// `bytes`, `ms` …; empty for a value without a unit.
    pub unit: &'static str,
}

/// A similar fault, and the evidence against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldApart {
    /// Code of that fault.
    pub code: &'static str,
    /// Name of that fault.
    pub name: &'static str,
    /// Evidence that rules it out.
    pub by: &'static str,
}

/// Object of a verdict, in numbers that other tools understand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct About {
    /// Pid.
    pub pid: Option<u32>,
    /// Descriptor of that process.
    pub fd: Option<u32>,
    /// Inode number of a socket, a pipe or a FIFO.
    pub inode: Option<u64>,
    /// Address of this end of a connection.
    pub local: Option<SocketAddr>,
    /// Address of the other end.
    pub remote: Option<SocketAddr>,
}

/// One verdict of a diagnosis. Codes never change their meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `F01` …
    pub code: &'static str,
    /// Name of the fault, in a few plain words.
    pub name: &'static str,
    /// Name in one or two words, for a column.
    pub short: &'static str,
    /// Severity.
    pub severity: Severity,
    /// Meaning for the person at the terminal.
    pub means: &'static str,
    /// Affected session; `None` for leftovers that belong to no session.
    pub session: Option<SessionId>,
    /// Index of the affected hop.
    pub hop: Option<usize>,
    /// Index of the affected link.
    pub link: Option<usize>,
    /// Object of the verdict.
    pub about: About,
    /// Latest possible start, if known.
    pub since: Option<BootTime>,
    /// Latest possible end; `None` while the fault lasts.
    pub until: Option<BootTime>,
    /// Readings, in the order of the decision.
    pub evidence: Vec<Reading>,
    /// Similar faults that were ruled out.
    pub told_apart_from: Vec<ToldApart>,
    /// Recommended actions.
    pub next: Vec<String>,
    /// Commands that show the same without this program.
    pub manual: Vec<String>,
}

/// Health of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Nothing is wrong.
    Ok,
    /// The process waits for input.
    Waiting,
    /// Too little was measured for a decision.
    Unknown,
    /// Something is wrong.
    Fault {
        /// Code of the fault.
        code: &'static str,
        /// Name of the fault in one or two words.
        short: &'static str,
    },
}

impl Health {
    /// Stable token: `ok`, `waiting`, `unknown` or the code of the fault.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Waiting => "waiting",
            Self::Unknown => "unknown",
            Self::Fault { code, .. } => code,
        }
    }

    /// Short text for a column: the token, or the short name of the fault.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::Fault { short, .. } => short,
            Self::Ok | Self::Waiting | Self::Unknown => self.token(),
        }
    }
}

/// Result of a diagnosis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// Present verdicts: those of sessions in the order of sessions, then leftovers.
    pub verdicts: Vec<Verdict>,
    /// Health of each session.
    pub health: BTreeMap<SessionId, Health>,
    /// Faults that had ended before the time of the report, in the order of their ends. Only recordings have them.
    pub over: Vec<Verdict>,
    /// Ended faults that were dropped to make room. Only recordings have them.
    pub dropped: u64,
    /// True if the diagnosis covers a whole recording instead of one moment. The health of a session with any fault is
    /// then that fault.
    pub is_whole: bool,
    /// Reasons for not calling a session without a fault healthy, for people. Contains exactly the open sessions with
    /// [`Health::Unknown`].
    pub doubts: BTreeMap<SessionId, String>,
}

impl Diagnosis {
    /// All verdicts: the present ones, then the faults that have ended.
    pub fn all(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().chain(&self.over)
    }

    /// Verdicts about that session, or about leftovers of no session. Ordered by start for a whole recording.
    #[must_use]
    pub fn of(&self, session: Option<&SessionId>) -> Vec<&Verdict> {
        let mut own: Vec<&Verdict> = self.all().filter(|verdict| verdict.session.as_ref() == session).collect();
        if self.is_whole {
            own.sort_by_key(|verdict| (verdict.since, verdict.until.unwrap_or(BootTime::LATEST)));
        }
        own
    }

    /// Faults of that session.
    pub fn faults<'a>(&'a self, session: &'a SessionId) -> impl Iterator<Item = &'a Verdict> {
        self.of(Some(session)).into_iter().filter(|verdict| verdict.severity == Severity::Fault)
    }
}
