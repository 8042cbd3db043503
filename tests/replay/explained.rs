//! Explanations of each variant of the path, and rules for every text.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use execpath::{
    correlate::{Correlator, Options},
    explain::{Explanation, Step, explain, glossary, steps},
    model::{BootTime, Fact, HostFacts, Link, Observation, Report, Session, SocketId, Source, Span},
    record::Reader,
    sink::{self, Style},
};
use execpath_tests::{
    samples::{self, CaptureWriter},
    scenario,
};

use crate::lab::recordings;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// The report at the end of a scenario.
fn outcome(name: &str) -> Report {
    let text = fs::read_to_string(folder().join(format!("{name}.txt"))).expect("a scenario");
    let scenario = scenario::parse(name, &text, 0).expect("a valid scenario");
    let host = HostFacts { boot_id: "a-boot".to_owned(), ..HostFacts::default() };
    let mut correlator = Correlator::new(&host, &scenario::options());
    let facts: Vec<Observation> = scenario.checkpoints.into_iter().flat_map(|checkpoint| checkpoint.facts).collect();
    let end = facts.iter().map(|fact| fact.at).max().unwrap_or_default();
    for fact in facts {
        correlator.ingest(fact);
    }
    correlator.ingest(Observation::new(end.plus(scenario::SETTLE), Source::Engine, Fact::Tick));
    correlator.report()
}

fn scenarios() -> Vec<String> {
    let files = fs::read_dir(folder()).expect("the folder").map(|file| file.expect("a file").path());
    let text = files.filter(|path| path.extension().is_some_and(|extension| extension == "txt"));
    let mut names: Vec<String> = text.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    assert!(names.len() > 50, "{names:?}");
    names
}

fn recorded() -> Vec<Session> {
    let sessions = recordings().into_iter().flat_map(|(_, path)| {
        let mut reader = Reader::open(&path).expect("a recording");
        let options = Options { pairing: reader.header().pairing(), ..Options::default() };
        let mut correlator = Correlator::new(&reader.header().host.clone(), &options);
        reader.by_ref().for_each(|seen| correlator.ingest(seen));
        correlator.flush();
        correlator.report().sessions
    });
    sessions.collect()
}

fn every_session() -> Vec<Session> {
    let mut sessions = recorded();
    sessions.extend(scenarios().iter().flat_map(|name| outcome(name).sessions));
    sessions
}

fn explanations(session: &Session) -> Vec<(Step, Explanation)> {
    let each = |step| (step, explain(session, step).expect("every listed step has an explanation"));
    steps(session).into_iter().map(each).collect()
}

/// Output of the sink for a final report.
fn shown(report: &Report) -> String {
    let kept = CaptureWriter::default();
    let format = sink::format("explain").expect("a format");
    let mut sink = (format.open)(Box::new(kept.clone()), Style { color: false });
    sink.host(&samples::header()).expect("memory can be written");
    sink.finish(report).expect("memory can be written");
    kept.text()
}

#[test]
fn explanations_of_path_variants_match_snapshots() {
    for name in [
        "containerd",
        "dockershim",
        "cri-dockerd",
        "crio",
        "conmon-rs",
        "kubelet-translates",
        "konnectivity",
        "k3s",
        "microshift",
        "proxy-in-front",
        "client-on-another-host",
        "attach",
        "port-forward",
        "logs",
        "probe",
        "docker-exec",
        "process-left-running",
        "older-idle",
    ] {
        let mut text = String::new();
        for session in outcome(name).sessions {
            for (step, explanation) in explanations(&session) {
                text.push_str(&format!("{step:?}  {}\n", explanation.title));
                let prose = [&explanation.what, &explanation.why].into_iter().filter(|text| !text.is_empty());
                let unknown = explanation.unknown.iter().map(|text| format!("    ? {text}\n"));
                text.extend(prose.map(|text| format!("    {text}\n")).chain(unknown));
                text.extend(
                    explanation.manual.iter().map(|manual| format!("    $ {}  # {}\n", manual.command, manual.shows)),
                );
            }
        }
        insta::assert_snapshot!(format!("explained.{name}"), text);
    }
}

#[test]
fn every_step_has_an_explanation() {
    for session in every_session() {
        let explained = explanations(&session);
        let count = 1 + session.hops.len() + session.links.len() + session.beyond.len() + session.gaps.len();
        assert_eq!(explained.len(), count, "{}: each step is explained once", session.id.0);
        for (step, explanation) in explained {
            assert!(!explanation.title.is_empty() && !explanation.what.is_empty(), "{step:?} of {session:?}");
            assert_eq!(
                matches!(step, Step::Link(_)),
                !explanation.known.is_empty(),
                "{step:?}: links name their evidence"
            );
            for text in explanation.prose() {
                assert_eq!(text, text.trim(), "{step:?}");
                assert!(!text.contains("  "), "{step:?}: {text}");
            }
        }
    }
}

#[test]
fn missing_steps_have_no_explanation() {
    let session = samples::whole();
    for step in [Step::Hop(99), Step::Link(99), Step::Gap(0), Step::Beyond(0)] {
        assert_eq!(explain(&session, step), None);
    }
}

/// Numbers in a command must come from the session.
#[test]
fn explained_commands_use_numbers_of_session() {
    for session in every_session() {
        let mut known: BTreeSet<u64> = session.hops.iter().map(|hop| u64::from(hop.task.tgid)).collect();
        known.extend(session.links.iter().flat_map(numbers));
        known.extend(session.beyond.iter().flat_map(|(_, address)| parts(&address.to_string())));
        known.extend(parts(session.exec_id.as_deref().unwrap_or_default()));
        for (step, explanation) in explanations(&session) {
            for manual in explanation.manual {
                let made_up: Vec<u64> =
                    parts(&manual.command).into_iter().filter(|part| !known.contains(part)).collect();
                assert!(made_up.is_empty(), "{step:?}: {made_up:?} in {}", manual.command);
            }
        }
    }
}

fn numbers(link: &Link) -> Vec<u64> {
    let ends = |one: Option<SocketId>| one.and_then(|end| end.inode);
    let tcp = link.tcp.map(|tcp| u64::from(tcp.tuple.local.port()));
    let relay = link.relay.into_iter().flat_map(|(from, to)| [ends(Some(from)), ends(Some(to))]);
    let unix = link.unix.iter().flat_map(|(_, near, far)| [ends(Some(*near)), ends(Some(*far))]);
    tcp.into_iter().chain(relay.chain(unix).flatten()).collect()
}

/// The numbers in a text.
fn parts(text: &str) -> Vec<u64> {
    text.split(|character: char| !character.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// Words of explanations are in the glossary or plain. People decide on plain words: the snapshot has all words outside
/// the glossary.
#[test]
fn explanations_use_glossary_or_plain_words() {
    let mut plain = BTreeSet::new();
    for session in every_session() {
        for (_, explanation) in explanations(&session) {
            for text in explanation.prose().filter(|text| !explanation.title.ends_with(*text)) {
                let mut rest = text.to_owned();
                for (_, place) in glossary::places(text).into_iter().rev() {
                    rest.replace_range(place, " ");
                }
                // Names, addresses and numbers come from the session; commands and paths are quoted.
                let quoted: String = rest.split('`').step_by(2).collect();
                let words =
                    quoted.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit() || c == '/'));
                plain.extend(words.map(|word| word.trim_matches(|c: char| !c.is_alphabetic()).to_owned()));
            }
        }
    }
    let jargon: Vec<&String> =
        plain.iter().filter(|word| word.chars().filter(|c| c.is_uppercase()).count() > 1).collect();
    assert!(jargon.is_empty(), "not in tracer/src/explain/glossary.rs: {jargon:?}");
    let plain: BTreeSet<String> =
        plain.into_iter().map(|word| word.to_lowercase()).filter(|word| !word.is_empty()).collect();
    insta::assert_snapshot!("explained.plain-words", plain.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn explanations_fit_eighty_columns() {
    let mut report = Report { at: BootTime(u64::MAX), ..Report::default() };
    report.sessions = every_session().into_iter().filter(|session| session.closed_at.is_none()).collect();
    report.sessions.push(samples::whole());
    let text = shown(&report);
    let explanation = text
        .split("step by step")
        .skip(1)
        .flat_map(|block| block.lines().skip(1).take_while(|line| !line.starts_with('▸')));
    let prose: Vec<&str> = explanation.filter(|line| !line.trim_start().starts_with("$ ")).collect();
    assert!(prose.len() > 1_000, "{}", prose.len());
    // A word longer than a line, such as an exec id, cannot be broken.
    let wide =
        prose.iter().find(|line| line.chars().count() > 80 && line.split_whitespace().all(|word| word.len() < 60));
    assert_eq!(wide, None);
}

#[test]
fn complete_session_is_explained_once() {
    let kept = CaptureWriter::default();
    let format = sink::format("explain").expect("a format");
    let mut sink = (format.open)(Box::new(kept.clone()), Style { color: false });
    sink.host(&samples::header()).expect("memory can be written");
    for (index, finding) in samples::life().iter().enumerate() {
        sink.change(finding).expect("memory can be written");
        let whole = index + 2 >= samples::life().len();
        assert_eq!(kept.text().matches("step by step").count(), usize::from(whole), "{index}");
    }
}

#[test]
fn incomplete_session_is_explained_after_a_second() {
    let kept = CaptureWriter::default();
    let format = sink::format("explain").expect("a format");
    let mut sink = (format.open)(Box::new(kept.clone()), Style { color: false });
    for (at, times) in [(999, 0), (Span::from_secs(1).as_millis(), 1), (5_000, 1)] {
        let finding = samples::finding(at, execpath::model::Change::Changed, samples::partial(3));
        sink.change(&finding).expect("memory can be written");
        assert_eq!(kept.text().matches("step by step").count(), times, "{at}");
    }
}
