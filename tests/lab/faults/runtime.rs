//! What daemons on the node do.

use super::{Session, Stopped, left_over};
use crate::{env::lab, kubectl::Mode};

#[test]
fn f08_a_stopped_runtime_does_not_answer() {
    let _stopped = Stopped::new(lab().daemon("containerd"));
    let _session = Session::ask("exec sleep 600");
    left_over("F08");
}

#[test]
fn f09_a_stopped_shim_does_not_answer() {
    let session = Session::start(Mode::Stdin, "exec sleep 600");
    let _stopped = Stopped::new(session.pid("shim"));
    let second = Session::ask("exec sleep 600");
    second.is("F09");
}
