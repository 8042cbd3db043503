//! `ls`, `show`, `diagnose` and `watch` report the same sessions at one moment.

use std::{collections::BTreeMap, path::PathBuf};

use execpath::{
    engine::{Filter, Kinds, Playback, Setup, Until},
    model::{BootTime, Health, Kind, Report, Session, Severity, Span, State, Verdict},
    record::Reader,
    redact::Redactor,
    watch::Player,
};
use execpath_tests::binary::{Ran, run};
use serde_json::Value;

use crate::lab;

/// Moments per recording, spread evenly.
const MOMENTS: u64 = 6;

/// Every lab recording, and every field recording except attacks on the reader.
fn recordings() -> Vec<(String, PathBuf)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("recordings/field");
    let field = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let field = field.filter_map(|path| {
        let name = path.file_name()?.to_str()?.strip_suffix(".jsonl.zst")?.to_owned();
        (!name.starts_with("hostile")).then_some((name, path))
    });
    let mut all: Vec<_> = lab::recordings().into_iter().chain(field).collect();
    all.sort();
    all
}

fn everything() -> Filter {
    Filter { kinds: Kinds::All, ..Filter::default() }
}

/// Properties that must be equal: kind, roles with pids, exec id, health.
type Row = (Kind, Vec<(&'static str, u32)>, Option<String>, Health);

fn rows(report: &Report) -> BTreeMap<String, Row> {
    let row = |session: &Session| {
        let hops = session.hops.iter().map(|hop| (hop.role.token(), hop.task.tgid)).collect();
        let exec = session.exec_id.as_deref().map(str::to_owned);
        (session.kind, hops, exec, report.diagnosis.health[&session.id])
    };
    let open = report.sessions.iter().filter(|session| session.state == State::Open);
    open.map(|session| (session.id.0.to_string(), row(session))).collect()
}

/// The screen of a live trace shows the sessions of `ls`. On a recording, the screen also goes back in time.
#[test]
fn screen_equals_ls_at_every_moment() {
    for (name, path) in recordings() {
        let mut player = Player::open(&path, everything(), Redactor::default()).expect("a recording");
        let (from, to) = player.span();
        let step = to.since(from).0 / MOMENTS;
        let mut shown = |at: BootTime| {
            player.seek(at);
            loop {
                if let Some(report) = player.play(1_000).expect("the recording is read again") {
                    return rows(&report);
                }
            }
        };
        // Backwards: each step replays the recording from its start.
        for number in (1..=MOMENTS).rev() {
            let at = from.plus(Span(number * step));
            let setup = Setup {
                filter: everything(),
                redactor: Redactor::default(),
                until: Until::Never,
                sinks: Vec::new(),
                ..Setup::default()
            };
            let mut playback =
                Playback::new(Reader::open(&path).expect("a recording"), setup).expect("the recording plays");
            playback.to(at).expect("the recording plays");
            assert_eq!(shown(at), rows(&playback.status().report), "{name} after {number}/{MOMENTS}");
        }
    }
}

/// True if the diagnosis names a fault of a session.
fn has_fault<'a>(mut verdicts: impl Iterator<Item = &'a Verdict>) -> bool {
    verdicts.any(|verdict| verdict.session.is_some() && verdict.severity == Severity::Fault)
}

#[test]
fn screen_opens_at_first_fault_or_session() {
    let mut faulty = 0;
    for (name, path) in recordings() {
        let mut player = Player::open(&path, everything(), Redactor::default()).expect("a recording");
        player.seek_beginning();
        let report = loop {
            if let Some(report) = player.play(1_000).expect("the recording is read again") {
                break report;
            }
        };
        let setup = Setup { filter: everything(), ..Setup::default() };
        let mut whole = Playback::new(Reader::open(&path).expect("a recording"), setup).expect("the recording plays");
        whole.to_the_end().expect("the recording plays");
        let last = whole.status_of_whole(true).report;
        if has_fault(last.diagnosis.all()) {
            assert!(has_fault(report.diagnosis.verdicts.iter()), "{name} opens without its fault");
            faulty += 1;
        } else {
            assert_eq!(report.sessions.is_empty(), last.sessions.is_empty(), "{name}");
        }
        let first = whole.first_fault().or(whole.first_session());
        let (from, to) = player.span();
        assert_eq!(first.unwrap_or(from).clamp(from, to), player.moment(), "{name}");
    }
    assert!(faulty >= 5, "{faulty} recordings have a fault");
}

fn json(ran: &Ran) -> Value {
    assert!(matches!(ran.code, Some(0 | 10)), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).expect("JSON")
}

/// The same with the commands: `show` equals `ls`, and the health in `ls` is the fault of `diagnose`.
#[test]
fn ls_show_and_diagnose_agree_at_one_moment() {
    for (name, path) in recordings() {
        let player = Player::open(&path, everything(), Redactor::default()).expect("a recording");
        let (from, to) = player.span();
        let at = format!("+{}ms", to.since(from).as_millis() * 2 / 3);
        let file = path.to_string_lossy();
        let of =
            |command: &[&str]| json(&run(command.iter().copied().chain(["--from", &file, "--at", &at, "-o", "json"])));
        let (listed, found) = (of(&["ls", "--kind", "all"]), of(&["diagnose"]));
        let listed = listed.as_array().expect("an array");
        for session in listed {
            let id = session["id"].as_str().expect("an id");
            let own = found.as_array().expect("an array").iter().find(|verdict| verdict["session"] == id);
            let word = own.map(|verdict| match verdict["code"].as_str() {
                Some("F23") => "waiting",
                code => code.expect("a code"),
            });
            let health = session["health"].as_str().expect("a word");
            assert!(word == Some(health) || (word.is_none() && matches!(health, "ok" | "unknown")), "{name} {id}");
        }
        for session in listed.iter().take(2) {
            let shown = of(&["show", session["id"].as_str().expect("an id")]);
            assert_eq!(shown, Value::Array(vec![session.clone()]), "{name}");
        }
    }
}
