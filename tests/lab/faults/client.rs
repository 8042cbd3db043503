//! Faults caused by clients.

use std::process::{Child, Stdio};

use super::{Session, StoppedProcess, codes, diagnose};
use crate::{
    env::{lab, on, output, wait_until},
    kubectl::{Exec, Kubectl, Mode, kubectl, mark},
    relay::{relay, through},
};

#[test]
fn f06_relay_holds_back_streams_after_upgrade() {
    // kubectl's first connection asks for the pod. On the second one kubectl sends its certificate in three records,
    // and its request in the fourth.
    let _relay = relay(&["--hold", "2:4"]);
    let session = Session::ask_by(Exec { version: lab().oldest(), globals: through(), ..Exec::sh("sleep 600") });
    session.is("F06");
}

#[test]
fn f16_stopped_kubectl_does_not_read() {
    let session = Session::start(Mode::Plain, "sleep 3; exec yes");
    let _stopped = StoppedProcess::new(session.kubectl().pid());
    session.is("F16");
}

#[test]
fn f23_shell_waiting_for_input_is_no_fault() {
    let session = Session::start(Mode::Tty, "exec cat");
    let (exit, found) = session.diagnosed();
    assert_eq!((exit, codes(&found)), (Some(0), Vec::new()), "{found:#?}");
    assert!(found.iter().any(|verdict| verdict["code"] == "F23"), "{found:#?}");
}

#[test]
fn f28_stopped_kubelet_keeps_connection_of_gone_client() {
    let mut session = Session::start(Mode::Stdin, "sleep 600; :");
    // With bytes on their way, the API server would reset the connection.
    session.rests();
    let _stopped = StoppedProcess::new(lab().daemon("kubelet"));
    session.kill_client();
    session.is("F28");
}

#[test]
fn f28_stopped_kubelet_keeps_connection_that_was_reset() {
    let mut session = Session::start(Mode::Plain, "sleep 3; exec yes");
    let _client = StoppedProcess::new(session.kubectl().pid());
    session.is("F16");
    let _stopped = StoppedProcess::new(lab().daemon("kubelet"));
    // The API server has bytes that it could not pass on: it closes its connection to the kubelet with a reset.
    session.kill_client();
    // A reset connection has no addresses, and belongs to no session.
    session.is("F33");
    let kubelet = lab().daemon("kubelet");
    let reading = wait_until("F28 of the kubelet", || {
        let (_, found) = diagnose(&["diagnose"]);
        let leak = found.into_iter().find(|verdict| verdict["code"] == "F28" && verdict["pid"] == kubelet)?;
        Some(leak["evidence"][0]["what"].clone())
    });
    assert_eq!(reading, "descriptors of TCP sockets that are in no kernel table");
}

/// A program on kubectl's host with a connection to a forwarded port, killed on drop.
pub(super) struct LocalClient(Child);

impl LocalClient {
    /// Connects and runs the shell script, with the connection as descriptor 3.
    pub(super) fn start(port: u32, script: &str) -> Self {
        let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port}; {script}");
        let mut client = on("client", "bash");
        Self(client.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("bash"))
    }
}

impl Drop for LocalClient {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn f40_unread_connection_blocks_port_forward() {
    let (mark, port) = (mark(), 19_000 + std::process::id() % 1_000);
    // A server in the pod that prints without end on each connection. It ends with its stdin.
    let script = format!("nc -ll -p {port} -e yes & cat; kill $!; pkill -x yes; : {mark}");
    let mut server = Exec { mode: Mode::Stdin, ..Exec::sh(&script) }.start();
    let listens = |host: &str| {
        let text = output(on(host, "ss").args(["-tlnH", &format!("sport = :{port}")]));
        (!text.is_empty()).then_some(())
    };
    wait_until("nc listens", || listens("worker"));
    let mut forward = kubectl(lab().newest(), "admin", 0);
    let forward = forward.args(["port-forward", "web", &format!("{port}:{port}")]).stdin(Stdio::null());
    let forward = Kubectl::start(forward, None);
    wait_until("kubectl listens", || listens("client"));
    let pid = forward.pid().to_string();
    let found = || diagnose(&["diagnose", &pid]);
    // All programs read: a busy port-forward is no fault.
    let reader = LocalClient::start(port, "exec cat <&3");
    wait_until("the session is diagnosed", || found().0.filter(|exit| *exit == 0));
    let blocking = LocalClient::start(port, "exec cat");
    let verdict = wait_until("F40", || {
        let (exit, found) = found();
        let faults = codes(&found);
        let verdict = found.into_iter().find(|verdict| verdict["code"] == "F40")?;
        assert_eq!((exit, faults), (Some(10), vec!["F40".to_owned()]), "{verdict:#}");
        Some(verdict)
    });
    let evidence = verdict["evidence"].as_array().expect("evidence");
    let others = evidence.iter().find(|one| one["what"] == "other connections of this port-forward");
    assert_eq!(others.map(|one| &one["value"]), Some(&serde_json::json!(1)), "{verdict:#}");
    // The others go on once the program that does not read has ended.
    drop(blocking);
    wait_until("the port-forward goes on", || found().0.filter(|exit| *exit == 0));
    // Every program reads, and kubectl does not: another fault.
    let stopped = StoppedProcess::new(forward.pid());
    let faults = wait_until("F16", || Some(codes(&found().1)).filter(|faults| !faults.is_empty()));
    assert_eq!(faults, ["F16"]);
    drop((stopped, reader, forward));
    server.close_stdin();
    server.end();
}
