//! Daemons that accept connections and do not serve them.

use std::{
    fs,
    process::{Child, Stdio},
};

use serde_json::{Value, json};

use super::{
    PacketFilter, Session, StoppedProcess, alone,
    guards::{CleanLab, KilledDaemon},
};
use crate::{
    env::{lab, on, wait_until},
    kubectl::{Exec, Mode, kubectl},
};

#[test]
fn f33_stopped_daemon_serves_no_session() {
    for daemon in ["kubelet", "kube-apiserver"] {
        let _clean = CleanLab::new();
        let pid = lab().daemon(daemon);
        let open = Session::start(Mode::Tty, "exec cat");
        let stopped = StoppedProcess::new(pid);
        open.is("F33");
        let _new = Session::ask("exec sleep 600");
        let found = alone("F33");
        assert!(found.iter().all(|verdict| verdict["pid"] == pid), "{daemon}: {found:#?}");
        drop(stopped);
    }
}

/// A kubelet that asks the API server about each request, instead of the lab's own. Replaced by that one on drop.
struct AskingKubelet {
    child: Child,
    _config: tempfile::TempDir,
    first: KilledDaemon,
}

impl AskingKubelet {
    fn new() -> Self {
        let first = lab().daemon("kubelet");
        let program = fs::read_link(format!("/proc/{first}/exe")).expect("the kubelet's program");
        let arguments = fs::read(format!("/proc/{first}/cmdline")).expect("the kubelet's arguments");
        let arguments = arguments.split(|byte| *byte == 0).skip(1).filter(|word| !word.is_empty());
        let arguments: Vec<String> = arguments.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let file = arguments.iter().find_map(|word| word.strip_prefix("--config=")).expect("the kubelet has a file");
        let mut config: Value =
            serde_json::from_slice(&fs::read(file).expect("the kubelet's file")).expect("JSON, which is YAML");
        // Answers are not kept, so that every exec asks again.
        let (no_time, webhook) = ("1ms", "Webhook");
        config["authorization"] = json!({
            "mode": webhook,
            "webhook": {"cacheAuthorizedTTL": no_time, "cacheUnauthorizedTTL": no_time},
        });
        let folder = tempfile::tempdir().expect("a folder");
        let changed = folder.path().join("kubelet.json");
        fs::write(&changed, config.to_string()).expect("a file");
        let kept = arguments.iter().filter(|word| !word.starts_with("--config="));
        let mut kubelet = on("worker", program);
        kubelet.args(kept).arg(format!("--config={}", changed.display()));
        let kubelet = kubelet.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let first = KilledDaemon::kill("kubelet");
        let child = kubelet.spawn().expect("a kubelet starts");
        let started = Self { child, _config: folder, first };
        wait_until("an exec works", || {
            let mut exec = kubectl(lab().newest(), "admin", 0);
            let done = exec.args(Exec::sh("true").arguments()).output().expect("kubectl starts");
            done.status.success().then_some(())
        });
        started
    }
}

impl Drop for AskingKubelet {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        self.first.start_again();
    }
}

#[test]
fn f34_filter_hides_apiserver_from_kubelet() {
    let _clean = CleanLab::new();
    let kubelet = AskingKubelet::new();
    let to_server = ["-p", "tcp", "--dport", "6443", "-j", "DROP"];
    let filter = PacketFilter::new("worker", &[&["OUTPUT"], to_server.as_slice()].concat());
    let session = Session::ask("exec sleep 600");
    let found = alone("F34");
    assert!(found.iter().any(|verdict| verdict["pid"] == kubelet.child.id()), "{found:#?}");
    drop((session, filter));
}

#[test]
fn f34_network_drops_packets_of_kubelet() {
    let _clean = CleanLab::new();
    let _kubelet = AskingKubelet::new();
    let from_worker = ["INPUT", "-p", "tcp", "-s", "192.168.205.11", "--dport", "6443", "-j", "DROP"];
    let filter = PacketFilter::new("master", &from_worker);
    let session = Session::ask("exec sleep 600");
    alone("F34");
    drop((session, filter));
}
