//! State that one run of `lab` leaves for the next: a directory owned by root.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use super::kube::Kube;
use super::kubectl::Kubectls;
use super::network::Host;
use super::process::Process;
use crate::hint::hinted;

/// The container runtime behind the kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Runtime {
    /// The kubelet talks CRI to containerd.
    Containerd,
    /// The kubelet's dockershim talks to dockerd: Kubernetes up to 1.23.
    Docker,
}

/// A daemon of the cluster, as stored in its pidfile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Daemon {
    /// etcd, kube-apiserver, kubelet, containerd or dockerd.
    pub(super) name: String,
    /// Host that the daemon runs on.
    pub(super) host: Host,
    /// Process of the daemon.
    pub(super) process: Process,
    /// File with standard output and standard error.
    pub(super) log: PathBuf,
}

/// Facts recorded at the start of the cluster.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    /// Boot in which the cluster was started. None of its processes run in another boot.
    pub(super) boot_id: String,
    /// Start of the cluster, in clock ticks since boot. No process of the cluster is older; a restarted daemon is
    /// younger.
    #[serde(default)]
    pub(super) began: Option<u64>,
    /// Set last, when all pods are ready.
    pub(super) ready: bool,
    pub(super) runtime: Runtime,
    pub(super) kube: Kube,
    pub(super) kubectls: Kubectls,
    /// State of the machine before the start, which `down` restores.
    pub(super) before: Baseline,
}

/// The state directory.
#[derive(Clone, Debug)]
pub(super) struct State {
    dir: PathBuf,
}

impl State {
    /// `$LAB`, or the default path.
    pub(super) fn of_environment() -> Result<Self> {
        let dir = env::var_os("LAB").filter(|dir| !dir.is_empty());
        let dir = dir.map_or_else(|| PathBuf::from("/tmp/execpath-lab"), PathBuf::from);
        Ok(Self { dir: std::path::absolute(dir).context("$LAB")? })
    }

    /// Path of the directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file or directory inside.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Log of a daemon.
    pub(super) fn log(&self, daemon: &str) -> PathBuf {
        self.dir.join("log").join(format!("{daemon}.log"))
    }

    /// A user's kubeconfig.
    pub(super) fn kubeconfig(&self, user: &str) -> PathBuf {
        self.dir.join("pki").join(format!("{user}.kubeconfig"))
    }

    /// Creates the directory with mode 0700, and the directories that all commands need inside. A reader of its keys
    /// has all their rights, and /tmp is shared: a directory or link of another user is refused.
    pub(super) fn create(&self) -> Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).with_context(|| format!("cannot make {}", self.dir.display()));
            }
            Ok(()) | Err(_) => {}
        }
        let meta = fs::symlink_metadata(&self.dir)?;
        if !meta.is_dir() || meta.uid() != rustix::process::geteuid().as_raw() {
            let what = format!("{} is not a directory owned by this user", self.dir.display());
            return Err(hinted(what, "remove it, or set LAB to another path"));
        }
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o700))?;
        for name in ["log", "pki", "run", "images", "cni", "home"] {
            fs::create_dir_all(self.path(name))?;
        }
        Ok(())
    }

    /// Excludes other runs of `up`, `pods` and `down` until the result is dropped. Returns `None` if there is no
    /// directory.
    pub(super) fn lock(&self) -> Result<Option<File>> {
        let dir = match File::open(&self.dir) {
            Ok(dir) => dir,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&self.dir, &error)),
        };
        if flock(&dir, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(hinted(format!("another run of lab uses {}", self.dir.display()), "wait until it ends"));
        }
        Ok(Some(dir))
    }

    /// The facts, or `None` if no cluster was ever started here.
    pub(super) fn facts(&self) -> Result<Option<Facts>> {
        read_json(&self.path("lab.json"))
    }

    /// The facts of a cluster that is up. Fails otherwise.
    pub(super) fn facts_of_ready(&self) -> Result<Facts> {
        match self.facts()? {
            Some(facts) if facts.ready && facts.boot_id == super::process::boot_id()? => Ok(facts),
            Some(_) | None => Err(hinted("the lab is not up", "cargo xtask lab up")),
        }
    }

    /// Writes the facts atomically.
    pub(super) fn write_facts(&self, facts: &Facts) -> Result<()> {
        write_json(&self.path("lab.json"), facts)
    }

    /// The daemons of all pidfiles, by name.
    pub(super) fn daemons(&self) -> Result<BTreeMap<String, Daemon>> {
        let mut daemons = BTreeMap::new();
        let Ok(files) = fs::read_dir(self.path("run")) else { return Ok(daemons) };
        for file in files {
            let file = file?.path();
            if file.extension().is_some_and(|ext| ext == "json") {
                let Some(daemon) = read_json::<Daemon>(&file)? else { bail!("{} has disappeared", file.display()) };
                daemons.insert(daemon.name.clone(), daemon);
            }
        }
        Ok(daemons)
    }

    /// Writes a daemon's pidfile.
    pub(super) fn write_daemon(&self, daemon: &Daemon) -> Result<()> {
        write_json(&self.path("run").join(format!("{}.json", daemon.name)), daemon)
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> anyhow::Error {
    hinted(format!("cannot read {}: {error}", path.display()), "run lab as root, and set $LAB to its own directory")
}

fn read_json<T: serde::de::DeserializeOwned>(file: &Path) -> Result<Option<T>> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(file, &error)),
    };
    serde_json::from_slice(&text).with_context(|| format!("cannot parse {}", file.display())).map(Some)
}

fn write_json(file: &Path, value: &impl Serialize) -> Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, serde_json::to_vec_pretty(value)?).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, file).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::State;

    #[test]
    fn state_directory_is_private() {
        let parent = tempfile::tempdir().expect("a directory");
        let state = State { dir: parent.path().join("lab") };
        state.create().expect("directory is created");
        state.create().expect("existing directory is accepted");
        let mode = state.dir().metadata().expect("directory exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn link_instead_of_directory_is_rejected() {
        let parent = tempfile::tempdir().expect("a directory");
        let state = State { dir: parent.path().join("lab") };
        std::os::unix::fs::symlink("/root", state.dir()).expect("a link");
        assert!(state.create().is_err());
    }

    #[test]
    fn lock_excludes_second_run() {
        let parent = tempfile::tempdir().expect("a directory");
        let state = State { dir: parent.path().to_owned() };
        let held = state.lock().expect("lock is free");
        assert!(state.lock().is_err());
        drop(held);
        assert!(state.lock().expect("lock is free again").is_some());
    }
}
