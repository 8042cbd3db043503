//! The DaemonSet's pod with metrics, scraped by a real Prometheus on the lab's node. Needs a lab: `cargo xtask lab up`.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use execpath_tests::{binary::finish, xtask::xtask};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    pod::{Installed, kubectl, wait_until},
    repository, succeed,
};

/// Facts about the lab, from `cargo xtask lab env`.
struct Lab(Value);

impl Lab {
    fn read() -> Self {
        Self(serde_json::from_str(&succeed(&mut xtask(&["lab", "env"]))).expect("JSON"))
    }

    /// A program in the network namespace of a host of the lab. `nsenter` execs the program: the child's pid is the program's.
    fn on(&self, host: &str, program: &str) -> Command {
        let netns = self.0["hosts"][host]["netns"].as_str().expect("a name");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{netns}")).arg("--").arg(program);
        command
    }

    /// The newest kubectl on the client's host, as the cluster's administrator.
    fn client(&self, words: &[&str]) -> Command {
        let kubectls = self.0["kubectl_by_version"].as_object().expect("paths by version");
        let version =
            |name: &str| name.split('.').map(|part| part.parse::<u32>().expect("a number")).collect::<Vec<_>>();
        let newest = kubectls.iter().max_by_key(|(name, _)| version(name)).expect("a kubectl").1;
        let mut command = self.on("client", newest.as_str().expect("a path"));
        command.args(words).env("KUBECONFIG", self.0["kubeconfigs"]["admin"].as_str().expect("a path"));
        command.env("HOME", self.0["kubectl_home"].as_str().expect("a path"));
        command
    }
}

/// A child, killed on drop.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A Prometheus on the lab's node that scrapes the pod and evaluates the rules of `packaging/monitoring`.
struct Prometheus<'a> {
    lab: &'a Lab,
    _running: Running,
    _folder: tempfile::TempDir,
}

impl<'a> Prometheus<'a> {
    /// Address of its API. No other program listens in this network namespace of the lab.
    const ADDRESS: &'static str = "127.0.0.1:9090";

    fn start(lab: &'a Lab) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rules = repository("packaging/monitoring/alerts.yaml").canonicalize().expect("the rules");
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n  - job_name: execpath\n    static_configs: [{{ targets: ['127.0.0.1:9464'] }}]\n",
            rules.display()
        );
        let file: PathBuf = folder.path().join("prometheus.yaml");
        fs::write(&file, config).expect("there is room");
        let child = lab
            .on("worker", "prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={}", Self::ADDRESS))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Prometheus starts");
        Self { lab, _running: Running(child), _folder: folder }
    }

    /// Waits until this query gives a result.
    fn wait(&self, query: &str) {
        let server = format!("http://{}", Self::ADDRESS);
        wait_until(query, || {
            let mut promtool = self.lab.on("worker", "promtool");
            let ran = finish(promtool.args(["query", "instant", &server, query]));
            (ran.code == Some(0) && !ran.stdout.trim().is_empty()).then_some(())
        });
    }
}

#[test]
fn prometheus_scrapes_pod_and_alerts_on_stopped_client() {
    let lab = Lab::read();
    let _installed = Installed::new();
    Installed::start("metrics", &Installed::pod("packaging/kubernetes/overlays/metrics", "metrics"));
    let prometheus = Prometheus::start(&lab);
    prometheus.wait("up{job=\"execpath\"} == 1");
    prometheus.wait("execpath_up == 1");

    let ran = finish(&mut lab.client(&["exec", "web", "-c", "web", "--", "sh", "-c", "exit 3"]));
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    prometheus.wait("execpath_sessions_ended_total{kind=\"exec\",outcome=\"failure\"} == 1");

    // A client that is stopped does not read what its command writes.
    let mut client = lab.client(&["exec", "web", "-c", "web", "--", "sh", "-c", "exec yes"]);
    let stopped = Running(client.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("kubectl starts"));
    let pid = i32::try_from(stopped.0.id()).ok().and_then(Pid::from_raw).expect("a pid");
    prometheus.wait("execpath_sessions_open{kind=\"exec\"} == 1");
    kill_process(pid, Signal::STOP).expect("a child of ours");
    prometheus.wait("execpath_verdicts_active{code=\"F16\"} > 0");
    prometheus.wait("ALERTS{alertname=\"ExecpathSessionFault\",code=\"F16\",alertstate=\"firing\"}");

    drop(stopped);
    prometheus.wait("execpath_sessions_open{kind=\"exec\"} == 0");
    succeed(&mut kubectl(&["-n", "execpath", "delete", "pod", "metrics"]));
}
