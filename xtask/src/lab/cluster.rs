//! Starts and stops the lab's daemons.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::mount::mount_bind;
use serde_json::Value;

use super::baseline::Baseline;
use super::kube::{Kube, last_lines};
use super::kubectl::Kubectls;
use super::network::{self, Host};
use super::process::{Process, boot_id};
use super::state::{Daemon, Facts, Runtime, State};
use super::version::Version;
use super::{RunningLab, config, image, leftovers, packages, pki, pods};
use crate::hint::hinted;
use crate::progress::{Progress, wait_until};
use crate::tools::{command, find, run};

/// Longest time that a daemon may take to answer, on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

/// Longest time that a stopped daemon may take to end before it gets SIGKILL. A service manager does the same, but
/// waits longer.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Starts the cluster. Does nothing if a complete cluster is already up.
pub(super) fn up(state: &State, runtime: Runtime, noise: Option<u32>) -> Result<()> {
    let progress = Progress::new();
    if !rustix::process::geteuid().is_root() {
        packages::ensure(runtime, &progress)?;
        return Err(hinted("the lab needs root", "sudo -E cargo xtask lab up"));
    }
    let earlier = state.facts()?;
    if let Some(facts) = &earlier
        && is_complete(state, facts)?
    {
        if facts.runtime != runtime {
            let what = format!("the lab is up with {}", name_of(facts.runtime));
            return Err(hinted(what, "run `cargo xtask lab down`, then `up`"));
        }
        progress.report("the lab is already up");
        return noise.map_or(Ok(()), |count| pods::noise(state, facts, count, &progress));
    }
    if earlier.is_some() {
        progress.report("removing the leftovers of an earlier run");
        down(state)?;
    }

    packages::ensure(runtime, &progress)?;
    let kube = Kube::ensure(&progress)?;
    if runtime == Runtime::Docker && kube.version >= Version::one(24) {
        let what = format!("Kubernetes {} cannot use dockerd", kube.version);
        return Err(hinted(what, "unset KUBE_BIN, or set it to a version up to 1.23"));
    }
    let kubectls = Kubectls::discover(&progress)?;
    ensure_exclusive()?;

    state.create()?;
    let _lock = state.lock()?;
    let kubectls = kubectls.linked_in(&state.path("kubectl"))?;
    let boot_id = boot_id()?;
    let before = Baseline::record()?;
    let began = Some(Process::of(i32::try_from(std::process::id())?)?.start_time);
    let mut facts = Facts { boot_id, began, ready: false, runtime, kube, kubectls, before };
    state.write_facts(&facts)?;
    progress.report(format!(
        "Kubernetes {} with {} in {}",
        facts.kube.version,
        name_of(runtime),
        state.dir().display()
    ));

    let starting = Startup { state, facts: &facts, progress: &progress };
    starting.start_all().map_err(|error| {
        let text = format!("{error:#}");
        if text.contains("\nhint: ") {
            return error;
        }
        let logs = state.path("log");
        hinted(text, format!("logs: {}; `cargo xtask lab down` stops all started daemons", logs.display()))
    })?;
    if let Some(count) = noise {
        pods::noise(state, &facts, count, &progress)?;
    }
    facts.ready = true;
    state.write_facts(&facts)?;
    progress.report("the lab is up");
    Ok(())
}

/// Runs a measurement on the running lab, which must have this runtime; without a lab, on one that is stopped afterwards.
pub(super) fn with(state: &State, runtime: Runtime, measure: impl FnOnce(&RunningLab) -> Result<()>) -> Result<()> {
    let was_up = state.facts_of_ready().is_ok();
    if !was_up {
        up(state, runtime, None)?;
    }
    let done = RunningLab::find().and_then(|lab| {
        if lab.facts.runtime != runtime {
            let what = format!("the lab is up with {}", name_of(lab.facts.runtime));
            return Err(hinted(what, "run `cargo xtask lab down`, then try again"));
        }
        measure(&lab)
    });
    if !was_up {
        down(state)?;
    }
    done
}

/// Stops everything that `up` started and restores the machine. Returns false if there is no state directory.
pub(super) fn down(state: &State) -> Result<bool> {
    let Some(_lock) = state.lock()? else { return Ok(false) };
    let facts = state.facts()?;
    let daemons = state.daemons()?;
    // Stop the kubelet first, because it restarts pods. Stop containerd last: no shim may start after the shims have
    // been counted. Kill dockerd without a grace period: it would wait for its containers, and those are killed next
    // anyway.
    for (name, patience) in [("kubelet", 5), ("kube-apiserver", 5), ("etcd", 5), ("dockerd", 0), ("containerd", 10)] {
        if let Some(daemon) = daemons.get(name) {
            daemon.process.stop(Duration::from_secs(patience))?;
        }
    }
    let mut left = Vec::new();
    if let Some(facts) = &facts
        && facts.boot_id == boot_id()?
    {
        if let Some(containerd) = daemons.get("containerd") {
            let first = facts.began.unwrap_or(containerd.process.start_time);
            leftovers::stop(&Process { start_time: first, ..containerd.process.clone() })?;
        }
        network::down()?;
        left = facts.before.restore(state.dir())?;
    }
    super::baseline::remove_tree(state.dir(), &mut left)?;
    if !left.is_empty() {
        return Err(hinted(left.join("; "), "a shell inside may keep them busy: leave it, then remove them"));
    }
    Ok(true)
}

/// Stops one daemon and leaves the others running.
pub(super) fn stop_one(state: &State, name: &str, kill: bool) -> Result<()> {
    let (_, daemon) = daemon_named(state, name)?;
    let _lock = state.lock()?;
    if kill {
        daemon.process.kill()?;
    } else {
        daemon.process.stop(STOP_LIMIT)?;
    }
    Progress::new().report(format!("{name} has ended"));
    Ok(())
}

/// Starts one daemon that has ended, then waits until an exec works, since an exec needs all daemons.
pub(super) fn start_one(state: &State, name: &str) -> Result<()> {
    let (facts, daemon) = daemon_named(state, name)?;
    let _lock = state.lock()?;
    let progress = Progress::new();
    let starting = Startup { state, facts: &facts, progress: &progress };
    let daemon = match name {
        _ if daemon.process.runs() => daemon,
        "etcd" => starting.etcd()?,
        "kube-apiserver" => starting.apiserver()?,
        "kubelet" => starting.kubelet()?,
        "containerd" => starting.containerd()?,
        "dockerd" => starting.dockerd()?,
        _ => bail!("unknown daemon {name}"),
    };
    let works = || Ok(starting.kubectl(&["exec", "web", "-c", "web", "--", "true"]).is_ok());
    starting.wait(&daemon, "an exec", works)?;
    progress.report(format!("{name} runs, pid {}; an exec works", daemon.process.pid));
    Ok(())
}

/// Returns the lab's facts and one of its daemons. Fails if the lab is not up or has no such daemon.
fn daemon_named(state: &State, name: &str) -> Result<(Facts, Daemon)> {
    let facts = state.facts_of_ready()?;
    let mut daemons = state.daemons()?;
    let daemon = daemons.remove(name).ok_or_else(|| {
        let names: Vec<&str> = daemons.keys().map(String::as_str).collect();
        hinted(format!("the lab has no daemon {name}"), names.join(", "))
    })?;
    Ok((facts, daemon))
}

/// True if all daemons were started in this boot and still run.
fn is_complete(state: &State, facts: &Facts) -> Result<bool> {
    let daemons = state.daemons()?;
    let expected = if facts.runtime == Runtime::Docker { 5 } else { 4 };
    let run = daemons.values().filter(|daemon| daemon.process.runs()).count();
    Ok(facts.ready && facts.boot_id == boot_id()? && run == expected)
}

/// Fails if another program already uses the sockets, pods or namespaces of a real node: the lab uses the same ones.
fn ensure_exclusive() -> Result<()> {
    for (socket, service) in [(config::CONTAINERD_SOCKET, "containerd"), (config::DOCKER_SOCKET, "docker")] {
        if let Ok(peer) = UnixStream::connect(socket) {
            let pid = rustix::net::sockopt::socket_peercred(&peer)?.pid.as_raw_nonzero();
            return Err(hinted(
                format!("{socket} belongs to pid {pid}, which is not part of the lab"),
                format!(
                    "run `systemctl stop {service}`, or `LAB=… cargo xtask lab down` for a lab in another state directory"
                ),
            ));
        }
    }
    if let Some(pid) = leftovers::process_in_pod() {
        return Err(hinted(
            format!("pid {pid} is in a pod outside the lab"),
            "another Kubernetes node runs on this machine: stop it first",
        ));
    }
    let there = network::existing();
    if !there.is_empty() {
        let names = there.iter().map(|host| host.netns()).collect::<Vec<_>>().join(" ");
        return Err(hinted(
            format!("network namespaces already exist: {names}"),
            "run `LAB=… cargo xtask lab down` for the state directory they belong to; \
             if it is gone: `ip netns pids NAME`, stop these processes, `ip netns del NAME`",
        ));
    }
    Ok(())
}

/// The runtime's name on the command line.
pub(super) fn name_of(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Containerd => "containerd",
        Runtime::Docker => "docker",
    }
}

struct Startup<'a> {
    state: &'a State,
    facts: &'a Facts,
    progress: &'a Progress,
}

impl Startup<'_> {
    fn start_all(&self) -> Result<()> {
        pki::write(&self.state.path("pki"))?;
        network::up()?;
        self.progress.report("certificates and network are ready");

        // etcd and the API server are the slowest: start them first, so that the API server starts while the images
        // are built.
        self.etcd()?;
        let apiserver = self.apiserver()?;
        self.mount_over("/var/lib/containerd")?;
        let containerd = self.containerd()?;
        if self.facts.runtime == Runtime::Docker {
            self.mount_over("/var/lib/docker")?;
            self.dockerd()?;
        }
        self.images()?;
        self.wait_for_apiserver(&apiserver)?;
        let kubelet = self.kubelet()?;
        pods::allow_users(self.state, self.facts)?;
        self.wait(&kubelet, "the node", || Ok(self.kubectl(&["get", "node", pki::NODE]).is_ok()))?;
        self.progress.report("the node is registered");
        pods::create(self.state, self.facts)?;
        self.progress.report("the pods are created");
        pods::wait_ready(self.state, self.facts, pods::STANDING.as_slice())?;
        self.progress.report(format!("ready: {}", pods::STANDING.join(", ")));
        if !containerd.process.runs() {
            bail!("containerd has ended: {}", containerd.log.display());
        }
        Ok(())
    }

    fn etcd(&self) -> Result<Daemon> {
        let mut etcd = Host::Master.command("etcd")?;
        etcd.arg("--data-dir").arg(self.state.path("etcd"));
        etcd.args(["--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379"]);
        self.start("etcd", Host::Master, etcd)
    }

    fn apiserver(&self) -> Result<Daemon> {
        self.write("audit-policy.json", &config::audit_policy())?;
        let mut apiserver = Host::Master.command(self.facts.kube.program("kube-apiserver"))?;
        apiserver.args(config::apiserver_args(self.state, self.facts.kube.version));
        self.start("kube-apiserver", Host::Master, apiserver)
    }

    fn containerd(&self) -> Result<Daemon> {
        fs::create_dir_all(self.state.path("cni/net.d"))?;
        self.write("cni/net.d/10-lab.conflist", &config::cni(&self.state.path("cni/ipam")))?;
        let toml = self.state.path("containerd.toml");
        fs::write(&toml, config::containerd(&self.state.path("cni/net.d")))?;
        let mut containerd = Host::Worker.command("containerd")?;
        containerd.arg("--config").arg(&toml);
        let containerd = self.start("containerd", Host::Worker, containerd)?;
        self.wait(&containerd, "containerd", || Ok(run(command("ctr").arg("version")).is_ok()))?;
        self.progress.report("containerd answers");
        Ok(containerd)
    }

    fn dockerd(&self) -> Result<Daemon> {
        let wrapper = self.state.path("runc-lab");
        fs::write(&wrapper, config::runc_wrapper(&find("runc").context("no runc on PATH")?))?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        let mut dockerd = Host::Worker.command("dockerd")?;
        dockerd.args(config::dockerd_args(&wrapper));
        let dockerd = self.start("dockerd", Host::Worker, dockerd)?;
        self.wait(&dockerd, "dockerd", || Ok(run(self.docker().args(["version"])).is_ok()))?;
        self.progress.report("dockerd answers");
        Ok(dockerd)
    }

    fn docker(&self) -> Command {
        let mut docker = command("docker");
        docker.env("DOCKER_HOST", format!("unix://{}", config::DOCKER_SOCKET));
        docker.env("HOME", self.state.path("home"));
        docker
    }

    fn images(&self) -> Result<()> {
        let dir = self.state.path("images");
        image::write(&dir)?;
        for file in ["pause.tar", "box.tar"].map(|name| dir.join(name)) {
            match self.facts.runtime {
                Runtime::Containerd => run(command("ctr").args(["-n", "k8s.io", "images", "import"]).arg(&file))?,
                Runtime::Docker => run(self.docker().args(["load", "-q", "-i"]).arg(&file))?,
            };
        }
        self.progress.report("the images are imported");
        Ok(())
    }

    fn wait_for_apiserver(&self, apiserver: &Daemon) -> Result<()> {
        let answers = || Ok(self.kubectl(&["get", "--raw", "/readyz"]).is_ok());
        self.wait(apiserver, "kube-apiserver", answers)?;
        // The API server creates this namespace itself, a moment after it reports ready.
        let namespace = || Ok(self.kubectl(&["get", "namespace", "default"]).is_ok());
        self.wait(apiserver, "the namespace \"default\"", namespace)?;
        self.progress.report("kube-apiserver is ready");
        Ok(())
    }

    fn kubelet(&self) -> Result<Daemon> {
        self.write("kubelet.json", &config::kubelet(self.state, self.facts.kube.version))?;
        let mut kubelet = Host::Worker.command(self.facts.kube.program("kubelet"))?;
        kubelet.args(config::kubelet_args(self.state, self.facts.kube.version, self.facts.runtime));
        self.start("kubelet", Host::Worker, kubelet)
    }

    /// Starts a daemon in its own session, so that neither a closed terminal nor Ctrl-C reaches the daemon.
    fn start(&self, name: &str, host: Host, mut command: Command) -> Result<Daemon> {
        let log = self.state.log(name);
        // Append: the log of a daemon's previous run is worth more than an empty file.
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        command.stdout(output.try_clone()?).stderr(output).current_dir("/");
        // SAFETY: between fork and exec the closure makes one system call: it allocates nothing and takes no lock.
        unsafe { command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?)) };
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let process = Process::of(child.id().try_into()?)?;
        let daemon = Daemon { name: name.to_owned(), host, process, log };
        self.state.write_daemon(&daemon)?;
        Ok(daemon)
    }

    /// Waits for a condition. Fails as soon as the daemon that the condition depends on has ended.
    fn wait(&self, daemon: &Daemon, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
        wait_until(what, LIMIT, &daemon.log, || {
            if !daemon.process.runs() {
                let text = fs::read_to_string(&daemon.log).unwrap_or_default();
                bail!("{} has ended; the end of its log:\n{}", daemon.name, last_lines(&text, 10));
            }
            condition()
        })
    }

    fn kubectl(&self, args: &[&str]) -> Result<String> {
        run(pods::kubectl(self.state, self.facts)?.args(args))
    }

    fn write(&self, name: &str, value: &Value) -> Result<()> {
        let file = self.state.path(name);
        fs::write(&file, serde_json::to_vec_pretty(value)?).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Bind-mounts one of the lab's directories over `path`, which may hold the machine's own images and containers.
    /// The daemon sees its usual path; unmounting brings the original content back.
    fn mount_over(&self, path: &str) -> Result<()> {
        let name = Path::new(path).file_name().context("the path has no name")?;
        let source = self.state.path("var").join(name);
        fs::create_dir_all(&source)?;
        fs::create_dir_all(path)?;
        mount_bind(&source, path).with_context(|| format!("cannot mount {} on {path}", source.display()))
    }
}
