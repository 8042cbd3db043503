//! What commands do.

use std::process::Command;

use super::{Session, signal};
use crate::kubectl::Mode;
use rustix::process::Signal;

#[test]
fn f25_a_child_in_the_background_holds_the_output() {
    let session = Session::start(Mode::Plain, "sleep 2; sleep 600 & exit 0");
    session.is("F25");
    let _ended = Command::new("pkill").args(["-KILL", "-x", "-f", "sleep 600"]).status();
    signal(session.kubectl().pid(), Signal::TERM);
}
