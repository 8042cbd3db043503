//! Faults caused by networks.

use std::net::SocketAddr;

use super::{PacketFilter, Session, left_over};
use crate::{
    env::{on, output},
    kubectl::Mode,
};

/// A script that prints periodically, in small segments.
const TICKS: &str = "while sleep 0.2; do echo tick; done";

#[test]
fn f01_filter_blocks_port_of_kubelet() {
    let _filter = PacketFilter::new("master", &["OUTPUT", "-p", "tcp", "--dport", "10250", "--syn", "-j", "DROP"]);
    let _session = Session::ask("sleep 600");
    left_over("F01");
}

/// Closes one end of a connection without notifying the other.
fn cut(host: &'static str, local: SocketAddr, remote: SocketAddr) -> PacketFilter {
    let (own, other) = (local.port().to_string(), remote.port().to_string());
    let filter = PacketFilter::new(host, &["OUTPUT", "-p", "tcp", "--sport", &own, "--dport", &other, "-j", "DROP"]);
    let (local, remote) = (local.to_string(), remote.to_string());
    let closed = output(on(host, "ss").args(["-HKt", "src", &local, "dst", &remote]));
    assert_eq!(closed.lines().count(), 1, "one socket is closed: {closed}");
    filter
}

#[test]
fn f17_kubectl_waits_after_apiserver_end_is_gone() {
    let session = Session::start(Mode::Plain, "sleep 600; :");
    let leg = session.legs()[0];
    let _filter = cut("master", leg.remote, leg.local);
    session.is("F17");
}

#[test]
fn f17_apiserver_waits_after_kubectl_end_is_gone() {
    // A second session shows that the address belongs to this host.
    let _other = Session::start(Mode::Plain, "sleep 600; :");
    let session = Session::start(Mode::Plain, TICKS);
    let leg = session.legs()[0];
    let _filter = cut("client", leg.local, leg.remote);
    session.is("F17");
}

#[test]
fn f18_filter_blocks_open_connection_to_kubelet() {
    let session = Session::start(Mode::Plain, TICKS);
    let _filter = PacketFilter::new("master", &["OUTPUT", "-p", "tcp", "--dport", "10250", "-j", "DROP"]);
    session.is("F18");
}

#[test]
fn f19_filter_drops_large_segments_of_kubelet() {
    let mut session = Session::start(Mode::Stdin, "read go; exec yes");
    let from_kubelet = ["INPUT", "-p", "tcp", "--sport", "10250"];
    let large = ["-m", "length", "--length", "700:65535", "-j", "DROP"];
    let _filter = PacketFilter::new("master", &[from_kubelet.as_slice(), large.as_slice()].concat());
    session.kubectl_mut().write("go\n");
    session.is("F19");
}
