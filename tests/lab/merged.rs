//! Merged recordings of single hosts give the same sessions as one recording of all hosts.

use std::path::{Path, PathBuf};

use execpath::model::Span;
use execpath_tests::{
    binary,
    merged::{OtherHost, essence},
};
use serde_json::Value;

use crate::{
    env::lab,
    kubectl::{Exec, Kubectl, Mode, mark},
    reported::ReportedSession,
    tracer::{Trace, Tracer},
};

const HOSTS: [&str; 3] = ["client", "master", "worker"];

/// Sessions of the test.
const ALL: usize = 13;
/// Sessions that start at the same time. They keep both processors busy, so that servers accept their connections late and
/// together, which measures no clock. The other sessions have the machine to themselves: their connections measure it.
const AT_ONCE: usize = 8;

/// Reported sessions with these marks, in the order of the marks.
fn reported(recording: &Path, marks: &[String]) -> Vec<String> {
    let ran = binary::run(["replay".as_ref(), recording.as_os_str(), "-o".as_ref(), "json".as_ref()]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    let sessions: Vec<Value> = serde_json::from_str(&ran.stdout).expect("an array");
    let of = |mark: &String| {
        let own: Vec<&Value> =
            sessions.iter().filter(|one| one["command"].to_string().contains(&format!("echo {mark};"))).collect();
        assert_eq!(own.len(), 1, "{mark}: {own:#?}");
        own.into_iter().map(|one| format!("{:#}", essence(one))).collect()
    };
    marks.iter().map(of).collect()
}

fn merge(files: &[PathBuf], into: &Path) -> String {
    let mut merge = binary::command();
    merge.arg("merge").args(files).arg("-o").arg(into);
    let ran = binary::finish(&mut merge);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    ran.stderr
}

#[test]
fn merged_hosts_equal_one_recording_of_all() {
    let mut tracers: Vec<Tracer> = HOSTS.iter().map(|host| Tracer::start(&["--netns", &lab().netns[*host]])).collect();
    let mut whole = Tracer::start(&[]);
    let marks: Vec<String> = (0..ALL).map(|_| mark()).collect();
    let modes = [Mode::Plain, Mode::Stdin, Mode::Tty];
    let versions = [lab().oldest(), lab().newest()];
    let start = |(index, mark): (usize, &String)| {
        let mut kubectl = Exec {
            mode: modes[index % modes.len()],
            version: versions[index % versions.len()],
            ..Exec::sh(&format!("echo {mark}; sleep 1; exit {index}"))
        }
        .start();
        if index % modes.len() == 1 {
            kubectl.close_stdin();
        }
        kubectl
    };
    let at_once: Vec<_> = marks.iter().enumerate().take(AT_ONCE).map(start).collect();
    let ended = at_once.into_iter().map(Kubectl::end);
    // Each starts after the end of the one before.
    let one_by_one = marks.iter().enumerate().skip(AT_ONCE).map(|indexed| start(indexed).end());
    for (index, kubectl) in ended.chain(one_by_one).enumerate() {
        assert_eq!(kubectl.status.code(), i32::try_from(index).ok());
    }
    for mark in &marks {
        whole.wait_for(mark, "is closed", ReportedSession::is_closed);
        // The node's side alone knows the command, too.
        tracers[2].wait_for(mark, "is closed", ReportedSession::is_closed);
    }
    let whole = whole.finish();
    let traces: Vec<Trace> = tracers.into_iter().map(Tracer::finish).collect();
    let files: Vec<PathBuf> = traces.iter().map(|trace| trace.path("recording.jsonl.zst")).collect();
    let expected = reported(&whole.path("recording.jsonl.zst"), &marks);
    assert!(expected.iter().all(|one| one.contains("\"complete\": true")), "{expected:#?}");

    let folder = tempfile::tempdir().expect("a folder");
    let merged = folder.path().join("merged.jsonl.zst");
    let report = merge(&files, &merged);
    assert_eq!(reported(&merged, &marks), expected, "{report}");

    // The same again, as if each host had a kernel and a clock of its own.
    let clocks = [(0, 0), (500, 180), (20, 60)];
    let apart = files.iter().zip(HOSTS).zip(clocks).map(|((file, hostname), (boot_lead, utc_lead))| {
        OtherHost { hostname, boot_lead: Span::from_secs(boot_lead), utc_lead: Span::from_secs(utc_lead) }
            .record(file, folder.path())
    });
    let apart: Vec<PathBuf> = apart.collect();
    let merged = folder.path().join("apart.jsonl.zst");
    let report = merge(&apart, &merged);
    assert_eq!(reported(&merged, &marks), expected, "{report}");
    for (host, off) in [("master", "180.0"), ("worker", "60.0")] {
        let line = report.lines().find(|line| line.starts_with(host)).expect("a line");
        assert!(line.contains(&format!("clock was {off}")), "{report}");
    }
}
