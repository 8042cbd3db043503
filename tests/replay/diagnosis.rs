//! Diagnoses of sample sessions, in each output format.

use std::{collections::BTreeSet, sync::Arc};

use execpath::{
    correlate::{Correlator, Options},
    diagnose::{diagnosis, verdicts},
    escape,
    model::{
        BootTime, Diagnosis, Fact, Health, Measures, Observation, ProcessMeasure, Report, Session, SessionId, Severity,
        SocketId, Source, Span, TcpInfo, TcpMeasure, TcpState, Timer, TimerKind,
    },
    record::Reader,
    sink::{
        Style,
        diagnosis::{self, Detail},
    },
};
use execpath_tests::samples::{self, after};

use crate::lab::recordings;

/// Times of the two samples.
const TAKEN: [BootTime; 2] = [samples::OPENED.plus(Span::from_secs(60)), samples::OPENED.plus(Span::from_secs(63))];

fn measured(at: BootTime, inode: u64, measure: TcpMeasure) -> Observation {
    let socket = SocketId::new(inode, inode);
    Observation::new(at, Source::Snapshot, Fact::TcpMeasured { socket, tuple: None, measure })
}

fn idle() -> TcpMeasure {
    let info = TcpInfo { bytes_acked: 5_000, bytes_received: 500_000, ..TcpInfo::default() };
    TcpMeasure { state: TcpState::Established, recv_q: 0, send_q: 0, timer: None, info: Some(info) }
}

fn named(id: &str) -> Session {
    Session { id: SessionId(id.into()), ..samples::whole() }
}

/// The session with sockets of its own.
fn apart(id: &str, by: u64) -> Session {
    let mut session = named(id);
    let moved = |socket: &mut Option<SocketId>| {
        let inode = socket.and_then(|socket| socket.inode).unwrap_or(0) + by;
        *socket = Some(SocketId::new(inode, inode));
    };
    for ends in session.links.iter_mut().filter_map(|link| link.tcp.as_mut()) {
        moved(&mut ends.near);
        moved(&mut ends.far);
    }
    session
}

/// A session with a stopped kubectl, a healthy one whose kubelet has leftovers, and one without samples.
fn report() -> Report {
    let mut measures = Measures::default();
    for at in TAKEN {
        let legs = [71_001, 71_002, 71_011, 71_012, 71_021, 71_022];
        for inode in legs.into_iter().flat_map(|inode| [inode, inode + 1_000]) {
            measures.take(&measured(at, inode, idle()));
        }
        let timer = Some(Timer { kind: TimerKind::Probe, expires_ms: 800, retries: 4 });
        measures.take(&measured(at, 71_001, TcpMeasure { recv_q: 65_536, ..idle() }));
        measures.take(&measured(at, 71_002, TcpMeasure { send_q: 2_565_120, timer, ..idle() }));
        let hops = samples::whole().hops;
        let stopped = ProcessMeasure { state: 'T', ..ProcessMeasure::default() };
        let measure = Fact::ProcessMeasured(Box::new(stopped));
        measures.take(&Observation::of(at, Source::Snapshot, hops[0].task, measure));
        let unlisted = Fact::SocketUnlisted { fd: 57, inode: 99_120 };
        measures.take(&Observation::of(at, Source::Snapshot, hops[2].task, unlisted));
    }
    let sessions = vec![named("s-4f9c2a"), apart("s-0b77e1", 1_000), apart("s-c01d99", 2_000)];
    Report { at: after(63_000), sessions, measures, ..Report::default() }
}

fn text(report: &Report, found: &Diagnosis) -> String {
    text_in(Detail::Every, report, found)
}

fn text_in(detail: Detail, report: &Report, found: &Diagnosis) -> String {
    let mut out = Vec::new();
    diagnosis::text(&mut out, Style { color: false }, &samples::header(), report, found, detail)
        .expect("memory can be written");
    String::from_utf8(out).expect("text")
}

fn json(found: &Diagnosis) -> String {
    let mut out = Vec::new();
    diagnosis::json(&mut out, &samples::header(), found).expect("memory can be written");
    String::from_utf8(out).expect("text")
}

#[test]
fn diagnosis_text_matches_snapshot() {
    let report = report();
    insta::assert_snapshot!("diagnosis.text", text(&report, &diagnosis(&report)));
}

/// Session ids at the beginning of lines, in their order.
fn printed(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("s-")).filter_map(|line| line.split(' ').next()).collect()
}

#[test]
fn faults_come_first_and_healthy_sessions_are_counted() {
    let report = report();
    let mut found = diagnosis(&report);
    // In the order of opening: healthy, faulty, in doubt.
    let [faulty, well, doubtful] = ["s-4f9c2a", "s-0b77e1", "s-c01d99"];
    let mut report = report;
    report.sessions.sort_by_key(|session| [well, faulty, doubtful].iter().position(|id| **id == *session.id.0));
    found.health.insert(SessionId(well.into()), Health::Ok);
    found.doubts.remove(&SessionId(well.into()));
    assert_eq!(printed(&text_in(Detail::Every, &report, &found)), [faulty, doubtful, well]);
    let brief = text_in(Detail::Trouble, &report, &found);
    assert_eq!(printed(&brief), [faulty, doubtful]);
    let last = brief.lines().last().expect("a summary");
    assert_eq!(last, "3 sessions, 2 faults, 1 in doubt, 1 without a fault (`--all` prints them)");
}

#[test]
fn diagnosis_json_matches_snapshot() {
    let parsed: serde_json::Value = serde_json::from_str(&json(&diagnosis(&report()))).expect("JSON");
    insta::assert_json_snapshot!("diagnosis.json", parsed);
}

#[test]
fn health_has_token_and_short_text() {
    let health = diagnosis(&report()).health;
    let words: Vec<_> = health.values().map(|health| (health.token(), health.short())).collect();
    // The common kubelet of all three has leftovers: no session is healthy.
    assert_eq!(words, [("unknown", "unknown"), ("F16", "slow reader"), ("unknown", "unknown")]);
    assert_eq!(Health::Waiting.token(), "waiting");
}

#[test]
fn diagnosis_lines_fit_except_commands() {
    let report = report();
    for line in text(&report, &diagnosis(&report)).lines().filter(|line| !line.contains("$ ")) {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn diagnosis_escapes_hostile_names() {
    const BAD: &str = "\x1b[2J\u{202e}\u{9b}31m\u{200b}x\r\n\x07";
    let mut report = report();
    for session in &mut report.sessions {
        session.id.0 = format!("{}{BAD}", session.id.0).into();
        Arc::make_mut(&mut session.target).pod = Some(BAD.into());
        session.command = [BAD.into()].into();
        for hop in &mut session.hops {
            Arc::make_mut(&mut hop.process).comm = BAD.into();
        }
    }
    let mut found = diagnosis(&report);
    for verdict in &mut found.verdicts {
        verdict.manual.push(BAD.to_owned());
        verdict.next.push(BAD.to_owned());
        for reading in &mut verdict.evidence {
            reading.what.push_str(BAD);
            reading.value = execpath::model::Value::Text(BAD.into());
        }
    }
    let text = text(&report, &found);
    assert!(!text.lines().any(|line| line.chars().any(escape::is_hidden)), "{text:?}");
    serde_json::from_str::<serde_json::Value>(&json(&found)).expect("JSON");
}

#[test]
fn empty_diagnosis_is_empty_array() {
    assert_eq!(json(&diagnosis(&Report::default())), "[]\n");
}

/// The recording of a session with a fault: kubectl is stopped during output.
const STOPPED: &str = "stopped";

/// Real sessions at every moment, including their beginnings and ends. Two of them have a fault, the others none.
#[test]
fn recorded_sessions_name_only_their_own_fault() {
    /// Observations between two reports: a report of many sessions is expensive.
    const EVERY: usize = 64;
    for (name, path) in recordings() {
        let mut named = BTreeSet::new();
        let mut reader = Reader::open(&path).expect("a recording");
        let options = Options { pairing: reader.header().pairing(), ..Options::default() };
        let mut correlator = Correlator::new(&reader.header().host.clone(), &options);
        let mut look = |correlator: &Correlator| {
            let found = verdicts(&correlator.report());
            named.extend(found.iter().filter(|one| one.severity == Severity::Fault).map(|one| one.code));
        };
        for (number, seen) in reader.by_ref().enumerate() {
            correlator.ingest(seen);
            if number % EVERY == 0 {
                look(&correlator);
            }
        }
        correlator.flush();
        look(&correlator);
        let expected = match &*name {
            // A stopped kubectl does not read.
            STOPPED => BTreeSet::from(["F16"]),
            "start-failed" => BTreeSet::from(["F41"]),
            _ => BTreeSet::new(),
        };
        assert_eq!(named, expected, "{name}");
    }
}
