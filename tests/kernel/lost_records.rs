//! A slow reader: lost records are counted.

use std::{collections::BTreeMap, fs, process::Command};

use execpath::{
    model::{Fact, WatchAs},
    source::ebpf::loader::Options,
};
use tracer_common::Counter;

use crate::trace::{Trace, own_namespace};

#[test]
fn runs_that_the_kernel_skips_can_be_read() {
    // No program can be made to interrupt itself at will: the count of a kernel that shows it is checked, not its growth.
    let trace = Trace::with(&Options::default());
    let version = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a version");
    let mut numbers = version.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let shows_it = (numbers.next(), numbers.next()) >= (Some(5), Some(12));
    assert_eq!(trace.probes.skipped_runs().is_some(), shows_it, "{version}");
}

#[test]
fn full_ring_buffer_counts_lost_records() {
    let mut trace = Trace::with(&Options {
        netns: Some(own_namespace("net")),
        ports: Vec::new(),
        ring_bytes: Some(4096),
        ..Options::default()
    });
    trace.watch(std::process::id(), WatchAs::Daemon);
    let mut pids = Vec::new();
    for _ in 0..20 {
        let mut child = Command::new("true").spawn().expect("starts");
        pids.push(child.id());
        child.wait().expect("wait(2)");
    }
    let lost = trace.probes.count(Counter::RingFull);
    assert!(lost > 0, "a page cannot hold sixty records");
    trace.drain();
    let kept = trace.seen.len();
    assert!(kept > 0, "records that fit are kept");
    for pid in pids {
        assert_eq!(trace.probes.watched_as(pid), None, "{pid} left the map although its exit was lost");
    }
    // There is room again: new records arrive, and sequence numbers are missing between old and new ones.
    let mut child = Command::new("true").spawn().expect("starts");
    child.wait().expect("wait(2)");
    trace.wait("the new exit", |seen| {
        (matches!(seen.fact, Fact::Exit { .. }) && seen.task.is_some_and(|task| task.tgid == child.id())).then_some(())
    });
    assert_eq!(trace.probes.count(Counter::RingFull), lost, "no further record was lost");
    let total = trace.probes.count(Counter::Sequence);
    assert_eq!(total, trace.seen.len() as u64 + lost, "every record was read or counted as lost");
    let mut by_cpu: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    for seen in &trace.seen {
        let (cpu, number) = seen.seq.expect("records are numbered");
        by_cpu.entry(cpu).or_default().push(number);
    }
    let mut missing = 0;
    for (cpu, numbers) in &by_cpu {
        assert!(numbers.is_sorted_by(|a, b| a < b), "CPU {cpu}: {numbers:?}");
        // Numbers start at 1. Lost records leave holes before the first or between two kept ones.
        missing += numbers.last().expect("one at least") - numbers.len() as u64;
    }
    assert!(missing <= lost, "{missing} of {lost}: {by_cpu:?}");
    let newest = trace.seen.last().expect("one at least").seq.expect("numbered");
    eprintln!("{lost} lost, {kept} kept; holes of {missing} in {by_cpu:?}, the newest {newest:?}");
    assert!(missing > 0, "no hole in {by_cpu:?}, although {lost} were lost");
}
