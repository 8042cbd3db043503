//! Processes that have the other ends of connections.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    bpf_scan,
    descriptors::{self, MAX_FDS},
    facts::tcp_fact,
    namespaces::{self, Namespaces},
    sock_diag,
    sockets::{TcpSocket, listening},
    view::{Described, HostView},
};
use crate::model::{BootTime, Fact, HostNo, Isn, Observation, Source, Tuple};

/// One end of a connection, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    pub(super) tuple: Tuple,
    /// Inode number of the network namespace.
    pub(super) netns: Option<u32>,
    /// Initial sequence numbers.
    pub(super) isn: Option<Isn>,
}

/// Sockets that decide roles, and the processes described for these answers, each once.
struct Owners<'a> {
    tcp: &'a BTreeMap<u64, TcpSocket>,
    /// Listeners of all processes.
    all: BTreeSet<(u32, u16)>,
    processes: BTreeMap<u32, Option<Owner>>,
}

/// A process, and its listeners.
struct Owner {
    process: Described,
    listens: BTreeSet<(u32, u16)>,
}

impl<'a> Owners<'a> {
    fn with(tcp: &'a BTreeMap<u64, TcpSocket>) -> Self {
        Self { tcp, all: listening(tcp.values()), processes: BTreeMap::new() }
    }

    /// Facts about the processes among `holders` that have this socket.
    fn report(&mut self, view: &mut HostView, socket: &TcpSocket, holders: &[u32], now: BootTime) -> Vec<Observation> {
        let Self { tcp, all, processes } = self;
        let mut facts = Vec::new();
        for pid in holders {
            let is_new = !processes.contains_key(pid);
            let owner = processes.entry(*pid).or_insert_with(|| {
                let process = view.describe(*pid)?;
                let listens = listening(process.sockets.iter().filter_map(|inode| tcp.get(inode)));
                Some(Owner { process, listens })
            });
            let Some(Owner { process, listens }) = owner else { continue };
            if process.sockets.binary_search(&socket.inode).is_err() {
                continue;
            }
            if is_new {
                facts.push(view.note_process(now, process.key, process.info.clone()));
            }
            facts.push(Observation::of(now, Source::Snapshot, process.key, tcp_fact(socket, listens, all)));
        }
        facts
    }
}

/// Reports the other ends of these connections with their processes. An end that no process has, or that several sockets may be, is
/// reported absent.
pub(super) fn report(view: &mut HostView, ends: &[End], now: BootTime) -> Vec<Observation> {
    let mut unknown: BTreeSet<End> = ends.iter().copied().collect();
    let mut facts = Vec::new();
    if let Some(open_files) = view.open_files.clone().filter(|_| !unknown.is_empty()) {
        let mut owners = Owners::with(&open_files.sockets.tcp);
        unknown.retain(|end| {
            // Sequence numbers identify the other end. Without them its addresses have to.
            let named: Vec<&TcpSocket> = end.isn.into_iter().flat_map(|isn| open_files.other_ends(isn)).collect();
            let candidates =
                if named.is_empty() { candidates(end, open_files.connections(end.tuple.mirrored())) } else { named };
            let found = match candidates[..] {
                [] => return true,
                [socket] => owners.report(view, socket, open_files.holders(socket.inode), now),
                // Two candidates: name neither.
                _ => Vec::new(),
            };
            facts.extend(or_absent(end, found, now));
            false
        });
    }
    if !unknown.is_empty() {
        // A socket that no table listed may be younger than the scan: ask the kernel about the present.
        let open_files = view.open_files.take();
        let namespaces = open_files.as_ref().map(|open_files| open_files.namespaces.clone());
        let namespaces = namespaces.unwrap_or_else(|| namespaces::processes(&view.proc, view.options.netns).1);
        facts.extend(look_up(view, &unknown, namespaces, now));
        view.open_files = open_files;
    }
    facts
}

/// Asks the kernel for the other ends, one by one, and searches their processes.
fn look_up(view: &mut HostView, ends: &BTreeSet<End>, mut namespaces: Namespaces, now: BootTime) -> Vec<Observation> {
    // Both ends of a loopback connection are in one namespace.
    if ends.iter().all(|end| end.tuple.is_loopback()) {
        namespaces.retain(|netns, _| ends.iter().any(|end| end.netns == Some(*netns)));
    }
    let tuples: BTreeSet<Tuple> = ends.iter().map(|end| end.tuple.mirrored()).collect();
    let mut found = sock_diag::find(&namespaces, &tuples);
    view.errors.extend(&found.errors);
    // Equal addresses prove no connection between two namespaces: add the sequence numbers.
    let crosses = |end: &End| {
        let mut mirrored = found.tcp.values().filter(|socket| socket.tuple == end.tuple.mirrored());
        end.isn.is_some() && mirrored.any(|socket| end.netns != Some(socket.netns))
    };
    if ends.iter().any(crosses)
        && let Err(error) = bpf_scan::add_sequence_numbers(&mut found.tcp)
    {
        log::debug!("no sequence numbers: {error}");
    }
    namespaces.retain(|netns, _| found.tcp.values().any(|socket| socket.netns == *netns));
    let listeners = sock_diag::listeners(&namespaces).tcp;
    let mut owners = Owners::with(&listeners);
    let mut facts = Vec::new();
    for end in ends {
        let mirrored = found.tcp.values().filter(|socket| socket.tuple == end.tuple.mirrored());
        let found = match candidates(end, mirrored)[..] {
            [socket] => {
                let holders = holders(view, socket);
                owners.report(view, socket, &holders, now)
            }
            _ => Vec::new(),
        };
        facts.extend(or_absent(end, found, now));
    }
    facts
}

/// Pids that have this socket open. Processes of the socket's namespace go first: the owner is most likely there.
fn holders(view: &HostView, socket: &TcpSocket) -> Vec<u32> {
    let pids = namespaces::processes(&view.proc, view.options.netns).0;
    let (near, far): (Vec<u32>, Vec<u32>) =
        pids.iter().partition(|pid| view.proc.namespace(**pid, "net") == Some(socket.netns));
    let holds = |pid: &u32| {
        let files = descriptors::open_files(&view.proc, *pid, MAX_FDS).unwrap_or_default();
        files.iter().any(|file| file.socket() == Some(socket.inode))
    };
    let holders = |pids: Vec<u32>| pids.into_iter().filter(holds).collect::<Vec<u32>>();
    Some(holders(near)).filter(|found| !found.is_empty()).unwrap_or_else(|| holders(far))
}

/// The facts found, or the absence of the other end.
fn or_absent(end: &End, found: Vec<Observation>, now: BootTime) -> Vec<Observation> {
    if !found.is_empty() {
        return found;
    }
    vec![Observation::new(
        now,
        Source::Snapshot,
        Fact::PeerAbsent { tuple: end.tuple, netns: end.netns, host: HostNo::default() },
    )]
}

/// Sockets with mirrored addresses that may be the other end. One in the same network namespace excludes all others.
fn candidates<'a>(end: &End, mirrored: impl Iterator<Item = &'a TcpSocket>) -> Vec<&'a TcpSocket> {
    let (own, others): (Vec<_>, Vec<_>) =
        mirrored.filter(|socket| may_be(end, socket)).partition(|socket| end.netns == Some(socket.netns));
    if own.is_empty() { others } else { own }
}

/// True if a socket with mirrored addresses may be the other end. Different sequence numbers exclude it. So does another namespace
/// on loopback, where strangers may use equal addresses.
fn may_be(end: &End, socket: &TcpSocket) -> bool {
    let refuted = end.isn.zip(socket.isn).is_some_and(|(own, other)| !own.is_other_end_of(other));
    !refuted && (!end.tuple.is_loopback() || end.netns == Some(socket.netns))
}
