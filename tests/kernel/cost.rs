//! What a probe costs.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use aya::sys::{Stats, enable_stats};
use execpath::model::WatchAs;

use crate::trace::Trace;

/// Socket calls to measure over.
const CALLS: usize = 20_000;

/// Generous: some 0.2 µs were measured for strangers and 0.5 µs for processes on the path. Catches a loop, not a cache miss.
const BOUND: Duration = Duration::from_micros(20);

/// Run time and count by program.
fn sums(trace: &Trace) -> BTreeMap<String, (Duration, u64)> {
    let rows = trace.probes.programs().into_iter();
    rows.map(|(name, info)| (name.to_owned(), (info.run_time(), info.run_count()))).collect()
}

fn exercise() {
    let (mut near, mut far) = UnixStream::pair().expect("a pair");
    for _ in 0..CALLS {
        near.write_all(b"x").expect("sends");
        far.read_exact(&mut [0]).expect("receives");
    }
}

#[test]
fn a_probe_costs_little() {
    let _measured = enable_stats(Stats::RunTime).expect("the kernel measures");
    let mut trace = Trace::on_ports(&[]);
    for who in ["strangers", "on the path"] {
        if who == "on the path" {
            trace.watch(std::process::id(), WatchAs::Endpoint);
        }
        let before = sums(&trace);
        exercise();
        for (name, (time, count)) in sums(&trace) {
            let (time_before, count_before) = before[&name];
            let runs = count - count_before;
            // Others on this machine run a few, too few to measure.
            if runs < CALLS as u64 / 2 {
                continue;
            }
            let each = (time - time_before) / u32::try_from(runs).expect("few");
            eprintln!("{who}: {name} {runs} runs, {} ns each", each.as_nanos());
            assert!(each < BOUND, "{name}, {who}: {each:?} each over {runs} runs");
        }
    }
}
