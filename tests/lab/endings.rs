//! Every way for a session to end is reported correctly.

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    env::lab,
    kubectl::{Exec, Mode, mark},
    oracle::{Oracle, is_right},
    reported::ReportedSession,
    tracer::Tracer,
};

/// Runs an exec to its end. Returns its session as reported, and kubectl's exit code.
fn ended(exec: &Exec, mark: &str) -> (ReportedSession, Option<i32>) {
    let mut tracer = Tracer::start(&[]);
    let mut kubectl = exec.start();
    kubectl.close_stdin();
    let code = kubectl.end().status.code();
    let session = tracer.wait_for(mark, "is closed", ReportedSession::is_closed);
    tracer.finish().holds_only(&[mark.to_owned()]);
    (session, code)
}

#[test]
fn exit_code_equals_exit_code_of_kubectl() {
    let mark = mark();
    let (session, code) = ended(&Exec::sh(&format!("echo {mark}; exit 3")), &mark);
    assert_eq!(session.exit(), (Some(3), None, "exited"));
    assert_eq!(code, Some(3));
    assert!(session.is_complete());
}

#[test]
fn killed_process_reports_signal() {
    let mark = mark();
    let (session, code) = ended(&Exec::sh(&format!("echo {mark}; kill -9 $$")), &mark);
    assert_eq!(session.exit(), (None, Some(9), "signalled"));
    assert_eq!(code, Some(137));
    assert!(session.is_complete());
}

#[test]
fn missing_command_reports_start_failed() {
    let mark = mark();
    let (session, code) = ended(&Exec::of(&[&mark]), &mark);
    assert_eq!(session.exit(), (None, None, "start-failed"));
    assert_ne!(code, Some(0));
    assert!(session.is_complete(), "{session:?}");
    assert_eq!(session.roles(), ["kubectl", "apiserver", "kubelet", "runtime", "shim", "runc"]);
}

#[test]
fn closed_stdin_ends_cat_with_0() {
    let mark = mark();
    let mut tracer = Tracer::start(&[]);
    let exec = Exec { mode: Mode::Stdin, ..Exec::sh(&format!(": {mark}; cat; exit 0")) };
    let mut kubectl = exec.start();
    tracer.wait_for(&mark, "is complete", ReportedSession::is_complete);
    kubectl.write("through the whole path\n");
    kubectl.close_stdin();
    let pid = kubectl.pid();
    let ended = kubectl.end();
    assert!(ended.status.success(), "{ended:?}");
    assert!(ended.output.contains("through the whole path"), "{ended:?}");
    let session = tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
    is_right(&session, &exec, pid);
    assert_eq!(session.exit(), (Some(0), None, "exited"));
    tracer.finish().holds_only(&[mark]);
}

#[test]
fn killed_kubectl_reports_process_left_running() {
    let mark = mark();
    let mut tracer = Tracer::start(&[]);
    let exec = Exec::sh(&format!(": {mark}; sleep 600; exit 0"));
    let kubectl = exec.start();
    tracer.wait_for(&mark, "is complete", ReportedSession::is_complete);
    kubectl.signal(Signal::KILL);
    kubectl.end();
    let session = tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
    assert_eq!(session.exit(), (None, None, "unknown"));
    assert_eq!(session.gaps(), ["process-left-running"], "{session:?}");
    let process = session.pid("process").expect("a process");
    assert_eq!(Oracle::inspect().pid_of(&exec.command), Some(process), "the process is still running");
    // A child of the shim: no other process ends it.
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a pid");
    kill_process(pid, Signal::KILL).expect("the process is running");
    tracer.finish().holds_only(&[mark]);
}

#[test]
fn long_command_is_marked_truncated() {
    let mark = mark();
    let script = format!(": {mark}; sleep 1; : {}", "x".repeat(3_000));
    let exec = Exec::of(&["sh", "-c", &script, "one", "two"]);
    let mut tracer = Tracer::start(&[]);
    let kubectl = exec.start();
    let session = tracer.wait_for(&mark, "is complete", ReportedSession::is_complete);
    assert_eq!(Oracle::inspect().pid_of(&exec.command), session.pid("process"));
    assert_eq!(session.pid("kubelet"), Some(lab().daemon("kubelet")));
    assert!(kubectl.end().status.success());
    let session = tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
    assert_eq!(session.exit(), (Some(0), None, "exited"));
    assert_eq!(session.gaps(), [""; 0], "{session:?}");
    let command = session.command();
    assert_eq!(command[..2], ["sh", "-c"]);
    assert!(script.starts_with(command[2]) && command[2].len() < script.len(), "{command:?}");
    assert_eq!(session.0["command_truncated"], true, "{session:?}");
    tracer.finish().holds_only(&[mark]);
}
