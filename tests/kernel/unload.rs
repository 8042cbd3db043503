//! The probes leave nothing behind.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use aya::programs::loaded_programs;
use execpath::model::Fact;

use crate::{
    helper_process::HelperProcess,
    trace::{DEADLINE, Trace},
};

fn ids(trace: &Trace) -> BTreeSet<u32> {
    trace.probes.programs().into_iter().map(|(_, info)| info.id()).collect()
}

fn loaded() -> BTreeSet<u32> {
    loaded_programs().map(|info| info.expect("a program").id()).collect()
}

#[test]
fn detach_unloads_every_program() {
    let trace = Trace::on_ports(&[]);
    let own = ids(&trace);
    let road = trace.probes.road.expect("a road").probes();
    assert_eq!(own.len(), execpath::plan::PROBES.len() + road.len(), "one program per probe: {own:?}");
    assert!(own.is_subset(&loaded()));
    drop(trace);
    let end = Instant::now() + DEADLINE;
    // The kernel frees a program shortly after its last reference is gone.
    while !own.is_disjoint(&loaded()) {
        assert!(Instant::now() < end, "programs are still loaded: {:?}", own.intersection(&loaded()));
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn second_tracer_survives_end_of_first() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let to = listener.local_addr().expect("local");
    let mut first = Trace::on_ports(&[to.port()]);
    let mut second = Trace::on_ports(&[to.port()]);
    let mut helper = HelperProcess::start();
    helper.request(&format!("connect a {to}"));
    let connected = |trace: &mut Trace| {
        trace.wait("the connection", |seen| match seen.fact {
            Fact::Connected { socket, .. } => Some(socket),
            _ => None,
        })
    };
    let seen = connected(&mut first);
    assert_eq!(seen, connected(&mut second));
    drop(first);
    second.seen.clear();
    helper.request(&format!("connect b {to}"));
    assert_ne!(connected(&mut second), seen, "the second tracer continues");
}
