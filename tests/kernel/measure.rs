//! Compares every number of a sample with `ss`, `ps` and /proc at the same moment.
//!
//! The sockets are idle, with full queues. `ss` runs before and after the sample: where both runs agree, the sample
//! must be equal. Ages and timers must lie between the two.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs,
    io::{ErrorKind, PipeWriter, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::{fd::AsFd, fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use execpath::{
    model::{
        Access, BootTime, Depth, FileKind, Measures, ProcessMeasure, RawText, Scope, SocketId, TaskKey, TcpMeasure,
        TimerKind, Tuple, Want,
    },
    source::snapshot::{Options, Snapshot},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{cgroup::Cgroup, trace::names};

/// Attempts: other activity may change numbers between two readings, and a persist timer fires a few times a second.
const TRIES: usize = 100;
/// Tolerance: kernel clocks tick every 1 to 10 ms, and `ss` rounds down.
const TICK_MS: u64 = 20;

/// One sample of this scope.
fn measured(snapshot: &mut Snapshot, scope: &Scope) -> Measures {
    let mut measures = Measures::default();
    for seen in snapshot.measure(scope, BootTime(1)) {
        measures.take(&seen);
    }
    measures
}

fn snapshot() -> Snapshot {
    Snapshot::new(Options::default())
}

fn netns() -> Option<u32> {
    let inode = rustix::fs::stat("/proc/self/ns/net").expect("procfs").st_ino;
    u32::try_from(inode).ok()
}

/// The line of `ss` for this inode.
fn ss(arguments: &str, inode: u64) -> String {
    let out = Command::new("ss").args([arguments, "-H", "-O", "-n", "-e"]).output().expect("ss runs");
    let text = String::from_utf8(out.stdout).expect("text");
    let has =
        |line: &&str| line.split_whitespace().any(|word| word == format!("ino:{inode}") || word == inode.to_string());
    // A line of a unix socket also has the peer's inode, after its own.
    let first = |line: &&str| arguments != "-xa" || line.split_whitespace().nth(5) == Some(inode.to_string().as_str());
    text.lines().filter(has).find(first).unwrap_or_else(|| panic!("ss lists {inode}: {text}")).to_owned()
}

/// Numbers of a TCP socket by name, as `ss` prints them.
#[derive(Debug, PartialEq)]
struct SsLine {
    state: String,
    queues: (u32, u32),
    timer: Option<(String, (u64, u64), u8)>,
    words: BTreeMap<String, String>,
}

/// Ages grow between two readings.
const AGES: [&str; 3] = ["lastsnd", "lastrcv", "lastack"];

impl SsLine {
    fn of(inode: u64) -> Self {
        let line = ss("-tai", inode);
        let mut words = line.split_whitespace();
        let mut next = || words.next().expect("a column").to_owned();
        let (state, recv, send) = (next(), next(), next());
        let named: BTreeMap<String, String> = words
            .filter_map(|word| word.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let timer = named.get("timer").map(|timer| {
            let parts: Vec<&str> = timer.trim_matches(['(', ')']).split(',').collect();
            (parts[0].to_owned(), milliseconds(parts[1]), parts[2].parse().expect("a number"))
        });
        Self { state, queues: (recv.parse().expect("a number"), send.parse().expect("a number")), timer, words: named }
    }

    /// A number; `ss` omits zeros.
    fn number(&self, name: &str) -> u64 {
        self.words.get(name).map_or(0, |value| value.parse().expect("a number"))
    }

    /// Microseconds, parsed from milliseconds with a fraction.
    fn micros(&self, name: &str) -> u64 {
        let text = self.words.get(name).map_or("0", |value| value.split('/').next().expect("a word"));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some milliseconds")]
        let micros = (text.parse::<f64>().expect("a number") * 1000.0).round() as u64;
        micros
    }

    /// True if both readings are equal except for growing numbers.
    fn stood_still(&self, later: &Self) -> bool {
        let still = |line: &Self| {
            let names = line
                .words
                .iter()
                .filter(|(name, _)| !AGES.contains(&name.as_str()) && *name != "timer" && *name != "busy");
            names
                .filter(|(name, _)| !name.ends_with("limited"))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect::<Vec<_>>()
        };
        let timer = |line: &Self| line.timer.clone().map(|(kind, _, retries)| (kind, retries));
        (&self.state, self.queues, timer(self), still(self)) == (&later.state, later.queues, timer(later), still(later))
    }
}

/// `119min`, `2min12sec`, `12sec`, `1.200ms` (1.2 s), `176ms` (iproute2: misc/ss.c, `print_ms_timer`): lower bound, and
/// exclusive upper bound.
fn milliseconds(text: &str) -> (u64, u64) {
    let (minutes, rest) = text.split_once("min").unwrap_or(("0", text));
    let number = |text: &str| text.parse::<u64>().expect("a number");
    let (rest, precision) = match (rest.strip_suffix("sec"), rest.strip_suffix("ms")) {
        (Some(seconds), _) => (number(seconds) * 1000, 1000),
        (_, Some(parts)) => match parts.split_once('.') {
            Some((seconds, ms)) => (number(seconds) * 1000 + number(ms), 1),
            None => (number(parts), 1),
        },
        _ => (0, 60_000),
    };
    let from = number(minutes) * 60_000 + rest;
    (from, from + precision)
}

fn between(value: u64, one: (u64, u64), other: (u64, u64), what: &str) {
    let (low, high) = (one.0.min(other.0).saturating_sub(TICK_MS), one.1.max(other.1) + TICK_MS);
    assert!((low..=high).contains(&value), "{what}: {value} is not within {low} and {high}");
}

fn check_tcp(measure: &TcpMeasure, before: &SsLine, after: &SsLine) {
    assert_eq!(measure.state.token().replace("ESTABLISHED", "ESTAB"), before.state);
    assert_eq!((measure.recv_q, measure.send_q), before.queues);
    match (measure.timer, &before.timer, &after.timer) {
        (None, None, None) => {}
        (Some(timer), Some((name, early, retries)), Some((_, late, _))) => {
            let kind = match timer.kind {
                TimerKind::Retransmit => "on",
                TimerKind::KeepAlive => "keepalive",
                TimerKind::TimeWait => "timewait",
                TimerKind::Probe => "persist",
            };
            assert_eq!((kind, timer.retries), (name.as_str(), *retries));
            between(timer.expires_ms, *early, *late, "timer");
        }
        other => panic!("timers: {other:?}"),
    }
    let info = measure.info.expect("the kernel reports it");
    let numbers: [(&str, u64); 12] = [
        ("backoff", info.backoff.into()),
        ("unacked", info.unacked.into()),
        ("lost", info.lost.into()),
        ("notsent", info.not_sent.into()),
        ("snd_wnd", info.send_window.expect("this kernel reports it").into()),
        ("mss", info.send_mss.into()),
        ("pmtu", info.path_mtu.into()),
        ("bytes_acked", info.bytes_acked),
        ("bytes_received", info.bytes_received),
        ("data_segs_in", info.data_segments_in.into()),
        ("data_segs_out", info.data_segments_out.into()),
        ("retrans", info.total_retransmits.into()),
    ];
    for (name, value) in numbers {
        let theirs = match before.words.get(name).and_then(|value| value.split_once('/')) {
            Some((_, total)) => total.parse().expect("a number"),
            None => before.number(name),
        };
        assert!(name == "mss" && measure.state.token() == "LISTEN" || value == theirs, "{name}: {value}, {before:?}");
    }
    if before.words.contains_key("rto") {
        assert_eq!((info.rto_us / 1000, info.rtt_us), (before.micros("rto") / 1000, before.micros("rtt")));
    }
    for (name, value) in AGES.into_iter().zip([info.last_sent_ms, info.last_received_ms, info.last_ack_ms]) {
        if before.words.contains_key(name) {
            let age = |line: &SsLine| (line.number(name), line.number(name));
            between(value.into(), age(before), age(after), name);
        }
    }
}

/// Samples until nothing moved between the readings of `ss`.
fn compare_tcp(end: impl AsFd, tuple: Tuple) -> TcpMeasure {
    let id = names(&end);
    let scope = Scope { tcp: [(id, (tuple, netns()))].into(), ..Scope::default() };
    let mut snapshot = snapshot();
    for _ in 0..TRIES {
        let before = SsLine::of(id.inode.expect("a socket"));
        let measures = measured(&mut snapshot, &scope);
        let after = SsLine::of(id.inode.expect("a socket"));
        if before.stood_still(&after) {
            let measure = measures.tcp(id).expect("the socket is measured").last;
            check_tcp(&measure, &before, &after);
            return measure;
        }
    }
    panic!("the socket never becomes idle")
}

fn fill(mut to: impl Write) -> usize {
    let mut all = 0;
    loop {
        match to.write(&[b'x'; 10_000]) {
            Ok(count) => all += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn tcp_sample_equals_ss() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let address = listener.local_addr().expect("local");
    let client = TcpStream::connect(address).expect("connects");
    let (server, _) = listener.accept().expect("accepts");
    let _waiting: Vec<_> = (0..3).map(|_| TcpStream::connect(address).expect("connects")).collect();
    let tuple = Tuple::new(client.local_addr().expect("local"), address);

    compare_tcp(&client, tuple);
    client.set_nonblocking(true).expect("sets");
    let sent = fill(&client);
    let (near, far) = (compare_tcp(&client, tuple), compare_tcp(&server, tuple.mirrored()));
    assert!(near.send_q > 0 && far.recv_q > 0, "{near:?} {far:?}");
    // Received but unacknowledged bytes are in both queues.
    let queued = u64::from(near.send_q) + u64::from(far.recv_q);
    assert!(queued >= u64::try_from(sent).expect("few"), "{queued} of {sent}");
    // Until the last segment is acknowledged, its retransmission timer runs.
    let probes = |_| compare_tcp(&client, tuple).timer.expect("the timer of a closed window").kind == TimerKind::Probe;
    assert!((0..TRIES).any(probes), "the window stays shut");
    let listens = compare_tcp(&listener, Tuple::new(address, "0.0.0.0:0".parse().expect("an address")));
    assert_eq!(listens.recv_q, 3, "three connections wait");
    server.shutdown(Shutdown::Write).expect("shuts");
    let (near, far) = (compare_tcp(&client, tuple), compare_tcp(&server, tuple.mirrored()));
    assert_eq!((near.state.token(), far.state.token()), ("CLOSE-WAIT", "FIN-WAIT-2"));
}

#[test]
fn tcp_sample_reports_keepalive_timer() {
    let listener = TcpListener::bind("[::1]:0").or_else(|_no_ipv6| TcpListener::bind("127.0.0.1:0")).expect("listens");
    let client = TcpStream::connect(listener.local_addr().expect("local")).expect("connects");
    rustix::net::sockopt::set_socket_keepalive(&client, true).expect("sets");
    let tuple = Tuple::new(client.local_addr().expect("local"), client.peer_addr().expect("remote"));
    assert_eq!(compare_tcp(&client, tuple).timer.expect("the timer runs").kind, TimerKind::KeepAlive);
}

#[test]
fn sample_reports_gone_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let client = TcpStream::connect(listener.local_addr().expect("local")).expect("connects");
    let (id, tuple) =
        (names(&client), Tuple::new(client.local_addr().expect("local"), client.peer_addr().expect("remote")));
    // An end whose port was reused by another socket: the cookie differs.
    let other = SocketId { cookie: id.cookie.map(|cookie| cookie + 1_000_000), ..id };
    let gone = |id| {
        let scope = Scope { tcp: [(id, (tuple, netns()))].into(), ..Scope::default() };
        let measures = measured(&mut snapshot(), &scope);
        (measures.tcp(id).is_some(), measures.gone(id).is_some())
    };
    assert_eq!((gone(id), gone(other)), ((true, false), (false, true)));
    // Close by a reset, without TIME-WAIT.
    rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO)).expect("sets");
    drop(client);
    assert_eq!(gone(id), (false, true));
}

#[test]
fn unix_sample_equals_ss() {
    let (near, far) = UnixStream::pair().expect("a pair");
    near.set_nonblocking(true).expect("sets");
    let sent = fill(&near);
    for (end, received) in [(&near, 0), (&far, sent)] {
        let id = names(end);
        let scope = Scope { unix: [(id, (RawText::default(), netns()))].into(), ..Scope::default() };
        let measure = measured(&mut snapshot(), &scope).unix(id).expect("the socket is measured").last;
        let line = ss("-xa", id.inode.expect("a socket"));
        let words: Vec<u32> =
            line.split_whitespace().skip(2).take(2).map(|word| word.parse().expect("a number")).collect();
        assert_eq!([measure.recv_q, measure.send_q], words[..], "{line}");
        assert_eq!(measure.recv_q, u32::try_from(received).expect("few"));
    }
}

/// A process killed on drop.
struct Sleeper(Child);

impl Sleeper {
    fn start(program: &str, arguments: &[&str], files: [Stdio; 3]) -> Self {
        let [stdin, stdout, stderr] = files;
        let mut command = Command::new(program);
        Self(command.args(arguments).stdin(stdin).stdout(stdout).stderr(stderr).spawn().expect("the program starts"))
    }

    fn key(&self) -> TaskKey {
        snapshot().answer(&Want::Pid(self.0.id()), BootTime(1))[0].task.expect("the process is running")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).expect("a pid")).expect("not 0");
        kill_process(pid, signal).expect("the process is running");
    }

    fn measure(&self) -> (TaskKey, Measures) {
        let key = self.key();
        let scope = Scope { tasks: [(key, Depth::Whole)].into(), files: true, ..Scope::default() };
        (key, measured(&mut snapshot(), &scope))
    }

    /// Samples until the condition holds: starts and signals take time.
    fn until(&self, is: impl Fn(&ProcessMeasure) -> bool) -> ProcessMeasure {
        for _ in 0..10_000 {
            let (key, measures) = self.measure();
            if let Some(measure) = measures.process(key).map(|series| series.last.clone()).filter(&is) {
                return measure;
            }
        }
        panic!("the process never reaches the state")
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

fn ps(pid: u32) -> Vec<String> {
    let columns = "stat=,ppid=,pgid=,tpgid=,nlwp=,rss=";
    let out = Command::new("ps").args(["-o", columns, "-p", &pid.to_string()]).output().expect("ps runs");
    String::from_utf8(out.stdout).expect("text").split_whitespace().map(str::to_owned).collect()
}

fn check_process(pid: u32, measure: &ProcessMeasure) {
    let theirs = ps(pid);
    let ours = [
        measure.state.to_string(),
        measure.parent.expect("us").to_string(),
        measure.group.expect("a group").to_string(),
        measure.foreground.map_or("-1".to_owned(), |group| group.to_string()),
        measure.thread_count.to_string(),
        (measure.resident.expect("a process with memory") / 1024).to_string(),
    ];
    assert_eq!(ours[0], theirs[0][..1], "{theirs:?}");
    assert_eq!(ours[1..], theirs[1..]);
    let (limits, files) = (format!("/proc/{pid}/limits"), format!("/proc/{pid}/fd"));
    let limits = fs::read_to_string(limits).expect("the process is running");
    let most = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let most = most.split_whitespace().nth(3).expect("a column").parse().expect("a number");
    let open = u64::try_from(fs::read_dir(files).expect("the process is running").count()).expect("few");
    assert_eq!((measure.descriptors_max, measure.descriptors), (Some(most), Some(open)));
    let pidns = fs::read_link(format!("/proc/{pid}/ns/pid")).expect("the process is running");
    assert_eq!(format!("pid:[{}]", measure.pidns.expect("a namespace")), pidns.to_string_lossy());
}

#[test]
fn process_sample_equals_ps_and_proc() {
    let reader = Sleeper::start("cat", &[], [Stdio::piped(), Stdio::null(), Stdio::null()]);
    let asleep = |measure: &ProcessMeasure| {
        measure.threads.first().is_some_and(|thread| thread.call.as_ref().is_some_and(|call| call.name == "read"))
    };
    let measure = reader.until(asleep);
    check_process(reader.0.id(), &measure);
    let call = measure.threads[0].call.as_ref().expect("asleep");
    let theirs = fs::read_to_string(format!("/proc/{}/syscall", reader.0.id())).expect("the process is running");
    // read(2) is 0 on x86-64, and 63 in the generic table.
    let number = if cfg!(target_arch = "x86_64") { "0" } else { "63" };
    let words: Vec<&str> = theirs.split_whitespace().collect();
    assert_eq!((words[0], words[1], call.fd), (number, "0x0", Some(0)));
    let stack = fs::read_to_string(format!("/proc/{}/stack", reader.0.id())).unwrap_or_default();
    let functions: Vec<&str> = stack.lines().filter_map(|line| line.split(' ').nth(1)?.split('+').next()).collect();
    let ours: Vec<String> = measure.threads[0].stack.iter().map(|name| name.to_text().into_owned()).collect();
    assert_eq!(ours, functions);

    reader.signal(Signal::STOP);
    check_process(reader.0.id(), &reader.until(|measure| measure.state == 'T'));
    reader.signal(Signal::CONT);
    reader.signal(Signal::KILL);
    let ended = reader.until(|measure| measure.state == 'Z');
    assert_eq!((ended.threads.len(), ended.parent), (1, Some(std::process::id())));
}

/// A pipe holding this number of bytes.
fn pipe(bytes: usize) -> (OwnedFd, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&vec![7; bytes]).expect("fits");
    (reader.into(), writer)
}

#[test]
fn file_sample_reports_queued_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a FIFO");
    let mut fifo = fs::File::options().read(true).write(true).open(&path).expect("opens");
    fifo.write_all(&[7; 1234]).expect("fits");
    rustix::pipe::fcntl_setpipe_size(&fifo, 4096).expect("sets");
    let (reader, _writer) = pipe(5000);
    let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
    let master = rustix::pty::openpt(flags).expect("a terminal");
    rustix::pty::unlockpt(&master).expect("unlocks");
    let slave = PathBuf::from(rustix::pty::ptsname(&master, Vec::new()).expect("a name").into_string().expect("text"));
    let slave =
        rustix::fs::open(&slave, rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY, rustix::fs::Mode::empty())
            .expect("opens");
    rustix::io::write(&slave, b"hello").expect("fits");
    let sleeper = Sleeper::start(
        "sleep",
        &["1000"],
        [fifo.try_clone().expect("a copy").into(), Stdio::null(), slave.try_clone().expect("a copy").into()],
    );
    let holder = Sleeper::start("sleep", &["1000"], [reader.into(), Stdio::null(), Stdio::null()]);
    for (who, fd, kind, queued, capacity) in [
        (&sleeper, 0, FileKind::Fifo, 1234, Some(4096)),
        (&sleeper, 2, FileKind::Pty, 5, None),
        (&holder, 0, FileKind::Pipe, 5000, Some(65_536)),
    ] {
        let (key, measures) = who.measure();
        let found = measures.descriptors(key).iter().find(|one| one.fd == fd).unwrap_or_else(|| panic!("{kind:?}"));
        assert_eq!(found.kind, kind);
        let measure = measures.file(kind, found.file).unwrap_or_else(|| panic!("{kind:?}")).last;
        assert_eq!((measure.queued, measure.capacity), (queued, capacity), "{kind:?}");
        let own = |(task, _): &(TaskKey, _)| task.tgid == std::process::id();
        let others: Vec<Access> = measures.holders(kind, found.file).filter(own).map(|(_, one)| one.access).collect();
        assert!(!others.is_empty(), "this process is another holder: {kind:?}");
        assert!(kind != FileKind::Pipe || others == [Access::Write], "{others:?}");
    }
}

fn skipped<T>(why: impl Debug) -> Option<T> {
    eprintln!("skipped: {why:?}");
    None
}

#[test]
fn cgroup_sample_equals_cgroup_files() {
    let checked = ["pids", "freezer"].map(|controller| {
        let group = Cgroup::make(controller).or_else(|| skipped(format!("no cgroup can be made for {controller}")))?;
        let sleeper = Sleeper::start("sleep", &["1000"], [Stdio::null(), Stdio::null(), Stdio::null()]);
        if !group.write("cgroup.procs", &sleeper.0.id().to_string()) {
            return skipped("the cgroup accepts no process");
        }
        if controller == "pids" {
            if !group.write("pids.max", "7") {
                return skipped("no controller of pids");
            }
            let measure = sleeper.until(|measure| measure.cgroup.is_some()).cgroup.expect("the process has a cgroup");
            assert_eq!((measure.pids, measure.pids_max), (group.number("pids.current"), Some(7)));
            assert_eq!(measure.pids_refused, Some(0));
        } else {
            let frozen = |measure: &ProcessMeasure| measure.cgroup.and_then(|cgroup| cgroup.frozen);
            assert_eq!(frozen(&sleeper.until(|measure| frozen(measure).is_some())), Some(false));
            assert!(group.write("freezer.state", "FROZEN") || group.write("cgroup.freeze", "1"), "the cgroup freezes");
            sleeper.until(|measure| frozen(measure) == Some(true));
            assert!(group.write("freezer.state", "THAWED") || group.write("cgroup.freeze", "0"), "the cgroup thaws");
        }
        drop(sleeper);
        Some(())
    });
    eprintln!("checked: {checked:?}");
}
