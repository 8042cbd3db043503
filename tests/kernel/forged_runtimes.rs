//! Processes that listen at a runtime's path: in a mount namespace of their own, with and without a runtime's
//! privileges.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc,
    thread,
};

use execpath::{
    model::{BootTime, Fact, Listener, Observation, Want},
    source::snapshot::{Options, ScanMethod, Snapshot},
};
use execpath_tests::binary;
use serde_json::Value;

use crate::{helper_process::HelperProcess, trace::DEADLINE};

const SOCKET: &str = "/run/containerd/containerd.sock";
/// Script that gives a helper process a `/run` of its own.
const OWN_RUN: &str = "mount -t tmpfs none /run && mkdir /run/containerd && exec \"$@\"";
/// Wrapper for an unprivileged user that is root in a user namespace of its own.
const AS_NOBODY: [&str; 5] = ["--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Urm"];

/// Root of the host, like the runtime of a node in a container.
fn root() -> HelperProcess {
    HelperProcess::under("unshare", &["-m", "sh", "-c", OWN_RUN, "sh"])
}

fn nobody() -> HelperProcess {
    HelperProcess::under("setpriv", &[&AS_NOBODY[..], &["sh", "-c", OWN_RUN, "sh"]].concat())
}

/// Root without CAP_SYS_ADMIN, as in any container.
fn contained_root() -> HelperProcess {
    let drop = format!("{OWN_RUN_WITHOUT} setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \"$@\"");
    HelperProcess::under("unshare", &["-m", "sh", "-c", &drop, "sh"])
}
const OWN_RUN_WITHOUT: &str = "mount -t tmpfs none /run && mkdir /run/containerd && exec";

fn id(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// Imitates a runtime and its shim during an exec: a FIFO, `runc exec`, an execve in another mount namespace.
fn start_exec(helper: &mut HelperProcess, container: &str, exec: &str) {
    let folder = format!("/run/containerd/io.containerd.grpc.v1.cri/containers/{container}/io/1");
    assert_eq!(helper.request(&format!("run mkdir -p {folder}")), ["Some(0)"]);
    assert_eq!(helper.request(&format!("mknod fifo {folder}/{exec}-stdout")), ["Ok(())"]);
    let runc = format!("exec --process p --detach --pid-file /run/containerd/{exec}.pid {container}");
    assert_eq!(helper.request(&format!("run unshare -m --fork sleep 0 {runc}")).len(), 1);
}

/// Listeners that a snapshot verifies for this process.
fn verified(pid: u32, method: ScanMethod) -> Vec<Listener> {
    let facts = Snapshot::new(Options { method, ..Options::default() }).take(BootTime(1));
    listeners(&facts, pid)
}

fn listeners(facts: &[Observation], pid: u32) -> Vec<Listener> {
    let of = |seen: &Observation| match &seen.fact {
        Fact::ListeningUnix { listener: Some(listener), .. } if seen.task.is_some_and(|task| task.tgid == pid) => {
            Some(listener.clone())
        }
        _ => None,
    };
    facts.iter().filter_map(of).collect()
}

/// A running trace and its output.
struct Tracer {
    child: Child,
    lines: mpsc::Receiver<Value>,
}

impl Tracer {
    /// Starts a trace and waits for its header.
    fn start() -> Self {
        let mut command = binary::command();
        let arguments = ["trace", "-o", "jsonl", "--kind", "all"];
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().expect("execpath starts");
        let out = BufReader::new(child.stdout.take().expect("stdout"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            // The receiver is gone if the test has ended.
            out.lines()
                .map_while(Result::ok)
                .filter_map(|line| serde_json::from_str(&line).ok())
                .try_for_each(|line| sender.send(line))
        });
        let tracer = Self { child, lines };
        assert_eq!(tracer.next()["type"], "host");
        tracer
    }

    fn next(&self) -> Value {
        self.lines.recv_timeout(DEADLINE).expect("a line")
    }

    /// Interrupts the trace, and returns the remaining lines.
    fn finish(mut self) -> Vec<Value> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("execpath is running");
        self.child.wait().expect("execpath exits");
        self.lines.iter().collect()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // The trace may have exited already.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn is_of(line: &Value, exec: &str) -> bool {
    line["session"]["exec_id"] == *exec
}

#[test]
fn snapshot_verifies_reachable_socket_by_both_methods() {
    for method in [ScanMethod::Walk, ScanMethod::Iterator] {
        for (mut helper, root, at) in
            [(root(), true, Some(SOCKET.into())), (contained_root(), true, None), (nobody(), false, None)]
        {
            helper.request(&format!("unix-listen l {SOCKET}"));
            assert_eq!(verified(helper.pid(), method), [Listener { root, at }], "{method:?}");
        }
    }
}

#[test]
fn snapshot_finds_renamed_socket() {
    let mut helper = root();
    helper.request("unix-listen l /run/4711");
    assert_eq!(verified(helper.pid(), ScanMethod::Walk), [], "the path is not a runtime's");
    assert_eq!(helper.request("run mv /run/4711 /run/cri-dockerd.sock"), ["Some(0)"]);
    let expected = [Listener { root: true, at: Some("/run/cri-dockerd.sock".into()) }];
    for method in [ScanMethod::Walk, ScanMethod::Iterator] {
        assert_eq!(verified(helper.pid(), method), expected, "{method:?}");
    }
    let answer = Snapshot::new(Options::default()).answer(&Want::Listeners(helper.pid()), BootTime(1));
    assert!(matches!(answer[0].fact, Fact::ProcessSeen(_)));
    assert_eq!(listeners(&answer, helper.pid()), expected);
}

#[test]
fn replaced_socket_file_verifies_no_listener() {
    let (mut helper, mut other) = (root(), root());
    helper.request(&format!("unix-listen l {SOCKET}"));
    assert_eq!(helper.request(&format!("run rm {SOCKET}")), ["Some(0)"]);
    assert_eq!(verified(helper.pid(), ScanMethod::Walk), [Listener { root: true, at: None }]);
    // Another mount namespace has another file at this path.
    other.request(&format!("unix-listen l {SOCKET}"));
    assert_eq!(verified(helper.pid(), ScanMethod::Walk), [Listener { root: true, at: None }]);
}

#[test]
fn only_a_real_runtime_starts_sessions() {
    let (mut real, mut forged, mut plain) = (root(), nobody(), contained_root());
    for helper in [&mut real, &mut forged, &mut plain] {
        helper.request(&format!("unix-listen l {SOCKET}"));
    }
    let tracer = Tracer::start();
    start_exec(&mut forged, &id('a'), &id('b'));
    start_exec(&mut plain, &id('a'), &id('c'));
    // The real runtime acts last: once its session is reported, sessions of the others would have been, too.
    start_exec(&mut real, &id('a'), &id('d'));
    let is_whole =
        |line: &Value| is_of(line, &id('d')) && line["session"]["hops"].as_array().is_some_and(|hops| hops.len() == 3);
    let mut reported = Vec::new();
    while !reported.iter().any(is_whole) {
        reported.push(tracer.next());
    }
    reported.extend(tracer.finish());
    for line in &reported {
        assert!(!is_of(line, &id('b')) && !is_of(line, &id('c')), "{line:#}");
        for hop in line["session"]["hops"].as_array().into_iter().flatten() {
            assert!(hop["pid"] != forged.pid() && hop["pid"] != plain.pid(), "{line:#}");
        }
    }
    let session = &reported.iter().rfind(|line| is_of(line, &id('d'))).expect("the session is reported")["session"];
    let roles: Vec<&str> =
        session["hops"].as_array().expect("hops").iter().filter_map(|hop| hop["role"].as_str()).collect();
    assert_eq!(
        (roles, &session["hops"][0]["pid"]),
        (vec!["runtime", "runc", "process"], &real.pid().into()),
        "{session:#}"
    );
}
