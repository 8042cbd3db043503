//! Fork, exec, exit.

use std::{
    io::Write,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Command, Stdio},
};

use execpath::model::{ExitStatus, Fact, Observation, ProcessInfo, SentBy, TaskKey, WatchAs};
use tracer_common::{ARGV_BYTES, Watch};

use crate::{
    cgroup::Cgroup,
    helper_process::{HelperProcess, os},
    trace::{Trace, key, own_namespace},
};

/// A trace in which this process is the daemon.
fn daemon() -> Trace {
    let mut trace = Trace::on_ports(&[]);
    trace.watch(std::process::id(), WatchAs::Daemon);
    trace
}

#[test]
fn client_inside_container_becomes_endpoint() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listens");
    let to = listener.local_addr().expect("local");
    let mut trace = Trace::on_ports(&[to.port()]);
    trace.watch(std::process::id(), WatchAs::Daemon);
    let mut helper = HelperProcess::under("unshare", &["-m"]);
    assert_eq!(trace.probes.watched_as(helper.pid()), Some(WatchAs::InContainer));
    helper.request(&format!("connect a {to}"));
    trace.wait("the connection", |seen| matches!(seen.fact, Fact::Connected { .. }).then_some(()));
    let of_it = trace.of(helper.pid());
    let enrolled =
        of_it.iter().any(|seen| matches!(&seen.fact, Fact::Enrolled(info) if info.watched == Some(WatchAs::Endpoint)));
    assert!(enrolled, "{of_it:#?}");
}

#[test]
fn kubectl_is_enrolled_at_its_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = |name: &str| {
        let path = folder.path().join(name);
        std::fs::copy("/bin/true", &path).expect("a copy");
        let mut child = Command::new(&path).arg("exec").spawn().expect("starts");
        let pid = child.id();
        child.wait().expect("wait(2)");
        pid
    };
    let mut trace = Trace::on_ports(&[]);
    for (name, is_client) in
        [("kubectl", true), ("kubectl.1.33", true), ("kubectl-1.33", true), ("kubectl-ns", false), ("kubelet", false)]
    {
        let pid = start(name);
        trace.settle();
        let is_seen = trace.of(pid).iter().any(|seen| matches!(seen.fact, Fact::Enrolled(_)));
        assert_eq!(is_seen, is_client, "{name}");
    }
}

#[test]
fn failed_execve_below_daemon_is_reported() {
    let mut trace = daemon();
    let missing = Command::new("/nonexistent/program").spawn().expect_err("there is no such program");
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    let errno = trace.wait("the failure", |seen| match seen.fact {
        Fact::ExecFailed { errno, mntns } if mntns == Some(own_namespace("mnt")) => Some(errno),
        _ => None,
    });
    assert_eq!(errno, rustix::io::Errno::NOENT.raw_os_error().unsigned_abs());
}

#[test]
fn fatal_signal_names_its_sender() {
    let mut trace = daemon();
    let mut child = Command::new("sleep").arg("600").spawn().expect("starts");
    let pid = child.id();
    trace.wait("the execve", |seen| info(seen).filter(|_| seen.task.is_some_and(|task| task.tgid == pid)).map(drop));
    let task = key(pid);
    // SIGCONT ends nothing and is not reported.
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::CONT)
        .expect("a child of ours");
    child.kill().expect("a child of ours");
    child.wait().expect("wait(2)");
    let signal = trace.wait("the signal", |seen| match &seen.fact {
        Fact::Signalled(signal) if seen.task == Some(task) => Some(signal.clone()),
        _ => None,
    });
    assert_eq!((signal.number, signal.by), (9, SentBy::Process));
    assert_eq!((signal.sender.map(|sender| sender.tgid), signal.uid), (Some(std::process::id()), Some(0)));
    trace.settle();
    let all = trace.of(pid).into_iter().filter(|seen| matches!(seen.fact, Fact::Signalled(_))).count();
    assert_eq!(all, 1, "one signal was fatal");
}

/// The tracepoint has the victim's pid before Linux 6.9, and its task since.
#[test]
fn exhausted_memory_names_its_victim() {
    let Some(group) = Cgroup::make("memory") else { return eprintln!("skipped: no cgroup can be made") };
    // Large enough for a shell.
    let is_limited = ["memory.max", "memory.limit_in_bytes"].iter().any(|name| group.write(name, "16777216"));
    if !is_limited {
        return eprintln!("skipped: no controller of memory");
    }
    let mut trace = daemon();
    let script = "read -r go; text=0123456789abcdef; while :; do text=$text$text; done";
    let mut child = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().expect("starts");
    let pid = child.id();
    trace.wait("the execve", |seen| info(seen).filter(|_| seen.task.is_some_and(|task| task.tgid == pid)).map(drop));
    let task = key(pid);
    assert!(group.write("cgroup.procs", &pid.to_string()), "the cgroup accepts the process");
    child.stdin.take().expect("a pipe").write_all(b"go\n").expect("it reads");
    assert_eq!(child.wait().expect("wait(2)").signal(), Some(9));
    let is_told = |seen: &Observation| match &seen.fact {
        Fact::Signalled(signal) if seen.task == Some(task) && signal.by == SentBy::OutOfMemory => Some(signal.number),
        _ => None,
    };
    assert_eq!(trace.wait("the victim", is_told), 9);
    trace.settle();
    let victims = trace.facts().into_iter().filter_map(|seen| match &seen.fact {
        Fact::Signalled(signal) if signal.by == SentBy::OutOfMemory => seen.task,
        _ => None,
    });
    assert_eq!(victims.collect::<Vec<_>>(), [task]);
}

fn info(seen: &Observation) -> Option<&ProcessInfo> {
    match &seen.fact {
        Fact::Exec(info) => Some(info),
        _ => None,
    }
}

fn exit_of(pid: u32) -> impl Fn(&Observation) -> Option<(TaskKey, ExitStatus)> {
    move |seen| match (&seen.fact, seen.task) {
        (Fact::Exit { status }, Some(task)) if task.tgid == pid => Some((task, *status)),
        _ => None,
    }
}

/// Runs a command to its end. Returns its pid, and the process information of its last execve.
fn run(trace: &mut Trace, command: &mut Command) -> (u32, ProcessInfo) {
    let mut child = command.stdin(Stdio::null()).spawn().expect("starts");
    let pid = child.id();
    let status = child.wait().expect("wait(2)");
    let (_, seen) = trace.wait("the exit", exit_of(pid));
    assert_eq!(seen, from_wait(status), "the exit equals the status of wait(2)");
    let last = trace.of(pid).into_iter().filter_map(info).next_back().cloned();
    (pid, last.unwrap_or_else(|| panic!("no execve of {pid} in {:#?}", trace.seen)))
}

fn from_wait(status: std::process::ExitStatus) -> ExitStatus {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitStatus::Code(u8::try_from(code).expect("eight bits")),
        (None, Some(signal)) => ExitStatus::Signal(u8::try_from(signal).expect("seven bits")),
        (None, None) => panic!("neither exited nor killed: {status:?}"),
    }
}

fn words(info: &ProcessInfo) -> Vec<&[u8]> {
    info.argv.iter().map(execpath::model::RawText::as_bytes).collect()
}

#[test]
fn probes_report_child_of_daemon_from_fork_to_exit() {
    let mut trace = daemon();
    let own = key(std::process::id());
    let mut child = Command::new("sleep").arg("600").uid(65534).spawn().expect("starts");
    let pid = child.id();
    let seen =
        trace.wait("the execve", |seen| info(seen).filter(|_| seen.task.is_some_and(|task| task.tgid == pid)).cloned());
    let child_key = key(pid);
    child.kill().expect("kills");
    child.wait().expect("wait(2)");
    let (ended, status) = trace.wait("the exit", exit_of(pid));
    assert_eq!((ended, status), (child_key, ExitStatus::Signal(9)), "procfs and probe give the same key");
    let forks: Vec<_> = trace.seen.iter().filter(|seen| matches!(seen.fact, Fact::Fork { .. })).collect();
    let [fork] = forks[..] else { panic!("one fork, not {forks:#?}") };
    assert_eq!(fork.task, Some(own));
    assert!(matches!(fork.fact, Fact::Fork { child, .. } if child == child_key), "{fork:?}");
    assert_eq!(words(&seen), [b"sleep".as_slice(), b"600"]);
    assert_eq!(seen.comm.as_bytes(), b"sleep");
    assert_eq!(seen.parent, Some(own));
    assert_eq!(seen.uid, Some(65534));
    assert_eq!((seen.netns, seen.mntns), (Some(own_namespace("net")), Some(own_namespace("mnt"))));
    assert_eq!(seen.watched, Some(WatchAs::RuntimeChild));
    assert!(!seen.argv_truncated);
    assert_eq!(trace.probes.watched_as(pid), None, "an exit removes the map entry");
}

#[test]
fn execve_reports_bounded_argument_bytes() {
    let mut trace = daemon();
    let (_, odd) = run(&mut trace, Command::new("true").arg0("").arg("").arg(os(b"\xff\xfe\n")).arg(""));
    assert_eq!(words(&odd), [b"".as_slice(), b"", b"\xff\xfe\n", b""]);
    assert!(!odd.argv_truncated);
    // "true", NUL, the argument, NUL: exactly as much as fits, and one byte more.
    for (len, truncated) in [(ARGV_BYTES - 6, false), (ARGV_BYTES - 5, true), (100_000, true)] {
        let (_, long) = run(&mut trace, Command::new("true").arg("x".repeat(len)));
        assert_eq!(long.argv_truncated, truncated, "an argument of {len} bytes: {} words", long.argv.len());
        let kept = len.min(ARGV_BYTES - 5);
        assert_eq!(words(&long), [b"true".as_slice(), "x".repeat(kept).as_bytes()], "an argument of {len} bytes");
    }
}

#[test]
fn execve_accepts_empty_argv() {
    let mut trace = daemon();
    let mut command = Command::new("true");
    let replace = || {
        let none = [std::ptr::null()];
        // SAFETY: path and lists are terminated as execve(2) requires, and live long enough.
        unsafe { libc::execve(c"/bin/true".as_ptr(), none.as_ptr(), none.as_ptr()) };
        Err(std::io::Error::last_os_error())
    };
    // SAFETY: only execve(2) is called between fork and exec.
    unsafe { command.pre_exec(replace) };
    let (_, info) = run(&mut trace, &mut command);
    // Linux ≥ 5.18 replaces an empty argv by one empty argument (fs/exec.c: bprm_add_fixup).
    assert!(words(&info).iter().all(|word| word.is_empty()), "{info:?}");
    assert!(!info.argv_truncated);
}

#[test]
fn thread_start_reports_no_fork() {
    let mut trace = Trace::on_ports(&[]);
    let mut helper = HelperProcess::start();
    trace.watch(helper.pid(), WatchAs::Daemon);
    helper.request("threads 5");
    trace.settle();
    assert_eq!(trace.of(helper.pid()), Vec::<&Observation>::new());
    assert_eq!(helper.request("run true"), ["Some(0)"]);
    trace.settle();
    let forks = trace.of(helper.pid()).into_iter().filter(|seen| matches!(seen.fact, Fact::Fork { .. })).count();
    assert_eq!(forks, 1, "{:#?}", trace.seen);
}

#[test]
fn exit_status_equals_wait_status() {
    let mut trace = daemon();
    for script in ["exit 0", "exit 3", "exit 255", "kill -TERM $$", "kill -ABRT $$", "kill -9 $$"] {
        run(&mut trace, Command::new("sh").args(["-c", &format!("ulimit -c 0; {script}")]));
    }
}

#[test]
fn exit_is_reported_after_last_thread() {
    for how in ["leave group 3 5", "leave thread 3 5", "leave thread 0 5", "leave thread 5 0"] {
        let mut trace = Trace::on_ports(&[]);
        let mut helper = HelperProcess::start();
        trace.watch(helper.pid(), WatchAs::Endpoint);
        let expected = key(helper.pid());
        helper.send(how);
        let status = from_wait(helper.wait());
        assert_eq!(trace.wait("the exit", exit_of(helper.pid())), (expected, status), "{how}");
        trace.settle();
        let facts = trace.of(helper.pid());
        assert_eq!(facts.len(), 1, "{how}: one exit and nothing else, not {facts:#?}");
        assert_eq!(trace.probes.watched_as(helper.pid()), None, "{how}");
    }
}

#[test]
fn execve_by_thread_keeps_process_key() {
    let mut trace = Trace::on_ports(&[]);
    let mut helper = HelperProcess::start();
    trace.watch(helper.pid(), WatchAs::Daemon);
    let expected = key(helper.pid());
    helper.send("exec-by-thread sh -c true;exit${IFS}4");
    assert_eq!(helper.wait().code(), Some(4));
    assert_eq!(trace.wait("the exit", exit_of(helper.pid())), (expected, ExitStatus::Code(4)));
    trace.settle();
    let execs: Vec<_> =
        trace.of(helper.pid()).into_iter().filter_map(info).map(|info| info.argv[0].to_text()).collect();
    assert_eq!(execs, ["sh"], "{:#?}", trace.seen);
    assert!(trace.seen.iter().all(|seen| seen.task.is_none_or(|task| task.tgid != expected.tgid || task == expected)));
}

#[test]
fn fork_chain_is_followed_to_max_depth() {
    let mut trace = daemon();
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("nest");
    std::fs::write(&script, "[ $1 -eq 0 ] || { sh $0 $(( $1 - 1 )); :; }\n").expect("writes");
    let (pid, _) = run(&mut trace, Command::new("sh").arg(&script).arg("12"));
    trace.settle();
    let forks: Vec<TaskKey> = trace
        .facts()
        .into_iter()
        .filter_map(|seen| match seen.fact {
            Fact::Fork { child, .. } => Some(child),
            _ => None,
        })
        .collect();
    assert_eq!(forks.len(), usize::from(Watch::MAX_DEPTH), "{forks:?}");
    assert_eq!(forks.first().map(|child| child.tgid), Some(pid));
    for child in &forks {
        assert_eq!(trace.probes.watched_as(child.tgid), None, "{child:?} ended and is still in the map");
        let ended = trace.of(child.tgid).into_iter().any(|seen| matches!(seen.fact, Fact::Exit { .. }));
        assert!(ended, "no exit of {child:?}");
    }
}

#[test]
fn unwatched_processes_report_nothing() {
    let mut trace = Trace::on_ports(&[]);
    Command::new("sh").args(["-c", "true; exit 3"]).status().expect("runs");
    trace.settle();
    assert_eq!(trace.facts(), Vec::<&Observation>::new());
    // `settle` has made this process an endpoint: children of endpoints are not followed either.
    Command::new("sh").args(["-c", "true; exit 3"]).status().expect("runs");
    trace.settle();
    assert_eq!(trace.facts(), Vec::<&Observation>::new());
}

#[test]
fn execve_in_other_mount_namespace_ends_lineage() {
    let mut trace = daemon();
    let mut child = Command::new("unshare").args(["-m", "sh", "-c", "true; sh -c 'exit 7'"]).spawn().expect("starts");
    let pid = child.id();
    assert_eq!(child.wait().expect("wait(2)").code(), Some(7));
    trace.wait("the exit", exit_of(pid));
    trace.settle();
    // The search of PATH fails in some folders.
    let is_failure = |seen: &&Observation| matches!(seen.fact, Fact::ExecFailed { .. });
    let of_it: Vec<_> = trace.of(pid).into_iter().filter(|seen| !is_failure(seen)).collect();
    let kinds: Vec<_> =
        of_it.iter().map(|seen| info(seen).map(|info| (info.watched, info.argv[0].to_text()))).collect();
    let expected =
        [Some((Some(WatchAs::RuntimeChild), "unshare".into())), Some((Some(WatchAs::InContainer), "sh".into())), None];
    // A shell may run its last command without a fork: then the same process calls execve once more, and stays
    // contained.
    assert_eq!(kinds[..2], expected[..2], "{of_it:#?}");
    assert!(
        matches!(of_it.last().map(|seen| &seen.fact), Some(Fact::Exit { status: ExitStatus::Code(7) })),
        "{of_it:#?}"
    );
    assert!(!of_it.iter().any(|seen| matches!(seen.fact, Fact::Fork { .. })), "{of_it:#?}");
    assert_ne!(info(of_it[1]).and_then(|info| info.mntns), Some(own_namespace("mnt")));
    let strangers: Vec<_> = trace
        .facts()
        .into_iter()
        .filter(|seen| seen.task.is_some_and(|task| task.tgid != pid && task.tgid != std::process::id()))
        .collect();
    assert_eq!(strangers, Vec::<&Observation>::new(), "children of a contained process are not followed");
}
