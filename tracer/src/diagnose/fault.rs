//! What a fault is made of: data, and one rule.

use super::{FAULTS, case::Case, host::Host};
use crate::model::{About, BootTime, RawText, Reading, Severity, TaskKey, ToldApart, Value, Verdict};

/// How it is known that a rule finds what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// The fault is made in the lab, in a real session.
    Lab,
    /// The same, and what is other than in a diagnosis of every day.
    LabWith(&'static str),
    /// The fault is made with real processes, sockets and pipes, without a cluster.
    Processes,
    /// Only numbers written by hand have it so far; why.
    Scenario(&'static str),
}

/// Where it stands in the order of the decision: what comes earlier explains what comes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Does every leg exist that should?
    Legs,
    /// Is there a process?
    Process,
    /// Which legs went silent?
    Silence,
    /// Which queue is the first full one, from the client inwards?
    Queues,
    /// What does the process do?
    Doing,
    /// Who still holds the ends?
    Ends,
}

impl Step {
    /// Every one, in order.
    pub const ALL: [Self; 6] = [Self::Legs, Self::Process, Self::Silence, Self::Queues, Self::Doing, Self::Ends];

    /// As a question.
    #[must_use]
    pub const fn question(self) -> &'static str {
        match self {
            Self::Legs => "Does every leg exist that should?",
            Self::Process => "Is there a process?",
            Self::Silence => "Which legs went silent?",
            Self::Queues => "Which queue is the first full one, from the client inwards?",
            Self::Doing => "What does the process do?",
            Self::Ends => "Who still holds the ends?",
        }
    }
}

/// What looks alike, and is not it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apart {
    /// Code of the other fault.
    pub code: &'static str,
    /// What shows that it is not that one.
    pub by: &'static str,
}

/// A fault: everything that is said of it, and the rule that names it.
pub struct Fault {
    /// `F01` …; never changes its meaning.
    pub code: &'static str,
    /// In a few plain words.
    pub name: &'static str,
    /// In a word or two.
    pub short: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// When it is asked for.
    pub step: Step,
    /// What it means for who types.
    pub means: &'static str,
    /// How it comes about.
    pub why: &'static str,
    /// What has to be known for it to be named.
    pub needs: &'static str,
    /// What looks alike.
    pub apart: &'static [Apart],
    /// What to do.
    pub next: &'static [&'static str],
    /// Commands that show the same, with `{…}` where numbers of the session belong.
    pub manual: &'static [&'static str],
    /// Where it was described: `OWNER/REPO#NUMBER`, or in words.
    pub sources: &'static [&'static str],
    /// How it is tested.
    pub made: Made,
    pub(super) rule: Rule,
    #[cfg(test)]
    pub(super) scenes: fn() -> Vec<super::scene::Scene>,
}

/// Names a fault, or is silent.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// Of one session.
    Session(fn(&Case<'_>) -> Option<Found>),
    /// Of the host: each belongs to no session.
    Host(fn(&Host<'_>) -> Vec<Found>),
    /// Of a session, or of what never became one.
    Both(fn(&Case<'_>) -> Option<Found>, fn(&Host<'_>) -> Vec<Found>),
    /// Of a session, or of a daemon that sessions share ([`Found::task`]). The second is told on each session that hangs on
    /// this daemon and has no fault of its own, and belongs to no session only where there is none.
    Daemon(fn(&Case<'_>) -> Option<Found>, fn(&Host<'_>) -> Vec<Found>),
}

/// What to do and commands to check it, in the words of [`Fault::next`] and [`Fault::manual`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Advice {
    pub(super) next: &'static [&'static str],
    pub(super) manual: &'static [&'static str],
}

/// What a rule found.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// A more exact name than the fault's.
    pub(super) name: Option<&'static str>,
    /// Advice that fits this finding better than the fault's own.
    pub(super) advice: Option<Advice>,
    /// Daemon or process at which the fault of no session lies.
    pub(super) task: Option<TaskKey>,
    pub(super) hop: Option<usize>,
    pub(super) link: Option<usize>,
    pub(super) about: About,
    pub(super) since: Option<BootTime>,
    pub(super) evidence: Vec<Reading>,
}

impl Found {
    /// With one more line of evidence.
    pub(super) fn with(mut self, reading: Reading) -> Self {
        self.evidence.push(reading);
        self
    }
}

/// A number that was read off.
pub(super) fn number(what: impl Into<String>, value: u64, unit: &'static str) -> Reading {
    Reading { what: what.into(), value: Value::Number(value), unit }
}

/// A word that was read off.
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

/// What may stand in braces: what it is about, and the hops of the session by their roles.
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

/// A template with its braces filled; `None` where one cannot be: half a command is worse than none.
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

/// A template as documents show it: what is filled in stands in capitals.
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
