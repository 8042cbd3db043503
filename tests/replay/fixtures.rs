//! Recordings made from logs of real clusters by `cargo xtask fixtures`: they give exactly the joins found by the logs'
//! authors by counting bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
};

use execpath::{
    correlate::{Correlator, Options},
    model::{Confidence, Fact, GapCode, Kind, Link, LinkKind, Observation, Role, Session, SocketId, TaskKey},
    record::{End, Header, Reader},
};
use execpath_tests::fixture::{Ends, Truth, truth};

const SEEN_FROM_THE_START: [&str; 2] = ["k8s-1.20-containerd-spdy-20", "k8s-1.36-containerd-websocket-20"];
const OLDER: &str = "k8s-1.36-containerd-websocket-older-50";

struct Fixture {
    header: Header,
    seen: Vec<Observation>,
    truth: Vec<Truth>,
}

impl Fixture {
    fn open(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recordings");
        let mut reader = Reader::open(&folder.join(format!("fixture-{name}.jsonl.zst"))).expect("a recording");
        let header = reader.header().clone();
        let seen = reader.by_ref().collect();
        assert_eq!(reader.end(), Some(&End::Clean), "{name}");
        Self { header, seen, truth: truth(&folder.join(format!("fixture-{name}.truth.json"))).expect("the truth file") }
    }

    fn sessions(&self) -> Vec<Session> {
        let mut correlator =
            Correlator::new(&self.header.host, &Options { pairing: self.header.pairing(), ..Options::default() });
        for seen in &self.seen {
            correlator.ingest(seen.clone());
        }
        correlator.flush();
        correlator.report().sessions
    }
}

/// A connection: inodes of both ends, addresses of the connecting and the accepting end.
type Leg = (Option<u64>, Option<u64>, SocketAddr, SocketAddr);

fn leg(ends: &Ends) -> Leg {
    (ends.client_inode, Some(ends.server_inode), ends.client, ends.server)
}

fn leg_of(link: &Link) -> Leg {
    let ends = link.tcp.expect("ends of a TCP leg");
    let inode = |id: Option<SocketId>| id.and_then(|id| id.inode);
    (inode(ends.near), inode(ends.far), ends.tuple.local, ends.tuple.remote)
}

fn relay_of(link: &Link) -> (u64, u64) {
    let (inbound, outbound) = link.relay.expect("ends of a relay");
    (inbound.inode.expect("an inode"), outbound.inode.expect("an inode"))
}

/// Inbound and outbound socket in the API server, and in the kubelet.
fn relays(truth: &Truth) -> [(u64, u64); 2] {
    let outbound = |ends: &Ends| ends.client_inode.expect("an inode");
    [
        (truth.client_leg.server_inode, outbound(&truth.kubelet_leg)),
        (truth.kubelet_leg.server_inode, outbound(&truth.stream_leg)),
    ]
}

/// Numbers of compared items.
#[derive(Debug, Default, PartialEq, Eq)]
struct Figures {
    sessions: usize,
    legs: usize,
    relays: usize,
    other: usize,
}

/// Checks that each session of the truth is found complete and exact, and no other one.
fn compare(name: &str, fixture: &Fixture) -> Figures {
    let sessions = fixture.sessions();
    let (mut found, mut figures) = (BTreeMap::new(), Figures::default());
    let known: BTreeSet<(u64, u64)> = fixture.truth.iter().flat_map(relays).collect();
    for session in &sessions {
        let of = |kind| session.links.iter().filter(move |link| link.kind == kind);
        figures.other += of(LinkKind::Relay).filter(|link| !known.contains(&relay_of(link))).count();
        assert_eq!(session.kind, Kind::Exec, "{name}: {session:?}");
        let stream = of(LinkKind::Tcp).next_back().map(leg_of).expect("a stream");
        let same = found.insert(stream, session);
        assert!(same.is_none(), "{name}: two sessions on {stream:?}");
    }
    for truth in &fixture.truth {
        let session =
            found.get(&leg(&truth.stream_leg)).unwrap_or_else(|| unreachable!("{name}: not found: {truth:?}"));
        let hops: Vec<Role> = session.hops.iter().map(|hop| hop.role).collect();
        assert_eq!(hops, [Role::ApiServer, Role::Kubelet, Role::Runtime], "{name}: {truth:?}");
        let of = |kind| session.links.iter().filter(move |link| link.kind == kind);
        let legs: Vec<Leg> = of(LinkKind::Tcp).map(leg_of).collect();
        assert_eq!(legs, [leg(&truth.kubelet_leg), leg(&truth.stream_leg)], "{name}: {truth:?}");
        let joined: Vec<(u64, u64)> = of(LinkKind::Relay).map(relay_of).collect();
        assert_eq!(joined, relays(truth), "{name}: {truth:?}");
        // kubectl was not logged: only the address of its end is known.
        assert_eq!(session.beyond, [("client", truth.client_leg.client)], "{name}: {truth:?}");
        assert_eq!(session.links.len(), legs.len() + joined.len(), "{name}: {:?}", session.links);
        assert_eq!(session.confidence(), Some(Confidence::Exact), "{name}: {truth:?}");
        figures.sessions += 1;
        figures.legs += legs.len() + 1;
        figures.relays += joined.len();
    }
    assert_eq!(sessions.len(), fixture.truth.len(), "{name}: a session is invented");
    figures
}

#[test]
fn new_sessions_equal_truth_of_log() {
    for name in SEEN_FROM_THE_START {
        let fixture = Fixture::open(name);
        let figures = compare(name, &fixture);
        eprintln!("{name}: {figures:?}");
        assert_eq!(figures, Figures { sessions: 20, legs: 60, relays: 40, other: 0 }, "{name}");
        for session in fixture.sessions() {
            // Processes below the runtime were not logged; everything above is there.
            let gaps: Vec<GapCode> = session.gaps.iter().map(|gap| gap.code).collect();
            assert_eq!(gaps, [GapCode::RuncUnknown], "{name}: {session:?}");
            assert_eq!(session.stdin, Some(true), "{name}: FIFOs for stdin, stdout, stderr");
        }
    }
}

#[test]
fn exec_ids_equal_truth_of_log() {
    let fixture = Fixture::open("k8s-1.36-containerd-websocket-20");
    let sessions = fixture.sessions();
    for truth in &fixture.truth {
        let on_stream = |session: &&Session| {
            session.links.iter().any(|link| link.tcp.is_some() && leg_of(link) == leg(&truth.stream_leg))
        };
        let id = sessions.iter().find(on_stream).and_then(|session| session.exec_id.clone()).expect("an exec id");
        let looked_up = truth.exec_id.as_deref().expect("an exec id");
        assert_eq!(id.trim_start_matches('0'), &looked_up[24..].trim_start_matches('0').to_owned(), "{truth:?}");
    }
}

#[test]
fn older_sessions_equal_truth_of_log() {
    let figures = compare(OLDER, &Fixture::open(OLDER));
    eprintln!("{OLDER}: {figures:?}");
    assert_eq!(figures, Figures { sessions: 50, legs: 150, relays: 100, other: 0 });
}

/// Numbers of true and other pairs found by a rule.
#[derive(Debug, PartialEq, Eq)]
struct Score {
    right: usize,
    other: usize,
}

/// Scores of the rules on the recorded facts: dial, both directions, creator.
fn scores(fixture: &Fixture) -> [Score; 3] {
    let inode = |id: SocketId| id.inode.expect("an inode");
    let pair = |a: u64, b: u64| (a.min(b), a.max(b));
    let known: BTreeSet<(u64, u64)> = fixture.truth.iter().flat_map(relays).map(|(a, b)| pair(a, b)).collect();
    let (mut accepted, mut dialled, mut moved) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut creators: BTreeMap<(Option<TaskKey>, Option<u64>), BTreeSet<u64>> = BTreeMap::new();
    for seen in &fixture.seen {
        if let Fact::Accepted { socket } = seen.fact {
            accepted.insert(inode(socket.id));
        } else if let Fact::Connected { socket, inbound: Some(inbound), .. } = seen.fact {
            let inbound = Some(inode(inbound)).filter(|inbound| accepted.contains(inbound));
            dialled.extend(inbound.map(|inbound| pair(inbound, inode(socket.id))));
        } else if let Fact::Relayed { from, to, .. } = seen.fact {
            moved.insert((inode(from.id), inode(to.id)));
        } else if let Fact::Touched { actor, socket } = seen.fact {
            creators.entry((seen.task, actor.parent_goid)).or_default().insert(inode(socket.id));
        }
    }
    let back = |(from, to): &(u64, u64)| moved.contains(&(*to, *from));
    let both: BTreeSet<(u64, u64)> = moved.iter().copied().filter(back).map(|(a, b)| pair(a, b)).collect();
    let two = |touched: BTreeSet<u64>| Some(pair(*touched.first()?, *touched.last()?)).filter(|_| touched.len() == 2);
    let created: BTreeSet<(u64, u64)> = creators.into_values().filter_map(two).collect();
    [dialled, both, created].map(|found| {
        let right = found.intersection(&known).count();
        Score { right, other: found.len() - right }
    })
}

#[test]
fn recorded_facts_prove_every_true_join() {
    // Scores of the logs' authors for dial, both directions, creator.
    for (name, right) in [
        // Go 1.19 keeps no creator.
        ("k8s-1.20-containerd-spdy-20", [40, 40, 0]),
        // A translator does not copy one to one.
        ("k8s-1.36-containerd-websocket-20", [40, 38, 40]),
        // Only the API server copies; no dial was logged.
        (OLDER, [0, 50, 100]),
    ] {
        let found = scores(&Fixture::open(name));
        eprintln!("{name}: dial, both directions, creator: {found:?}");
        assert_eq!(found, right.map(|right| Score { right, other: 0 }), "{name}");
    }
}
