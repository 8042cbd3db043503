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
pub(super) struct Asked {
    pub(super) scenario: Scenario,
    pub(super) expected: Expected,
}

/// One page, the minimum: a session has some dozens of records, and twenty sessions start at the same time.
const SMALL_RING: u32 = 4096;

/// All scenarios for this runtime. `oldest` is the oldest kubectl, which sends no heartbeats.
pub(super) fn all(scale: Scale, oldest: &str, runtime: Runtime) -> Vec<Asked> {
    let share = |count: u32| match scale {
        Scale::Tenth => count / 10,
        Scale::Whole => count,
    };
    let asked = |how, count, expected| Asked {
        scenario: Scenario { how, sessions: share(count), at_once: None, kubectl: None, ring_bytes: None },
        expected,
    };
    let by_oldest = |asked: Asked| Asked {
        scenario: Scenario { kubectl: Some(oldest.to_owned()), ..asked.scenario },
        expected: asked.expected,
    };
    let older_by_driver = match runtime {
        Runtime::Containerd => Expected::Whole,
        // dockerd's memory does not always show the connection of an idle exec (docs/limitations.md).
        Runtime::Docker => Expected::Counted,
    };
    // The newest kubectl tries WebSocket first. Such connections carry too few bytes for the oracle to identify them.
    let small = by_oldest(asked(How::Kubectl, 200, Expected::Losses));
    let small = Scenario { ring_bytes: Some(SMALL_RING), at_once: Some(20), ..small.scenario };
    vec![
        asked(How::Kubectl, 200, Expected::Whole),
        by_oldest(asked(How::Kubectl, 200, Expected::Whole)),
        asked(How::Short, 2_000, Expected::Whole),
        // Run it after the short sessions: kubelet and runtime clean up for minutes after a thousand of them, and
        // start nothing meanwhile.
        asked(How::Driver, 1_000, Expected::Whole),
        asked(How::Older, 50, Expected::Whole),
        by_oldest(asked(How::Older, 50, Expected::Whole)),
        asked(How::OlderDriver, 1_000, older_by_driver),
        Asked { scenario: small, expected: Expected::Losses },
    ]
}

#[cfg(test)]
mod tests {
    use super::{Runtime, Scale, all};

    #[test]
    fn a_tenth_is_a_tenth_of_each() {
        let (tenth, whole) =
            (all(Scale::Tenth, "1.20", Runtime::Containerd), all(Scale::Whole, "1.20", Runtime::Containerd));
        let sessions = |all: Vec<super::Asked>| all.iter().map(|asked| asked.scenario.sessions).collect::<Vec<_>>();
        assert_eq!(sessions(whole), sessions(tenth).iter().map(|count| count * 10).collect::<Vec<_>>());
    }

    #[test]
    fn no_two_have_the_same_name() {
        let mut names: Vec<String> =
            all(Scale::Tenth, "1.20", Runtime::Containerd).iter().map(|asked| asked.scenario.name()).collect();
        names.sort();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "{names:?}");
    }
}
