//! `cargo xtask lab`: a real Kubernetes cluster on one machine, for tests.
//!
//! Three network namespaces play client, master and worker. etcd, kube-apiserver, kubelet, containerd and runc are
//! the real programs, started as on a node. There is no registry, no scheduler and no route outside. Only one lab
//! fits on a machine, because the daemons use the sockets and directories of a real node.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;

use anyhow::Result;
use clap::{Args, Subcommand};

use self::env::Env;
use self::state::{Runtime, State};
use crate::progress::Progress;
use crate::{cache, tools};

mod baseline;
mod cluster;
mod config;
mod env;
mod failures;
mod golang;
mod image;
mod kube;
mod kubectl;
mod leftovers;
mod network;
mod packages;
mod pki;
mod pods;
mod process;
mod relay;
mod state;
mod truth;
mod version;

/// Run a real Kubernetes cluster on this machine, for tests.
///
/// State is kept in $LAB (/tmp/execpath-lab). kube-apiserver and kubelet come from $KUBE_BIN, or are built once from
/// Debian's source. $KUBE_MINOR gives their version if they do not report one. kubectls come from $KUBECTL_BINS, else
/// from the directory of the kubectl on PATH; Debian's kubectl is always added.
#[derive(Args)]
pub(crate) struct Lab {
    #[command(subcommand)]
    task: LabTask,
}

#[derive(Subcommand)]
enum LabTask {
    /// Start the cluster.
    Up {
        /// Container runtime of the kubelet.
        #[arg(long, value_enum, default_value = "containerd")]
        runtime: Runtime,
        /// Also create this many idle pods, as `lab pods` does.
        #[arg(long, value_name = "N")]
        pods: Option<u32>,
    },
    /// Replace this process with kubectl on the client's host.
    Exec {
        /// User whose certificate kubectl presents: admin, alice, bob or carol.
        #[arg(long, value_name = "NAME", default_value = pki::ADMIN)]
        as_user: String,
        /// kubectl to use: a version such as 1.20, or a path. Default: the newest found.
        #[arg(long, value_name = "VERSION|PATH")]
        kubectl: Option<String>,
        /// Arguments for kubectl.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// Create or delete idle pods until exactly N exist: noise-0, noise-1, …, labelled app=noise.
    Pods {
        /// Number of idle pods, at most 50.
        #[arg(value_name = "N")]
        count: u32,
    },
    /// Replace this process with a plain TCP relay to the API server, on the client's host.
    Relay {
        /// Address to listen on.
        #[arg(value_name = "ADDRESS:PORT")]
        listen: String,
        /// Hold back the client's data on connection number CONNECTION after RECORDS TLS records of application data.
        #[arg(long, value_name = "CONNECTION:RECORDS")]
        hold: Option<relay::Hold>,
        /// Pass on only the first BYTES bytes to each client and drop the rest.
        #[arg(long, value_name = "BYTES", conflicts_with = "hold")]
        most: Option<u64>,
        /// Close a direction of a connection in an orderly way after SECONDS without data.
        #[arg(long, value_name = "SECONDS", conflicts_with_all = ["hold", "most"])]
        idle: Option<u64>,
    },
    /// Stop one daemon: etcd, kube-apiserver, kubelet, containerd or dockerd. The others keep running.
    Stop {
        #[arg(value_name = "DAEMON")]
        daemon: String,
        /// Use SIGKILL, so that the daemon cannot clean up.
        #[arg(long)]
        kill: bool,
    },
    /// Start a daemon that has ended, and wait until an exec works.
    Start {
        #[arg(value_name = "DAEMON")]
        daemon: String,
    },
    /// Stop one daemon and start it again.
    Restart {
        #[arg(value_name = "DAEMON")]
        daemon: String,
    },
    /// Show the state of all daemons.
    Status,
    /// Print a description of the lab for tests, as JSON.
    Env,
    /// Measure how much of the tracer's output is true. Fail if anything is wrong.
    Truth(truth::Truth),
    /// Measure how many failures of each kind are reported with their stage and cause. Fail if any is not.
    Failures(failures::Failures),
    /// Stop the cluster and remove all its traces.
    Down,
}

/// A lab that is up, for other tasks.
pub(crate) struct RunningLab {
    state: State,
    facts: state::Facts,
}

impl RunningLab {
    pub(crate) fn find() -> Result<Self> {
        let state = State::of_environment()?;
        let facts = state.facts_of_ready()?;
        Ok(Self { state, facts })
    }

    /// A kubectl of this version, or the newest, on the client's host.
    pub(crate) fn kubectl(&self, version: Option<&str>) -> Result<std::process::Command> {
        let program = match version {
            Some(version) => self.facts.kubectls.pick(version)?,
            None => self.facts.kubectls.newest()?.to_owned(),
        };
        let mut kubectl = network::Host::Client.command(program)?;
        kubectl.envs(pods::environment(&self.state, pki::ADMIN));
        Ok(kubectl)
    }

    /// A relay from `listen` on the client's host to the API server.
    pub(crate) fn relay(&self, listen: &str) -> Result<std::process::Command> {
        relay::to_api_server(listen, None, None, None)
    }

    /// Version of Kubernetes.
    pub(crate) fn kubernetes(&self) -> String {
        self.facts.kube.version.to_string()
    }

    /// The daemon that runs containers: `containerd` or `dockerd`.
    pub(crate) fn runtime(&self) -> &'static str {
        match self.facts.runtime {
            Runtime::Containerd => "containerd",
            Runtime::Docker => "dockerd",
        }
    }

    /// Versions of the kubectls, oldest first.
    pub(crate) fn kubectls(&self) -> Vec<String> {
        self.facts.kubectls.by_version.keys().map(ToString::to_string).collect()
    }

    /// Machine-specific paths, each with its replacement in committed files.
    pub(crate) fn replacements(&self) -> Result<Vec<(String, &'static str)>> {
        let mut replacements = vec![
            (cache::dir("execpath-lab")?.display().to_string(), "/opt/lab"),
            (self.state.dir().display().to_string(), "/var/lab"),
        ];
        for kubectl in self.facts.kubectls.by_version.values() {
            if let Some(dir) = kubectl.canonicalize()?.parent() {
                replacements.push((dir.display().to_string(), "/usr/bin"));
            }
        }
        Ok(replacements)
    }
}

impl Lab {
    pub(crate) fn run(self) -> Result<()> {
        let state = State::of_environment()?;
        match self.task {
            LabTask::Up { runtime, pods } => {
                cluster::up(&state, runtime, pods)?;
                usage(&state)
            }
            LabTask::Exec { as_user, kubectl, args } => {
                let facts = state.facts_of_ready()?;
                let kubectl = match kubectl {
                    Some(wanted) => facts.kubectls.pick(&wanted)?,
                    None => facts.kubectls.newest()?.to_owned(),
                };
                pods::exec(&state, &as_user, &kubectl, &args)
            }
            LabTask::Pods { count } => {
                let facts = state.facts_of_ready()?;
                let _lock = state.lock()?;
                pods::noise(&state, &facts, count, &Progress::new())
            }
            LabTask::Relay { listen, hold, most, idle } => {
                state.facts_of_ready()?;
                Err(relay::to_api_server(&listen, hold, most, idle)?.exec().into())
            }
            LabTask::Stop { daemon, kill } => cluster::stop_one(&state, &daemon, kill),
            LabTask::Start { daemon } => cluster::start_one(&state, &daemon),
            LabTask::Restart { daemon } => {
                cluster::stop_one(&state, &daemon, false)?;
                cluster::start_one(&state, &daemon)
            }
            LabTask::Status => status(&state),
            LabTask::Env => {
                let env = Env::of(&state, state.facts_of_ready()?)?;
                print(&(serde_json::to_string_pretty(&env)? + "\n"))
            }
            LabTask::Truth(truth) => truth.run(&state),
            LabTask::Failures(failures) => failures.run(&state),
            LabTask::Down => {
                let progress = Progress::new();
                let was_there = cluster::down(&state)?;
                progress.report(if was_there { "the lab is down" } else { "there was no lab" });
                Ok(())
            }
        }
    }
}

fn usage(state: &State) -> Result<()> {
    print(&format!(
        "\
cargo xtask lab exec -- exec -it web -c web -- sh     also: -c side, own-net, probed
cargo xtask lab exec --as-user alice -- get pods      also: bob, carol
cargo xtask lab exec --kubectl 1.20 -- version
cargo xtask lab pods 10                               idle pods noise-0 to noise-9
cargo xtask lab truth --sessions 20                   how much of the tracer's output is true
cargo xtask lab failures --count 2                    which failures are reported with their cause
cargo xtask lab restart kubelet                       also: stop, start; etcd, kube-apiserver, containerd
cargo xtask lab env                                   pids, paths and addresses as JSON
cargo xtask lab down
logs: {}
",
        state.path("log").display()
    ))
}

fn status(state: &State) -> Result<()> {
    let mut text = String::new();
    for (name, daemon) in &state.daemons()? {
        let runs = if daemon.process.runs() { "runs" } else { "has ended" };
        let (pid, host, log) = (daemon.process.pid, daemon.host.netns(), daemon.log.display());
        writeln!(text, "{name:15} {runs}, pid {pid}, on {host}, log {log}")?;
    }
    print(&text)?;
    let facts = state.facts_of_ready()?;
    let versions: Vec<String> = facts.kubectls.by_version.keys().map(ToString::to_string).collect();
    let (runtime, dir) = (cluster::name_of(facts.runtime), state.dir().display());
    print(&format!(
        "Kubernetes {} with {runtime}, state in {dir}\nkubectl {}\n{}",
        facts.kube.version,
        versions.join(", "),
        tools::run(pods::kubectl(state, &facts)?.args(["get", "pods", "-o", "wide"]))?
    ))
}

/// Prints to standard output. A reader that stops early, such as `head`, is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
