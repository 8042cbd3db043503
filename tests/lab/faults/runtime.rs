//! What daemons on the node do.

use super::{Session, Stopped, left_over};
use crate::env::lab;

#[test]
fn f08_a_stopped_runtime_does_not_answer() {
    let _stopped = Stopped::new(lab().daemon("containerd"));
    let _session = Session::ask("exec sleep 600");
    left_over("F08");
}
