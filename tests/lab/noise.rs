//! A busy cluster does not produce invented sessions.

use std::time::{Duration, Instant};

use crate::{
    env::{lab, output, soak, xtask},
    kubectl::{Exec, Kubectl, kubectl, mark},
    reported::ReportedSession,
    tracer::{Tracer, sessions},
};

/// Minimum duration of the traffic.
const TIME: Duration = Duration::from_secs(20);
const SOAK: Duration = Duration::from_secs(300);
/// Number of pods beside the standing ones.
const PODS: u8 = 20;

fn of(arguments: &[&str]) -> Kubectl {
    Kubectl::start(kubectl(lab().newest(), "admin", 0).args(arguments).stdin(std::process::Stdio::null()), None)
}

#[test]
fn busy_cluster_reports_no_invented_exec() {
    let mut execs = Tracer::start(&["--kind", "exec"]);
    let mut all = Tracer::start(&["--kind", "all"]);
    let long = [
        of(&["get", "pods", "--watch"]),
        of(&["get", "events", "--watch"]),
        of(&["logs", "--follow", "web", "-c", "web"]),
        of(&["logs", "--follow", "probed"]),
    ];
    // Twenty pods start: the first processes of their containers are starts, not execs.
    output(&mut xtask(&["lab", "pods", &PODS.to_string()]));
    let mut marks = Vec::new();
    let end = Instant::now() + if soak() { SOAK } else { TIME };
    while Instant::now() < end {
        let mark = mark();
        let exec = Exec::sh(&format!("echo {mark}")).start();
        for arguments in [&["get", "pods"][..], &["get", "nodes", "-o", "json"], &["logs", "noise-3"], &["version"]] {
            assert!(of(arguments).end().status.success(), "{arguments:?}");
        }
        assert!(exec.end().status.success());
        marks.push(mark);
    }
    for tracer in [&mut execs, &mut all] {
        // Check all marks in one pass: each look goes through all lines reported so far.
        let closed = tracer.wait("all are closed", |lines| {
            let reported: Vec<ReportedSession> =
                sessions(lines).into_values().filter(ReportedSession::is_closed).collect();
            let of = |mark: &String| reported.iter().find(|session| session.has(mark)).cloned();
            marks.iter().map(of).collect::<Option<Vec<ReportedSession>>>()
        });
        for session in closed {
            assert!(session.is_complete(), "{session:?}");
            assert_eq!(session.text("/confidence"), Some("exact"), "{session:?}");
        }
    }
    check_probes(&mut all);
    check_starts(&mut all);
    drop(long);
    let trace = execs.finish();
    trace.holds_only(&marks);
    assert!(trace.sessions().iter().all(|session| session.text("/kind") == Some("exec")));
    let trace = all.finish();
    let sessions = trace.sessions();
    let execs = sessions.iter().filter(|session| session.text("/kind") == Some("exec"));
    for session in execs {
        assert!(session.is_anothers() || marks.iter().any(|mark| session.has(mark)), "invented: {session:?}");
    }
    check_logs_and_requests(&sessions, marks.len());
    trace.lost_nothing();
    output(&mut xtask(&["lab", "pods", "0"]));
}

/// Checks the sessions of ten probes.
fn check_probes(all: &mut Tracer) {
    let probes = all.wait("ten probes", |lines| {
        let probes: Vec<ReportedSession> = sessions(lines)
            .into_values()
            .filter(|session| session.text("/kind") == Some("probe") && session.is_closed())
            .collect();
        (probes.len() >= 10).then_some(probes)
    });
    for session in &probes {
        assert_eq!(session.text("/target/pod"), Some("probed"), "{session:?}");
        assert_eq!(session.command(), ["true"], "{session:?}");
        assert_eq!(session.exit(), (Some(0), None, "exited"), "{session:?}");
        assert!(session.is_complete(), "{session:?}");
        assert_eq!(session.roles(), ["runtime", "shim", "runc", "process"], "{session:?}");
    }
}

/// Checks the sessions of the pods' starts.
fn check_starts(all: &mut Tracer) {
    let began = all.wait("the starts of the pods", |lines| {
        let starts: Vec<ReportedSession> = sessions(lines).into_values().filter(is_start_of_noise).collect();
        (starts.len() >= usize::from(PODS) && starts.iter().all(ReportedSession::is_complete)).then_some(starts)
    });
    for session in &began {
        let path = ["kubelet", "runtime", "shim", "runc", "process", "runc", "process"];
        assert_eq!(session.roles(), path, "{session:?}");
        assert_eq!(session.text("/confidence"), Some("exact"), "{session:?}");
    }
}

/// Checks the sessions of followed logs, and those of at least `count` requests.
fn check_logs_and_requests(sessions: &[ReportedSession], count: usize) {
    // Only the two followed logs are reported; the others end too early.
    let logs: Vec<&ReportedSession> = sessions.iter().filter(|session| session.text("/kind") == Some("logs")).collect();
    assert_eq!(logs.len(), 2, "{logs:?}");
    assert!(logs.iter().all(|session| session.roles() == ["kubectl", "apiserver"]), "{logs:?}");
    // Hops: kubectl, the API server, and its etcd.
    let requests: Vec<&ReportedSession> =
        sessions.iter().filter(|session| session.text("/kind") == Some("request")).collect();
    let gets: Vec<&&ReportedSession> =
        requests.iter().filter(|session| session.command().ends_with(&["get", "pods"])).collect();
    assert!(gets.len() >= count, "{} of {}", gets.len(), count);
    let reaches_etcd = |session: &&&&ReportedSession| session.hop("etcd").is_some();
    // The first request triggers the query for the peers of the API server's connections. It may end before the answer
    // arrives.
    let since = gets
        .iter()
        .filter(reaches_etcd)
        .filter_map(|session| session.text("/opened_at"))
        .min()
        .expect("a request that reaches etcd");
    for session in gets {
        let roles = ["kubectl", "apiserver", "etcd"];
        let known = if session.text("/opened_at") < Some(since) { &roles[..2] } else { &roles };
        assert_eq!(session.roles(), known, "{session:?}");
        assert_eq!(session.exit(), (Some(0), None, "exited"), "{session:?}");
    }
}

fn is_start_of_noise(session: &ReportedSession) -> bool {
    session.text("/kind") == Some("start") && session.text("/target/pod").is_some_and(|pod| pod.starts_with("noise-"))
}
