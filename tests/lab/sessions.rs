//! Everyday sessions: each is reported once, complete and exact, as `ss`, `ps` and the runtime's files show it.

use crate::{
    env::{Version, lab, soak},
    kubectl::{Exec, Kubectl, Mode, mark},
    oracle::{Oracle, is_right},
    tracer::Tracer,
};

/// Runs per mode: half of them one after another, the others in groups.
const RUNS: usize = 20;
const FEW: usize = 5;
/// Size of a group of simultaneous runs.
const GROUP: usize = 5;

/// A session of one second and its mark. The shell execs its last command; the mark's digits in it make the process
/// unique for `ps`.
pub(crate) fn short(mode: Mode, version: Version) -> (String, Exec) {
    let mark = mark();
    let digits: String = mark.chars().filter(char::is_ascii_digit).collect();
    let exec = Exec { mode, version, ..Exec::sh(&format!("echo {mark}; sleep 1.0{digits}")) };
    (mark, exec)
}

/// Starts these sessions at once, compares them with the oracle while they run, and waits for their ends. Returns for
/// each session whether the oracle saw it in time: on a busy machine a second can be over before `ss` has looked.
fn watch(tracer: &mut Tracer, batch: &[(String, Exec)]) -> Vec<bool> {
    let running: Vec<Kubectl> = batch.iter().map(|(_, exec)| exec.start()).collect();
    let whole: Vec<_> =
        batch.iter().map(|(mark, _)| tracer.wait_for(mark, "is complete", |session| session.is_complete())).collect();
    let oracle = Oracle::inspect();
    let mut confirmed = Vec::new();
    for ((session, (_, exec)), kubectl) in whole.iter().zip(batch).zip(&running) {
        is_right(session, exec, kubectl.pid());
        let chain = [kubectl.pid(), lab().daemon("kube-apiserver"), lab().daemon("kubelet")];
        confirmed.push(oracle.confirms(session, exec, &chain).is_some());
    }
    for ((mark, exec), kubectl) in batch.iter().zip(running) {
        let pid = kubectl.pid();
        let ended = kubectl.end();
        assert!(ended.status.success() && ended.output.contains(mark.as_str()), "{ended:?}");
        let session = tracer.wait_for(mark, "is closed", |session| session.is_closed());
        is_right(&session, exec, pid);
        assert_eq!(session.exit(), (Some(0), None, "exited"));
    }
    confirmed
}

/// Runs sessions until `count` of them were confirmed while they ran.
fn all_of(count: usize, mode: Mode, version: Version) {
    let mut tracer = Tracer::start(&[]);
    let mut marks = Vec::new();
    let mut confirmed = 0;
    while confirmed < count {
        let group = if confirmed < count.div_ceil(2) { 1 } else { GROUP.min(count - confirmed) };
        let batch: Vec<_> = (0..group).map(|_| short(mode, version)).collect();
        confirmed += watch(&mut tracer, &batch).into_iter().filter(|confirmed| *confirmed).count();
        marks.extend(batch.into_iter().map(|(mark, _)| mark));
        assert!(marks.len() <= 3 * count, "the oracle is too slow: {confirmed} of {}", marks.len());
    }
    tracer.finish().holds_only(&marks);
    eprintln!("kubectl {version:?} {mode:?}: {} of {} sessions, {confirmed} confirmed", marks.len(), marks.len());
}

#[test]
fn twenty_execs_without_stdin_are_complete_and_exact() {
    all_of(RUNS, Mode::Plain, lab().newest());
}

#[test]
fn twenty_execs_with_stdin_are_complete_and_exact() {
    all_of(RUNS, Mode::Stdin, lab().newest());
}

#[test]
fn twenty_execs_with_terminal_are_complete_and_exact() {
    all_of(RUNS, Mode::Tty, lab().newest());
}

#[test]
fn websocket_fallback_is_one_session() {
    // The lab's API server refuses WebSocket: this kubectl makes two attempts, so two connections through the whole
    // path.
    let version = *lab().kubectls.iter().map(|(version, _)| version).find(|version| **version >= (1, 29)).expect("one");
    for mode in Mode::ALL {
        all_of(if soak() { RUNS } else { FEW }, mode, version);
    }
}

#[test]
fn oldest_kubectl_gives_exact_sessions() {
    for mode in Mode::ALL {
        all_of(RUNS, mode, lab().oldest());
    }
}

#[test]
fn pod_with_own_network_gives_exact_session() {
    let mut tracer = Tracer::start(&[]);
    let (mark, exec) = short(Mode::Stdin, lab().newest());
    let batch = [(mark.clone(), Exec { pod: "own-net", container: "own-net", ..exec })];
    watch(&mut tracer, &batch);
    let trace = tracer.finish();
    let session = trace.session(&mark);
    let process = session.hop("process").expect("a hop")["netns"].as_u64();
    assert!(process.is_some_and(|netns| netns != crate::oracle::netns("worker")), "{session:?}");
    trace.holds_only(&[mark]);
}

#[test]
fn sessions_of_two_users_and_containers_stay_separate() {
    let mut tracer = Tracer::start(&[]);
    let (first, exec) = short(Mode::Plain, lab().newest());
    let alice = Exec { user: "alice", uid: 0, container: "side", ..exec };
    let (second, admin) = short(Mode::Plain, lab().newest());
    watch(&mut tracer, &[(first.clone(), alice), (second.clone(), admin)]);
    tracer.finish().holds_only(&[first, second]);
}
