//! The data and the rule of a fault.

use super::{
    ctx::SessionCtx,
    finding::{RuleMatch, Step},
    host::Host,
    kinds::Kinds,
};
use crate::model::Severity;

/// How the rule of a fault is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// The lab reproduces the fault in a real session.
    Lab,
    /// The lab reproduces it with the named deviation from an everyday case.
    LabWith(&'static str),
    /// Tests reproduce it with real processes, sockets and pipes, without a cluster.
    Processes,
    /// Hand-written numbers are the only test so far. The text gives the reason.
    Scenario(&'static str),
}

/// Distinction from a similar fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apart {
    /// Code of the other fault.
    pub code: &'static str,
    /// The observation that rules the other fault out.
    pub by: &'static str,
}

/// A fault: its texts, and the rule that detects it.
pub struct Fault {
    /// `F01` …; a code never changes its meaning.
    pub code: &'static str,
    /// Title, in a few plain words.
    pub name: &'static str,
    /// Title for a table column, one or two words (at most 16 bytes).
    pub short: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Step of the decision order at which the rule runs.
    pub step: Step,
    /// Kinds of sessions that can have this fault. Sessions of other kinds are not checked for it, and it is no neighbour of
    /// their faults.
    pub kinds: Kinds,
    /// Consequence for the user.
    pub means: &'static str,
    /// Usual causes.
    pub why: &'static str,
    /// Observations that the rule requires.
    pub needs: &'static str,
    /// Similar faults, and the difference.
    pub apart: &'static [Apart],
    /// Recommended actions, with `{…}` for numbers of the session.
    pub next: &'static [&'static str],
    /// Commands that show the same, with `{…}` for numbers of the session.
    pub manual: &'static [&'static str],
    /// Public reports: `OWNER/REPO#NUMBER`, or a description.
    pub sources: &'static [&'static str],
    /// How it is tested.
    pub made: Made,
    pub(super) rule: Rule,
    #[cfg(test)]
    pub(super) fixtures: fn() -> Vec<super::fixture::Fixture>,
}

/// A detection rule. A rule without certainty returns nothing.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// Checks one session.
    Session(fn(&SessionCtx<'_>) -> Option<RuleMatch>),
    /// Checks the host; the matches belong to no session.
    Host(fn(&Host<'_>) -> Vec<RuleMatch>),
    /// Checks one session, and apart from it the host for activity that never became a session.
    Both(fn(&SessionCtx<'_>) -> Option<RuleMatch>, fn(&Host<'_>) -> Vec<RuleMatch>),
    /// Checks one session, and the daemons that sessions share ([`RuleMatch::task`]). A daemon's fault is reported on each
    /// session that depends on the daemon and has no fault of its own. Without such a session it is reported for the
    /// host.
    Daemon(fn(&SessionCtx<'_>) -> Option<RuleMatch>, fn(&Host<'_>) -> Vec<RuleMatch>),
}
