//! A trace on an overloaded machine.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use execpath::{
    model::{Fact, Observation},
    record::Reader,
};
use execpath_tests::binary;
use rustix::process::{Pid, Signal, kill_process};

/// Number of busy processes beside the tracer.
const LOAD: usize = 90;
/// Limit for the start of a trace, and for its end after a signal. A slower start is reported.
const WITHIN: Duration = Duration::from_secs(2);

/// Busy processes, killed on drop.
struct Busy(Vec<Child>);

impl Busy {
    fn start(count: usize) -> Self {
        let spin = || Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("sh starts");
        Self((0..count).map(|_| spin()).collect())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // The process does not exit by itself.
            let _killed = child.kill();
        }
        for child in &mut self.0 {
            let _status = child.wait();
        }
    }
}

fn interrupt(tracer: &mut Child) -> Duration {
    let begun = Instant::now();
    kill_process(Pid::from_child(tracer), Signal::INT).expect("execpath is running");
    tracer.wait().expect("execpath exits");
    begun.elapsed()
}

fn recorded(path: &Path) -> Vec<Observation> {
    Reader::open(path).expect("a recording").collect()
}

#[test]
fn trace_at_load_90_starts_in_time_or_reports_late_start() {
    let _busy = Busy::start(LOAD);
    let folder = tempfile::tempdir().expect("a folder");
    let recording = folder.path().join("recording.jsonl");
    let mut tracer = binary::command()
        .args(["trace", "-o", "jsonl", "--record"])
        .arg(&recording)
        .stdout(Stdio::piped())
        .spawn()
        .expect("execpath starts");
    let mut stdout = BufReader::new(tracer.stdout.take().expect("stdout"));
    let mut header = String::new();
    stdout.read_line(&mut header).expect("the header");
    assert!(header.contains("host"), "the first line is the header: {header}");
    let ended = interrupt(&mut tracer);
    assert!(ended < WITHIN, "SIGINT ended it after {ended:?}");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("stdout can be read");
    let seen = recorded(&recording);
    let first = seen.first().expect("at least one fact").at;
    let ticked = seen.iter().find(|seen| seen.fact == Fact::Tick).expect("a tick").at;
    let took = Duration::from_millis(ticked.since(first).as_millis());
    let is_reported = rest.contains("late-start");
    eprintln!("first tick after {took:?}, SIGINT took {ended:?}, reported late: {is_reported}");
    assert!(took < WITHIN || is_reported, "the start took {took:?} and was not reported: {rest}");
}

#[test]
fn signal_ends_starting_trace_at_load_90() {
    let _busy = Busy::start(LOAD);
    for after in [20, 100, 300, 700] {
        let mut tracer =
            binary::command().args(["trace", "-o", "jsonl"]).stdout(Stdio::null()).spawn().expect("execpath starts");
        std::thread::sleep(Duration::from_millis(after));
        let ended = interrupt(&mut tracer);
        assert!(ended < WITHIN, "SIGINT after {after} ms ended it after {ended:?}");
    }
}

#[test]
fn session_at_load_90_is_complete() {
    let _busy = Busy::start(LOAD);
    let ran = binary::finish(binary::command().args(["demo", "-o", "jsonl", "--", "true"]));
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stderr, ran.stdout);
    let closed = ran.stdout.lines().find(|line| line.contains("session.closed")).expect("a session");
    let closed: serde_json::Value = serde_json::from_str(closed).expect("JSON");
    assert_eq!(closed["session"]["complete"], true, "{closed:#}");
    assert_eq!(closed["session"]["gaps"], serde_json::json!([]), "{closed:#}");
}
