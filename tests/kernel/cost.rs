//! Run time of the probes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    time::Duration,
};

use aya::sys::{Stats, enable_stats};
use execpath::model::WatchAs;

use crate::{
    go_program::{Go, GoProgram},
    trace::Trace,
};

/// Number of socket calls to measure.
const CALLS: usize = 20_000;

/// Limit per run. Generous: about 0.2 µs were measured for unwatched processes and 0.5 µs for processes on the path.
/// Catches a loop, not a cache miss.
const BOUND: Duration = Duration::from_micros(20);

/// Run time and run count by program.
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

/// Checks every program that ran often enough since `before`.
fn check(trace: &Trace, who: &str, before: &BTreeMap<String, (Duration, u64)>) {
    for (name, (time, count)) in sums(trace) {
        let (time_before, count_before) = before[&name];
        let runs = count - count_before;
        // Other processes on this machine cause a few runs, too few to measure.
        if runs < CALLS as u64 / 2 {
            continue;
        }
        let each = (time - time_before) / u32::try_from(runs).expect("few");
        eprintln!("{who}: {name} {runs} runs, {} ns each", each.as_nanos());
        assert!(each < BOUND, "{name}, {who}: {each:?} each over {runs} runs");
    }
}

#[test]
fn probes_run_within_time_limit() {
    let _measured = enable_stats(Stats::RunTime).expect("the kernel measures run times");
    let mut trace = Trace::on_ports(&[]);
    for who in ["strangers", "on the path"] {
        if who == "on the path" {
            trace.watch(std::process::id(), WatchAs::Endpoint);
        }
        let before = sums(&trace);
        exercise();
        check(&trace, who, &before);
    }
}

#[test]
fn read_probe_runs_within_time_limit() {
    let _measured = enable_stats(Stats::RunTime).expect("the kernel measures run times");
    let mut trace = Trace::on_ports(&[]);
    trace.probes.watch_reads(true).expect("attaches");
    let mut zero = File::open("/dev/zero").expect("opens");
    for who in ["strangers", "a daemon"] {
        if who == "a daemon" {
            trace.watch(std::process::id(), WatchAs::Daemon);
        }
        let before = sums(&trace);
        for _ in 0..CALLS {
            zero.read_exact(&mut [0]).expect("reads");
        }
        check(&trace, who, &before);
    }
}

#[test]
fn goroutine_lookup_runs_within_time_limit() {
    let Some(go) = Go::since(21).into_iter().next() else { return };
    let _measured = enable_stats(Stats::RunTime).expect("the kernel measures run times");
    let backend = TcpListener::bind("127.0.0.1:0").expect("listens");
    let proxy = GoProgram::start(&go, "relay.go", &["copy", &backend.local_addr().expect("local").to_string()]);
    let mut trace = Trace::on_ports(&[]);
    trace.watch(proxy.pid(), WatchAs::Daemon);
    trace.watch(std::process::id(), WatchAs::Endpoint);
    trace.probes.set_program(proxy.pid(), &go.program()).expect("the map can be written");
    trace.probes.watch_reads(true).expect("attaches");
    let mut client = TcpStream::connect(proxy.address).expect("connects");
    client.write_all(b"measures").expect("sends");
    let (mut server, _) = backend.accept().expect("accepts");
    server.read_exact(&mut [0; 8]).expect("receives");
    let before = sums(&trace);
    for _ in 0..CALLS / 4 {
        client.write_all(b"x").expect("sends");
        server.read_exact(&mut [0]).expect("receives");
    }
    check(&trace, "goroutines, and as many threads", &before);
}
