//! Pairs the inbound and the outbound connection of one process that passes bytes on.
//!
//! A pair is exclusive: an outbound socket with two possible inbound sockets gets none.
//!
//! An *act* is a dial, a transfer of bytes or a touch that a kernel record reports. The *actor* is the goroutine,
//! known by its `g` (address of Go's goroutine structure, reused by later goroutines) and, if readable, its id. In
//! a program that is not Go the actor is the thread. A *touch* is a send or a receive on one socket.
//!
//! Rules for a Go process, measured on 3,300 sessions without a false pair:
//! * *dial*: a goroutine received on the accepted socket, then connected the outbound one.
//! * *both directions*: bytes went from inbound to outbound and back. Each direction has a goroutine that received
//!   on one socket and sent on the other; the two directions may have different goroutines.
//! * *creator*: goroutines of one creator touched both sockets and no third one (Go ≥ 1.21). In addition one of
//!   them touched both sockets, or two of them touched the same socket. The accepting goroutine creates the
//!   goroutines of all requests: without the addition, one goroutine each of two requests would look like a pair
//!   until a third socket is touched.
//! * *memory*: waiting goroutines copy between the two sockets, as read from the program's memory. `exact` if the
//!   arguments of copies name both sockets in both directions, else `strong`. Memory counts only if no other rule
//!   names an inbound socket for this outbound one.
//!
//! Limits of the rules:
//! * A dial by a `g` without a goroutine id is in doubt if records were lost between receive and connect: another
//!   goroutine may have had this `g` by then.
//! * Bytes both ways between one inbound and several open outbound connections prove nothing: the process is a
//!   tunnel, or speaks HTTP/2.
//! * One transfer in one direction is never enough. [`Pairings::outlets`] accepts it for connections with another
//!   proof that they belong to one session.
//! * In a process that is not Go, the actor is a thread. The same rules then give at most `strong`.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::{SmallVec, smallvec};

use super::{
    losses::Losses,
    memory_pairs::MemoryPairs,
    sockets::{Socket, SocketIdx, Sockets},
    table::Table,
};
use crate::model::{Actor, BootTime, Confidence, Evidence, Proofs, SocketRole, TaskKey};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlate) struct Pair {
    pub(in crate::correlate) inbound: SocketIdx,
    pub(in crate::correlate) confidence: Confidence,
    /// Strongest evidence first.
    pub(in crate::correlate) evidence: Proofs,
}

impl Pair {
    pub(in crate::correlate) fn exact(inbound: SocketIdx, evidence: Evidence) -> Self {
        Self { inbound, confidence: Confidence::Exact, evidence: smallvec![evidence] }
    }
}

/// Result of pairing one outbound socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlate) enum PairResult {
    /// Exactly one inbound socket fits.
    Paired(Pair),
    /// More than one inbound socket fits, or the only one rests on a contested dial, a dial in doubt, or a socket
    /// that is shared with other outbound sockets. The session gets the gap `ambiguous`.
    Ambiguous,
    /// No inbound socket fits so far.
    Unknown,
}

/// Creator of a goroutine: process, and goroutine id of the creator.
type Creator = (TaskKey, u64);

/// Number of sockets remembered per creator. A third socket rules the creator out as evidence.
const TOO_MANY: usize = 3;

/// A goroutine or a thread received on one socket and then connected another.
#[derive(Clone, Copy)]
struct Dial {
    at: BootTime,
    inbound: SocketIdx,
    /// Set when the actor was a goroutine, not a thread.
    by_goroutine: bool,
    /// See [`Moved::identified`].
    identified: bool,
}

/// Actors that moved bytes in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moved {
    by_goroutine: bool,
    /// Set when the goroutine id is known. A `g` alone may have passed to another goroutine.
    identified: bool,
}

#[derive(Default)]
pub(in crate::correlate) struct Pairings {
    /// Outbound socket → its dial. A second report of the same connect is ignored.
    dialled: Table<SocketIdx, Dial>,
    /// Outbound sockets dialled after a receive on a socket that no record describes. They have no pair here;
    /// callers ask with [`Self::is_for_unknown`].
    for_unknown: BTreeSet<SocketIdx>,
    /// Inbound socket → all outbound sockets that were dialled for it.
    dials: Table<SocketIdx, BTreeSet<SocketIdx>>,
    /// Contested dials: outbound sockets whose inbound socket had several open dials at once. The BPF map keeps
    /// the last inbound socket of a `g` after its goroutine has finished, so the dial of a later goroutine with
    /// this `g` can be attributed to the wrong connection.
    contested: BTreeSet<SocketIdx>,
    /// (from, to) → actors that moved bytes in this direction.
    moved: Table<(SocketIdx, SocketIdx), Moved>,
    /// Socket → sockets that exchanged bytes with it, in any direction.
    partners: Table<SocketIdx, BTreeSet<SocketIdx>>,
    /// Creator → sockets that its goroutines touched → ids of those goroutines. At most [`TOO_MANY`] sockets,
    /// and as many goroutines per socket.
    touched: BTreeMap<Creator, BTreeMap<SocketIdx, BTreeSet<u64>>>,
    /// Socket → creators of the goroutines that touched it: the reverse of `touched`.
    creators: Table<SocketIdx, BTreeSet<Creator>>,
    memory: MemoryPairs,
}

impl Pairings {
    /// Adds a dial. Returns other outbound sockets that now have a rival.
    pub(in crate::correlate) fn dialled(
        &mut self,
        at: BootTime,
        inbound: SocketIdx,
        outbound: SocketIdx,
        actor: Actor,
        sockets: &Sockets,
    ) -> Vec<SocketIdx> {
        if self.dialled.contains_key(&outbound) {
            return Vec::new();
        }
        let (by_goroutine, identified) = (actor.g.is_some(), actor.goid.is_some());
        self.dialled.insert(outbound, Dial { at, inbound, by_goroutine, identified });
        let dials = self.dials.entry(inbound).or_default();
        // An outbound socket that is closed by now is no rival: a failed attempt, or the previous request on the
        // same inbound connection.
        let is_open = |idx: &SocketIdx| sockets.get(*idx).is_some_and(|socket| socket.closed.is_none());
        let rivals: Vec<SocketIdx> = dials.iter().copied().filter(is_open).collect();
        dials.insert(outbound);
        if !rivals.is_empty() {
            self.contested.insert(outbound);
            self.contested.extend(&rivals);
        }
        rivals
    }

    /// Marks a socket that was dialled for a connection without a record.
    pub(in crate::correlate) fn dialled_for_unknown(&mut self, outbound: SocketIdx) {
        self.for_unknown.insert(outbound);
    }

    pub(in crate::correlate) fn is_for_unknown(&self, outbound: SocketIdx) -> bool {
        self.for_unknown.contains(&outbound)
    }

    /// Adds a transfer of bytes. Returns true if the transfer adds anything new.
    pub(in crate::correlate) fn moved(&mut self, from: SocketIdx, to: SocketIdx, actor: Actor) -> bool {
        // An act of a goroutine is never downgraded by a later one of a thread: until a program is known to be Go,
        // its acts are reported for threads.
        let known = self.moved.get(&(from, to)).copied();
        let moved = self.moved.entry((from, to)).or_default();
        moved.by_goroutine |= actor.g.is_some();
        moved.identified |= actor.goid.is_some();
        if known == Some(*moved) {
            return false;
        }
        self.partners.entry(from).or_default().insert(to);
        self.partners.entry(to).or_default().insert(from);
        true
    }

    /// Adds a touch by a goroutine of this creator. Returns the other sockets that its goroutines have touched.
    pub(in crate::correlate) fn touched(
        &mut self,
        task: TaskKey,
        creator: u64,
        goid: u64,
        socket: SocketIdx,
    ) -> Vec<SocketIdx> {
        let touched = self.touched.entry((task, creator)).or_default();
        let others = touched.keys().copied().filter(|other| *other != socket).collect();
        if touched.len() < TOO_MANY || touched.contains_key(&socket) {
            let by = touched.entry(socket).or_default();
            if by.len() < TOO_MANY {
                by.insert(goid);
            }
            self.creators.entry(socket).or_default().insert((task, creator));
        }
        others
    }

    /// Adds waiting goroutines that copy in this direction; `copied` if the arguments of the copy name both
    /// sockets.
    pub(in crate::correlate) fn add_memory_pair(&mut self, from: SocketIdx, to: SocketIdx, copied: bool) {
        self.memory.push(from, to, copied);
    }

    /// Returns the inbound socket that belongs to `outbound`, with confidence and evidence.
    ///
    /// `Unknown` if no rule names an inbound socket. `Ambiguous` if rules name different sockets, or if the only
    /// evidence is a contested or doubtful dial, a shared inbound socket, or a creator whose goroutines
    /// touched several inbound sockets.
    ///
    /// In a Go program (`is_go`) acts of threads do not count, because the Go scheduler moves goroutines between
    /// threads. This includes acts from before the program was known to be Go.
    pub(in crate::correlate) fn inbound_of(
        &self,
        outbound: SocketIdx,
        sockets: &Sockets,
        is_go: bool,
        losses: &Losses,
    ) -> PairResult {
        let counts = |by_goroutine: bool| by_goroutine || !is_go;
        let near = sockets.get(outbound);
        // An inbound socket must be accepted by the same process, and not after the outbound one was connected.
        let may_be_inbound = |idx: SocketIdx| {
            accepted_beside(idx, outbound, near, sockets).is_some_and(|inbound| !is_later(inbound, near))
        };
        // Rule "dial".
        let dialled = self.dialled.get(&outbound).copied();
        let dialled = dialled.filter(|dial| may_be_inbound(dial.inbound) && counts(dial.by_goroutine));
        // Rule "both directions".
        let both: SmallVec<[(SocketIdx, bool); 4]> = self
            .both_directions(outbound)
            .filter(|(inbound, by_goroutine)| may_be_inbound(*inbound) && counts(*by_goroutine))
            .collect();
        // Rule "creator".
        let creator: SmallVec<[SocketIdx; 4]> =
            self.created_with(outbound).filter(|idx| may_be_inbound(*idx)).collect();
        // All sockets named by these three rules must be the same one. If none is named, ask the memory rule.
        let mut named = dialled
            .iter()
            .map(|dial| dial.inbound)
            .chain(both.iter().map(|(inbound, _)| *inbound))
            .chain(creator.iter().copied());
        let Some(inbound) = named.next() else {
            return self.inbound_by_memory(outbound, sockets, may_be_inbound);
        };
        if named.any(|other| other != inbound) {
            return PairResult::Ambiguous;
        }
        // Collect the evidence of goroutines and creators. Threads become evidence below, and only without these.
        let by_goroutine =
            dialled.is_some_and(|dial| dial.by_goroutine) || both.iter().any(|(_, by_goroutine)| *by_goroutine);
        let mut evidence = Proofs::new();
        if by_goroutine {
            evidence.push(Evidence::Goroutine);
        }
        if !creator.is_empty() {
            evidence.push(Evidence::Creator);
        }
        let doubtful =
            self.contested.contains(&outbound) || dialled.is_some_and(|dial| is_doubtful(dial, sockets, losses));
        // A dial that is contested, or in doubt after losses, counts only with a second rule.
        if both.is_empty() && creator.is_empty() && doubtful {
            return PairResult::Ambiguous;
        }
        // A process that moves bytes of several connections is a tunnel, or speaks HTTP/2: not the leg of one
        // session.
        if dialled.is_none() && creator.is_empty() && self.is_shared(inbound, outbound, sockets) {
            return PairResult::Ambiguous;
        }
        // Two creators may each pair this inbound socket with a different outbound one. Two partners are as good
        // as none.
        let connected = |idx: &SocketIdx| is_connected(*idx, sockets);
        if evidence[..] == [Evidence::Creator] && is_several(self.created_with(inbound).filter(connected)) {
            return PairResult::Ambiguous;
        }
        let confidence = if !evidence.is_empty() {
            Confidence::Exact
        } else if dialled.is_some() && !both.is_empty() {
            // Two rules on threads agree. A thread that serves many sessions rarely satisfies both.
            Confidence::Strong
        } else {
            // One rule on threads.
            Confidence::Weak
        };
        // Without goroutines and creators, threads are the evidence.
        if evidence.is_empty() {
            evidence.push(Evidence::Thread);
        }
        PairResult::Paired(Pair { inbound, confidence, evidence })
    }

    /// Sockets with transfers to and from `outbound`, and whether goroutines made both.
    fn both_directions(&self, outbound: SocketIdx) -> impl Iterator<Item = (SocketIdx, bool)> + '_ {
        self.partners(outbound).filter_map(move |inbound| {
            let there = self.moved.get(&(inbound, outbound))?;
            let back = self.moved.get(&(outbound, inbound))?;
            Some((inbound, there.by_goroutine && back.by_goroutine))
        })
    }

    /// Pairs by waiting goroutines, for outbound sockets without an inbound one by any other rule. Neither socket
    /// may have another partner by any rule: a socket with several partners belongs to a tunnel, or to HTTP/2.
    fn inbound_by_memory(
        &self,
        outbound: SocketIdx,
        sockets: &Sockets,
        may_be_inbound: impl Fn(SocketIdx) -> bool,
    ) -> PairResult {
        let is_open = |idx: &SocketIdx| sockets.get(*idx).is_some_and(|socket| socket.closed.is_none());
        let mut named = self.memory.partners(outbound).filter(|idx| may_be_inbound(*idx));
        let inbound = match (named.next(), named.next()) {
            (None, _) => return PairResult::Unknown,
            (Some(inbound), None) => inbound,
            (Some(_), Some(_)) => return PairResult::Ambiguous,
        };
        // Partners of the inbound socket by any rule.
        let dialled = self.dials.get(&inbound).into_iter().flatten().copied();
        let moved = self.partners(inbound).filter(|idx| self.moved_both_ways(inbound, *idx));
        let others = self.memory.partners(inbound).chain(dialled).chain(moved).chain(self.created_with(inbound));
        if others.into_iter().any(|idx| idx != outbound && is_connected(idx, sockets) && is_open(&idx)) {
            return PairResult::Ambiguous;
        }
        // Copies whose arguments name both sockets, in both directions, are as good as an act. Less is `strong`: one
        // direction alone, or goroutines of one creator that wait for the two sockets without such arguments.
        let both = self.memory.copied(inbound, outbound) && self.memory.copied(outbound, inbound);
        let confidence = if both { Confidence::Exact } else { Confidence::Strong };
        PairResult::Paired(Pair { inbound, confidence, evidence: smallvec![Evidence::Memory] })
    }

    fn moved_both_ways(&self, one: SocketIdx, other: SocketIdx) -> bool {
        self.moved.contains_key(&(one, other)) && self.moved.contains_key(&(other, one))
    }

    /// True if bytes also went both ways between `inbound` and another open outbound socket.
    fn is_shared(&self, inbound: SocketIdx, outbound: SocketIdx, sockets: &Sockets) -> bool {
        let is_open = |idx: &SocketIdx| sockets.get(*idx).is_some_and(|socket| socket.closed.is_none());
        self.partners(inbound).any(|idx| {
            idx != outbound && is_connected(idx, sockets) && is_open(&idx) && self.moved_both_ways(inbound, idx)
        })
    }

    /// Sockets that share a creator with `socket`, where this creator touched no third socket.
    fn created_with(&self, socket: SocketIdx) -> impl Iterator<Item = SocketIdx> + '_ {
        let creators = self.creators.get(&socket).into_iter().flatten();
        creators.filter_map(move |creator| partner(self.touched.get(creator)?, socket))
    }

    /// Accepted sockets of the same process that receive the output of `outbound`: an identified goroutine moved
    /// bytes there. Without such transfers, sockets to which a waiting goroutine copies. Returns the evidence
    /// with the sockets.
    pub(in crate::correlate) fn outlets(&self, outbound: SocketIdx, sockets: &Sockets) -> (Vec<SocketIdx>, Evidence) {
        let can_be = |to: &SocketIdx| may_be_inbound(*to, outbound, sockets);
        let found = self.partners(outbound).filter(|to| self.is_identified(outbound, *to) && can_be(to));
        let found: Vec<SocketIdx> = found.collect();
        if !found.is_empty() {
            return (found, Evidence::Goroutine);
        }
        let memory = self.memory.partners(outbound);
        (memory.filter(|to| self.memory.copied(outbound, *to) && can_be(to)).collect(), Evidence::Memory)
    }

    /// Connected sockets of the same process from which an identified goroutine moved bytes to `inbound`, or
    /// from which a waiting goroutine copies.
    pub(in crate::correlate) fn inlets(&self, inbound: SocketIdx, sockets: &Sockets) -> BTreeSet<SocketIdx> {
        let moved = self.partners(inbound).filter(|from| self.is_identified(*from, inbound));
        let memory = self.memory.partners(inbound).filter(|from| self.memory.copied(*from, inbound));
        let can_be = |from: &SocketIdx| is_connected(*from, sockets) && may_be_inbound(inbound, *from, sockets);
        moved.chain(memory).filter(can_be).collect()
    }

    fn partners(&self, idx: SocketIdx) -> impl Iterator<Item = SocketIdx> + '_ {
        self.partners.get(&idx).into_iter().flatten().copied()
    }

    fn is_identified(&self, from: SocketIdx, to: SocketIdx) -> bool {
        self.moved.get(&(from, to)).is_some_and(|moved| moved.identified)
    }

    pub(in crate::correlate) fn forget(&mut self, idx: SocketIdx) {
        self.for_unknown.remove(&idx);
        self.memory.forget(idx);
        if let Some(Dial { inbound, .. }) = self.dialled.swap_remove(&idx)
            && let Some(dials) = self.dials.get_mut(&inbound)
        {
            dials.remove(&idx);
            if dials.is_empty() {
                self.dials.swap_remove(&inbound);
            }
        }
        self.dials.swap_remove(&idx);
        self.contested.remove(&idx);
        for partner in self.partners.swap_remove(&idx).unwrap_or_default() {
            self.moved.swap_remove(&(idx, partner));
            self.moved.swap_remove(&(partner, idx));
            if let Some(others) = self.partners.get_mut(&partner) {
                others.remove(&idx);
            }
        }
        // Keep the creator's entry until its last socket is gone: a creator once seen with three sockets must
        // never look like one with two.
        for creator in self.creators.swap_remove(&idx).unwrap_or_default() {
            let touched = self.touched.get(&creator);
            let is_last = touched.into_iter().flatten().all(|(other, _)| !self.creators.contains_key(other));
            if is_last {
                self.touched.remove(&creator);
            }
        }
    }
}

/// True if the dial's inbound socket may stem from an earlier goroutine of the same `g`: the dial has no goroutine id,
/// and a newer record of this `g` can be among the lost ones.
fn is_doubtful(dial: Dial, sockets: &Sockets, losses: &Losses) -> bool {
    let since = sockets.get(dial.inbound).map_or(dial.at, |socket| socket.since);
    dial.by_goroutine && !dial.identified && losses.between(since, dial.at)
}

/// The only other socket that this creator's goroutines touched, if the goroutines connect the two sockets.
fn partner(touched: &BTreeMap<SocketIdx, BTreeSet<u64>>, socket: SocketIdx) -> Option<SocketIdx> {
    let own = touched.get(&socket)?;
    let mut others = touched.iter().filter(|(other, _)| **other != socket);
    let ((other, by), None) = (others.next()?, others.next()) else { return None };
    (own.len() > 1 || by.len() > 1 || !own.is_disjoint(by)).then_some(*other)
}

/// True if `idx` was accepted by the owner of `outbound`.
fn may_be_inbound(idx: SocketIdx, outbound: SocketIdx, sockets: &Sockets) -> bool {
    accepted_beside(idx, outbound, sockets.get(outbound), sockets).is_some()
}

/// Entry of `idx`, if the owner of `outbound` accepted it. `near` is the entry of `outbound`.
fn accepted_beside<'a>(
    idx: SocketIdx,
    outbound: SocketIdx,
    near: Option<&Socket>,
    sockets: &'a Sockets,
) -> Option<&'a Socket> {
    let is_it = |far: &&Socket| {
        idx != outbound && far.role == Some(SocketRole::Accepted) && far.owner == near.and_then(|near| near.owner)
    };
    sockets.get(idx).filter(is_it)
}

/// True if `outbound` was connected before `inbound` was accepted. Such a connection was not made for `inbound`,
/// and others share it: `kubectl port-forward` moves bytes of many local connections through one.
fn is_later(inbound: &Socket, outbound: Option<&Socket>) -> bool {
    inbound.begun.zip(outbound.and_then(|near| near.begun)).is_some_and(|(inbound, outbound)| inbound > outbound)
}

/// True if the iterator yields at least two different sockets.
fn is_several(mut found: impl Iterator<Item = SocketIdx>) -> bool {
    found.next().is_some_and(|first| found.any(|other| other != first))
}

fn is_connected(idx: SocketIdx, sockets: &Sockets) -> bool {
    sockets.get(idx).is_some_and(|socket| socket.role == Some(SocketRole::Connected))
}
