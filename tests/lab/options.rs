//! Options of `trace` select the sessions and the output as documented.

use rustix::process::Signal;

use crate::{
    env::lab,
    kubectl::{Exec, mark},
    reported::{COMPLETE_PATH, ReportedSession},
    tracer::Tracer,
};

/// Runs one short session in each of three containers. Returns their marks.
fn three_sessions() -> [String; 3] {
    [("web", "web"), ("web", "side"), ("own-net", "own-net")].map(|(pod, container)| {
        let mark = mark();
        let exec = Exec { pod, container, ..Exec::sh(&format!("echo {mark}; sleep 0.2")) };
        assert!(exec.start().end().status.success());
        mark
    })
}

#[test]
fn filters_select_matching_sessions_only() {
    let mut all = Tracer::start(&[]);
    let mut pod = Tracer::start(&["--pod", "web"]);
    let mut container = Tracer::start(&["--namespace", "default", "--pod", "web", "--container", "side"]);
    let elsewhere = Tracer::start(&["--namespace", "kube-system"]);
    let [web, side, own_net] = three_sessions();
    for mark in [&web, &side, &own_net] {
        all.wait_for(mark, "is closed", ReportedSession::is_closed);
    }
    for mark in [&web, &side] {
        pod.wait_for(mark, "is closed", ReportedSession::is_closed);
    }
    container.wait_for(&side, "is closed", ReportedSession::is_closed);
    container.finish().holds_only(std::slice::from_ref(&side));
    pod.finish().holds_only(&[web.clone(), side.clone()]);
    all.finish().holds_only(&[web, side, own_net]);
    elsewhere.finish().holds_only(&[]);
}

#[test]
fn once_stops_after_first_complete_session() {
    let tracer = Tracer::start(&["--once"]);
    let mark = mark();
    let kubectl = Exec::sh(&format!("echo {mark}; sleep 1")).start();
    let trace = tracer.end();
    assert!(trace.session(&mark).is_complete());
    assert!(kubectl.end().status.success(), "the exit of a tracer does not disturb kubectl");
}

#[test]
fn duration_ends_trace_without_session() {
    let trace = Tracer::start(&["--duration", "300ms"]).end();
    trace.holds_only(&[]);
}

#[test]
fn sigterm_stops_trace_cleanly() {
    let tracer = Tracer::start(&[]);
    tracer.signal(Signal::TERM);
    tracer.end().lost_nothing();
}

#[test]
fn trace_of_one_host_ends_at_address_of_other_host() {
    let mut tracer = Tracer::start(&["--netns", "lab-w"]);
    let mark = mark();
    let kubectl = Exec::sh(&format!("echo {mark}; sleep 1")).start();
    let session = tracer.wait_for(&mark, "is complete", ReportedSession::is_complete);
    assert!(kubectl.end().status.success());
    tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
    assert_eq!(session.roles(), COMPLETE_PATH[2..], "{session:?}");
    assert_eq!(session.pid("kubelet"), Some(lab().daemon("kubelet")));
    assert_eq!(session.text("/confidence"), Some("exact"));
    let beyond = session.0["beyond"].as_array().expect("addresses");
    assert_eq!(beyond.len(), 1, "{beyond:?}");
    assert_eq!(beyond[0]["side"], "client");
    let address = beyond[0]["address"].as_str().expect("an address");
    assert!(address.starts_with("192.168.205.10:"), "the API server's host: {address}");
    tracer.finish().holds_only(&[mark]);
}

#[test]
fn tree_draws_every_hop() {
    let mut tracer = Tracer::start(&["-o", "tree=drawn"]);
    let mark = mark();
    let kubectl = Exec::sh(&format!("echo {mark}; exit 3")).start();
    assert_eq!(kubectl.end().status.code(), Some(3));
    let session = tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
    let trace = tracer.finish();
    let text = trace.read("drawn");
    for hop in session.hops() {
        let line = format!("pid {}", hop["pid"]);
        let role = hop["role"].as_str().expect("a role");
        assert!(text.lines().any(|drawn| drawn.contains(role) && drawn.contains(&line)), "{role}, {line}: {text}");
    }
    for leg in session.legs() {
        assert!(text.contains(&leg.remote.to_string()), "{leg:?}: {text}");
    }
    assert!(text.contains("exited with code 3"), "{text}");
}
