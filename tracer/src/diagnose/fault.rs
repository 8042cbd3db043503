//! The data and the rule of a fault.

use super::{FAULTS, case::Case, host::Host};
use crate::model::{About, BootTime, RawText, Reading, Severity, TaskKey, ToldApart, Value, Verdict};

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
    pub(super) scenes: fn() -> Vec<super::scene::Scene>,
}

/// A detection rule. A rule without certainty returns nothing.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// Checks one session.
    Session(fn(&Case<'_>) -> Option<Found>),
    /// Checks the host; the matches belong to no session.
    Host(fn(&Host<'_>) -> Vec<Found>),
    /// Checks one session, and apart from it the host for activity that never became a session.
    Both(fn(&Case<'_>) -> Option<Found>, fn(&Host<'_>) -> Vec<Found>),
    /// Checks one session, and the daemons that sessions share ([`Found::task`]). A daemon's fault is reported on each
    /// session that depends on the daemon and has no fault of its own. Without such a session it is reported for the
    /// host.
    Daemon(fn(&Case<'_>) -> Option<Found>, fn(&Host<'_>) -> Vec<Found>),
}

/// Actions and commands that replace [`Fault::next`] and [`Fault::manual`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Advice {
    pub(super) next: &'static [&'static str],
    pub(super) manual: &'static [&'static str],
}

/// A match of a rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
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

impl Found {
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

impl Fault {
    pub(super) fn verdict(&self, case: Option<&Case<'_>>, found: Found) -> Verdict {
        let Found { name, advice, task: _, hop, link, about, since, evidence } = found;
        let Advice { next, manual } = advice.unwrap_or(Advice { next: self.next, manual: self.manual });
        let fill = |template: &&str| filled(template, |name| value(name, &about, case));
        let steps = case.map_or_else(Vec::new, |case| case.trail(self.step));
        Verdict {
            code: self.code,
            name: name.unwrap_or(self.name),
            short: self.short,
            severity: self.severity,
            means: self.means,
            session: case.map(|case| case.session.id.clone()),
            hop,
            link,
            about,
            since,
            until: None,
            evidence: steps.into_iter().chain(evidence).collect(),
            told_apart_from: self.apart.iter().map(Apart::told).collect(),
            next: next.iter().filter_map(fill).collect(),
            manual: manual.iter().filter_map(fill).collect(),
        }
    }
}

impl Apart {
    fn told(&self) -> ToldApart {
        let other = FAULTS.iter().find(|fault| fault.code == self.code);
        ToldApart { code: self.code, name: other.map_or("", |fault| fault.name), by: self.by }
    }
}

/// The value of a placeholder: a number of the match, or the pid of the innermost hop with that role.
fn value(name: &str, about: &About, case: Option<&Case<'_>>) -> Option<String> {
    match name {
        "pid" => about.pid.map(|pid| pid.to_string()),
        "fd" => about.fd.map(|fd| fd.to_string()),
        "inode" => about.inode.map(|inode| inode.to_string()),
        "local" => about.local.map(|address| address.to_string()),
        "remote" => about.remote.map(|address| address.to_string()),
        "host" => about.remote.map(|address| address.ip().to_string()),
        "port" => about.remote.map(|address| address.port().to_string()),
        role => {
            let hops = &case?.session.hops;
            hops.iter().rev().find(|hop| hop.role.token() == role).map(|hop| hop.task.tgid.to_string())
        }
    }
}

/// Fills in a template. Returns `None` where a placeholder has no value: half a command is worse than none.
fn filled(template: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}')?;
        text.push_str(before);
        text.push_str(&value(name)?);
        rest = behind;
    }
    text.push_str(rest);
    Some(text)
}

/// A template for documentation: placeholders become words in capitals.
#[must_use]
pub fn shown(template: &str) -> String {
    let capitals = |name: &str| match name {
        "pid" | "fd" | "inode" | "local" | "remote" | "host" | "port" => Some(name.to_uppercase()),
        role => Some(format!("{}_PID", role.to_uppercase())),
    };
    filled(template, capitals).unwrap_or_else(|| template.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_filled_or_left_out() {
        let value = |name: &str| (name == "pid").then(|| "7".to_owned());
        assert_eq!(filled("cat /proc/{pid}/stat", value).as_deref(), Some("cat /proc/7/stat"));
        assert_eq!(filled("cat /proc/{pid}/fd/{fd}", value), None);
        assert_eq!(shown("ss src {local} # {kubectl}"), "ss src LOCAL # KUBECTL_PID");
    }
}
