//! What networks do.

use super::{Filter, Session, left_over};
use crate::kubectl::Mode;

#[test]
fn f01_the_kubelets_port_is_not_reached() {
    let _filter = Filter::new("master", &["OUTPUT", "-p", "tcp", "--dport", "10250", "--syn", "-j", "DROP"]);
    let _session = Session::ask("sleep 600");
    left_over("F01");
}

#[test]
fn f18_the_path_to_the_node_is_gone() {
    let session = Session::start(Mode::Plain, "while sleep 0.2; do echo tick; done");
    let _filter = Filter::new("worker", &["INPUT", "-p", "tcp", "--dport", "10250", "-j", "DROP"]);
    session.is("F18");
}
