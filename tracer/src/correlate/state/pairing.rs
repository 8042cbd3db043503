//! Inbound to outbound inside one process. Exclusive, and silent where two answers are possible.
//!
//! The rules that were measured exact (3,300 sessions, 0 false):
//! * *dial*: a goroutine received on an accepted socket, then connected the outbound one;
//! * *both directions*: bytes went from inbound to outbound and back, each by one goroutine;
//! * *creator*: the goroutines of one creator touched the two, and no third socket (Go ≥ 1.21); and one of them touched both,
//!   or one end was touched by two. Without the latter, two requests' goroutines, which the accepting one started, look
//!   like one session's for as long as no third was seen.
//!
//! * *memory*: goroutines that wait for the two copy between them, in both directions; in one, or by one creator, it is
//!   `strong`. It speaks where no act does.
//!
//! A dial by a `g` whose goroutine's id is not known proves nothing where records were lost meanwhile.
//!
//! Bytes both ways between one inbound and several outbound connections that are open prove nothing: a tunnel, or HTTP/2.
//!
//! One sighting in one direction is never enough by itself: [`Joins::outlets`] is for connections that are known to be one
//! session's in another way. Where the process is not Go, the actor is a thread: the same rules then give at most `strong`.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::{SmallVec, smallvec};

use super::{
    losses::Losses,
    memory_pairs::Awaited,
    sockets::{Socket, SocketNo, Sockets},
    table::Table,
};
use crate::model::{Actor, BootTime, Confidence, Evidence, Proofs, SocketRole, TaskKey};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlate) struct Join {
    pub(in crate::correlate) inbound: SocketNo,
    pub(in crate::correlate) confidence: Confidence,
    /// In order of strength.
    pub(in crate::correlate) evidence: Proofs,
}

impl Join {
    pub(in crate::correlate) fn exact(inbound: SocketNo, evidence: Evidence) -> Self {
        Self { inbound, confidence: Confidence::Exact, evidence: smallvec![evidence] }
    }
}

/// What the acts seen so far say about an outbound socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlate) enum Verdict {
    Joined(Join),
    Ambiguous,
    Unknown,
}

/// A goroutine's creator: its process and id.
type Creator = (TaskKey, u64);

/// Sockets remembered of one creator: with a third one it proves nothing any more.
const TOO_MANY: usize = 3;

/// A goroutine, or a thread, received on one socket and connected another.
#[derive(Clone, Copy)]
struct Dial {
    at: BootTime,
    inbound: SocketNo,
    by_goroutine: bool,
    /// See [`Moved::identified`].
    identified: bool,
}

/// How a direction was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moved {
    by_goroutine: bool,
    /// The goroutine's id was known, so that it is no other's of the same `g`.
    identified: bool,
}

#[derive(Default)]
pub(in crate::correlate) struct Joins {
    /// Outbound → inbound, by whom, when.
    dialled: Table<SocketNo, Dial>,
    /// Outbound sockets that were dialled for one of which nothing was told.
    for_unknown: BTreeSet<SocketNo>,
    /// Inbound → every outbound that was dialled for it.
    dials: Table<SocketNo, BTreeSet<SocketNo>>,
    /// Outbound sockets whose inbound one was dialled from for another, too, while they were open: a `g` whose goroutine is
    /// gone may still stand for a connection that is none of its successor's.
    contested: BTreeSet<SocketNo>,
    moved: Table<(SocketNo, SocketNo), Moved>,
    /// Every socket that moved bytes to or from this one.
    partners: Table<SocketNo, BTreeSet<SocketNo>>,
    /// Sockets that the goroutines of a creator touched, and which ones did; at most [`TOO_MANY`].
    touched: BTreeMap<Creator, BTreeMap<SocketNo, BTreeSet<u64>>>,
    creators: Table<SocketNo, BTreeSet<Creator>>,
    awaited: Awaited,
}

impl Joins {
    /// Takes in a dial; tells which other outbound sockets now have a rival.
    pub(in crate::correlate) fn dialled(
        &mut self,
        at: BootTime,
        inbound: SocketNo,
        outbound: SocketNo,
        actor: Actor,
        sockets: &Sockets,
    ) -> Vec<SocketNo> {
        if self.dialled.contains_key(&outbound) {
            return Vec::new();
        }
        let (by_goroutine, identified) = (actor.g.is_some(), actor.goid.is_some());
        self.dialled.insert(outbound, Dial { at, inbound, by_goroutine, identified });
        let dials = self.dials.entry(inbound).or_default();
        // One that was closed before was an attempt, or the request before on the same connection.
        let is_open = |no: &SocketNo| sockets.get(*no).is_some_and(|socket| socket.closed.is_none());
        let rivals: Vec<SocketNo> = dials.iter().copied().filter(is_open).collect();
        dials.insert(outbound);
        if !rivals.is_empty() {
            self.contested.insert(outbound);
            self.contested.extend(&rivals);
        }
        rivals
    }

    /// It was dialled for a connection of which nothing was told.
    pub(in crate::correlate) fn dialled_for_unknown(&mut self, outbound: SocketNo) {
        self.for_unknown.insert(outbound);
    }

    pub(in crate::correlate) fn is_for_unknown(&self, outbound: SocketNo) -> bool {
        self.for_unknown.contains(&outbound)
    }

    /// Takes in that bytes were moved; tells whether that is anything new.
    pub(in crate::correlate) fn moved(&mut self, from: SocketNo, to: SocketNo, actor: Actor) -> bool {
        // One goroutine is enough: threads were told of only until the program was known to be Go.
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

    /// Takes in that a goroutine of that creator touched a socket; tells which others it had touched.
    pub(in crate::correlate) fn touched(
        &mut self,
        task: TaskKey,
        creator: u64,
        goid: u64,
        socket: SocketNo,
    ) -> Vec<SocketNo> {
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

    /// Takes in that goroutines which wait pass on what comes in by one to the other.
    pub(in crate::correlate) fn awaited(&mut self, from: SocketNo, to: SocketNo, copied: bool) {
        self.awaited.push(from, to, copied);
    }

    /// The inbound socket that belongs to `outbound`. In a Go program (`is_go`) threads prove nothing: the runtime moves
    /// goroutines from one to another; what was seen of threads before that was known does not count.
    pub(in crate::correlate) fn inbound_of(
        &self,
        outbound: SocketNo,
        sockets: &Sockets,
        is_go: bool,
        losses: &Losses,
    ) -> Verdict {
        let counts = |by_goroutine: bool| by_goroutine || !is_go;
        let near = sockets.get(outbound);
        let may_be_inbound =
            |no: SocketNo| accepted_beside(no, outbound, near, sockets).is_some_and(|inbound| !is_later(inbound, near));
        let dialled = self.dialled.get(&outbound).copied();
        let dialled = dialled.filter(|dial| may_be_inbound(dial.inbound) && counts(dial.by_goroutine));
        let both: SmallVec<[(SocketNo, bool); 4]> = self
            .partners(outbound)
            .filter(|inbound| may_be_inbound(*inbound))
            .filter_map(|inbound| {
                let there = self.moved.get(&(inbound, outbound))?;
                let back = self.moved.get(&(outbound, inbound))?;
                Some((inbound, there.by_goroutine && back.by_goroutine))
            })
            .filter(|(_, by_goroutine)| counts(*by_goroutine))
            .collect();
        let creator: SmallVec<[SocketNo; 4]> = self.created_with(outbound).filter(|no| may_be_inbound(*no)).collect();
        let mut named = dialled
            .iter()
            .map(|dial| dial.inbound)
            .chain(both.iter().map(|(inbound, _)| *inbound))
            .chain(creator.iter().copied());
        let Some(inbound) = named.next() else {
            return self.awaited_inbound_of(outbound, sockets, may_be_inbound);
        };
        if named.any(|other| other != inbound) {
            return Verdict::Ambiguous;
        }
        let by_goroutine =
            dialled.is_some_and(|dial| dial.by_goroutine) || both.iter().any(|(_, by_goroutine)| *by_goroutine);
        let mut evidence = Proofs::new();
        if by_goroutine {
            evidence.push(Evidence::Goroutine);
        }
        if !creator.is_empty() {
            evidence.push(Evidence::Creator);
        }
        // What the `g` did before, for another goroutine, may be what was lost.
        let is_doubtful = |dial: Dial| {
            let since = sockets.get(inbound).map_or(dial.at, |socket| socket.since);
            dial.by_goroutine && !dial.identified && losses.between(since, dial.at)
        };
        let doubtful = self.contested.contains(&outbound) || dialled.is_some_and(is_doubtful);
        if both.is_empty() && creator.is_empty() && doubtful {
            return Verdict::Ambiguous;
        }
        // What passes on bytes of several connections is a tunnel, or HTTP/2: no session's leg.
        if dialled.is_none() && creator.is_empty() && self.is_shared(inbound, outbound, sockets) {
            return Verdict::Ambiguous;
        }
        // Another creator may have touched two of more to come: who has two partners has none.
        let connected = |no: &SocketNo| is_connected(*no, sockets);
        if evidence[..] == [Evidence::Creator] && is_several(self.created_with(inbound).filter(connected)) {
            return Verdict::Ambiguous;
        }
        let confidence = if !evidence.is_empty() {
            Confidence::Exact
        } else if dialled.is_some() && !both.is_empty() {
            // Thread and thread agree on two rules: independent signs.
            Confidence::Strong
        } else {
            Confidence::Weak
        };
        if evidence.is_empty() {
            evidence.push(Evidence::Thread);
        }
        Verdict::Joined(Join { inbound, confidence, evidence })
    }

    /// What goroutines that wait say, where no act says anything. Each of the two has to have no other partner, by whatever is
    /// known: what passes on for many is a tunnel, or HTTP/2.
    fn awaited_inbound_of(
        &self,
        outbound: SocketNo,
        sockets: &Sockets,
        may_be_inbound: impl Fn(SocketNo) -> bool,
    ) -> Verdict {
        let is_open = |no: &SocketNo| sockets.get(*no).is_some_and(|socket| socket.closed.is_none());
        let mut named = self.awaited.partners(outbound).filter(|no| may_be_inbound(*no));
        let inbound = match (named.next(), named.next()) {
            (None, _) => return Verdict::Unknown,
            (Some(inbound), None) => inbound,
            (Some(_), Some(_)) => return Verdict::Ambiguous,
        };
        let dialled = self.dials.get(&inbound).into_iter().flatten().copied();
        let moved = self.partners(inbound).filter(|no| self.moved_both_ways(inbound, *no));
        let others = self.awaited.partners(inbound).chain(dialled).chain(moved).chain(self.created_with(inbound));
        if others.into_iter().any(|no| no != outbound && is_connected(no, sockets) && is_open(&no)) {
            return Verdict::Ambiguous;
        }
        let both = self.awaited.copied(inbound, outbound) && self.awaited.copied(outbound, inbound);
        let confidence = if both { Confidence::Exact } else { Confidence::Strong };
        Verdict::Joined(Join { inbound, confidence, evidence: smallvec![Evidence::Memory] })
    }

    fn moved_both_ways(&self, one: SocketNo, other: SocketNo) -> bool {
        self.moved.contains_key(&(one, other)) && self.moved.contains_key(&(other, one))
    }

    /// Whether bytes went both ways between that inbound socket and another outbound one, too, while they were open.
    fn is_shared(&self, inbound: SocketNo, outbound: SocketNo, sockets: &Sockets) -> bool {
        let is_open = |no: &SocketNo| sockets.get(*no).is_some_and(|socket| socket.closed.is_none());
        self.partners(inbound)
            .any(|no| no != outbound && is_connected(no, sockets) && is_open(&no) && self.moved_both_ways(inbound, no))
    }

    /// What shares a creator with that socket and with nothing else.
    fn created_with(&self, socket: SocketNo) -> impl Iterator<Item = SocketNo> + '_ {
        let creators = self.creators.get(&socket).into_iter().flatten();
        creators.filter_map(move |creator| partner(self.touched.get(creator)?, socket))
    }

    /// Accepted sockets of the same process to which an identified goroutine moved bytes from that outbound one, or else
    /// copies while it waits.
    pub(in crate::correlate) fn outlets(&self, outbound: SocketNo, sockets: &Sockets) -> (Vec<SocketNo>, Evidence) {
        let can_be = |to: &SocketNo| may_be_inbound(*to, outbound, sockets);
        let found = self.partners(outbound).filter(|to| self.is_identified(outbound, *to) && can_be(to));
        let found: Vec<SocketNo> = found.collect();
        if !found.is_empty() {
            return (found, Evidence::Goroutine);
        }
        let awaited = self.awaited.partners(outbound);
        (awaited.filter(|to| self.awaited.copied(outbound, *to) && can_be(to)).collect(), Evidence::Memory)
    }

    /// Connected sockets of the same process from which an identified goroutine moved bytes to that inbound one, or copies
    /// while it waits.
    pub(in crate::correlate) fn inlets(&self, inbound: SocketNo, sockets: &Sockets) -> BTreeSet<SocketNo> {
        let moved = self.partners(inbound).filter(|from| self.is_identified(*from, inbound));
        let awaited = self.awaited.partners(inbound).filter(|from| self.awaited.copied(*from, inbound));
        let can_be = |from: &SocketNo| is_connected(*from, sockets) && may_be_inbound(inbound, *from, sockets);
        moved.chain(awaited).filter(can_be).collect()
    }

    fn partners(&self, no: SocketNo) -> impl Iterator<Item = SocketNo> + '_ {
        self.partners.get(&no).into_iter().flatten().copied()
    }

    fn is_identified(&self, from: SocketNo, to: SocketNo) -> bool {
        self.moved.get(&(from, to)).is_some_and(|moved| moved.identified)
    }

    pub(in crate::correlate) fn forget(&mut self, no: SocketNo) {
        self.for_unknown.remove(&no);
        self.awaited.forget(no);
        if let Some(Dial { inbound, .. }) = self.dialled.swap_remove(&no)
            && let Some(dials) = self.dials.get_mut(&inbound)
        {
            dials.remove(&no);
            if dials.is_empty() {
                self.dials.swap_remove(&inbound);
            }
        }
        self.dials.swap_remove(&no);
        self.contested.remove(&no);
        for partner in self.partners.swap_remove(&no).unwrap_or_default() {
            self.moved.swap_remove(&(no, partner));
            self.moved.swap_remove(&(partner, no));
            if let Some(others) = self.partners.get_mut(&partner) {
                others.remove(&no);
            }
        }
        // The others stay with what was touched: a creator that had three has never had two. It goes with its last socket.
        for creator in self.creators.swap_remove(&no).unwrap_or_default() {
            let touched = self.touched.get(&creator);
            let is_last = touched.into_iter().flatten().all(|(other, _)| !self.creators.contains_key(other));
            if is_last {
                self.touched.remove(&creator);
            }
        }
    }
}

/// The other one of the two that a creator's goroutines touched.
fn partner(touched: &BTreeMap<SocketNo, BTreeSet<u64>>, socket: SocketNo) -> Option<SocketNo> {
    let own = touched.get(&socket)?;
    let mut others = touched.iter().filter(|(other, _)| **other != socket);
    let ((other, by), None) = (others.next()?, others.next()) else { return None };
    (own.len() > 1 || by.len() > 1 || !own.is_disjoint(by)).then_some(*other)
}

/// Whether `no` was accepted by the process that has `outbound`.
fn may_be_inbound(no: SocketNo, outbound: SocketNo, sockets: &Sockets) -> bool {
    accepted_beside(no, outbound, sockets.get(outbound), sockets).is_some()
}

/// The same, of an outbound socket that was looked up: `no`'s entry, if it may be.
fn accepted_beside<'a>(
    no: SocketNo,
    outbound: SocketNo,
    near: Option<&Socket>,
    sockets: &'a Sockets,
) -> Option<&'a Socket> {
    let is_it = |far: &&Socket| {
        no != outbound && far.role == Some(SocketRole::Accepted) && far.owner == near.and_then(|near| near.owner)
    };
    sockets.get(no).filter(is_it)
}

/// Whether `outbound` stood before `inbound` was accepted: then it was not made for it, and others share it. `kubectl
/// port-forward` moves bytes of many local connections through one.
fn is_later(inbound: &Socket, outbound: Option<&Socket>) -> bool {
    inbound.begun.zip(outbound.and_then(|near| near.begun)).is_some_and(|(inbound, outbound)| inbound > outbound)
}

/// Whether there is more than one of them.
fn is_several(mut found: impl Iterator<Item = SocketNo>) -> bool {
    found.next().is_some_and(|first| found.any(|other| other != first))
}

fn is_connected(no: SocketNo, sockets: &Sockets) -> bool {
    sockets.get(no).is_some_and(|socket| socket.role == Some(SocketRole::Connected))
}
