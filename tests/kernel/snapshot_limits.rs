//! Snapshots among processes that start, exit, hide, or hold very many descriptors.

use std::{
    fs::File,
    os::fd::OwnedFd,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use execpath::{
    model::{BootTime, Depth, Endpoints, Fact, Observation, Scope, TaskKey, Want},
    source::snapshot::{Options, Snapshot},
};
use execpath_tests::binary;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Limit far beyond measured times, even on a busy machine: catches hangs.
const BOUND: Duration = Duration::from_secs(30);
/// Number of descriptors, or as many as the hard limit allows.
const MANY: u64 = 100_000;
/// Descriptors reserved for the test itself.
const OWN: u64 = 1_000;

fn take(options: Options) -> (Vec<Observation>, Duration) {
    let begin = Instant::now();
    let facts = Snapshot::new(options).take(BootTime(1));
    (facts, begin.elapsed())
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("procfs");
    let pages: usize = text.split(' ').nth(1).expect("a column").parse().expect("a number");
    pages * rustix::param::page_size()
}

/// This process's key, from a snapshot.
fn own(snapshot: &mut Snapshot) -> TaskKey {
    snapshot.answer(&Want::Pid(std::process::id()), BootTime(1))[0].task.expect("this process is running")
}

#[test]
fn snapshot_reads_hundred_thousand_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit;
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("up to the hard limit");
    let many = limit.maximum.map_or(MANY, |most| most.saturating_sub(OWN).min(MANY));
    let file = File::open("/etc/passwd").expect("opens");
    let files: Vec<OwnedFd> = (0..many).map(|_| file.try_clone().expect("within the limit").into()).collect();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listens");
    let port = listener.local_addr().expect("local").port();
    let memory = resident();
    let (facts, took) = take(Options { endpoints: Endpoints::new(Some(port), None, None), ..Options::default() });
    eprintln!("{many} descriptors: took {took:?}, {} MiB more", resident().saturating_sub(memory) >> 20);
    assert!(took < BOUND, "{took:?}");
    assert!(resident() < memory + (64 << 20), "about 100 bytes per descriptor");
    let sees = |fact: &Fact| matches!(fact, Fact::Listening { socket } if socket.tuple.is_some_and(|tuple| tuple.local.port() == port));
    assert!(facts.iter().any(|seen| sees(&seen.fact)), "the last descriptor is found");
    assert!(!facts.iter().any(|seen| matches!(seen.fact, Fact::Lost { .. })), "no descriptor was skipped");

    let mut snapshot = Snapshot::new(Options::default());
    let task = own(&mut snapshot);
    let scope = Scope { tasks: [(task, Depth::Whole)].into(), files: true, ..Scope::default() };
    let begin = Instant::now();
    let facts = snapshot.measure(&scope, BootTime(1));
    assert!(begin.elapsed() < BOUND, "{:?}", begin.elapsed());
    let counted = facts.iter().find_map(|seen| match &seen.fact {
        Fact::ProcessMeasured(measure) if seen.task == Some(task) => measure.descriptors,
        _ => None,
    });
    assert!(counted.is_some_and(|count| count > many), "{counted:?}");
    drop(files);
    setrlimit(Resource::Nofile, before).expect("the old limit");
}

#[test]
fn snapshot_skips_processes_that_vanish() {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let mut child = Command::new("sleep").arg("1").stdin(Stdio::piped()).spawn().expect("starts");
                    thread::sleep(Duration::from_micros(u64::from(child.id() % 7) * 300));
                    child.kill().expect("the child is not reaped yet");
                    child.wait().expect("ends");
                }
            });
        }
        let mut slowest = Duration::ZERO;
        for _ in 0..20 {
            let mut snapshot = Snapshot::new(Options { of_one_moment: true, ..Options::default() });
            let begin = Instant::now();
            let facts = snapshot.take(BootTime(1));
            // Measure every process of the snapshot; many have exited by now.
            let tasks = facts.iter().filter_map(|seen| seen.task).map(|task| (task, Depth::Whole)).collect();
            let _facts = snapshot.measure(&Scope { tasks, files: true, ..Scope::default() }, BootTime(2));
            slowest = slowest.max(begin.elapsed());
        }
        done.store(true, Ordering::Relaxed);
        assert!(slowest < BOUND, "{slowest:?}");
    });
}

#[test]
fn sample_skips_exited_process_and_reused_pid() {
    let mut child = Command::new("sleep").arg("1000").spawn().expect("starts");
    let mut snapshot = Snapshot::new(Options::default());
    let task = snapshot.answer(&Want::Pid(child.id()), BootTime(1))[0].task.expect("the child is running");
    let other = TaskKey { start_ticks: task.start_ticks + 1, ..task };
    let mut reported = |task| {
        let scope = Scope { tasks: [(task, Depth::Whole)].into(), files: true, ..Scope::default() };
        let facts = snapshot.measure(&scope, BootTime(1));
        let of_it: Vec<Fact> = facts.into_iter().filter(|seen| seen.task == Some(task)).map(|seen| seen.fact).collect();
        (
            of_it.contains(&Fact::ProcessGone),
            of_it.iter().any(|fact| matches!(fact, Fact::ProcessMeasured(_) | Fact::Descriptors { .. })),
        )
    };
    assert_eq!((reported(task), reported(other)), ((false, true), (true, false)));
    child.kill().expect("the child is running");
    child.wait().expect("ends");
    assert_eq!(reported(task), (true, false));
}

#[test]
fn trace_exits_1_without_session_only_with_once() {
    let exit = |more: &[&str]| {
        let arguments = [&["trace", "--pod", "no-such-pod", "--duration", "1s"], more].concat();
        let ran = binary::run(arguments);
        (ran.code, ran.stderr)
    };
    assert_eq!(exit(&[]).0, Some(0));
    let (code, stderr) = exit(&["--once"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("error: no session within the duration\nhint: "), "{stderr}");
}
