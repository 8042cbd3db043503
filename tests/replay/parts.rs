//! A recording in parts: all parts together equal the whole, and the last parts alone give the same sessions from their
//! start on.

use std::{
    collections::BTreeMap,
    fs,
    num::NonZero,
    path::{Path, PathBuf},
};

use execpath::{
    correlate::{Correlator, Options},
    engine::{Filter, Pump, Setup, Until},
    model::{BootTime, Fact, Observation, Session, Span},
    record::{End, Reader, RecordTarget, Rotate, Writer},
    redact::Redactor,
    sink::Header,
};
use execpath_tests::{binary::run, repeat::Repeat};

use crate::lab::recordings;

fn read(mut reader: Reader) -> (Vec<Observation>, End) {
    let seen = reader.by_ref().collect();
    (seen, reader.end().expect("the whole recording was read").clone())
}

/// Records the observations of another recording, as a trace would.
fn record(header: &execpath::record::Header, seen: &[Observation], place: RecordTarget) {
    let writer = Writer::begin(place, header).expect("the folder can be written");
    let setup = Setup {
        filter: Filter::default(),
        redactor: Redactor { keep_secrets: true, ..Redactor::default() },
        until: Until::Never,
        ..Setup::default()
    };
    let host = Header { host: header.host.clone(), ..Header::default() };
    let mut pump = Pump::new(setup, host, &Options::default(), Some(writer));
    for seen in seen {
        pump.take(seen.clone()).expect("the folder can be written");
    }
    pump.finish().expect("the folder can be written");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file").path()).collect();
    files.sort();
    files
}

fn sessions(header: &execpath::record::Header, seen: &[Observation]) -> BTreeMap<String, Session> {
    // Repeated facts of a part may be much older than its first tick.
    let options = Options { pairing: header.pairing(), ..Options::default() };
    let mut correlator = Correlator::new(&header.host, &options).started_before();
    for seen in seen {
        correlator.ingest(seen.clone());
        drop(correlator.wants());
        drop(correlator.drain());
    }
    correlator.flush();
    let sessions = correlator.report().sessions.into_iter();
    sessions.map(|session| (session.id.0.to_string(), Session { last_seen: BootTime(0), ..session })).collect()
}

/// Every recording, and a synthetic one with many sessions one after another.
fn all() -> Vec<(String, execpath::record::Header, Vec<Observation>)> {
    let mut all = Vec::new();
    for (name, path) in recordings() {
        let reader = Reader::open(&path).expect("a recording");
        let header = reader.header().clone();
        all.push((name, header, read(reader).0));
    }
    let (_, header, seen) = all.iter().find(|(name, ..)| name == "exit-3").expect("a recording").clone();
    let many = Repeat::new(&seen).copies(12).map(|seen| seen.expect("an observation")).collect();
    all.push(("exit-3, twelve times".to_owned(), header, many));
    all
}

#[test]
fn all_parts_equal_whole_recording() {
    for (name, header, seen) in all() {
        for ending in ["jsonl", "jsonl.zst"] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("a").with_extension(ending);
            let often = Rotate { age: Some(Span::from_millis(50)), ..Rotate::default() };
            record(&header, &seen, RecordTarget::create_parts(&path, often).expect("a place"));
            let mut files = files(folder.path());
            // The order of the arguments does not matter.
            files.reverse();
            let (again, end) = read(Reader::open_all(&files).expect("parts"));
            assert_eq!((again, end), (seen.clone(), End::Clean), "{name}, {} parts", files.len());
        }
    }
}

#[test]
fn last_parts_alone_give_same_sessions() {
    let mut most = 0;
    for (name, header, seen) in all() {
        let folder = tempfile::tempdir().expect("a folder");
        let often = Rotate { age: Some(Span::from_millis(20)), ..Rotate::default() };
        record(&header, &seen, RecordTarget::create_parts(&folder.path().join("a.jsonl"), often).expect("a place"));
        let whole = sessions(&header, &seen);
        let files = files(folder.path());
        most = most.max(files.len());
        for left in 1..files.len() {
            let rest = files.get(left..).expect("some are left");
            let reader = Reader::open_all(rest).expect("parts");
            let told_again = reader.header().part.expect("a part").told_again;
            let (seen, end) = read(reader);
            assert_eq!(end, End::Clean, "{name}");
            let begins = seen.get(usize::try_from(told_again).expect("a number")).map_or(BootTime(0), |seen| seen.at);
            let found = sessions(&header, &seen);
            for (id, session) in &found {
                assert_eq!(Some(session), whole.get(id), "{name}: {id} without the first {left} parts");
            }
            for (id, session) in &whole {
                let is_over = session.closed_at.is_some_and(|at| at < begins);
                assert!(is_over || found.contains_key(id), "{name}: {id} is lost with the first {left} parts");
            }
        }
    }
    assert!(most > 20, "{most}");
}

#[test]
fn repeated_facts_of_parts_stay_bounded() {
    let (_, header, seen) = all().into_iter().find(|(name, ..)| name == "exit-3").expect("a recording");
    let folder = tempfile::tempdir().expect("a folder");
    let often = Rotate { age: Some(Span::from_secs(1)), keep: NonZero::new(3), ..Rotate::default() };
    let many: Vec<Observation> = Repeat::new(&seen).copies(100).map(|seen| seen.expect("an observation")).collect();
    record(&header, &many, RecordTarget::create_parts(&folder.path().join("a.jsonl"), often).expect("a place"));
    let files = files(folder.path());
    assert_eq!(files.len(), 3, "as many as are kept");
    let last = Reader::open(files.last().expect("a file")).expect("a part");
    let part = last.header().part.expect("a part");
    assert!(part.number > 90, "{part:?}");
    assert!(part.told_again < 2 * seen.len() as u64, "{part:?}, of {}", seen.len());
}

#[test]
fn parts_of_different_recordings_are_refused() {
    let mut all = all().into_iter().filter(|(name, ..)| ["exit-3", "terminal"].contains(&name.as_str()));
    let (_, header, seen) = all.next().expect("a recording");
    let (_, other, others) = all.next().expect("another");
    let folder = tempfile::tempdir().expect("a folder");
    let often = Rotate { age: Some(Span::from_millis(20)), ..Rotate::default() };
    record(&header, &seen, RecordTarget::create_parts(&folder.path().join("a.jsonl"), often).expect("a place"));
    record(&other, &others, RecordTarget::create_parts(&folder.path().join("b.jsonl"), often).expect("a place"));
    let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let refused = |files: &[&str]| {
        let files: Vec<String> = files.iter().map(|name| file(name)).collect();
        let ran = run(["replay".to_owned()].into_iter().chain(files));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(5), ""));
        ran.stderr
    };
    let missing = refused(&["a.000001.jsonl", "a.000003.jsonl"]);
    assert!(missing.contains("it is part 3, but follows part 1"), "{missing}");
    let mixed = refused(&["a.000001.jsonl", "b.000002.jsonl"]);
    assert!(mixed.contains("it is a part of a different recording than the file before it"), "{mixed}");
    let ran = run(["replay", &file("a.000001.jsonl")]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("the recording continues in part 2"), "{}", ran.stderr);
}

#[test]
fn part_numbers_continue_after_existing_files() {
    let (_, header, seen) = all().into_iter().next().expect("a recording");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.jsonl");
    for _ in 0..2 {
        let seldom = Rotate { age: Some(Span::from_secs(1_000)), ..Rotate::default() };
        record(&header, &seen, RecordTarget::create_parts(&path, seldom).expect("a place"));
    }
    let files = files(folder.path());
    let names: Vec<String> =
        files.iter().map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect();
    assert_eq!(names, ["a.000001.jsonl", "a.000002.jsonl"]);
    let stopped = fs::read_to_string(files.first().expect("a file")).expect("a recording");
    assert!(stopped.trim_end().ends_with("\"fact\":\"stopped\"}"));
    assert!(seen.iter().any(|seen| seen.fact == Fact::Stopped));
}
