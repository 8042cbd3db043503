//! Faults caused by networks.

use std::net::SocketAddr;

use execpath_tests::{binary, nats::is_installed};
use serde_json::Value;

use super::{PacketFilter, Session, left_over};
use crate::{
    cluster::Cluster,
    env::{on, output, wait},
    kubectl::Mode,
    reported::ReportedSession,
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
fn reader_of_the_stream_names_a_blocked_kubelet() {
    if !is_installed() {
        return;
    }
    let cluster = Cluster::start();
    let mut reader = cluster.follow();
    let open = Session::start(Mode::Plain, TICKS);
    let whole = reader.wait_for(&open.mark, "is whole", ReportedSession::is_complete);
    let _filter = PacketFilter::new("master", &["OUTPUT", "-p", "tcp", "--dport", "10250", "-j", "DROP"]);
    let new = Session::ask("sleep 600");
    let held_up = reader.wait_for(&new.mark, "waits for the kubelet", |session| {
        let rungs = session.0["attempt"]["rungs"].as_array().into_iter().flatten();
        rungs.last().is_some_and(|rung| rung["rung"] == "kubelet-dialled" && rung["state"] == "waiting")
    });
    assert_eq!(held_up.text("/attempt/reached"), Some("apiserver-accepted"), "{held_up:?}");
    let mut latest = Vec::new();
    let named = wait(|| {
        let ran = binary::run(["diagnose", "--from", &cluster.address, "-o", "json"]);
        let found: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap_or_default();
        // Connections of earlier tests can be left, and fail now.
        let is_own = |verdict: &Value| [&whole, &held_up].iter().any(|own| verdict["session"] == own.id());
        latest = found.into_iter().filter(|one| one["severity"] == "fault" && is_own(one)).collect();
        ["F01", "F18"].iter().all(|code| latest.iter().any(|fault| fault["code"] == *code)).then_some(())
    });
    let is_expected = |fault: &Value| {
        let session = if fault["code"] == "F01" { &held_up } else { &whole };
        ["F01", "F18"].contains(&fault["code"].as_str().unwrap_or_default()) && fault["session"] == session.id()
    };
    assert!(named.is_some() && latest.iter().all(is_expected), "{whole:?}\n{held_up:?}\n{latest:#?}");
    let blocked = latest.iter().find(|fault| fault["code"] == "F18").expect("checked above");
    // The connection, by one of its processes.
    let leg = whole.legs()[1];
    let ends = [&blocked["local"], &blocked["remote"]];
    let has = |address: SocketAddr| ends.iter().any(|end| **end == address.to_string());
    assert!(has(leg.local) && has(leg.remote), "{blocked:#}");
    assert!([leg.from, leg.to].iter().any(|pid| blocked["pid"] == *pid), "{blocked:#}");
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
