//! Model of a kernel with its probes: pids, ports, inodes and `g`s are reused quickly.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use execpath::model::{
    Actor, BootTime, ExitStatus, Fact, Family, Observation, SocketId, SocketInfo, SocketRole, Source, TaskKey, Tuple,
};

use super::cluster::{CLIENT, MASTER};
use crate::laws::Rng;

/// Nanoseconds before a pid is reused: the kernel uses all other pids first. Longer than a clock tick, which
/// distinguishes two processes with one pid.
pub(super) const PID_RESTS: u64 = 50_000_000;

/// Nanoseconds before a port is reused: slightly longer than the correlator pairs ends by their addresses alone.
pub(super) const PORT_RESTS: u64 = 1_010_000_000;

/// Index into [`Host::sockets`].
pub(super) type SocketIdx = usize;

pub(super) struct Socket {
    pub(super) id: SocketId,
    pub(super) tuple: Tuple,
    pub(super) netns: u32,
    pub(super) owner: TaskKey,
    pub(super) role: SocketRole,
    pub(super) peer: Option<SocketIdx>,
    pub(super) open: bool,
}

/// A goroutine of a process.
#[derive(Clone, Copy)]
pub(super) struct Goroutine {
    pub(super) task: TaskKey,
    pub(super) g: u64,
    pub(super) id: u64,
}

/// Properties of a host that make correlation easier.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostTraits {
    /// The probes know the offset of Go's goroutine id.
    pub(super) ids_known: bool,
    /// A port rests for more than a second before its reuse. TCP keeps a port for a minute at the end that closed first
    /// (TIME_WAIT), and chooses among thousands.
    pub(super) ports_rest: bool,
}

/// Model of the kernel and the probes.
pub(super) struct Host {
    pub(super) rng: Rng,
    pub(super) now: u64,
    pub(super) facts: Vec<Observation>,
    pub(super) sockets: Vec<Socket>,
    pub(super) made: u64,
    pub(super) inodes: Vec<u64>,
    /// Free ports, and the times at which they became free.
    pub(super) ports: BTreeMap<[u8; 4], Vec<(u64, u16)>>,
    pub(super) pids: Vec<(u64, u32)>,
    pub(super) next_pid: u32,
    pub(super) gs: BTreeMap<TaskKey, Vec<u64>>,
    pub(super) goroutines: u64,
    pub(super) traits: HostTraits,
    pub(super) last: BTreeMap<(TaskKey, u64), (SocketIdx, u64)>,
    pub(super) pairs: BTreeSet<(SocketIdx, SocketIdx)>,
}

impl Host {
    pub(super) fn new(seed: u64, traits: HostTraits) -> Self {
        Self {
            rng: Rng(seed),
            now: 1_000_000_000,
            facts: Vec::new(),
            sockets: Vec::new(),
            made: 0,
            inodes: Vec::new(),
            ports: BTreeMap::new(),
            pids: Vec::new(),
            next_pid: 1000,
            gs: BTreeMap::new(),
            goroutines: 100,
            traits,
            last: BTreeMap::new(),
            pairs: BTreeSet::new(),
        }
    }

    pub(super) fn emit(&mut self, source: Source, task: Option<TaskKey>, fact: Fact) {
        // All records have different times.
        self.now += 1_000;
        let tid = task.map(|task| task.tgid);
        self.facts.push(Observation { at: BootTime(self.now), source, seq: None, task, tid, fact });
    }

    pub(super) fn emit_ebpf(&mut self, task: TaskKey, fact: Fact) {
        self.emit(Source::Ebpf, Some(task), fact);
    }

    pub(super) fn emit_snapshot(&mut self, task: TaskKey, fact: Fact) {
        self.emit(Source::Snapshot, Some(task), fact);
    }

    pub(super) fn pid(&mut self) -> TaskKey {
        let rested = |freed: u64| freed + PID_RESTS < self.now;
        let tgid = if self.pids.first().is_some_and(|(freed, _)| rested(*freed)) {
            self.pids.remove(0).1
        } else {
            self.next_pid += 1;
            self.next_pid
        };
        TaskKey::from_ns(tgid, self.now)
    }

    pub(super) fn fork(&mut self, by: TaskKey) -> TaskKey {
        let child = self.pid();
        self.emit_ebpf(by, Fact::Fork { child, actor: Actor::default(), inbound: None });
        child
    }

    pub(super) fn exit(&mut self, task: TaskKey, status: ExitStatus) {
        self.emit_ebpf(task, Fact::Exit { status });
        self.pids.push((self.now, task.tgid));
    }

    /// Starts a goroutine of a Go daemon or client. The `g` that was freed last is reused first.
    pub(super) fn goroutine(&mut self, task: TaskKey) -> Goroutine {
        self.goroutines += 1;
        let id = self.goroutines;
        let free = self.gs.get_mut(&task).and_then(Vec::pop);
        Goroutine { task, g: free.unwrap_or(0xc000_0000 + id * 0x100), id }
    }

    pub(super) fn ends(&mut self, goroutine: Goroutine) {
        self.gs.entry(goroutine.task).or_default().push(goroutine.g);
    }

    pub(super) fn actor(&self, goroutine: Goroutine) -> Actor {
        Actor { g: Some(goroutine.g), goid: self.traits.ids_known.then_some(goroutine.id), parent_goid: None }
    }

    pub(super) fn received_last(&self, goroutine: Goroutine) -> Option<SocketIdx> {
        let (idx, id) = *self.last.get(&(goroutine.task, goroutine.g))?;
        ((!self.traits.ids_known || id == goroutine.id) && self.sockets[idx].open).then_some(idx)
    }

    pub(super) fn inbound(&self, goroutine: Goroutine) -> Option<SocketId> {
        self.received_last(goroutine).map(|idx| self.sockets[idx].id)
    }

    pub(super) fn socket(
        &mut self,
        owner: TaskKey,
        tuple: Tuple,
        role: SocketRole,
        peer: Option<SocketIdx>,
    ) -> SocketIdx {
        self.made += 1;
        let inode = self.inodes.pop().unwrap_or(100_000 + self.made);
        let netns = match tuple.local.ip() {
            IpAddr::V4(ip) if ip.octets() == CLIENT => 1,
            IpAddr::V4(ip) if ip.octets() == MASTER => 2,
            IpAddr::V4(_) | IpAddr::V6(_) => 3,
        };
        self.sockets.push(Socket { id: SocketId::new(self.made, inode), tuple, netns, owner, role, peer, open: true });
        self.sockets.len() - 1
    }

    pub(super) fn info(&self, idx: SocketIdx, role: bool) -> SocketInfo {
        let Socket { id, tuple, netns, role: known, .. } = self.sockets[idx];
        SocketInfo {
            id,
            family: Family::Inet,
            tuple: Some(tuple),
            netns: Some(netns),
            role: role.then_some(known),
            isn: None,
        }
    }

    pub(super) fn cookie(&self, idx: SocketIdx) -> u64 {
        self.sockets[idx].id.cookie.expect("a cookie")
    }

    pub(super) fn connect(&mut self, goroutine: Goroutine, from: [u8; 4], to: [u8; 4], port: u16) -> SocketIdx {
        let made = u16::try_from(self.made % 20_000).expect("a port");
        let (now, rests) = (self.now, self.traits.ports_rest);
        let free = self.ports.entry(from).or_default();
        let rested = free.iter().rposition(|(freed, _)| !rests || freed + PORT_RESTS < now);
        let local = rested.map_or(40_000 + made, |at| free.remove(at).1);
        let tuple = Tuple::new(SocketAddr::from((from, local)), SocketAddr::from((to, port)));
        let idx = self.socket(goroutine.task, tuple, SocketRole::Connected, None);
        let fact = Fact::Connected {
            socket: self.info(idx, true),
            actor: self.actor(goroutine),
            inbound: self.inbound(goroutine),
        };
        self.emit_ebpf(goroutine.task, fact);
        idx
    }

    pub(super) fn accept(&mut self, task: TaskKey, near: SocketIdx) -> SocketIdx {
        let far = self.socket(task, self.sockets[near].tuple.mirrored(), SocketRole::Accepted, Some(near));
        self.sockets[near].peer = Some(far);
        let socket = self.info(far, true);
        self.emit_ebpf(task, Fact::Accepted { socket });
        far
    }

    pub(super) fn receive(&mut self, goroutine: Goroutine, idx: SocketIdx) {
        if self.sockets[idx].open {
            self.last.insert((goroutine.task, goroutine.g), (idx, goroutine.id));
        }
    }

    pub(super) fn send(&mut self, goroutine: Goroutine, to: SocketIdx) {
        let Some(from) = self.received_last(goroutine).filter(|from| *from != to) else { return };
        if self.sockets[to].open && self.pairs.insert((from, to)) {
            let (from, to) = (self.info(from, true), self.info(to, true));
            let fact = Fact::Relayed { actor: self.actor(goroutine), from, to, sightings: 1, splice: false };
            self.emit_ebpf(goroutine.task, fact);
        }
    }

    pub(super) fn close(&mut self, idx: SocketIdx) {
        if !std::mem::take(&mut self.sockets[idx].open) {
            return;
        }
        let Socket { id, tuple, owner, role, peer, .. } = self.sockets[idx];
        self.emit_ebpf(owner, Fact::Closed { socket: id, received: Some(1), acked: Some(1) });
        self.inodes.extend(id.inode);
        if peer.is_none_or(|peer| !self.sockets[peer].open) {
            let client = if role == SocketRole::Connected { tuple.local } else { tuple.remote };
            if let IpAddr::V4(ip) = client.ip() {
                self.ports.entry(ip.octets()).or_default().push((self.now, client.port()));
            }
        }
    }

    pub(super) fn close_all(&mut self, owner: TaskKey) {
        for idx in 0..self.sockets.len() {
            if self.sockets[idx].owner == owner {
                self.close(idx);
            }
        }
    }
}
