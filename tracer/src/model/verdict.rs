//! What is wrong, where, how that is known, and what to do: the answer of a diagnosis.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{BootTime, RawText, SessionId};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody has to act.
    Fault,
    /// Good to know; nothing is broken.
    Info,
}

impl Severity {
    /// Stable token.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Info => "info",
        }
    }
}

/// What was read off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number, of the reading's unit.
    Number(u64),
    /// A state, a name: possibly somebody else's words.
    Text(RawText),
}

/// One line of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What was looked at.
    pub what: String,
    /// What it said.
    pub value: Value,
    /// `bytes`, `ms` …; empty where there is none.
    pub unit: &'static str,
}

/// A fault that looks alike, and what shows that it is not that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldApart {
    /// Its code.
    pub code: &'static str,
    /// Its name.
    pub name: &'static str,
    /// By what.
    pub by: &'static str,
}

/// What exactly it is about: numbers that other tools understand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct About {
    /// Process.
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

/// One finding of a diagnosis. Codes never change their meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `F01` …
    pub code: &'static str,
    /// In a few plain words.
    pub name: &'static str,
    /// In a word or two, for a column.
    pub short: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it means for who types.
    pub means: &'static str,
    /// Whose; `None` of what is left over and belongs to none.
    pub session: Option<SessionId>,
    /// Index of the hop at which it is.
    pub hop: Option<usize>,
    /// Index of the link on which it is.
    pub link: Option<usize>,
    /// What exactly it is about.
    pub about: About,
    /// Since when at the latest, where that is known.
    pub since: Option<BootTime>,
    /// When it was over at the latest; `None` while it lasts.
    pub until: Option<BootTime>,
    /// What was seen, in the order of the decision.
    pub evidence: Vec<Reading>,
    /// What it is not, and why not.
    pub told_apart_from: Vec<ToldApart>,
    /// What to do.
    pub next: Vec<String>,
    /// Commands that show the same without this program.
    pub manual: Vec<String>,
}

/// A session in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Nothing is wrong.
    Ok,
    /// Its process waits for input.
    Waiting,
    /// Too little was measured to say.
    Unknown,
    /// Something is wrong.
    Fault {
        /// Code of the fault.
        code: &'static str,
        /// In a word or two.
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

    /// For a column that people read: what the code stands for.
    #[must_use]
    pub const fn short(self) -> &'static str {
        match self {
            Self::Fault { short, .. } => short,
            Self::Ok | Self::Waiting | Self::Unknown => self.token(),
        }
    }
}

/// Everything that a diagnosis says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// What was found: of sessions in their order, then what is left over.
    pub verdicts: Vec<Verdict>,
    /// How each session is.
    pub health: BTreeMap<SessionId, Health>,
    /// Faults that were over by the time of the report, in the order in which they ended. Known of recordings alone.
    pub over: Vec<Verdict>,
    /// Whether this is about a whole recording, not about one moment: then the health of a session that had a fault is that fault.
    pub is_whole: bool,
    /// Why a session without a fault is not called well, for people. Holds exactly the open sessions whose health is
    /// [`Health::Unknown`].
    pub doubts: BTreeMap<SessionId, String>,
}

impl Diagnosis {
    /// Every verdict: those that hold, then the faults that are over.
    pub fn all(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().chain(&self.over)
    }

    /// Verdicts about that session, or about what belongs to none, by the time at which they began.
    #[must_use]
    pub fn of(&self, session: Option<&SessionId>) -> Vec<&Verdict> {
        let mut own: Vec<&Verdict> = self.all().filter(|verdict| verdict.session.as_ref() == session).collect();
        if self.is_whole {
            own.sort_by_key(|verdict| (verdict.since, verdict.until.unwrap_or(BootTime::LATEST)));
        }
        own
    }

    /// Faults about that session.
    pub fn faults<'a>(&'a self, session: &'a SessionId) -> impl Iterator<Item = &'a Verdict> {
        self.of(Some(session)).into_iter().filter(|verdict| verdict.severity == Severity::Fault)
    }
}
