//! What networks do.

use super::{Filter, Session, left_over};
use crate::{env::on, kubectl::Mode};

#[test]
fn f01_the_kubelets_port_is_not_reached() {
    let _filter = Filter::new("master", &["OUTPUT", "-p", "tcp", "--dport", "10250", "--syn", "-j", "DROP"]);
    let _session = Session::ask("sleep 600");
    left_over("F01");
}

#[test]
fn f17_a_box_in_between_forgot_the_connection() {
    let session = Session::start(Mode::Stdin, "exec sleep 600");
    let legs = session.listed().expect("it is listed")["links"].clone();
    let leg = legs.as_array().and_then(|links| links.iter().find(|link| link["kind"] == "tcp")).expect("a leg").clone();
    let address = leg["tcp"]["local"].as_str().expect("an address").to_owned();
    let port = address.rsplit(':').next().expect("a port");
    let _out = Filter::new("master", &["OUTPUT", "-p", "tcp", "--sport", "6443", "--dport", port, "-j", "DROP"]);
    let _in = Filter::new("master", &["INPUT", "-p", "tcp", "--dport", "6443", "--sport", port, "-j", "DROP"]);
    // What the box does to a connection that it takes for idle: one end is told, the other is not.
    let ended = on("master", "ss").args(["-K", "dport", "=", port]).output().expect("ss");
    assert!(ended.status.success(), "{ended:?}");
    session.is("F17");
}

#[test]
fn f18_the_path_to_the_node_is_gone() {
    let session = Session::start(Mode::Plain, "while sleep 0.2; do echo tick; done");
    let _filter = Filter::new("worker", &["INPUT", "-p", "tcp", "--dport", "10250", "-j", "DROP"]);
    session.is("F18");
}

#[test]
fn f19_large_segments_get_lost() {
    let session = Session::start(Mode::Plain, "sleep 2; exec yes");
    let _filter = Filter::new(
        "client",
        &["INPUT", "-p", "tcp", "--sport", "6443", "-m", "length", "--length", "700:65535", "-j", "DROP"],
    );
    session.is("F19");
}
