//! Attempts that never became a session: kubectl fails at once, or waits for a daemon that is not reached.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};

use super::{
    PacketFilter,
    guards::CleanLab,
    second_apiserver::{self, SecondApiServer},
};
use crate::{
    env::{lab, on, output, wait_until},
    kubectl::{Exec, kubectl, mark},
    relay::{self, through},
    reported::ReportedSession,
    tracer::Tracer,
};

/// Runs an exec that succeeds: the API server has then dialled a kubelet during the trace.
fn succeed(tracer: &mut Tracer) {
    let mark = mark();
    let exit = Exec::sh(&format!(": {mark}")).start().end();
    assert!(exit.status.success(), "{exit:?}");
    tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
}

/// Traces an exec that fails at once, and checks its rungs and the named fault.
fn fails(exec: impl Fn(&str) -> Exec, rungs: [&str; 2], code: &str) {
    let mut tracer = Tracer::start(&[]);
    succeed(&mut tracer);
    fails_in(tracer, exec, rungs, code);
}

/// The same in this trace.
fn fails_in(mut tracer: Tracer, exec: impl Fn(&str) -> Exec, rungs: [&str; 2], code: &str) {
    let mark = mark();
    let exit = exec(&format!(": {mark}; true")).start().end();
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    let seen = tracer.wait_for(&mark, "is over", ReportedSession::is_closed);
    let attempt = &seen.0["attempt"];
    assert_eq!([&attempt["reached"], &attempt["failed_at"]], rungs, "{attempt:#}");
    assert_eq!(seen.0["client"]["exit"]["code"], 1, "{seen:?}");
    let trace = tracer.finish();
    let of_mark =
        |line: &&crate::tracer::Line| ReportedSession::of(&line.value).is_some_and(|session| session.has(&mark));
    let types: Vec<&str> = trace.lines.iter().filter(of_mark).filter_map(|line| line.value["type"].as_str()).collect();
    // On a busy machine kubectl takes longer than the two seconds after which it is shown as a provisional session.
    let ends = [["attempt.started", "attempt.failed"], ["session.opened", "session.closed"]];
    assert!(ends.contains(&[types[0], types[types.len() - 1]]), "{types:?}");
    assert_eq!(trace.faults(&mark), (Some(10), vec![code.to_owned()]));
}

#[test]
fn f36_apiserver_refuses() {
    let rungs = ["apiserver-accepted", "kubelet-dialled"];
    let forbidden = |script: &str| Exec { globals: vec!["--as".into(), "nobody".into()], ..Exec::sh(script) };
    fails(forbidden, rungs, "F36");
    fails(|script| Exec { pod: "nosuch", ..Exec::sh(script) }, rungs, "F36");
    fails(|script| Exec { container: "nosuch", ..Exec::sh(script) }, rungs, "F36");
    fails(|script| Exec { pod: "nosuch", version: lab().oldest(), ..Exec::sh(script) }, rungs, "F36");
}

/// No record joins a query to a name server with a request: nothing is named, and no other fault either.
#[test]
fn unresolved_name_of_node_names_no_fault() {
    let _server = SecondApiServer::new("--kubelet-preferred-address-types=Hostname");
    let mut tracer = Tracer::start(&[]);
    let exec = Exec { globals: second_apiserver::through(), ..Exec::sh("true") };
    let exit = exec.start().end();
    assert_eq!(exit.status.code(), Some(1), "{exit:?}");
    assert!(exit.output.contains("lookup "), "{exit:?}");
    // A later session is over: the tracer has read every record of the attempt.
    succeed(&mut tracer);
    let trace = tracer.finish();
    let recording = trace.path("recording.jsonl.zst");
    let ran = execpath_tests::binary::run([
        "diagnose".as_ref(),
        "--from".as_ref(),
        recording.as_os_str(),
        "-o".as_ref(),
        "json".as_ref(),
    ]);
    let found: Vec<Value> = serde_json::from_str(&ran.stdout).expect("an array");
    assert_eq!((ran.code, super::codes(&found)), (Some(0), Vec::new()), "{found:#?}");
}

/// A pod with a container that runs and one that has ended. The API server accepts an exec into either.
pub(super) struct HalfEnded;

impl HalfEnded {
    pub(super) fn new() -> Self {
        let admin = || kubectl(lab().newest(), "admin", 0);
        let web: Value =
            serde_json::from_str(&output(admin().args(["get", "pod", "web", "-o", "json"]))).expect("JSON");
        let container = |name: &str, script: &str| {
            json!({
                "name": name,
                "image": web["spec"]["containers"][0]["image"],
                "imagePullPolicy": "Never",
                "command": ["sh", "-c", script],
            })
        };
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "half-ended", "namespace": "default"},
            "spec": {
                "nodeName": web["spec"]["nodeName"],
                "hostNetwork": true,
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
                "containers": [container("web", "exec sleep 2147483647"), container("over", "exit 0")],
            },
        });
        let mut create = admin();
        let mut create =
            create.args(["create", "--validate=false", "-f", "-"]).stdin(Stdio::piped()).spawn().expect("kubectl");
        create.stdin.take().expect("a pipe").write_all(pod.to_string().as_bytes()).expect("kubectl reads its stdin");
        assert!(create.wait().expect("a child of ours").success());
        let created = Self;
        wait_until("one container runs, the other is over", || {
            let states = "jsonpath={.status.containerStatuses[*].state}";
            let states = output(admin().args(["get", "pod", "half-ended", "-o", states]));
            (states.contains("running") && states.contains("terminated")).then_some(())
        });
        created
    }
}

impl Drop for HalfEnded {
    fn drop(&mut self) {
        let mut delete = kubectl(lab().newest(), "admin", 0);
        let _gone = delete.args(["delete", "pod", "half-ended", "--now"]).status();
    }
}

#[test]
fn f37_kubelet_has_no_such_running_container() {
    let _pod = HalfEnded::new();
    let rungs = ["kubelet-answered", "stream-dialled"];
    fails(|script| Exec { pod: "half-ended", container: "over", ..Exec::sh(script) }, rungs, "F37");
}

/// A kubeconfig like the administrator's, with a credential plugin that never ends.
fn kubeconfig_with_plugin(folder: &tempfile::TempDir) -> String {
    let admin = std::fs::read(&lab().kubeconfigs["admin"]).expect("a kubeconfig");
    let mut config: Value = serde_json::from_slice(&admin).expect("JSON, which is YAML");
    config["users"][0]["user"] = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "sleep",
        "args": ["600"],
        "interactiveMode": "Never",
    }});
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, config.to_string()).expect("a file");
    file.to_str().expect("UTF-8").to_owned()
}

#[test]
fn f45_credential_plugin_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let mark = mark();
    let mut tracer = Tracer::start(&["--measure", "2s"]);
    let globals = vec![format!("--kubeconfig={}", kubeconfig_with_plugin(&folder))];
    let kubectl = Exec { globals, ..Exec::sh(&format!(": {mark}; true")) }.start();
    let shown = tracer.wait_for(&mark, "is shown without a connection", |session| session.roles() == ["kubectl"]);
    assert_eq!(shown.pid("kubectl"), Some(kubectl.pid()));
    let recording = tracer.file("recording.jsonl.zst");
    wait_until("the recording has two samples of kubectl", || {
        let ran = execpath_tests::binary::run([
            "diagnose".as_ref(),
            "--from".as_ref(),
            recording.as_os_str(),
            "-o".as_ref(),
            "json".as_ref(),
        ]);
        let found: Vec<Value> = serde_json::from_str(&ran.stdout).ok()?;
        super::codes(&found).iter().any(|code| code == "F45").then_some(())
    });
    let trace = tracer.finish();
    drop(kubectl);
    let _ended = std::process::Command::new("pkill").args(["-KILL", "-x", "-f", "sleep 600"]).status();
    assert_eq!(trace.faults(&mark), (Some(10), vec!["F45".to_owned()]));
}

#[test]
fn f45_address_of_apiserver_refuses() {
    // Only the kubelet listens on the worker.
    let elsewhere = || vec!["--server=https://192.168.205.11:6443".to_owned()];
    let exec = |script: &str| Exec { globals: elsewhere(), ..Exec::sh(script) };
    fails(exec, ["client-started", "connected"], "F45");
}

/// The port at which containerd serves streams.
pub(super) fn stream_port() -> String {
    let listeners = output(on("worker", "ss").args(["-tlnpH"]));
    let pid = format!("pid={},", lab().daemon("containerd"));
    let of_containerd = listeners.lines().find(|line| line.contains(&pid) && line.contains("127.0.0.1:"));
    let address = of_containerd.and_then(|line| line.split_whitespace().nth(3)).expect("containerd serves streams");
    address.rsplit(':').next().expect("a port").to_owned()
}

#[test]
fn f38_filter_rejects_stream_port() {
    let port = stream_port();
    let reject = ["OUTPUT", "-o", "lo", "-p", "tcp", "--dport", &port, "-j", "REJECT"];
    let _filter = PacketFilter::new("worker", &reject);
    fails_in(Tracer::start(&[]), Exec::sh, ["kubelet-accepted", "stream-dialled"], "F38");
}

#[test]
fn f38_filter_drops_stream_port() {
    let port = stream_port();
    let drops = ["OUTPUT", "-o", "lo", "-p", "tcp", "--dport", &port, "-j", "DROP"];
    let filter = PacketFilter::new("worker", &drops);
    let mut tracer = Tracer::start(&[]);
    let mark = mark();
    let kubectl = Exec::sh(&format!(": {mark}; true")).start();
    let reaches_kubelet = |session: &ReportedSession| session.hop("kubelet").is_some();
    let seen = tracer.wait_for(&mark, "reaches the kubelet", reaches_kubelet);
    let rungs = seen.0["attempt"]["rungs"].as_array().expect("rungs").clone();
    let dial = rungs.last().expect("a rung");
    assert_eq!((&dial["rung"], &dial["state"]), (&json!("stream-dialled"), &json!("waiting")), "{rungs:#?}");
    // Before the third retransmission, the SYN has been without an answer for seven seconds (1 + 2 + 4).
    let target = format!("127.0.0.1:{port}");
    wait_until("the kernel has sent the SYN again three times", || {
        let dials = output(on("worker", "ss").args(["-tnoH", "state", "syn-sent", "dst", &target]));
        let retries = dials.split("timer:(").nth(1)?.split(')').next()?.rsplit(',').next()?.parse::<u32>().ok()?;
        (retries >= 3).then_some(())
    });
    let trace = tracer.finish();
    drop((kubectl, filter));
    assert_eq!(trace.faults(&mark), (Some(10), vec!["F38".to_owned()]));
}

#[test]
fn f44_relay_closes_connection_of_idle_command() {
    let _clean = CleanLab::new();
    let relay = relay::relay(&["--idle", "4"]);
    let mark = mark();
    let mut tracer = Tracer::start(&[]);
    // SPDY has no status for a connection that ends early, and this kubectl sends no heartbeats.
    let exec = Exec { version: lab().oldest(), globals: through(), ..Exec::sh(&format!(": {mark}; exec sleep 600")) };
    let kubectl = exec.start();
    tracer.wait_for(&mark, "is complete", ReportedSession::is_complete);
    let exit = kubectl.end();
    assert!(exit.status.success(), "this kubectl reports success: {exit:?}");
    tracer.wait_for(&mark, "is closed", ReportedSession::is_closed);
    assert_eq!(tracer.finish().faults(&mark), (Some(10), vec!["F44".to_owned()]));
    drop(relay);
}
