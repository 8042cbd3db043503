//! Each scenario gives the expected sessions.

use std::{collections::BTreeMap, fs, path::PathBuf};

use execpath::{
    correlate::Correlator,
    model::{BootTime, Change, Fact, Finding, HostFacts, Observation, Report, SessionId, Source},
};
use execpath_tests::scenario::{SETTLE, Scenario, options, parse, render};

/// Names and texts of the scenarios, sorted by name.
pub(crate) fn texts() -> Vec<(String, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(!paths.is_empty(), "there are scenarios");
    let text = |path: PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, fs::read_to_string(path).expect("text"))
    };
    paths.into_iter().map(text).collect()
}

pub(crate) fn read(name: &str, text: &str, cluster: u32) -> Scenario {
    parse(name, text, cluster).unwrap_or_else(|error| panic!("tests/scenarios/{error}"))
}

pub(crate) fn correlator() -> Correlator {
    Correlator::new(&HostFacts { boot_id: "a-boot".to_owned(), ..HostFacts::default() }, &options())
}

/// Lets time pass until all facts before `at` are processed.
pub(crate) fn settle(correlator: &mut Correlator, at: BootTime) {
    correlator.ingest(Observation::new(at.plus(SETTLE), Source::Engine, Fact::Tick));
}

/// Processes all facts at once. Returns the final report.
pub(crate) fn outcome(facts: &[Observation]) -> Report {
    let mut correlator = correlator();
    for fact in facts {
        correlator.ingest(fact.clone());
    }
    settle(&mut correlator, facts.iter().map(|fact| fact.at).max().unwrap_or_default());
    correlator.report()
}

#[test]
fn scenarios_give_expected_sessions() {
    let mut wrong = String::new();
    for (name, text) in texts() {
        let mut correlator = correlator();
        let mut findings = Vec::new();
        for checkpoint in read(&name, &text, 0).checkpoints {
            for fact in &checkpoint.facts {
                correlator.ingest(fact.clone());
            }
            settle(&mut correlator, checkpoint.facts.last().map(|fact| fact.at).unwrap_or_default());
            findings.extend(correlator.drain());
            let seen = render(&correlator.report(), 0);
            if seen != checkpoint.expected {
                wrong += &format!(
                    "tests/scenarios/{name}:{}: expected\n{}seen\n{seen}\n",
                    checkpoint.line, checkpoint.expected
                );
            }
        }
        check_findings(&name, &findings);
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Checks that a session opens once, then changes, then closes once.
fn check_findings(name: &str, findings: &[Finding]) {
    let mut states: BTreeMap<SessionId, &str> = BTreeMap::new();
    for finding in findings {
        match &finding.change {
            Change::Opened(session) => {
                let before = states.insert(session.id.clone(), "open");
                assert_eq!(before, None, "{name}: opened twice: {}", session.id.0);
            }
            Change::Changed(session) => {
                assert_eq!(states.get(&session.id), Some(&"open"), "{name}: changed while not open: {}", session.id.0);
            }
            Change::Closed(session) => {
                let before = states.insert(session.id.clone(), "closed");
                assert_eq!(before, Some("open"), "{name}: closed while not open: {}", session.id.0);
            }
            Change::Loss { .. } => {}
        }
    }
}
