//! The correlator, with mutated lines of real recordings. Its findings must depend on the observations alone, not on
//! the number of `drain` calls.
#![no_main]

use execpath::model::Finding;
use execpath_fuzz::{correlator, mutate, observations};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|data: &[u8]| {
    let (mut often, mut once) = (correlator(), correlator());
    let mut found: Vec<Finding> = Vec::new();
    for seen in observations(data) {
        once.ingest(seen.clone());
        drop(once.wants());
        often.ingest(seen);
        drop(often.wants());
        found.extend(often.drain());
    }
    for correlator in [&mut often, &mut once] {
        correlator.flush();
    }
    found.extend(often.drain());
    assert_eq!(found, once.drain(), "findings depend on the number of drain calls");
    let report = once.report();
    assert_eq!(report, often.report());
    for session in &report.sessions {
        let is_hop = |index: usize| index < session.hops.len();
        assert!(session.links.iter().all(|link| is_hop(link.from) && is_hop(link.to)), "a link has no hop at one end");
        assert!(
            session.closed_at.is_none_or(|closed| closed >= session.opened_at),
            "the session closed before it opened"
        );
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // libFuzzer's own mutation takes one input in eight.
    let own = if seed % 8 == 0 { None } else { mutate(data, size, max_size, seed) };
    own.unwrap_or_else(|| fuzzer_mutate(data, size, max_size))
});
