//! The image and the DaemonSet's pod on the lab's node. Needs a lab: `cargo xtask lab up`.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use execpath_tests::{binary::finish, xtask::xtask};
use serde_json::{Value, json};

use crate::{artefact, chart, run, succeed};

/// The manifests without an overlay.
const BASE: &str = "packaging/kubernetes/base";
/// Sessions that the pod records, and further ones after a restart of kubelet and containerd.
const SESSIONS: usize = 20;
const LATER: usize = 3;
/// Longest wait for a condition, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Pause between two looks at a condition that sends no notification.
const POLL: Duration = Duration::from_millis(100);

pub(crate) fn kubectl(words: &[&str]) -> Command {
    let mut command = xtask(&["lab", "exec", "--"]);
    command.args(words);
    command
}

#[track_caller]
pub(crate) fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + TIMEOUT;
    loop {
        let late = Instant::now() > end;
        if let Some(found) = look() {
            return found;
        }
        assert!(!late, "not within {TIMEOUT:?}: {what}");
        thread::sleep(POLL);
    }
}

/// Gives kubectl these objects as `-f -`.
#[track_caller]
fn give(words: &[&str], objects: &[Value]) -> String {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let mut kubectl = kubectl(words);
    let mut child =
        kubectl.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("kubectl starts");
    child.stdin.take().expect("a pipe").write_all(list.to_string().as_bytes()).expect("kubectl reads");
    let output = child.wait_with_output().expect("kubectl ends");
    assert!(output.status.success(), "{words:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Ids of the programs and maps in the kernel that a tracer left.
fn programs() -> usize {
    aya::programs::loaded_programs().filter_map(Result::ok).count()
}

/// The namespace of the manifests, and the folder of the recordings. Dropped, both go.
pub(crate) struct Installed {
    recordings: PathBuf,
}

impl Installed {
    /// Imports the image and creates the namespace and the service account.
    pub(crate) fn new() -> Self {
        run("ctr", ["-n", "k8s.io", "images", "import", &artefact("-image-amd64.tar").display().to_string()]);
        let recordings = PathBuf::from("/var/lib/execpath");
        assert!(!recordings.exists(), "{} belongs to another recorder", recordings.display());
        let installed = Self { recordings };
        let base = chart::of_kustomize(BASE);
        let (daemons, others): (Vec<Value>, Vec<Value>) =
            base.into_iter().partition(|object| object["kind"] == "DaemonSet");
        give(&["apply", "--validate=false"], &others);
        assert_eq!(daemons.len(), 1);
        installed
    }

    /// The pod that the controller of a folder's DaemonSet would make. The lab has no controllers.
    pub(crate) fn pod(folder: &str, name: &str) -> Value {
        let objects = chart::of_kustomize(folder);
        let daemons = objects.iter().find(|object| object["kind"] == "DaemonSet").expect("a DaemonSet");
        let template = &daemons["spec"]["template"];
        let mut pod =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = json!("execpath");
        pod["spec"]["nodeName"] = json!("lab-node");
        pod
    }

    pub(crate) fn start(name: &str, pod: &Value) {
        give(&["create", "--validate=false"], std::slice::from_ref(pod));
        succeed(&mut kubectl(&[
            "-n",
            "execpath",
            "wait",
            "--for=condition=Ready",
            "--timeout=120s",
            &format!("pod/{name}"),
        ]));
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        finish(&mut kubectl(&["-n", "execpath", "delete", "pod", "--all", "--grace-period=10"]));
        finish(&mut kubectl(&["-n", "execpath", "delete", "serviceaccount", "execpath"]));
        finish(&mut kubectl(&["delete", "namespace", "execpath", "--wait=false"]));
        // The lab has no controller that would end the namespace.
        let ended = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "execpath"}, "spec": {"finalizers": []}});
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), ended.to_string()).expect("the file is writable");
        let path = file.path().display().to_string();
        finish(&mut kubectl(&["replace", "--raw", "/api/v1/namespaces/execpath/finalize", "-f", &path]));
        drop(fs::remove_dir_all(&self.recordings));
    }
}

fn log(name: &str) -> String {
    finish(&mut kubectl(&["-n", "execpath", "logs", name])).stdout
}

fn status(name: &str) -> Value {
    let text = succeed(&mut kubectl(&["-n", "execpath", "get", "pod", name, "-o", "json"]));
    let pod: Value = serde_json::from_str(&text).expect("JSON");
    pod["status"]["containerStatuses"][0].clone()
}

/// Runs sessions one after another. Each command has a mark.
fn sessions(marks: impl Iterator<Item = usize>) {
    for mark in marks {
        let script = format!("echo session-{mark}; exit {}", mark % 3);
        let ran = finish(&mut kubectl(&["exec", "web", "-c", "web", "--", "sh", "-c", &script]));
        assert_eq!(ran.stdout, format!("session-{mark}\n"), "{}", ran.stderr);
    }
}

/// Sessions of the recording whose command has a mark, by mark.
fn recorded(folder: &Path) -> Vec<(usize, Value)> {
    let mut parts: Vec<PathBuf> =
        fs::read_dir(folder).expect("recordings").map(|it| it.expect("an entry").path()).collect();
    parts.sort();
    let out =
        succeed(Command::new(artefact("-linux-amd64")).args(["replay", "-o", "json", "--kind", "exec"]).args(&parts));
    let report: Value = serde_json::from_str(&out).expect("JSON");
    let sessions = report.as_array().expect("sessions");
    let marked = sessions.iter().filter_map(|session| {
        let text = session.to_string();
        let mark = text.split("echo session-").nth(1)?.split(';').next()?.parse().ok()?;
        Some((mark, session.clone()))
    });
    marked.collect()
}

#[test]
fn pod_records_sessions_and_leaves_nothing() {
    let before = programs();
    let installed = Installed::new();
    Installed::start("recorder", &Installed::pod(BASE, "recorder"));
    wait_until("the pod records", || log("recorder").contains("recording: ").then_some(()));
    let id = status("recorder")["containerID"].as_str().expect("an id").trim_start_matches("containerd://").to_owned();
    let init = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}/init.pid");
    let pid = fs::read_to_string(init).expect("a pid file");
    let capabilities = fs::read_to_string(format!("/proc/{}/status", pid.trim())).expect("the pod runs");
    let bound = capabilities.lines().find_map(|line| line.strip_prefix("CapBnd:")).expect("a set").trim();
    // DAC_READ_SEARCH 2, SYS_PTRACE 19, SYS_ADMIN 21, SYS_NICE 23, PERFMON 38, BPF 39 (include/uapi/linux/capability.h).
    assert_eq!(u64::from_str_radix(bound, 16), Ok(1 << 2 | 1 << 19 | 1 << 21 | 1 << 23 | 1 << 38 | 1 << 39));

    sessions(0..SESSIONS);
    succeed(&mut xtask(&["lab", "restart", "kubelet"]));
    succeed(&mut xtask(&["lab", "restart", "containerd"]));
    sessions(SESSIONS..SESSIONS + LATER);
    assert_eq!(status("recorder")["restartCount"], 0);
    succeed(&mut kubectl(&["-n", "execpath", "delete", "pod", "recorder"]));

    let found = recorded(&installed.recordings);
    for mark in 0..SESSIONS + LATER {
        let of_mark: Vec<&Value> = found.iter().filter(|(of, _)| *of == mark).map(|(_, session)| session).collect();
        assert_eq!(of_mark.len(), 1, "sessions of {mark}");
        let session = of_mark[0];
        assert_eq!(session["complete"], true, "{mark}: {session}");
        assert_eq!(session["confidence"], "exact", "{mark}: {session}");
    }
    assert_eq!(programs(), before, "programs in the kernel");
}

/// As on a kernel that is too old, without BTF or locked down: here the capabilities are missing.
#[test]
fn pod_on_untraceable_node_is_ready_and_says_why() {
    let _installed = Installed::new();
    let mut pod = Installed::pod(BASE, "idle");
    pod["spec"]["containers"][0]["securityContext"]["capabilities"]["add"] = json!([]);
    Installed::start("idle", &pod);
    let log =
        wait_until("the pod has reported", || Some(log("idle")).filter(|log| log.contains("waiting for SIGTERM")));
    assert!(log.starts_with("error: CAP_"), "{log}");
    let status = status("idle");
    assert_eq!((&status["restartCount"], &status["ready"]), (&json!(0), &json!(true)));
    succeed(&mut kubectl(&["-n", "execpath", "delete", "pod", "idle"]));
}

/// All but PodMonitors: their type belongs to the Prometheus Operator.
#[test]
fn api_server_takes_every_manifest() {
    let _installed = Installed::new();
    for objects in [
        chart::of_kustomize(BASE),
        chart::of_kustomize("packaging/kubernetes/overlays/control-plane"),
        chart::of_kustomize("packaging/kubernetes/overlays/metrics"),
        chart::of_kustomize("packaging/kubernetes/overlays/otlp"),
        chart::rendered(&json!({"metrics": {"enabled": true}})),
        chart::rendered(&json!({"otlp": {"endpoint": "$(NODE_IP):4317"}})),
        chart::rendered(&json!({})),
        chart::rendered(&json!({"controlPlane": true, "options": ["--no-args"]})),
    ] {
        let taken = give(&["apply", "--dry-run=server"], &objects);
        assert_eq!(taken.lines().count(), objects.len(), "{taken}");
    }
}
