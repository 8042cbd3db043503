//! Full tables and late starts, as the caller sees them.

use super::{Correlator, Options, limits::Caps};
use crate::model::{
    Actor, BootTime, Change, ExitStatus, Fact, Family, HostFacts, Observation, ProcessInfo, RawText, SocketId,
    SocketInfo, Source, TaskKey, Tuple,
};

fn correlator(caps: Caps) -> Correlator {
    let mut correlator = Correlator::new(&HostFacts::default(), &Options::default()).started_before();
    correlator.state.caps = caps;
    correlator.state.sockets.caps = caps;
    correlator.state.processes.caps = caps;
    correlator.state.anchors.caps = caps;
    correlator
}

fn at(ms: u64) -> BootTime {
    BootTime(ms * 1_000_000)
}

fn task(tgid: u32) -> TaskKey {
    TaskKey::from_ticks(tgid, u64::from(tgid))
}

fn connected(ms: u64, by: u32, cookie: u16) -> Observation {
    let address = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let socket = SocketInfo {
        id: SocketId::new(u64::from(cookie), u64::from(cookie)),
        family: Family::Inet,
        tuple: Some(Tuple::new(address(cookie), address(6443))),
        netns: Some(1),
        role: None,
        isn: None,
    };
    let fact = Fact::Connected { socket, actor: Actor::default(), inbound: None };
    Observation { seq: Some((0, u64::from(cookie))), ..Observation::of(at(ms), Source::Ebpf, task(by), fact) }
}

fn tick(ms: u64) -> Observation {
    Observation::new(at(ms), Source::Engine, Fact::Tick)
}

fn losses(correlator: &mut Correlator) -> Vec<(String, u64)> {
    let changes = correlator.drain().into_iter().map(|finding| finding.change);
    changes
        .filter_map(|change| if let Change::Loss { what, count } = change { Some((what, count)) } else { None })
        .collect()
}

#[test]
fn full_socket_table_reports_every_refusal() {
    let mut correlator = correlator(Caps { sockets: 4, ..Caps::default() });
    for cookie in 1..=10 {
        correlator.ingest(connected(u64::from(cookie), 7, cookie));
    }
    correlator.ingest(tick(2_000));
    correlator.flush();
    let refused: u64 = losses(&mut correlator).iter().filter(|(what, _)| what == "sockets-full").map(|(_, n)| n).sum();
    assert_eq!(refused, 6);
    assert_eq!(correlator.report().totals.lost["sockets-full"], 6);
    assert!(correlator.state.losses.between(at(5), at(10)), "sessions of that time are in doubt");
}

#[test]
fn kubectl_keeps_connections_of_parallel_requests() {
    let mut correlator = correlator(Caps::default());
    let argv = ["kubectl", "exec", "web", "--", "sh"].map(RawText::from).to_vec();
    let kubectl = ProcessInfo { argv, ..ProcessInfo::default() };
    correlator.ingest(Observation::of(at(1), Source::Snapshot, task(7), Fact::ProcessSeen(Box::new(kubectl))));
    // Its requests for the resources of 200 API groups, and the exec's connection after them.
    for cookie in 1..=201 {
        correlator.ingest(connected(u64::from(cookie) + 1, 7, cookie));
    }
    correlator.ingest(tick(1_000));
    correlator.flush();
    let newest = correlator.state.sockets.find(SocketId::new(201, 201));
    assert!(newest.is_some() && correlator.state.open_calls(task(7)).max() == newest);
    assert_eq!(losses(&mut correlator), []);
}

#[test]
fn sockets_of_exited_owners_make_room() {
    let mut correlator = correlator(Caps { sockets: 4, ..Caps::default() });
    for cookie in 1..=4 {
        correlator.ingest(connected(u64::from(cookie), 7, cookie));
    }
    let status = ExitStatus::Code(0);
    correlator.ingest(Observation::of(at(100), Source::Ebpf, task(7), Fact::Exit { status }));
    correlator.ingest(connected(200, 8, 5));
    correlator.ingest(tick(2_000));
    correlator.flush();
    assert!(correlator.state.sockets.find(SocketId::new(5, 5)).is_some(), "the newcomer has an entry");
    assert!(correlator.state.sockets.find(SocketId::new(1, 1)).is_none());
    assert_eq!(losses(&mut correlator), [("sockets-full".to_owned(), 4)], "what was dropped is counted");
}

#[test]
fn full_process_table_stays_bounded_and_reports() {
    let mut correlator = correlator(Caps { processes: 3, ..Caps::default() });
    for tgid in 1..=5 {
        let fact = Fact::ProcessSeen(Box::default());
        correlator.ingest(Observation::of(at(1), Source::Snapshot, task(tgid), fact));
    }
    correlator.ingest(tick(100));
    correlator.flush();
    assert_eq!(correlator.state.processes.iter().count(), 3);
    assert_eq!(losses(&mut correlator), [("processes-full".to_owned(), 2)]);
}

#[test]
fn late_start_is_reported_at_the_first_tick() {
    let mut correlator = Correlator::new(&HostFacts::default(), &Options::default());
    correlator.ingest(Observation::of(at(10), Source::Snapshot, task(1), Fact::Watched));
    correlator.ingest(connected(1_000, 7, 1));
    correlator.ingest(connected(9_010, 7, 2));
    // Without a tick a recording may be an excerpt.
    assert_eq!(losses(&mut correlator), []);
    // A tick carries the time at which reading began.
    correlator.ingest(tick(2_300));
    correlator.ingest(tick(20_000));
    assert_eq!(losses(&mut correlator), [("late-start".to_owned(), 9_000)]);
    assert_eq!(correlator.report().totals.lost["late-start"], 9_000);
    assert!(correlator.state.losses.blinding_between(at(100), at(200)), "all of the start is in doubt");
    assert!(!correlator.state.losses.blinding_between(at(9_011), at(9_012)));
}

#[test]
fn start_within_two_seconds_is_no_loss() {
    let mut correlator = Correlator::new(&HostFacts::default(), &Options::default());
    correlator.ingest(Observation::of(at(10), Source::Snapshot, task(1), Fact::Watched));
    correlator.ingest(tick(2_000));
    correlator.ingest(tick(60_000));
    assert_eq!(losses(&mut correlator), []);
}
