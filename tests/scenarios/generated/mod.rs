//! Laws over generated scenarios: many sessions at once on a host that reuses pids, ports, inodes and `g`s quickly.
//! Around them are probes, other clients' requests, idle connections and restarting kubelets. A seed gives the same
//! scenario on every run. The generator records the connections and processes of each session.
//!
//! * With all facts, the correlator finds every session completely, and nothing else, in any order within the
//!   reordering window.
//! * With fewer facts it finds less: every link is one of the recorded links.

mod cluster;
mod host;
mod truth;

use std::collections::{BTreeMap, BTreeSet};

use execpath::model::{Fact, Observation, Source};

use self::{
    cluster::State,
    host::HostTraits,
    truth::{TrueSession, correlate, missing},
};
use crate::laws::{Rng, shuffled};

/// Facts in order of time, and the true sessions.
struct Scenario {
    facts: Vec<Observation>,
    truth: BTreeMap<String, TrueSession>,
}

const SEEDS: std::ops::RangeInclusive<u64> = 1..=8;
const SESSIONS: usize = 30;

fn hosts() -> impl Iterator<Item = (u64, HostTraits)> {
    let all = [(false, false), (false, true), (true, false), (true, true)];
    let traits = |(ids_known, ports_rest)| HostTraits { ids_known, ports_rest };
    all.into_iter().flat_map(move |it| SEEDS.map(move |seed| (seed, traits(it))))
}

fn scenario(seed: u64, traits: HostTraits) -> Scenario {
    State::new(seed, traits).run(SESSIONS)
}

#[test]
fn generated_scenarios_reuse_names_often() {
    let Scenario { facts, truth } = scenario(1, HostTraits { ids_known: false, ports_rest: false });
    let count = |is: fn(&TrueSession) -> bool| truth.values().filter(|expected| is(expected)).count();
    assert!(count(|expected| expected.whole && expected.stream) >= SESSIONS / 2, "most sessions are complete");
    assert!(count(|expected| !expected.whole) > 0, "restarts cut some sessions");
    assert!(count(|expected| expected.whole && !expected.stream) > SESSIONS / 2, "most probes are complete");
    let mut names: [BTreeMap<u64, BTreeSet<u64>>; 3] = Default::default();
    for seen in &facts {
        if let Fact::Accepted { socket } | Fact::Connected { socket, .. } = seen.fact {
            let (cookie, inode) = (socket.id.cookie.expect("a cookie"), socket.id.inode.expect("an inode"));
            names[0].entry(inode).or_default().insert(cookie);
            let port = socket.tuple.expect("addresses").local.port();
            if port >= 40_000 {
                names[1].entry(u64::from(port)).or_default().insert(cookie);
            }
        }
        if let Some(task) = seen.task {
            names[2].entry(u64::from(task.tgid)).or_default().insert(task.start_ticks);
        }
    }
    for (name, of) in ["inodes", "ports", "pids"].into_iter().zip(names) {
        let again = of.values().filter(|holders| holders.len() > 1).count();
        assert!(again > 10, "too few {name} are reused: {again} of {}", of.len());
    }
}

#[test]
fn all_facts_give_all_sessions_and_no_other_link() {
    for (seed, traits) in hosts() {
        let Scenario { facts, truth } = scenario(seed, traits);
        let outcome = correlate(&facts, &truth);
        assert!(outcome.wrong.is_empty(), "seed {seed}, {traits:?}: {:#?}", outcome.wrong);
        let missing = missing(&outcome, &truth);
        assert!(missing.is_empty(), "seed {seed}, {traits:?}: {missing:#?}");
    }
}

#[test]
fn order_and_repetition_change_nothing() {
    for (seed, traits) in hosts() {
        let Scenario { facts, truth } = scenario(seed, traits);
        let expected = correlate(&facts, &truth).sessions;
        let mut rng = Rng(seed + 1_000);
        let late = correlate(&shuffled(&facts, &mut rng), &truth);
        assert_eq!(late.sessions, expected, "seed {seed}, {traits:?}, in another order");
        assert!(late.wrong.is_empty(), "seed {seed}, {traits:?}, in another order: {:#?}", late.wrong);
        let twice: Vec<Observation> =
            facts.iter().flat_map(|seen| vec![seen.clone(); 1 + usize::from(rng.below(3) == 0)]).collect();
        let twice = correlate(&shuffled(&twice, &mut rng), &truth);
        assert_eq!(twice.sessions, expected, "seed {seed}, {traits:?}, a third twice");
    }
}

/// Drops one of `one_of` droppable facts: idx wrong link may appear. Each lost fact is followed by a loss report.
fn fewer(what: &str, one_of: u64, may_go: fn(&Fact) -> bool, hosts: impl Iterator<Item = (u64, HostTraits)>) {
    for (seed, traits) in hosts {
        let Scenario { facts, truth } = scenario(seed, traits);
        let mut rng = Rng(seed + 2_000);
        let lost = |at| Observation::new(at, Source::Engine, Fact::Lost { what: "ring-full".to_owned(), count: 1 });
        let left: Vec<Observation> = facts
            .iter()
            .map(|seen| if may_go(&seen.fact) && rng.below(one_of) == 0 { lost(seen.at) } else { seen.clone() })
            .collect();
        let outcome = correlate(&left, &truth);
        assert!(outcome.wrong.is_empty(), "seed {seed}, {traits:?}, one of {one_of} {what} gone: {:#?}", outcome.wrong);
    }
}

/// Ports rest here. With immediate reuse, a lost close and accept before and a lost connect after it make two
/// connections look like one. The correlator pairs by addresses only within a second.
#[test]
fn random_losses_give_no_other_links() {
    for one_of in [30, 10, 3] {
        // The kubelet's listener is read, not sent. Without it, the kubelet looks like any client of the runtime.
        let may_go = |fact: &Fact| !matches!(fact, Fact::Listening { .. });
        fewer("facts", one_of, may_go, hosts().filter(|(_, traits)| traits.ports_rest));
    }
}

#[test]
fn losses_of_one_kind_give_no_other_links() {
    type MayGo = fn(&Fact) -> bool;
    let kinds: [(&str, MayGo); 8] = [
        ("accepts", |fact| matches!(fact, Fact::Accepted { .. })),
        ("closes", |fact| matches!(fact, Fact::Closed { .. })),
        ("connects", |fact| matches!(fact, Fact::Connected { .. })),
        ("exits", |fact| matches!(fact, Fact::Exit { .. })),
        ("FIFOs", |fact| matches!(fact, Fact::FifoMade { .. })),
        ("forks", |fact| matches!(fact, Fact::Fork { .. })),
        ("pairs", |fact| matches!(fact, Fact::Relayed { .. })),
        ("processes", |fact| matches!(fact, Fact::ProcessSeen(_) | Fact::Enrolled(_) | Fact::Exec(_))),
    ];
    for one_of in [5, 1] {
        for (what, may_go) in kinds {
            fewer(what, one_of, may_go, hosts());
        }
    }
}
