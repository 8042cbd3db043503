//! Faults of port-forwards that reach no server.

use std::process::Stdio;

use super::{PacketFilter, attempts::stream_port, client::LocalClient};
use crate::{
    env::{lab, on, output, wait_until},
    kubectl::{Kubectl, kubectl},
    reported::ReportedSession,
    tracer::Tracer,
};

/// A port-forward to port 81 of the pod with a network of its own, where nobody listens. The local port is the mark of
/// its session.
fn forward(local: u32) -> Kubectl {
    let mut forward = kubectl(lab().newest(), "admin", 0);
    let forward = forward.args(["port-forward", "own-net", &format!("{local}:81")]).stdin(Stdio::null());
    Kubectl::start(forward, None)
}

fn local_port() -> u32 {
    20_000 + std::process::id() % 1_000
}

#[test]
fn f39_nobody_listens_in_pod() {
    let local = local_port();
    let mut tracer = Tracer::start(&[]);
    let forward = forward(local);
    wait_until("kubectl listens", || {
        let text = output(on("client", "ss").args(["-tlnH", &format!("sport = :{local}")]));
        (!text.is_empty()).then_some(())
    });
    let client = LocalClient::start(local, "exec cat <&3");
    let is_refused = |session: &ReportedSession| session.0["attempt"]["forward_failed"]["errno"] == 111;
    let seen = tracer.wait_for(&local.to_string(), "is refused in the pod", is_refused);
    assert_eq!(seen.0["attempt"]["forward_failed"]["address"], "127.0.0.1:81", "{seen:?}");
    assert_eq!((seen.text("/kind"), seen.is_complete()), (Some("port-forward"), true), "{seen:?}");
    drop((client, forward));
    tracer.wait_for(&local.to_string(), "is closed", ReportedSession::is_closed);
    assert_eq!(tracer.finish().faults(&local.to_string()), (Some(10), vec!["F39".to_owned()]));
}

#[test]
fn f38_filter_rejects_stream_of_port_forward() {
    let (local, stream) = (local_port(), stream_port());
    let reject = ["OUTPUT", "-o", "lo", "-p", "tcp", "--dport", &stream, "-j", "REJECT"];
    let _filter = PacketFilter::new("worker", &reject);
    let mut tracer = Tracer::start(&[]);
    let exit = forward(local).end();
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    tracer.wait_for(&local.to_string(), "is over", ReportedSession::is_closed);
    assert_eq!(tracer.finish().faults(&local.to_string()), (Some(10), vec!["F38".to_owned()]));
}
