//! A match of a rule, and the step of the decision order at which rules run.

use crate::model::{About, BootTime, RawText, Reading, TaskKey, Value};

/// Position of a fault in the decision order: an earlier step explains a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Does every expected leg exist?
    Legs,
    /// Is there a process?
    Process,
    /// Which legs went silent?
    Silence,
    /// Which is the first full queue, from the client inwards?
    Queues,
    /// What is the process doing?
    Doing,
    /// Which processes still hold the ends?
    Ends,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 6] = [Self::Legs, Self::Process, Self::Silence, Self::Queues, Self::Doing, Self::Ends];

    /// The step as a question.
    #[must_use]
    pub const fn question(self) -> &'static str {
        match self {
            Self::Legs => "Does every expected leg exist?",
            Self::Process => "Is there a process?",
            Self::Silence => "Which legs went silent?",
            Self::Queues => "Which is the first full queue, from the client inwards?",
            Self::Doing => "What is the process doing?",
            Self::Ends => "Which processes still hold the ends?",
        }
    }
}

/// Actions and commands that replace `next` and `manual` of the fault.
#[derive(Clone, Copy, Debug)]
pub(super) struct Advice {
    pub(super) next: &'static [&'static str],
    pub(super) manual: &'static [&'static str],
}

/// A match of a rule.
#[derive(Clone, Debug, Default)]
pub(super) struct RuleMatch {
    /// A more exact title than the fault's.
    pub(super) name: Option<&'static str>,
    /// Advice for this match, in place of the fault's own.
    pub(super) advice: Option<Advice>,
    /// The daemon or process with the fault, where the match belongs to no session.
    pub(super) task: Option<TaskKey>,
    pub(super) hop: Option<usize>,
    pub(super) link: Option<usize>,
    pub(super) about: About,
    pub(super) since: Option<BootTime>,
    pub(super) evidence: Vec<Reading>,
}

impl RuleMatch {
    /// Adds a line of evidence.
    pub(super) fn with(mut self, reading: Reading) -> Self {
        self.evidence.push(reading);
        self
    }
}

/// A measured number.
pub(super) fn number(what: impl Into<String>, value: u64, unit: &'static str) -> Reading {
    Reading { what: what.into(), value: Value::Number(value), unit }
}

/// A measured word.
pub(super) fn word(what: impl Into<String>, value: impl Into<RawText>) -> Reading {
    Reading { what: what.into(), value: Value::Text(value.into()), unit: "" }
}
