//! Where the start of a session takes its time: the parts are the whole, and no unseen rung is given a share.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use execpath::{
    engine::{self, Filter, Flow, Kinds, Setup},
    model::{BootTime, Change, Finding, Report, Rung, RungState, Session},
    record::Reader,
    sink::{Header, Sink},
};
use execpath_tests::binary::run;
use serde_json::Value;

/// Every recording of the repository but attacks on the reader.
fn recordings() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
    let folders = ["", "field", "hosts", "crowds"].map(|name| root.join(name));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("a folder"));
    let is_recording = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        (name.ends_with(".jsonl.zst") || name.ends_with(".jsonl")) && !name.starts_with("hostile")
    };
    let mut found: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).filter(is_recording).collect();
    found.sort();
    found
}

/// Keeps every reported state of every session.
#[derive(Clone, Default)]
struct States(Arc<Mutex<Vec<Arc<Session>>>>);

impl Sink for States {
    fn host(&mut self, _header: &Header) -> io::Result<()> {
        Ok(())
    }

    fn change(&mut self, finding: &Finding) -> io::Result<()> {
        if let Change::Opened(session) | Change::Changed(session) | Change::Closed(session) = &finding.change {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(session));
        }
        Ok(())
    }

    fn finish(&mut self, _report: &Report) -> io::Result<()> {
        Ok(())
    }
}

fn states(path: &Path) -> Vec<Arc<Session>> {
    let kept = States::default();
    let setup = Setup {
        filter: Filter { kinds: Kinds::All, ..Filter::default() },
        sinks: vec![Box::new(kept.clone())],
        ..Setup::default()
    };
    let mut reader = Reader::open(path).expect("a recording");
    engine::replay(&mut reader, setup, |_at| Flow::Continue).expect("the recording plays");
    std::mem::take(&mut *kept.0.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The known times of a session's rungs, without those of older things.
fn times(session: &Session) -> Vec<(Rung, BootTime)> {
    let attempt = session.attempt.as_ref().expect("an attempt");
    let is_known = |state| matches!(state, RungState::Reached | RungState::Failed | RungState::Waiting);
    let known = attempt.rungs.iter().filter(|one| is_known(one.state)).filter_map(|one| Some((one.rung, one.at?)));
    known.collect()
}

#[test]
fn parts_of_every_start_are_its_wall_time() {
    let (mut checked, mut rungs, mut unused) = (0_usize, BTreeSet::new(), 0_usize);
    for path in recordings() {
        for session in states(&path) {
            let Some(start) = session.waterfall() else { continue };
            let name = format!("{} {}", path.display(), session.id.0);
            let times = times(&session);
            let at = |rung: Rung| times.iter().find(|(one, _)| *one == rung).map(|(_, at)| *at).expect("a known time");
            let (first, last) = (&start.parts[0], &start.parts[start.parts.len() - 1]);
            assert_eq!(start.wall(), at(last.to).since(at(first.from)), "{name}");
            assert!(at(last.to) >= at(first.from), "{name}");
            let mut next = (first.from, at(first.from));
            for part in &start.parts {
                // Each part begins at the rung and the time at which the one before ended.
                assert_eq!((part.from, part.begun), next, "{name}");
                next = (part.to, at(part.to));
                assert_eq!(part.begun.plus(part.lasted), next.1, "{name}");
                rungs.extend([part.from, part.to]);
            }
            // A rung with a known time ends a part or is not used, and then its time contradicts its place.
            let used = |rung| rung == first.from || start.parts.iter().any(|part| part.to == rung);
            for (rung, time) in times.iter().filter(|(rung, _)| !used(*rung) && *rung != Rung::Ended) {
                let is_of_client = *rung == Rung::ClientStarted;
                let is_late =
                    start.parts.iter().any(|part| part.from < *rung && *time < part.begun) || *time < at(last.to);
                assert!(is_of_client || is_late, "{name}: {rung:?} is known and not used");
                unused += usize::from(!is_of_client);
            }
            checked += 1;
        }
    }
    assert!(checked > 500, "{checked} states of sessions");
    let expected = [Rung::ClientStarted, Rung::Connected, Rung::ApiserverAccepted, Rung::KubeletDialled];
    assert!(expected.iter().all(|rung| rungs.contains(rung)), "{rungs:?}");
    for rung in [Rung::KubeletAccepted, Rung::StreamDialled, Rung::FifosMade, Rung::RuncStarted, Rung::Executed] {
        assert!(rungs.contains(&rung), "{rung:?}");
    }
    assert_eq!(unused, 0, "no recording of the repository has a contradicting time");
}

/// Numbers of the JSON, as a program would add them.
#[test]
fn json_has_the_figures_of_each_start() {
    let mut checked = 0;
    for path in recordings() {
        let ran = run(["replay", &path.to_string_lossy(), "--kind", "all", "-o", "json"]);
        let sessions: Value = serde_json::from_str(&ran.stdout).expect("an array");
        for session in sessions.as_array().expect("an array") {
            let start = &session["attempt"]["start"];
            let Some(parts) = start["parts"].as_array() else { continue };
            let lasted: u64 = parts.iter().map(|part| part["lasted_ns"].as_u64().expect("a number")).sum();
            assert_eq!(start["wall_ns"].as_u64(), Some(lasted), "{session}");
            let rungs = session["attempt"]["rungs"].as_array().expect("rungs");
            let at = |token: &Value| rungs.iter().find(|one| one["rung"] == *token).map(|one| &one["at"]);
            for unseen in parts.iter().flat_map(|part| part["unseen"].as_array().expect("an array")) {
                // Never attributed: no time of it is known.
                assert!(at(unseen).is_none_or(Value::is_null), "{unseen}: {session}");
            }
            checked += 1;
        }
    }
    assert!(checked > 100, "{checked}");
}

/// The same with each picture and drawing.
#[test]
fn start_is_drawn_wherever_a_session_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings/terminal.jsonl.zst");
    let path = path.to_string_lossy();
    let printed = |arguments: &[&str]| {
        let ran = run(arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        ran.stdout
    };
    let sessions: Value = serde_json::from_str(&printed(&["replay", &path, "-o", "json"])).expect("an array");
    let parts = sessions[0]["attempt"]["start"]["parts"].as_array().expect("parts").clone();
    let rungs: Vec<&str> = parts.iter().map(|part| part["to"].as_str().expect("a rung")).collect();
    for drawn in [printed(&["replay", &path, "-v"]), printed(&["show", "--from", &path, "--at", "+300ms", "web"])] {
        let rows: Vec<&str> = drawn.lines().filter_map(|line| line.strip_prefix("    ")).collect();
        // The command runs once it is executed: that part has no length and no row.
        for rung in rungs.iter().filter(|rung| **rung != "running") {
            assert!(rows.iter().any(|row| row.split_whitespace().next() == Some(*rung)), "{rung}:\n{drawn}");
        }
    }
    assert!(!printed(&["replay", &path]).contains("not seen:"), "only with -v");

    let trace: Value = serde_json::from_str(&printed(&["render", &path, "-o", "perfetto"])).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    let slices: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X" && event["tid"] == 1).collect();
    let named: Vec<&str> = slices.iter().map(|slice| slice["name"].as_str().expect("a name")).collect();
    assert_eq!(named, rungs);
    for (slice, part) in slices.iter().zip(&parts) {
        assert_eq!(slice["args"]["lasted_ns"], part["lasted_ns"]);
    }
    assert!(printed(&["render", &path, "-o", "html"]).contains("\"start\":[{\"from\":\"client-started\""));
}
