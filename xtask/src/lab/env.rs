//! Description of a running lab for tests, as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::network::Host;
use super::pki::{ADMIN, API_SERVER, NODE, USERS};
use super::state::{Facts, Runtime, State};
use super::version::Version;
use super::{config, pods};

/// Output of `cargo xtask lab env`.
#[derive(Debug, Serialize)]
pub(super) struct Env {
    state_dir: PathBuf,
    runtime: Runtime,
    kubernetes: Version,
    kube_bin: PathBuf,
    api_server: &'static str,
    node: &'static str,
    hosts: BTreeMap<Host, HostEnv>,
    kubeconfigs: BTreeMap<&'static str, PathBuf>,
    kubectl: PathBuf,
    kubectl_home: PathBuf,
    kubectl_by_version: BTreeMap<Version, PathBuf>,
    daemons: BTreeMap<String, DaemonEnv>,
    sockets: BTreeMap<&'static str, &'static str>,
    audit_log: PathBuf,
    pods: [&'static str; 3],
}

#[derive(Debug, Serialize)]
struct HostEnv {
    netns: &'static str,
    netns_path: PathBuf,
    address: &'static str,
}

#[derive(Debug, Serialize)]
struct DaemonEnv {
    pid: i32,
    start_time: u64,
    running: bool,
    host: Host,
    log: PathBuf,
}

impl Env {
    /// Describes a lab that is up.
    pub(super) fn of(state: &State, facts: Facts) -> Result<Self> {
        let hosts = Host::ALL.map(|host| {
            let env = HostEnv { netns: host.netns(), netns_path: host.netns_path(), address: host.address() };
            (host, env)
        });
        let daemons = state.daemons()?.into_iter().map(|(name, daemon)| {
            let running = daemon.process.runs();
            let (pid, start_time) = (daemon.process.pid, daemon.process.start_time);
            (name, DaemonEnv { pid, start_time, running, host: daemon.host, log: daemon.log })
        });
        let mut sockets = BTreeMap::from([("containerd", config::CONTAINERD_SOCKET)]);
        if facts.runtime == Runtime::Docker {
            sockets.insert("docker", config::DOCKER_SOCKET);
        }
        Ok(Self {
            state_dir: state.dir().to_owned(),
            runtime: facts.runtime,
            kubernetes: facts.kube.version,
            kube_bin: facts.kube.dir,
            api_server: API_SERVER,
            node: NODE,
            hosts: hosts.into_iter().collect(),
            kubeconfigs: [ADMIN].into_iter().chain(USERS).map(|user| (user, state.kubeconfig(user))).collect(),
            kubectl: facts.kubectls.newest()?.to_owned(),
            kubectl_home: state.path("home"),
            kubectl_by_version: facts.kubectls.by_version,
            daemons: daemons.collect(),
            sockets,
            audit_log: state.path("audit.log"),
            pods: pods::STANDING,
        })
    }
}
