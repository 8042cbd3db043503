//! Figures of a run: counts, and their report as a table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::evaluate::{Part, PartResult, SessionCtx};
use super::reported::{Reported, Session};
use crate::lab::state::Runtime;

/// Number of wrong findings that are printed in full.
const SHOWN: usize = 10;

/// Counts for one part, over all sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) right: usize,
    pub(super) wrong: usize,
    pub(super) missing: usize,
}

/// Figures of one scenario.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) sessions: usize,
    pub(super) found: usize,
    pub(super) complete: usize,
    pub(super) exact: usize,
    /// Sessions with the gap `ambiguous`: two answers fit.
    pub(super) ambiguous: usize,
    /// Reported sessions that no client opened.
    pub(super) invented: usize,
    pub(super) left_open: usize,
    pub(super) parts: BTreeMap<Part, Count>,
    pub(super) lost: BTreeMap<String, u64>,
    /// Longest delay of each kind, in milliseconds.
    pub(super) delays: BTreeMap<String, u64>,
    /// One message for each overstated session: reported as complete without being so, as another kind, or twice.
    pub(super) overstated: Vec<String>,
    /// One message for each wrong finding.
    pub(super) wrong: Vec<String>,
    /// Memory of the tracer in KiB: mean of the first third of the run, and of the last.
    pub(super) memory: Option<(u64, u64)>,
    /// Sessions older than the tracer that were joined from client to stream before any input.
    pub(super) joined_idle: Option<usize>,
    /// Rows of `ls` while the sessions were idle.
    pub(super) listed: Option<usize>,
    /// Further measurements, as text.
    pub(super) notes: Vec<String>,
    pub(super) took: Duration,
}

impl Figures {
    /// Evaluates all reports. `case` returns the expected facts of a session, or `None` if no client opened the
    /// session.
    pub(super) fn evaluate<'a>(
        runtime: Runtime,
        sessions: usize,
        reported: &Reported,
        case: impl Fn(&Session) -> Option<SessionCtx<'a>>,
    ) -> Self {
        let (lost, delays) = (reported.lost.clone(), reported.delays.clone());
        let mut figures = Self { sessions, lost, delays, ..Self::default() };
        let mut wrong: BTreeSet<(&str, Part)> = BTreeSet::new();
        let mut overstated: BTreeSet<&str> = BTreeSet::new();
        for (_, session) in &reported.reports {
            let Some(case) = case(session) else { continue };
            if let Some(why) = case.overstated(session)
                && overstated.insert(&session.id)
            {
                figures.overstated.push(format!("{}: {why}\n    {session}", case.planned.token));
            }
            for (part, result) in case.evaluate(session) {
                if let PartResult::Wrong(why) = result
                    && wrong.insert((&session.id, part))
                {
                    figures.wrong.push(format!("{}: {}: {why}\n    {session}", case.planned.token, part.name()));
                }
            }
        }
        let (mut seen, mut halves) = (BTreeSet::new(), BTreeMap::new());
        // Skip merged sessions: the loop above has evaluated them, and they count with the session that absorbed
        // them.
        for session in reported.sessions().filter(|session| session.merged_into.is_none()) {
            let Some(case) = case(session) else {
                // Sessions that the cluster opens by itself, and requests of other kubectls, are also reported.
                let is_clusters = matches!(session.kind.as_deref(), Some("probe" | "start" | "request"));
                if !is_clusters && !session.was_under_way() {
                    figures.invented += 1;
                    let text = format!("no client opened this session\n    {session}");
                    // After a loss, it may also be a session that the oracle could have identified from a lost
                    // record.
                    if figures.lost() > 0 { figures.overstated.push(text) } else { figures.wrong.push(text) }
                }
                continue;
            };
            // The two halves of a session older than the tracer may not be joined yet. Neither half claims the other.
            let half = (session.hop("kubectl").is_some(), session.exec_id.is_some());
            let is_other_half =
                halves.insert(case.planned.number, half).is_some_and(|one| one == (half.1, half.0) && one.0 != one.1);
            if is_other_half {
                continue;
            }
            if !seen.insert(case.planned.number) {
                figures.overstated.push(format!("{}: reported twice\n    {session}", case.planned.token));
                continue;
            }
            // If the record of an end was lost, the last report may describe connections that are long gone.
            let case = SessionCtx { last: figures.lost() == 0, ..case };
            figures.add(&case, session, &mut wrong);
        }
        for part in Part::of(runtime) {
            figures.parts.entry(part).or_default().missing += sessions.saturating_sub(figures.found);
        }
        figures
    }

    /// Counts a session by its last report. `wrong` holds the parts that any report had wrong.
    fn add<'s>(&mut self, case: &SessionCtx<'_>, session: &'s Session, wrong: &mut BTreeSet<(&'s str, Part)>) {
        self.found += 1;
        self.complete += usize::from(session.complete);
        self.exact += usize::from(session.is_exact());
        self.ambiguous += usize::from(session.gaps.iter().any(|gap| gap.code == "ambiguous"));
        self.left_open += usize::from(!session.is_closed());
        for (part, result) in case.evaluate(session) {
            let count = self.parts.entry(part).or_default();
            match result {
                PartResult::Wrong(why) => {
                    count.wrong += 1;
                    if wrong.insert((&session.id, part)) {
                        self.wrong.push(format!("{}: {}: {why}\n    {session}", case.planned.token, part.name()));
                    }
                }
                // One wrong report makes the part wrong, even if a later report is right.
                PartResult::Right | PartResult::Missing if wrong.contains(&(session.id.as_str(), part)) => {
                    count.wrong += 1;
                }
                PartResult::Right => count.right += 1,
                PartResult::Missing | PartResult::Unobserved => count.missing += 1,
            }
        }
    }

    /// True if every session was found, complete and seen to end.
    pub(super) fn is_complete(&self) -> bool {
        self.found == self.sessions && self.complete == self.sessions && self.left_open == 0
    }

    /// True if the tracer's memory grew by at most a tenth.
    pub(super) fn memory_is_flat(&self) -> bool {
        self.memory.is_none_or(|(first, last)| last <= first + first / 10)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.values().sum()
    }

    /// Records for which a buffer or table had no room. The other losses are runs of probes that the kernel skipped: when
    /// interrupts meet, at any load.
    pub(super) fn refused(&self) -> u64 {
        self.lost() - self.lost.get("runs-skipped").copied().unwrap_or_default()
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sessions, found, complete, exact, ambiguous, invented, left_open, .. } = self;
        writeln!(f, "sessions {sessions}, found {found}, complete {complete}, exact {exact}, ambiguous {ambiguous}")?;
        let (wrong, overstated, lost) = (self.wrong.len(), self.overstated.len(), self.lost());
        writeln!(
            f,
            "wrong {wrong}, overstated {overstated}, invented {invented}, left open {left_open}, records lost {lost}"
        )?;
        if lost > 0 {
            writeln!(f, "lost {:?}", self.lost)?;
        }
        if !self.delays.is_empty() {
            writeln!(f, "delays in ms {:?}", self.delays)?;
        }
        writeln!(f, "{:20} {:>8} {:>8} {:>8}", "part", "right", "wrong", "missing")?;
        for (part, Count { right, wrong, missing }) in &self.parts {
            writeln!(f, "{:20} {right:>8} {wrong:>8} {missing:>8}", part.name())?;
        }
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        writeln!(f, "took {:.0} s", self.took.as_secs_f64())?;
        for (word, all) in [("WRONG", &self.wrong), ("OVERSTATED", &self.overstated)] {
            for one in all.iter().take(SHOWN) {
                writeln!(f, "{word}: {one}")?;
            }
            if all.len() > SHOWN {
                writeln!(f, "… and {} more", all.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}
