//! On a cluster that is busy with other things nothing is invented.

use std::time::{Duration, Instant};

use crate::{
    env::{lab, output, soak, xtask},
    kubectl::{Exec, Kubectl, kubectl, mark},
    said::Said,
    tracer::{Tracer, sessions},
};

/// How long the traffic goes on at least.
const TIME: Duration = Duration::from_secs(20);
const SOAK: Duration = Duration::from_secs(300);
/// Pods beside the standing ones.
const PODS: &str = "20";

fn of(arguments: &[&str]) -> Kubectl {
    Kubectl::start(kubectl(lab().newest(), "admin", 0).args(arguments).stdin(std::process::Stdio::null()), None)
}

#[test]
fn probes_watches_logs_gets_and_other_pods_make_no_exec() {
    let mut execs = Tracer::start(&["--kind", "exec"]);
    let mut all = Tracer::start(&["--kind", "all"]);
    let long = [
        of(&["get", "pods", "--watch"]),
        of(&["get", "events", "--watch"]),
        of(&["logs", "--follow", "web", "-c", "web"]),
        of(&["logs", "--follow", "probed"]),
    ];
    // Twenty pods start: their containers' first processes are no execs.
    output(&mut xtask(&["lab", "pods", PODS]));
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
        for mark in &marks {
            let said = tracer.wait_for(mark, "is closed", Said::is_closed);
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
    // Those that are followed; the others are over before they would be told of.
    let logs: Vec<&Said> = sessions.iter().filter(|said| said.text("/kind") == Some("logs")).collect();
    assert_eq!(logs.len(), 2, "{logs:?}");
    assert!(logs.iter().all(|said| said.roles() == ["kubectl", "apiserver"]), "{logs:?}");
    trace.lost_nothing();
    output(&mut xtask(&["lab", "pods", "0"]));
}
