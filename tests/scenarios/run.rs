//! Each scenario gives the expected sessions.

use std::{collections::BTreeMap, fs, path::PathBuf};

use execpath::{
    correlate::Correlator,
    model::{BootTime, Change, ExitStatus, Fact, Finding, HostFacts, Observation, Report, SessionId, Source},
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

/// Times in milliseconds at which sessions of these facts were reported as closed, with kubectl's exit.
fn ends(facts: &[Observation], until_ms: u64) -> Vec<(u64, Option<ExitStatus>)> {
    let mut correlator = correlator();
    for fact in facts {
        correlator.ingest(fact.clone());
    }
    correlator.ingest(Observation::new(BootTime(until_ms * 1_000_000), Source::Engine, Fact::Tick));
    correlator.flush();
    let end = |finding: Finding| match finding.change {
        Change::Closed(session) => Some((finding.at.0 / 1_000_000, session.client_exit())),
        Change::Opened(_) | Change::Changed(_) | Change::Loss { .. } => None,
    };
    correlator.drain().into_iter().filter_map(end).collect()
}

/// A session ends with its command and its connections, and kubectl a little later.
#[test]
fn end_of_session_waits_for_kubectls_exit() {
    let text = texts().into_iter().find(|(name, _)| name == "client-ends-later.txt").expect("the scenario").1;
    let facts = read("client-ends-later.txt", &text, 0).facts();
    let is_exit = |fact: &Observation| matches!(fact.fact, Fact::Exit { .. }) && fact.at.0 >= 50_000_000;
    let stays: Vec<Observation> = facts.iter().filter(|fact| !is_exit(fact)).cloned().collect();
    assert_eq!(stays.len() + 1, facts.len());
    assert_eq!(ends(&facts, 1_000), [(51, Some(ExitStatus::Code(3)))]);
    assert_eq!(ends(&stays, 519), [(514, None)], "the recording ends before kubectl");
    // A kubectl that stays does not withhold the end.
    let later = |ms: u64| Observation::new(BootTime(ms * 1_000_000), Source::Engine, Fact::Tick);
    let ticks: Vec<Observation> = stays.into_iter().chain((60..2_000).step_by(10).map(later)).collect();
    let [(at, None)] = ends(&ticks, 2_000)[..] else { panic!("one end without kubectl's exit") };
    assert!((520..540).contains(&at), "{at}");
}
