//! Healthy sessions have no fault, whatever their kind and at any time.

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use crate::{
    cleanup::clear,
    env::{lab, soak, wait_until},
    faults::{codes, diagnose, list},
    kubectl::{Exec, Kubectl, Mode, kubectl, mark},
};

/// Minimum time of repeated diagnoses.
const TIME: Duration = Duration::from_secs(60);
const SOAK: Duration = Duration::from_secs(600);
/// Number of sessions, without copies and the kubelet's own probes.
const SESSIONS: usize = 50;

fn of(arguments: &[&str]) -> Kubectl {
    let mut command = kubectl(lab().newest(), "admin", 0);
    Kubectl::start(command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()), None)
}

/// A mix of idle, slowly printing and busy execs.
fn execs() -> Vec<Kubectl> {
    let pods = [("web", "web"), ("web", "side"), ("own-net", "own-net"), ("probed", "probed")];
    let idle = ["exec cat", "exec sleep 3000", "exec sh -i", "while :; do echo busy; usleep 20000; done"];
    let versions = [lab().oldest(), lab().newest()];
    let all = (0..SESSIONS - OTHERS).map(|number| {
        let (pod, container) = pods[number % pods.len()];
        let (mode, script) = (Mode::ALL[number % Mode::ALL.len()], idle[number / Mode::ALL.len() % idle.len()]);
        // Without a terminal or stdin, some of these commands would end.
        let script = if mode == Mode::Plain { "while :; do echo busy; usleep 50000; done" } else { script };
        let version = versions[number % versions.len()];
        Exec { mode, pod, container, version, ..Exec::sh(&format!(": {}; {script}", mark())) }.start()
    });
    all.collect()
}

/// Number of attached, forwarding, log-following and fast-printing sessions.
const OTHERS: usize = 8;

fn others() -> Vec<Kubectl> {
    let port = 19_000 + std::process::id() % 1_000;
    let forward = format!("{port}:{port}");
    let flood = |container| of(&["exec", "web", "-c", container, "--", "yes"]);
    vec![
        of(&["attach", "-i", "web", "-c", "web"]),
        of(&["attach", "-i", "own-net"]),
        of(&["port-forward", "web", &forward]),
        of(&["logs", "--follow", "web", "-c", "web"]),
        of(&["logs", "--follow", "probed"]),
        flood("web"),
        flood("side"),
        of(&["exec", "-i", "own-net", "--", "cat"]),
    ]
}

#[test]
fn fifty_healthy_sessions_have_no_fault() {
    clear();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, vec![7; 8 << 20]).expect("a file");
    let (file, there) = (file.to_str().expect("UTF-8"), format!("web:/tmp/{}", mark()));
    let sessions: Vec<Kubectl> = others().into_iter().chain(execs()).collect();
    assert_eq!(sessions.len(), SESSIONS);
    let people = || list().iter().filter(|session| session["kind"] != "probe").count();
    wait_until("all sessions are open", || (people() >= SESSIONS).then_some(()));
    let mut copies = 0;
    let mut copy = of(&["cp", file, &there, "-c", "web"]);
    let end = Instant::now() + if soak() { SOAK } else { TIME };
    while Instant::now() < end {
        let (exit, found) = diagnose(&["diagnose"]);
        assert_eq!((exit, codes(&found)), (Some(0), Vec::new()), "{found:#?}");
        // Run one copy after another.
        if copy.has_ended() {
            copy = of(&["cp", file, &there, "-c", "web"]);
            copies += 1;
        }
    }
    assert!(copies > 0, "no copy finished in time");
    assert!(people() >= SESSIONS, "some sessions ended too early");
    drop((copy, sessions));
    clear();
}
