//! All scenarios, as data: a tenth of each for every change, all of it for published figures.

use super::scenario::{How, Scenario};
use crate::lab::state::Runtime;

/// Size of a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Scale {
    /// A tenth of each scenario, in a few minutes.
    Tenth,
    /// Every scenario in full.
    Whole,
}

/// Expected result, besides no wrong finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// Every session complete, and no loss.
    Whole,
    /// Any number of sessions, without failing.
    Counted,
    /// Losses, and a report of each.
    Losses,
}

/// A scenario and its expected result.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) scenario: Scenario,
    pub(super) expected: Expected,
}

/// One page, the minimum: a session has some dozens of records, and twenty sessions start at the same time.
const SMALL_RING: u32 = 4096;

/// All scenarios for this runtime. `oldest` is the oldest kubectl, which sends no heartbeats.
pub(super) fn all(scale: Scale, oldest: &str, runtime: Runtime) -> Vec<Entry> {
    let share = |count: u32| match scale {
        Scale::Tenth => count / 10,
        Scale::Whole => count,
    };
    let entry = |how, count, expected| Entry {
        scenario: Scenario { how, sessions: share(count), at_once: None, kubectl: None, ring_bytes: None },
        expected,
    };
    let by_oldest = |entry: Entry| Entry {
        scenario: Scenario { kubectl: Some(oldest.to_owned()), ..entry.scenario },
        expected: entry.expected,
    };
    let older_by_driver = match runtime {
        Runtime::Containerd => Expected::Whole,
        // dockerd's memory does not always show the connection of an idle exec (docs/limitations.md).
        Runtime::Docker => Expected::Counted,
    };
    // The newest kubectl tries WebSocket first. Such connections carry too few bytes for the oracle to identify them.
    let small = by_oldest(entry(How::Kubectl, 200, Expected::Losses));
    let small = Scenario { ring_bytes: Some(SMALL_RING), at_once: Some(20), ..small.scenario };
    vec![
        entry(How::Kubectl, 200, Expected::Whole),
        by_oldest(entry(How::Kubectl, 200, Expected::Whole)),
        // Not after a thousand sessions: kubelet and runtime clean up for minutes and start nothing meanwhile.
        Entry { scenario: small, expected: Expected::Losses },
        entry(How::Short, 2_000, Expected::Whole),
        entry(How::Driver, 1_000, Expected::Whole),
        entry(How::Older, 50, Expected::Whole),
        by_oldest(entry(How::Older, 50, Expected::Whole)),
        entry(How::OlderDriver, 1_000, older_by_driver),
    ]
}

#[cfg(test)]
mod tests {
    use super::{Runtime, Scale, all};

    #[test]
    fn tenth_has_a_tenth_of_each_scenario() {
        let (tenth, whole) =
            (all(Scale::Tenth, "1.20", Runtime::Containerd), all(Scale::Whole, "1.20", Runtime::Containerd));
        let sessions = |all: Vec<super::Entry>| all.iter().map(|entry| entry.scenario.sessions).collect::<Vec<_>>();
        assert_eq!(sessions(whole), sessions(tenth).iter().map(|count| count * 10).collect::<Vec<_>>());
    }

    #[test]
    fn scenario_names_are_unique() {
        let mut names: Vec<String> =
            all(Scale::Tenth, "1.20", Runtime::Containerd).iter().map(|entry| entry.scenario.name()).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
    }
}
