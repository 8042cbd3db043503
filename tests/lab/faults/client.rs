//! Faults caused by clients.

use super::{Session, StoppedProcess, codes};
use crate::{
    env::lab,
    kubectl::{Exec, Mode},
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
    let _stopped = StoppedProcess::new(lab().daemon("kubelet"));
    session.kill_client();
    session.is("F28");
}
