//! Who has the other ends of connections.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Seen, Snapshot, census, iterated, listening, process_seen,
    sock_diag::{self, Namespaces, TcpSocket},
    tcp_fact,
};
use crate::model::{BootTime, Fact, HostNo, Isn, Observation, Source, Tuple};

/// An end of a connection, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    pub(super) tuple: Tuple,
    pub(super) netns: Option<u32>,
    pub(super) isn: Option<Isn>,
}

/// The sockets that roles are told by, and who was looked at for these answers, each once.
struct Looked<'a> {
    tcp: &'a BTreeMap<u64, TcpSocket>,
    everyone: BTreeSet<(u32, u16)>,
    processes: BTreeMap<u32, Option<Owner>>,
}

/// A process, and what it listens on.
struct Owner {
    seen: Seen,
    listens: BTreeSet<(u32, u16)>,
}

impl<'a> Looked<'a> {
    fn with(tcp: &'a BTreeMap<u64, TcpSocket>) -> Self {
        Self { tcp, everyone: listening(tcp.values()), processes: BTreeMap::new() }
    }
}

impl Snapshot {
    /// Who has the other ends of these; absent is what nobody has, or several might have.
    pub(super) fn peers(&mut self, ends: &[End], now: BootTime) -> Vec<Observation> {
        let mut unknown: BTreeSet<End> = ends.iter().copied().collect();
        let mut facts = Vec::new();
        if let Some(census) = self.census.clone().filter(|_| !unknown.is_empty()) {
            let mut looked = Looked::with(&census.sockets.tcp);
            unknown.retain(|end| {
                let named: Vec<&TcpSocket> = end.isn.into_iter().flat_map(|isn| census.other_ends(isn)).collect();
                let fitting =
                    if named.is_empty() { fitting(end, census.connections(end.tuple.mirrored())) } else { named };
                let owners = match fitting[..] {
                    [] => return true,
                    [socket] => self.owners(socket, census.holders(socket.inode), &mut looked, now),
                    // Two that fit: neither is named.
                    _ => Vec::new(),
                };
                facts.extend(or_absent(end, owners, now));
                false
            });
        }
        if !unknown.is_empty() {
            // What no table listed a moment ago may be younger than that: this is asked of the kernel as it is now.
            let census = self.census.take();
            let namespaces = census.as_ref().map(|census| census.namespaces.clone());
            let namespaces = namespaces.unwrap_or_else(|| census::processes(&self.proc, self.netns).1);
            facts.extend(self.look_up(&unknown, namespaces, now));
            self.census = census;
        }
        facts
    }

    fn look_up(&mut self, ends: &BTreeSet<End>, mut namespaces: Namespaces, now: BootTime) -> Vec<Observation> {
        if ends.iter().all(|end| end.tuple.is_loopback()) {
            namespaces.retain(|netns, _| ends.iter().any(|end| end.netns == Some(*netns)));
        }
        let tuples: BTreeSet<Tuple> = ends.iter().map(|end| end.tuple.mirrored()).collect();
        let mut found = sock_diag::find(&namespaces, &tuples);
        self.troubles.extend(&found.troubles);
        let crosses = |end: &End| {
            let mut fitting = found.tcp.values().filter(|socket| socket.tuple == end.tuple.mirrored());
            end.isn.is_some() && fitting.any(|socket| end.netns != Some(socket.netns))
        };
        if ends.iter().any(crosses)
            && let Err(error) = iterated::add_sequence_numbers(&mut found.tcp)
        {
            log::debug!("no sequence numbers: {error}");
        }
        namespaces.retain(|netns, _| found.tcp.values().any(|socket| socket.netns == *netns));
        let listeners = sock_diag::listeners(&namespaces).tcp;
        let mut looked = Looked::with(&listeners);
        let mut facts = Vec::new();
        for end in ends {
            let mirrored = found.tcp.values().filter(|socket| socket.tuple == end.tuple.mirrored());
            let owners = match fitting(end, mirrored)[..] {
                [socket] => {
                    let holders = self.holders(socket);
                    self.owners(socket, &holders, &mut looked, now)
                }
                _ => Vec::new(),
            };
            facts.extend(or_absent(end, owners, now));
        }
        facts
    }

    /// Who has that socket open. Its owner is most likely in its namespace; most processes are not.
    fn holders(&self, socket: &TcpSocket) -> Vec<u32> {
        let pids = census::processes(&self.proc, self.netns).0;
        let (near, far): (Vec<u32>, Vec<u32>) =
            pids.iter().partition(|pid| self.proc.namespace(**pid, "net") == Some(socket.netns));
        let holds = |pid: &u32| {
            let files = self.proc.open_files(*pid, census::MAX_FDS).unwrap_or_default();
            files.iter().any(|file| file.socket() == Some(socket.inode))
        };
        let holders = |pids: Vec<u32>| pids.into_iter().filter(holds).collect::<Vec<u32>>();
        Some(holders(near)).filter(|found| !found.is_empty()).unwrap_or_else(|| holders(far))
    }

    /// What is to be told of the processes that have that socket.
    fn owners(
        &mut self,
        socket: &TcpSocket,
        holders: &[u32],
        looked: &mut Looked<'_>,
        now: BootTime,
    ) -> Vec<Observation> {
        let Looked { tcp, everyone, processes } = looked;
        let mut facts = Vec::new();
        for pid in holders {
            let is_new = !processes.contains_key(pid);
            let owner = processes.entry(*pid).or_insert_with(|| {
                let seen = self.see(*pid)?;
                let listens = listening(seen.sockets.iter().filter_map(|inode| tcp.get(inode)));
                Some(Owner { seen, listens })
            });
            let Some(Owner { seen, listens }) = owner else { continue };
            if seen.sockets.binary_search(&socket.inode).is_err() {
                continue;
            }
            if is_new {
                self.remember_root(&seen.key, &seen.info);
                facts.push(process_seen(now, seen.key, seen.info.clone()));
            }
            facts.push(Observation::of(now, Source::Snapshot, seen.key, tcp_fact(socket, listens, everyone)));
        }
        facts
    }
}

/// These, or that there is nobody.
fn or_absent(end: &End, owners: Vec<Observation>, now: BootTime) -> Vec<Observation> {
    if !owners.is_empty() {
        return owners;
    }
    vec![Observation::new(
        now,
        Source::Snapshot,
        Fact::PeerAbsent { tuple: end.tuple, netns: end.netns, host: HostNo::default() },
    )]
}

/// Sockets with mirrored addresses that may be the other end: the one in the same network namespace, where there is one.
fn fitting<'a>(end: &End, mirrored: impl Iterator<Item = &'a TcpSocket>) -> Vec<&'a TcpSocket> {
    let (own, mut fitting): (Vec<_>, Vec<_>) =
        mirrored.filter(|socket| may_be(end, socket)).partition(|socket| end.netns == Some(socket.netns));
    if !own.is_empty() {
        fitting = own;
    }
    fitting
}

/// Whether a socket with mirrored addresses may be the other end. Different sequence numbers exclude it; on loopback another
/// namespace may hold an equal tuple that is a stranger.
fn may_be(end: &End, socket: &TcpSocket) -> bool {
    let refuted = end.isn.zip(socket.isn).is_some_and(|(own, other)| !own.is_other_end_of(other));
    !refuted && (!end.tuple.is_loopback() || end.netns == Some(socket.netns))
}
