//! A busy cluster does not produce invented sessions.

use std::time::{Duration, Instant};

use crate::{
    env::{lab, output, soak, xtask},
    kubectl::{Exec, Kubectl, kubectl, mark},
    said::Said,
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
            let told: Vec<Said> = sessions(lines).into_values().filter(Said::is_closed).collect();
            let of = |mark: &String| told.iter().find(|said| said.has(mark)).cloned();
            marks.iter().map(of).collect::<Option<Vec<Said>>>()
        });
        for said in closed {
            assert!(said.is_complete(), "{said:?}");
            assert_eq!(said.text("/confidence"), Some("exact"), "{said:?}");
        }
    }
    let probes = all.wait("ten probes", |lines| {
        let probes: Vec<Said> = sessions(lines)
            .into_values()
            .filter(|said| said.text("/kind") == Some("probe") && said.is_closed())
            .collect();
        (probes.len() >= 10).then_some(probes)
    });
    for said in &probes {
        assert_eq!(said.text("/target/pod"), Some("probed"), "{said:?}");
        assert_eq!(said.command(), ["true"], "{said:?}");
        assert_eq!(said.exit(), (Some(0), None, "exited"), "{said:?}");
        assert!(said.is_complete(), "{said:?}");
        assert_eq!(said.roles(), ["runtime", "shim", "runc", "process"], "{said:?}");
    }
    let began = all.wait("the starts of the pods", |lines| {
        let starts: Vec<Said> = sessions(lines).into_values().filter(is_start_of_noise).collect();
        (starts.len() >= usize::from(PODS) && starts.iter().all(Said::is_complete)).then_some(starts)
    });
    for said in &began {
        let path = ["kubelet", "runtime", "shim", "runc", "process", "runc", "process"];
        assert_eq!(said.roles(), path, "{said:?}");
        assert_eq!(said.text("/confidence"), Some("exact"), "{said:?}");
    }
    drop(long);
    let trace = execs.finish();
    trace.holds_only(&marks);
    assert!(trace.sessions().iter().all(|said| said.text("/kind") == Some("exec")));
    let trace = all.finish();
    let sessions = trace.sessions();
    let execs = sessions.iter().filter(|said| said.text("/kind") == Some("exec"));
    for said in execs {
        assert!(said.is_anothers() || marks.iter().any(|mark| said.has(mark)), "invented: {said:?}");
    }
    // Only the two followed logs are reported; the others end too early.
    let logs: Vec<&Said> = sessions.iter().filter(|said| said.text("/kind") == Some("logs")).collect();
    assert_eq!(logs.len(), 2, "{logs:?}");
    assert!(logs.iter().all(|said| said.roles() == ["kubectl", "apiserver"]), "{logs:?}");
    // Hops: kubectl, the API server, and its etcd.
    let requests: Vec<&Said> = sessions.iter().filter(|said| said.text("/kind") == Some("request")).collect();
    let gets: Vec<&&Said> = requests.iter().filter(|said| said.command().ends_with(&["get", "pods"])).collect();
    assert!(gets.len() >= marks.len(), "{} of {}", gets.len(), marks.len());
    let reaches_etcd = |said: &&&&Said| said.hop("etcd").is_some();
    // The first request triggers the query for the peers of the API server's connections. It may end before the answer
    // arrives.
    let since = gets
        .iter()
        .filter(reaches_etcd)
        .filter_map(|said| said.text("/opened_at"))
        .min()
        .expect("a request that reaches etcd");
    for said in gets {
        let roles = ["kubectl", "apiserver", "etcd"];
        let known = if said.text("/opened_at") < Some(since) { &roles[..2] } else { &roles };
        assert_eq!(said.roles(), known, "{said:?}");
        assert_eq!(said.exit(), (Some(0), None, "exited"), "{said:?}");
    }
    trace.lost_nothing();
    output(&mut xtask(&["lab", "pods", "0"]));
}

fn is_start_of_noise(said: &Said) -> bool {
    said.text("/kind") == Some("start") && said.text("/target/pod").is_some_and(|pod| pod.starts_with("noise-"))
}
