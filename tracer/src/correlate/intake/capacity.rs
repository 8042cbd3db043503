//! Reports what full tables refused, and a start that took long.

use std::collections::BTreeSet;

use crate::correlate::{
    Correlator,
    limits::{REFUSED_EVERY, ROOM_EVERY, START_WITHIN},
    state::{Dependency, sockets::SocketIdx},
};
use crate::model::{BootTime, Change, Fact, LATE_START, Observation};

/// Whether the tracer started in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::correlate) enum Start {
    /// No observation has arrived.
    #[default]
    Unseen,
    /// No tick has arrived.
    Running {
        /// Time of the first observation.
        first: BootTime,
        /// Time of the newest record of the kernel.
        newest: BootTime,
    },
    /// A tick has arrived, or the start lies in an earlier file of the recording.
    Over,
}

impl Correlator {
    /// Skips the check of the start phase, for a recording whose start lies in an earlier file.
    #[must_use]
    pub fn started_before(mut self) -> Self {
        self.start = Start::Over;
        self
    }

    /// Reports at the first tick a start that took longer than [`START_WITHIN`]: the time from the first observation to the newest
    /// record that arrived before the tick. The tick itself carries the time at which reading began. Everything until then is in
    /// doubt. A recording without ticks is an excerpt, and nothing is known about its start.
    pub(in crate::correlate) fn watch_start(&mut self, seen: &Observation) {
        // Numbered: of a recording that was made by hand, or of another tool's log, nothing is known about its start.
        let newest = if seen.seq.is_some() { seen.at } else { BootTime::default() };
        let (first, newest) = match self.start {
            Start::Over => return,
            // The tracer knows better.
            _ if matches!(&seen.fact, Fact::Lost { what, .. } if what == LATE_START) => {
                self.start = Start::Over;
                return;
            }
            Start::Unseen => (seen.at, newest),
            Start::Running { first, newest: before } => (first, before.max(newest)),
        };
        if seen.fact != Fact::Tick {
            self.start = Start::Running { first, newest };
            return;
        }
        self.start = Start::Over;
        let took = newest.since(first);
        if took > START_WITHIN {
            self.state.losses.doubt_until(newest);
            self.lost(LATE_START.to_owned(), took.0 / 1_000_000);
        }
    }

    /// Counts and reports a loss, and rebuilds every open session: some of them may rest on what was lost.
    pub(in crate::correlate) fn lost(&mut self, what: String, count: u64) {
        let what = self.count_loss(what, count);
        self.dirty.extend(self.open.keys().cloned());
        self.tell(Change::Loss { what, count });
    }

    /// Puts sessions in doubt as soon as a table refuses an entry.
    pub(in crate::correlate) fn note_refused(&mut self) {
        self.state.collect_refused();
        if self.state.refused.take_doubt() {
            self.state.losses.refuse(self.now);
        }
    }

    /// Reports what tables refused since the last report.
    pub(in crate::correlate) fn tell_refused(&mut self) {
        if self.state.refused.is_empty() {
            return;
        }
        self.next_refusal = self.now.plus(REFUSED_EVERY);
        for (what, count) in self.state.refused.take() {
            self.lost(what.to_owned(), count);
        }
        self.rebuild_all();
    }

    /// Discards sockets that no session rests on, where the table is full. A search visits every entry, so it is made at
    /// most once in [`ROOM_EVERY`]; until then further sockets are refused.
    pub(in crate::correlate) fn make_room_for_socket(&mut self) {
        if self.now < self.next_room {
            return;
        }
        self.next_room = self.now.plus(ROOM_EVERY);
        let (resting, processes) = (&self.resting, &self.state.processes);
        let gone = self.state.sockets.make_room(
            |idx| resting.contains_key(&Dependency::Socket(idx)),
            |task| processes.get(task).is_some_and(|process| process.exit.is_some()),
        );
        self.state.refused.add("sockets-full", gone.len() as u64);
        self.forget_sockets(gone);
    }

    /// Drops what other tables hold of sockets whose entries are gone.
    pub(in crate::correlate) fn forget_sockets(&mut self, gone: Vec<SocketIdx>) {
        for idx in &gone {
            self.state.pairings.forget(*idx);
            self.state.execs.forget_stream(*idx);
        }
        if !gone.is_empty() {
            let gone: BTreeSet<SocketIdx> = gone.into_iter().collect();
            self.state.streams.retain(|_, streams| {
                streams.retain(|idx| !gone.contains(idx));
                !streams.is_empty()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        correlate::{Options, limits::Caps},
        model::{Actor, ExitStatus, Family, HostFacts, SocketId, SocketInfo, Source, TaskKey, Tuple},
    };

    fn correlator(caps: Caps) -> Correlator {
        let mut correlator = Correlator::new(&HostFacts::default(), &Options::default()).started_before();
        correlator.state.caps = caps;
        correlator.state.sockets.caps = caps;
        correlator.state.processes.caps = caps;
        correlator.state.execs.caps = caps;
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
            tuple: Some(Tuple::new(address(cookie), address(9))),
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
        let told: u64 = losses(&mut correlator).iter().filter(|(what, _)| what == "sockets-full").map(|(_, n)| n).sum();
        assert_eq!(told, 6);
        assert_eq!(correlator.report().totals.lost["sockets-full"], 6);
        assert!(correlator.state.losses.between(at(5), at(10)), "sessions of that time are in doubt");
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
}
