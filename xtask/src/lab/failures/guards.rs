//! Causes of failures. Each is undone when its guard is dropped.

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::lab::network::Host;
use crate::lab::{RunningLab, cluster, pki, pods};
use crate::progress::wait_until;
use crate::tools::run;

/// Longest time for a cause to take effect.
const LIMIT: Duration = Duration::from_secs(120);

/// What a kind of failure needs: options of kubectl, and guards.
#[derive(Default)]
pub(super) struct Prepared {
    /// Options before the subcommand.
    pub(super) globals: Vec<String>,
    pub(super) _guards: Vec<Box<dyn Guard>>,
}

impl Prepared {
    pub(super) fn guarded(guard: impl Guard + 'static) -> Self {
        Self { globals: Vec::new(), _guards: vec![Box::new(guard)] }
    }

    pub(super) fn options(globals: &[&str]) -> Self {
        Self { globals: globals.iter().map(|word| (*word).to_owned()).collect(), _guards: Vec::new() }
    }
}

/// Undoes its cause on drop.
pub(super) trait Guard {}

impl Guard for tempfile::TempDir {}

/// A rule of a host's packet filter.
pub(super) struct Filter {
    host: Host,
    rule: Vec<String>,
}

impl Guard for Filter {}

impl Filter {
    pub(super) fn new(host: Host, rule: &str) -> Result<Self> {
        let rule: Vec<String> = rule.split(' ').map(str::to_owned).collect();
        run(host.command("iptables")?.args(["-w", "-I"]).args(&rule))?;
        Ok(Self { host, rule })
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let undone = self.host.command("iptables");
        drop(undone.and_then(|mut undo| run(undo.args(["-w", "-D"]).args(&self.rule))));
    }
}

/// A stopped kubelet.
pub(super) struct NoKubelet(RunningLab);

impl Guard for NoKubelet {}

impl NoKubelet {
    pub(super) fn stop() -> Result<Self> {
        let lab = RunningLab::find()?;
        cluster::stop_one(&lab.state, "kubelet", false)?;
        Ok(Self(lab))
    }
}

impl Drop for NoKubelet {
    fn drop(&mut self) {
        if let Err(error) = cluster::start_one(&self.0.state, "kubelet") {
            eprintln!("the kubelet does not start again: {error:#}");
        }
    }
}

/// A pod that is deleted on drop.
pub(super) struct Pod {
    lab: RunningLab,
    name: &'static str,
}

impl Guard for Pod {}

impl Pod {
    /// Creates the pod, and waits until the states of its containers contain each of these words.
    fn create(name: &'static str, restart: &str, containers: &[Value], states: &[&str]) -> Result<Self> {
        let lab = RunningLab::find()?;
        let mut pod = pods::pod(name, "failing", true, containers);
        pod["spec"]["restartPolicy"] = restart.into();
        pods::create_objects(&lab.state, &lab.facts, &[pod])?;
        let created = Self { lab, name };
        let log = created.lab.state.log("kubelet");
        wait_until(&format!("the pod {name}"), LIMIT, &log, || {
            let seen = created.kubectl(&["get", "pod", name, "-o", "jsonpath={.status.containerStatuses[*].state}"])?;
            Ok(states.iter().all(|word| seen.contains(word)))
        })?;
        Ok(created)
    }

    /// The container `web` runs and has little memory, the container `over` has ended.
    pub(super) fn half_ended(name: &'static str) -> Result<Self> {
        let mut limited = pods::container("web");
        limited["resources"] = json!({"limits": {"memory": "32Mi"}});
        Self::create(name, "Never", &[limited, script("over", "exit 0")], &["running", "terminated"])
    }

    /// A pod whose container `web` runs.
    pub(super) fn running(name: &'static str) -> Result<Self> {
        Self::create(name, "Never", &[pods::container("web")], &["running"])
    }

    /// A pod whose only container has ended.
    pub(super) fn completed(name: &'static str) -> Result<Self> {
        Self::create(name, "Never", &[script(name, "exit 0")], &["terminated"])
    }

    /// A pod whose container always fails.
    pub(super) fn crashing(name: &'static str) -> Result<Self> {
        Self::create(name, "Always", &[script(name, "exit 1")], &["CrashLoopBackOff"])
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        run(pods::kubectl(&self.lab.state, &self.lab.facts)?.args(arguments))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        drop(self.kubectl(&["delete", "pod", self.name, "--now", "--ignore-not-found"]));
    }
}

fn script(name: &str, script: &str) -> Value {
    let mut container = pods::container(name);
    container["command"] = json!(["sh", "-c", script]);
    container
}

/// A relay that closes a connection after four seconds without data.
pub(super) struct Relay(Child);

impl Guard for Relay {}

impl Relay {
    const LISTEN: &str = "127.0.0.1:7443";

    /// Starts the relay. Returns it with the options that send kubectl through it.
    pub(super) fn prepare(lab: &RunningLab) -> Result<Prepared> {
        let relay = crate::lab::relay::to_api_server(Self::LISTEN, None, None, Some(4));
        let relay = Self(relay?.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        wait_until("the relay", LIMIT, &lab.state.log("kubelet"), || {
            Ok(run(Host::Client.command("ss")?.arg("-tlnH"))?.contains(Self::LISTEN))
        })?;
        let address = pki::API_SERVER.trim_start_matches("https://");
        let name = address.split(':').next().context("an address")?;
        let globals = vec![format!("--server=https://{}", Self::LISTEN), format!("--tls-server-name={name}")];
        Ok(Prepared { globals, _guards: vec![Box::new(relay)] })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Options for a kubeconfig like the administrator's, with this user instead.
pub(super) fn kubeconfig_of(lab: &RunningLab, user: Value) -> Result<Prepared> {
    let mut config: Value = serde_json::from_slice(&std::fs::read(lab.state.kubeconfig(pki::ADMIN))?)?;
    config["users"][0]["user"] = user;
    let folder = tempfile::tempdir()?;
    let file: PathBuf = folder.path().join("kubeconfig");
    std::fs::write(&file, config.to_string())?;
    Ok(Prepared { globals: vec![format!("--kubeconfig={}", file.display())], _guards: vec![Box::new(folder)] })
}

/// The port at which the runtime, or the kubelet for docker, serves streams.
pub(super) fn stream_port(lab: &RunningLab) -> Result<String> {
    let server = match lab.facts.runtime {
        crate::lab::state::Runtime::Containerd => "containerd",
        crate::lab::state::Runtime::Docker => "kubelet",
    };
    let pid = lab.state.daemons()?.get(server).context("a daemon")?.process.pid;
    let listeners = run(Host::Worker.command("ss")?.arg("-tlnpH"))?;
    let addresses = listeners.lines().filter(|line| line.contains(&format!("pid={pid},")));
    let mut ports = addresses.filter_map(|line| line.split_whitespace().nth(3)?.strip_prefix("127.0.0.1:"));
    // The kubelet's health port is no stream.
    let port = ports.rfind(|port| *port != "10248").context("a stream port")?;
    Ok(port.to_owned())
}
