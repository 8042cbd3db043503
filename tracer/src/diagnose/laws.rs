//! Properties that hold for every rule and every fixture.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    FAULTS, Fault, diagnosis,
    fixture::{APISERVER, Fixture, KUBECTL, KUBELET, On, PROCESS, idle, info, socket},
    verdict::shown,
    verdicts,
};
use crate::model::{FileKind, GapCode, Health, Kind, LinkKind, ProcessMeasure, Report, Role, Session, TcpMeasure};

fn codes(report: &Report) -> Vec<&'static str> {
    verdicts(report).into_iter().map(|verdict| verdict.code).collect()
}

fn fixtures() -> Vec<Fixture> {
    FAULTS.iter().flat_map(|fault| (fault.fixtures)()).collect()
}

#[test]
fn each_fixture_names_its_fault_and_no_other() {
    for fixture in fixtures() {
        assert_eq!(codes(&fixture.report()), fixture.named, "{}", fixture.about);
    }
}

#[test]
fn every_fault_has_positive_and_negative_fixture() {
    for fault in FAULTS {
        let fixtures = (fault.fixtures)();
        let named = fixtures.iter().filter(|fixture| fixture.named.contains(&fault.code)).count();
        assert!(named > 0 && named < fixtures.len(), "{}", fault.code);
    }
}

#[test]
fn one_sample_alone_names_the_same_or_nothing() {
    for fixture in fixtures() {
        for samples in [&[0][..], &[1]] {
            for code in codes(&fixture.report_of(samples)) {
                // A single sample can show a wait for input. A fault needs two.
                assert!(fixture.named.contains(&code) || code == "F23", "{}: {code}", fixture.about);
            }
        }
    }
}

#[test]
fn nothing_measured_names_nothing_that_numbers_prove() {
    for mut fixture in fixtures() {
        fixture.samples = Default::default();
        for code in codes(&fixture.report()) {
            assert!(fixture.named.contains(&code), "{}: {code}", fixture.about);
        }
    }
}

#[test]
fn losses_never_name_another_fault() {
    for mut fixture in fixtures() {
        fixture.lost.insert("ring-full".to_owned(), 1);
        fixture.gap(GapCode::LostEvents);
        for code in codes(&fixture.report()) {
            assert!(fixture.named.contains(&code), "{}: {code}", fixture.about);
        }
    }
}

#[test]
fn verdict_has_all_fields() {
    for fixture in fixtures() {
        for verdict in verdicts(&fixture.report()) {
            let about = fixture.about;
            assert!(!verdict.evidence.is_empty(), "{about}: no evidence");
            assert!(!verdict.manual.is_empty(), "{about}: no command could be filled in");
            assert!(!verdict.next.is_empty(), "{about}: nothing to do");
            let own = verdict.session.as_ref().and_then(|id| fixture.sessions.iter().find(|one| one.id == *id));
            assert_eq!(own.is_some(), verdict.session.is_some(), "{about}");
            if let Some(session) = own {
                assert!(verdict.hop.is_none_or(|hop| hop < session.hops.len()), "{about}");
                assert!(verdict.link.is_none_or(|link| link < session.links.len()), "{about}");
            } else {
                assert!(verdict.about != Default::default(), "{about}: what it is about is not named");
            }
        }
    }
}

fn fault(code: &str) -> &'static Fault {
    FAULTS.iter().find(|fault| fault.code == code).unwrap()
}

#[test]
fn sessions_of_any_kind_name_only_faults_and_neighbours_of_their_kind() {
    for fixture in fixtures() {
        for kind in Kind::ALL {
            let fixture = as_kind(fixture.clone(), kind);
            for verdict in verdicts(&fixture.report()) {
                let own = verdict.session.as_ref().and_then(|id| fixture.sessions.iter().find(|one| one.id == *id));
                let Some(own) = own else {
                    assert_eq!(verdict.told_apart_from.len(), fault(verdict.code).apart.len(), "{}", fixture.about);
                    continue;
                };
                let is_undecided = own.gaps.iter().any(|gap| gap.code == GapCode::KindUnknown);
                let named = verdict.told_apart_from.iter().map(|other| other.code).chain([verdict.code]);
                let mut others = named.filter(|code| !fault(code).kinds.has(own.kind) && !is_undecided);
                assert_eq!(others.next(), None, "{} as {kind:?}: {}", fixture.about, verdict.code);
            }
        }
    }
}

#[test]
fn neighbours_of_a_slow_reader_depend_on_the_kind() {
    let unread = fault("F16").fixtures;
    let unread = unread().into_iter().find(|fixture| fixture.named == ["F16"]).unwrap();
    let neighbours = |fixture: Fixture| {
        let found = verdicts(&fixture.report());
        let codes = found.iter().flat_map(|verdict| verdict.told_apart_from.iter().map(|other| other.code));
        codes.filter(|code| ["F21", "F40"].contains(code)).collect::<Vec<_>>()
    };
    assert_eq!(neighbours(unread.clone()), ["F21"]);
    assert_eq!(neighbours(as_kind(unread.clone(), Kind::PortForward)), ["F40"]);
    let mut undecided = unread;
    undecided.gap(GapCode::KindUnknown);
    assert_eq!(neighbours(undecided), ["F21", "F40"]);
}

#[test]
fn every_code_is_there_once_and_every_text_is_filled() {
    let codes: BTreeSet<&str> = FAULTS.iter().map(|fault| fault.code).collect();
    let expected: Vec<String> = (1..=34)
        .chain([36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47])
        .map(|number| format!("F{number:02}"))
        .collect();
    assert_eq!(codes.iter().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    assert_eq!(codes.len(), FAULTS.len());
    for fault in FAULTS {
        for text in [fault.name, fault.short, fault.means, fault.why, fault.needs] {
            assert!(!text.trim().is_empty() && text.trim() == text, "{}: {text:?}", fault.code);
        }
        assert!(fault.short.len() <= 16, "{}: {} does not fit a column", fault.code, fault.short);
        assert!(!fault.sources.is_empty() && !fault.apart.is_empty(), "{}", fault.code);
        for apart in fault.apart {
            assert!(codes.contains(apart.code) && apart.code != fault.code, "{}: {}", fault.code, apart.code);
        }
        for template in fault.next.iter().chain(fault.manual) {
            assert!(!shown(template).contains(['{', '}']), "{}: {template}", fault.code);
        }
    }
}

#[test]
fn the_table_is_in_the_order_of_the_decision() {
    assert!(FAULTS.iter().is_sorted_by_key(|fault| fault.step));
}

/// Bytes moved between the samples, although both samples have some queued.
fn moving(tcp: &mut TcpMeasure, number: u64) {
    (tcp.recv_q, tcp.send_q) = (200_000, 300_000);
    let info = info(tcp);
    info.bytes_acked += number * 50_000_000;
    info.bytes_received += number * 50_000_000;
    (info.last_sent_ms, info.last_received_ms, info.last_ack_ms) = (0, 0, 0);
}

fn busy(mut fixture: Fixture) -> Fixture {
    for leg in [On::Client, On::Kubelet, On::Stream] {
        fixture.near(leg, moving);
        fixture.far(leg, moving);
    }
    // Both samples have full queues everywhere, and the process waits for room in the pipe.
    for inode in 71..=72 {
        fixture.full(FileKind::Fifo, inode);
        fixture.full(FileKind::Pipe, inode - 10);
    }
    fixture.waits(PROCESS, "write", Some(1));
    fixture.process(PROCESS, |process, number| {
        process.system_ticks += number * 80;
        process.threads[0].switches = Some(1_000 * (number + 1));
    });
    fixture
}

/// dockershim: the kubelet streams to itself, and dockerd asks containerd to start the command.
fn docker(mut fixture: Fixture) -> Fixture {
    fixture.session(|session| {
        Arc::make_mut(&mut session.target).runtime = Some("docker".into());
        // kubectl, API server, kubelet, kubelet, dockerd, shim, runc, process.
        let mut own = session.hops[3].clone();
        (own.role, own.task) = (Role::Kubelet, session.hops[2].task);
        session.hops.insert(3, own);
        for link in &mut session.links {
            let inwards = |hop: usize| if hop >= 3 { hop + 1 } else { hop };
            if link.kind != LinkKind::Tcp {
                (link.from, link.to) = (inwards(link.from), inwards(link.to));
            }
        }
        let mut hijacked = session.links[5].clone();
        (hijacked.from, hijacked.to, hijacked.kind) = (3, 4, LinkKind::Unix);
        hijacked.unix = Some(("/var/run/docker.sock".into(), socket(90), socket(91)));
        session.links.insert(5, hijacked);
    });
    fixture
}

/// A client that has never sent a ping: every leg has been silent for an hour.
fn silent(mut fixture: Fixture) -> Fixture {
    for leg in [On::Client, On::Kubelet, On::Stream] {
        let hush = |tcp: &mut TcpMeasure, number: u64| {
            let since = 3_600_000 + u32::try_from(number).unwrap() * 3_000;
            let info = info(tcp);
            (info.last_sent_ms, info.last_received_ms, info.last_ack_ms) = (since, since, 15_000);
        };
        fixture.near(leg, hush);
        fixture.far(leg, hush);
    }
    fixture
}

fn as_kind(mut fixture: Fixture, kind: Kind) -> Fixture {
    fixture.session(|session| session.kind = kind);
    fixture
}

/// This host is only the node.
fn without_client(mut fixture: Fixture) -> Fixture {
    fixture.session(|session| {
        session.hops.drain(..2);
        session.links.drain(..3);
        for link in &mut session.links {
            (link.from, link.to) = (link.from - 2, link.to - 2);
        }
        session.beyond.push(("client", "192.168.205.10:55352".parse().unwrap()));
    });
    fixture
}

fn computing(mut fixture: Fixture) -> Fixture {
    fixture.process(PROCESS, |process, number| {
        process.state = 'R';
        process.user_ticks += number * 300;
        process.threads[0].state = 'R';
        process.threads[0].call = None;
    });
    fixture
}

/// Attached to the container's own process, which is not looked up.
fn attached(mut fixture: Fixture) -> Fixture {
    fixture.ends_after(4);
    fixture.session(|session| {
        session.kind = Kind::Attach;
        session.exec_id = None;
        session.stdin = None;
    });
    fixture.gap(GapCode::ProcessUnknown);
    fixture
}

fn forwarding(mut fixture: Fixture) -> Fixture {
    fixture.ends_after(4);
    fixture.session(|session| {
        session.kind = Kind::PortForward;
        session.exec_id = None;
        session.target = Default::default();
        session.complete = true;
    });
    fixture
}

/// A session older than the tracer. The exec's stream is not known, so stream and exec are two sessions.
fn in_two(mut fixture: Fixture) -> Fixture {
    let mut stream = fixture.sessions[0].clone();
    stream.id.0 = "s-stream".into();
    stream.preexisting = true;
    stream.hops.truncate(stream.hops.len() - 3);
    let hops = stream.hops.len();
    stream.links.retain(|link| link.to < hops);
    (stream.exec_id, stream.stdin, stream.tty) = (None, None, None);
    fixture.session(|session| {
        session.preexisting = true;
        session.hops.drain(..session.hops.len() - 4);
        session.links.clear();
    });
    fixture.gap(GapCode::Unjoined);
    fixture.sessions.push(stream);
    fixture
}

/// Every kind and activity of a session without a fault.
fn healthy() -> Vec<(&'static str, Fixture)> {
    let sessions = [Fixture::new("pipes", &[]), Fixture::terminal("terminal", &[])];
    let crio = Fixture::crio("crio", &[]);
    let mut all = vec![
        ("idle", crio.clone()),
        ("busy", busy(crio.clone())),
        ("computing", computing(crio.clone())),
        ("cp", busy(as_kind(crio.clone(), Kind::Cp))),
        ("older", {
            let mut fixture = crio.clone();
            fixture.session(|session| session.preexisting = true);
            fixture
        }),
        ("far client", without_client(crio)),
    ];
    for one in sessions {
        for two in [one.clone(), docker(one.clone()), without_client(one.clone())] {
            all.extend([
                ("idle", two.clone()),
                ("busy", busy(two.clone())),
                ("silent", silent(two.clone())),
                ("computing", computing(two.clone())),
                ("sleeping", {
                    let mut fixture = two.clone();
                    fixture.waits(PROCESS, "clock_nanosleep", None);
                    fixture
                }),
                ("cp", busy(as_kind(two.clone(), Kind::Cp))),
                ("debug", as_kind(two.clone(), Kind::Debug)),
                ("older", {
                    let mut fixture = two.clone();
                    fixture.session(|session| session.preexisting = true);
                    fixture
                }),
                ("unjoined", in_two(two)),
            ]);
        }
        all.extend([("attach", attached(one.clone())), ("port-forward", forwarding(one.clone()))]);
        all.push(("busy attach", attached(busy(one))));
    }
    all
}

#[test]
fn healthy_sessions_have_no_verdict() {
    for (about, fixture) in healthy() {
        for samples in [&[0, 1][..], &[0], &[1]] {
            let report = fixture.report_of(samples);
            assert_eq!(codes(&report), <[&str; 0]>::default(), "{} {about} {samples:?}", fixture.about);
        }
    }
}

#[test]
fn healthy_sessions_are_ok_where_two_samples_show_it() {
    for (about, fixture) in healthy() {
        let health = diagnosis(&fixture.report()).health;
        let silent_beyond = about == "silent" && fixture.sessions[0].hops.len() < 6;
        for session in &fixture.sessions {
            // The half without the command leads to no process.
            let is_half = about == "unjoined" && session.exec_id.is_none();
            let expected = if silent_beyond || is_half { Health::Unknown } else { Health::Ok };
            assert_eq!(health[&session.id], expected, "{} {about}: {health:?}", fixture.about);
        }
    }
}

/// Every healthy session, once for each of its hops, with `change` applied to that hop in the last sample.
fn with_hops(change: impl Fn(&mut ProcessMeasure)) -> Vec<(String, Fixture)> {
    let mut all = Vec::new();
    for (about, fixture) in healthy() {
        let pids: BTreeSet<u32> =
            fixture.sessions[0].hops.iter().filter(|hop| hop.exit.is_none()).map(|hop| hop.task.tgid).collect();
        for pid in pids.into_iter().filter(|pid| fixture.samples[1].processes.contains_key(pid)) {
            let mut fixture = fixture.clone();
            change(fixture.samples[1].processes.get_mut(&pid).unwrap());
            all.push((format!("{} {about}: pid {pid}", fixture.about), fixture));
        }
    }
    assert!(!all.is_empty());
    all
}

#[test]
fn no_session_is_well_while_a_hop_does_not_run() {
    for state in ['T', 't', 'D', 'Z'] {
        for (about, fixture) in with_hops(|process| process.state = state) {
            let found = diagnosis(&fixture.report());
            let id = &fixture.sessions[0].id;
            assert!(!matches!(found.health[id], Health::Ok | Health::Waiting), "{about} {state}: {:?}", found.health);
            let is_explained = found.doubts.contains_key(id) || matches!(found.health[id], Health::Fault { .. });
            assert!(is_explained, "{about} {state}");
        }
    }
}

#[test]
fn no_session_is_well_with_a_daemon_that_has_a_fault() {
    for (about, mut fixture) in healthy() {
        let pid = fixture.sessions[0].hops.iter().rfind(|hop| hop.role == Role::Kubelet).map(|hop| hop.task.tgid);
        let Some(pid) = pid else { continue };
        fixture.each(|sample, _| {
            if let Some(process) = sample.processes.get_mut(&pid) {
                (process.descriptors, process.descriptors_max) = (Some(1_020), Some(1_024));
            }
        });
        let found = diagnosis(&fixture.report());
        assert_eq!(found.health[&fixture.sessions[0].id], Health::Unknown, "{} {about}", fixture.about);
        assert!(found.doubts[&fixture.sessions[0].id].contains("F15"), "{:?}", found.doubts);
    }
}

#[test]
fn leftovers_do_not_change_health_of_others() {
    let waiting = FAULTS.iter().filter(|fault| fault.code == "F23").flat_map(|fault| (fault.fixtures)());
    let waiting = waiting.filter(|fixture| fixture.named == ["F23"]).map(|fixture| ("waits for input", fixture));
    for (about, mut fixture) in healthy().into_iter().chain(waiting) {
        let before = diagnosis(&fixture.report());
        fixture.each(|sample, _| sample.unlisted.push((KUBELET, 50, 300)));
        let after = diagnosis(&fixture.report());
        assert!(codes(&fixture.report()).contains(&"F28"), "{} {about}", fixture.about);
        assert_eq!((before.health, before.doubts), (after.health, after.doubts), "{} {about}", fixture.about);
    }
}

#[test]
fn session_without_process_is_not_ok() {
    for kind in [Kind::Exec, Kind::Cp, Kind::Local, Kind::Probe] {
        let mut fixture = as_kind(Fixture::new("the command is not known", &[]), kind);
        fixture.ends_after(4);
        fixture.gap(GapCode::ProcessUnknown);
        let found = diagnosis(&fixture.report());
        assert_eq!(found.health.values().copied().collect::<Vec<_>>(), [Health::Unknown], "{kind:?}");
        assert_eq!(found.doubts.len(), 1);
    }
    let mut elsewhere = Fixture::new("it runs on another host", &[]);
    elsewhere.ends_after(2);
    elsewhere.session(|session| session.beyond.push(("node", "10.0.0.9:10250".parse().unwrap())));
    assert!(diagnosis(&elsewhere.report()).health.values().all(|health| *health == Health::Ok));
}

#[test]
fn every_unknown_health_has_a_reason_and_no_other_has() {
    let all = healthy().into_iter().map(|(_, fixture)| fixture).chain(fixtures());
    for fixture in all {
        for samples in [&[0, 1][..], &[0], &[1], &[]] {
            let found = diagnosis(&fixture.report_of(samples));
            let unknown = found.health.iter().filter(|(_, health)| **health == Health::Unknown).map(|(id, _)| id);
            assert!(unknown.eq(found.doubts.keys()), "{}: {found:#?}", fixture.about);
        }
    }
}

#[test]
fn unmeasured_session_is_unknown() {
    let mut fixture = Fixture::new("nothing measured", &[]);
    fixture.samples = Default::default();
    assert!(diagnosis(&fixture.report()).health.values().all(|one| *one == Health::Unknown));
    let one_sample = busy(Fixture::new("busy", &[])).report_of(&[1]);
    assert!(diagnosis(&one_sample).health.values().all(|one| *one == Health::Unknown), "it may be stuck");
}

#[test]
fn fifty_healthy_sessions_of_all_kinds_name_nothing_together() {
    let all = healthy();
    let mut whole = Fixture::new("all of them", &[]);
    whole.sessions = (0..50_usize)
        .map(|number| {
            let Session { id, .. } = &all[0].1.sessions[0];
            let mut session = all[number % all.len()].1.sessions[0].clone();
            session.id.0 = format!("{}{number}", id.0).into();
            session
        })
        .collect();
    // A healthy host also has pooled connections, etcd, and the kubelet's watch.
    for (inode, remote) in [(200, "192.168.205.11:10250"), (202, "127.0.0.1:2379"), (204, "10.0.0.9:443")] {
        whole.stray(APISERVER, Role::ApiServer, inode, remote, |_| idle());
    }
    whole.stray(KUBECTL, Role::Client, 206, "192.168.205.10:6443", |_| idle());
    assert_eq!(codes(&whole.report()), <[&str; 0]>::default());
}

#[test]
fn the_same_report_gives_the_same_verdicts() {
    for fixture in fixtures() {
        assert_eq!(verdicts(&fixture.report()), verdicts(&fixture.report()), "{}", fixture.about);
    }
}
