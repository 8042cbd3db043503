//! What clients do.

use super::{Session, Stopped, codes};
use crate::kubectl::Mode;

#[test]
fn f16_a_stopped_kubectl_does_not_read() {
    let session = Session::start(Mode::Plain, "sleep 3; exec yes");
    let _stopped = Stopped::new(session.kubectl().pid());
    session.is("F16");
}

#[test]
fn f23_a_shell_that_waits_for_input_is_no_fault() {
    let session = Session::start(Mode::Tty, "exec cat");
    let (exit, found) = session.diagnosed();
    assert_eq!((exit, codes(&found)), (Some(0), Vec::new()), "{found:#?}");
    assert!(found.iter().any(|verdict| verdict["code"] == "F23"), "{found:#?}");
}
