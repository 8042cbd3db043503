//! Laws: sessions do not depend on the order, repetition or loss of observations beyond what a law allows.

use std::collections::{BTreeMap, BTreeSet};

use execpath::{
    correlate::{Correlator, Options},
    model::{BootTime, Fact, Kind, LinkKind, Observation, Session, SocketId, Source, Span, parse_fifo_path},
    record::{Header, Reader},
};

use crate::lab::{is_fixture, recordings};

/// Longest delay of a record.
const WINDOW: Span = Span::from_millis(5);

struct Recording {
    name: String,
    header: Header,
    seen: Vec<Observation>,
}

fn all() -> Vec<Recording> {
    let read = |(name, path): (String, std::path::PathBuf)| {
        let mut reader = Reader::open(&path).expect("a recording");
        let header = reader.header().clone();
        let recording = Recording { name, header, seen: reader.by_ref().collect() };
        let sessions = sessions(&recording.header, &recording.seen);
        // Recordings of logs have no process below the runtime.
        let whole = |session: &Session| session.kind == Kind::Exec && session.complete;
        assert!(is_fixture(&recording.name) || sessions.values().any(whole), "{}", recording.name);
        recording
    };
    recordings().into_iter().map(read).collect()
}

/// Final sessions by id.
fn sessions<'a>(header: &Header, seen: impl IntoIterator<Item = &'a Observation>) -> BTreeMap<String, Session> {
    let mut correlator = Correlator::new(&header.host, &Options { pairing: header.pairing(), ..Options::default() });
    for seen in seen {
        correlator.ingest(seen.clone());
    }
    correlator.flush();
    let sessions = correlator.report().sessions.into_iter();
    // The times of updates differ; the reported sessions do not.
    sessions.map(|session| (session.id.0.to_string(), Session { last_seen: BootTime(0), ..session })).collect()
}

/// Repeatable random numbers.
struct Rng(u64);

impl Rng {
    /// A number below `limit`: xorshift64 by Marsaglia.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn repeated_observations_change_nothing() {
    for Recording { name, header, seen } in all() {
        let twice = seen.iter().flat_map(|seen| [seen, seen]);
        assert_eq!(sessions(&header, &seen), sessions(&header, twice), "{name}");
    }
}

#[test]
fn order_within_window_changes_nothing() {
    for Recording { name, header, seen } in all() {
        let expected = sessions(&header, &seen);
        for seed in 1..=10 {
            let mut rng = Rng(seed);
            // A kernel record arrives late by up to the window. Ticks arrive in time. Answers follow their queries, and
            // snapshots stay whole.
            let mut arrival: Vec<(u64, usize)> = seen
                .iter()
                .enumerate()
                .map(|(index, seen)| match seen.source {
                    Source::Ebpf => (seen.at.0 + rng.below(WINDOW.0), index),
                    Source::Snapshot | Source::Engine => (seen.at.0, index),
                })
                .collect();
            arrival.sort_unstable();
            let shuffled = arrival.iter().filter_map(|(_, index)| seen.get(*index));
            assert_eq!(expected, sessions(&header, shuffled), "{name}, seed {seed}");
        }
    }
}

#[test]
fn other_sessions_change_nothing() {
    let all = all();
    for one in &all {
        let expected = sessions(&one.header, &one.seen);
        for other in
            all.iter().filter(|other| other.name != one.name && other.header.host.boot_id == one.header.host.boot_id)
        {
            // Shift the other recording to the same start.
            let start = |seen: &[Observation]| seen.first().expect("an observation").at;
            let (here, there) = (start(&one.seen), start(&other.seen));
            let mut both: Vec<Observation> = other
                .seen
                .iter()
                .map(|seen| Observation { at: here.plus(seen.at.since(there)), ..seen.clone() })
                .chain(one.seen.iter().cloned())
                .filter(|seen| seen.fact != Fact::Stopped)
                .collect();
            both.sort_by_key(|seen| seen.at);
            let found = sessions(&one.header, &both);
            for (id, session) in &expected {
                // The other recording may last longer: sessions open at the end of this one then close.
                if session.closed_at.is_some() {
                    assert_eq!(Some(session), found.get(id), "{} beside {}", one.name, other.name);
                }
            }
        }
    }
}

#[test]
fn connection_serves_one_exec_only() {
    for Recording { name, header, seen } in all() {
        let expected = sessions(&header, &seen);
        // The goroutine of a probe reuses a `g`. The earlier goroutine had last read the exec's connection, which stays
        // open while the process runs.
        let another = "f".repeat(64);
        let stale = seen.iter().find_map(|seen| {
            let Fact::FifoMade { actor, inbound: inbound @ Some(_), from, path } = &seen.fact else { return None };
            let fifo = parse_fifo_path(path.as_str()?)?;
            let path = path.as_str()?.replace(&fifo.exec, &another).as_str().into();
            let at = seen.at.plus(Span::from_millis(20));
            Some(Observation {
                at,
                fact: Fact::FifoMade { actor: *actor, inbound: *inbound, from: *from, path },
                ..seen.clone()
            })
        });
        // Recordings of older sessions have no new FIFOs.
        let Some(stale) = stale else {
            assert!(is_fixture(&name), "{name} has no exec by a stream");
            continue;
        };
        let mut more: Vec<&Observation> = seen.iter().chain([&stale]).collect();
        more.sort_by_key(|seen| seen.at);
        let mut found = sessions(&header, more);
        found.retain(|_, session| session.exec_id.as_deref() != Some(another.as_str()) || session.kind != Kind::Probe);
        assert_eq!(expected, found, "{name}");
    }
}

/// A link identified by kind, pids and sockets.
type Joined = (LinkKind, u32, u32, Option<(SocketId, SocketId)>);

fn joined(session: &Session) -> BTreeSet<Joined> {
    let pid = |hop: usize| session.hops.get(hop).map(|hop| hop.task.tgid).expect("a hop");
    let links = session.links.iter();
    links
        .map(|link| {
            let tcp = link.tcp.and_then(|ends| Some((ends.near?, ends.far?)));
            // Persistent connections may have partly known ends.
            (link.kind, pid(link.from), pid(link.to), tcp.or(link.relay))
        })
        .collect()
}

/// True if two links agree in all known ids: a socket may lack its cookie or inode.
fn is_same(a: &Joined, b: &Joined) -> bool {
    let agree = |a: Option<u64>, b: Option<u64>| a.is_none() || b.is_none() || a == b;
    let socket = |a: SocketId, b: SocketId| agree(a.cookie, b.cookie) && agree(a.inode, b.inode);
    let ends = match (a.3, b.3) {
        (Some(a), Some(b)) => socket(a.0, b.0) && socket(a.1, b.1),
        (None, _) | (_, None) => true,
    };
    (a.0, a.1, a.2) == (b.0, b.1, b.2) && ends
}

#[test]
fn missing_observation_creates_no_other_link() {
    for Recording { name, header, seen } in all() {
        let expected = sessions(&header, &seen);
        for gone in (0..seen.len()).filter(|index| seen.get(*index).is_some_and(|seen| seen.fact != Fact::Tick)) {
            let rest = seen.iter().enumerate().filter(|(index, _)| *index != gone).map(|(_, seen)| seen);
            for (id, session) in sessions(&header, rest) {
                let what = || format!("{name} without {:?}", seen.get(gone));
                let whole = expected.get(&id).unwrap_or_else(|| unreachable!("{id} is invented in {}", what()));
                let known = joined(whole);
                for link in joined(&session) {
                    // With an unknown shim, the runtime's FIFOs lead directly to runc.
                    let skips = link.0 == LinkKind::Fifo && session.gaps.len() > whole.gaps.len();
                    assert!(
                        skips || known.iter().any(|other| is_same(&link, other)),
                        "{link:?} takes the place of another in {}",
                        what()
                    );
                }
            }
        }
    }
}
