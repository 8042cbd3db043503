//! Traces that the cluster leaves on the machine, and their removal.
//!
//! The daemons write to places with fixed names. Baseline they start, the lab records the content of these places;
//! `down` removes only later additions. Anything that belongs to the machine stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use procfs::process::{MountInfo, Process};
use rustix::mount::{UnmountFlags, unmount};
use serde::{Deserialize, Serialize};

/// Directories that etcd, containerd, dockerd, the kubelet and CNI plug-ins write to, apart from the state directory.
const DIRECTORIES: [&str; 14] = [
    "/etc/cni",
    "/etc/docker",
    "/opt/cni",
    "/opt/containerd",
    "/run/containerd",
    "/run/docker",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/dockershim",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

/// Files that the daemons create.
const FILES: [&str; 3] = ["/run/docker.pid", "/run/docker.sock", "/run/dockershim.sock"];

/// Directory of named network namespaces. containerd adds `cni-…` for pods with a network of their own.
const NETNS: &str = "/run/netns";

/// Kernel settings that a kubelet changes.
const SETTINGS: [&str; 6] = [
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
];

/// The cgroup into which the kubelet puts all pods.
pub(super) const PODS_CGROUP: &str = "kubepods";

/// State of the machine before the cluster.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Baseline {
    /// Names in each existing directory.
    directories: BTreeMap<PathBuf, BTreeSet<String>>,
    files: BTreeSet<PathBuf>,
    mounts: BTreeSet<PathBuf>,
    cgroups: BTreeSet<PathBuf>,
    settings: BTreeMap<String, String>,
}

impl Baseline {
    /// Records the state of the machine.
    pub(super) fn record() -> Result<Self> {
        let directories = DIRECTORIES.into_iter().chain([NETNS]).map(PathBuf::from);
        let settings = SETTINGS.into_iter().filter_map(|name| Some((name.to_owned(), setting(name)?)));
        Ok(Self {
            directories: directories.filter_map(|dir| Some((dir.clone(), names(&dir)?))).collect(),
            files: FILES.into_iter().map(PathBuf::from).filter(|file| file.exists()).collect(),
            mounts: mounts()?.into_iter().map(|mount| mount.mount_point).collect(),
            cgroups: pods_cgroups()?.into_iter().collect(),
            settings: settings.collect(),
        })
    }

    /// Unmounts and removes all later additions. Call it only after all processes of the cluster have ended. Returns
    /// a message for each addition that could not be removed.
    pub(super) fn restore(&self, state: &Path) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for (name, value) in &self.settings {
            if setting(name).as_ref() != Some(value) && fs::write(setting_path(name), value).is_err() {
                left.push(format!("cannot reset the setting {name} to {value}"));
            }
        }
        for mount in mounts()?.iter().rev() {
            let at = &mount.mount_point;
            let is_ours = at.starts_with(state) || self.is_new_in_directories(at);
            if is_ours && !self.mounts.contains(at) {
                // Later mounts come later in the list, so nothing is mounted below this one any more. A lazy unmount
                // at least hides a mount that an open file keeps busy.
                if unmount(at, UnmountFlags::empty()).or_else(|_| unmount(at, UnmountFlags::DETACH)).is_err() {
                    left.push(format!("{} is still mounted", at.display()));
                }
            }
        }
        for dir in DIRECTORIES.map(PathBuf::from) {
            self.remove_new(&dir, |_| true, &mut left)?;
        }
        self.remove_new(Path::new(NETNS), |name| name.starts_with("cni-"), &mut left)?;
        if !self.directories.contains_key(Path::new(NETNS)) && names(Path::new(NETNS)).is_some_and(|it| it.is_empty()) {
            // `ip netns add` mounts the directory onto itself. If others use it by now, both calls fail and it stays.
            let _ = unmount(NETNS, UnmountFlags::empty());
            let _ = fs::remove_dir(NETNS);
        }
        for file in FILES.map(PathBuf::from) {
            if !self.files.contains(&file) && file.exists() {
                fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
            }
        }
        for cgroup in pods_cgroups()? {
            if !self.cgroups.contains(&cgroup) && !remove_cgroup(&cgroup, Duration::from_secs(5)) {
                left.push(format!("{} is still in use", cgroup.display()));
            }
        }
        Ok(left)
    }

    fn is_new_in_directories(&self, path: &Path) -> bool {
        if let Ok(name) = path.strip_prefix(NETNS) {
            return name.to_str().is_some_and(|name| name.starts_with("cni-"));
        }
        DIRECTORIES.iter().any(|dir| path.starts_with(dir))
    }

    /// Removes entries of `dir` that are new, and `dir` itself if it is new.
    fn remove_new(&self, dir: &Path, which: impl Fn(&str) -> bool, left: &mut Vec<String>) -> Result<()> {
        let Some(now) = names(dir) else { return Ok(()) };
        let before = self.directories.get(dir);
        for name in now.iter().filter(|name| which(name) && before.is_none_or(|before| !before.contains(*name))) {
            remove_tree(&dir.join(name), left)?;
        }
        if before.is_none() && dir != Path::new(NETNS) {
            remove_tree(dir, left)?;
        }
        Ok(())
    }
}

/// Removes a file or a directory tree, but never anything through a mount.
pub(super) fn remove_tree(path: &Path, left: &mut Vec<String>) -> Result<()> {
    if let Some(mount) = mounts()?.into_iter().find(|mount| mount.mount_point.starts_with(path)) {
        left.push(format!("{} stays: {} is mounted", path.display(), mount.mount_point.display()));
        return Ok(());
    }
    let is_dir = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    let removed = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            left.push(format!("{} stays: {error}", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
    Ok(())
}

/// The pods' cgroup in every hierarchy that has one.
fn pods_cgroups() -> Result<Vec<PathBuf>> {
    let hierarchies = mounts()?.into_iter().filter(|mount| matches!(mount.fs_type.as_str(), "cgroup" | "cgroup2"));
    Ok(hierarchies.map(|mount| mount.mount_point.join(PODS_CGROUP)).filter(|dir| dir.is_dir()).collect())
}

/// Removes a cgroup and all cgroups below it. Retries up to `limit`: killed processes stay in a cgroup until they are
/// reaped.
fn remove_cgroup(dir: &Path, limit: Duration) -> bool {
    let start = Instant::now();
    loop {
        remove_cgroups_below(dir);
        if fs::remove_dir(dir).is_ok() || !dir.exists() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn remove_cgroups_below(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for below in entries.filter_map(Result::ok).filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_cgroups_below(&below.path());
        // A cgroup still in use is tried again by the caller.
        let _ = fs::remove_dir(below.path());
    }
}

fn mounts() -> Result<Vec<MountInfo>> {
    let mounts = Process::myself().and_then(|me| me.mountinfo()).context("cannot read the list of mounts")?;
    Ok(mounts.0)
}

fn names(dir: &Path) -> Option<BTreeSet<String>> {
    let entries = fs::read_dir(dir).ok()?;
    Some(entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect())
}

fn setting(name: &str) -> Option<String> {
    fs::read_to_string(setting_path(name)).ok().map(|value| value.trim().to_owned())
}

fn setting_path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::Baseline;

    #[test]
    fn only_new_entries_are_removed() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("old")).expect("a directory");
        std::fs::create_dir(dir.path().join("new")).expect("a directory");
        std::fs::write(dir.path().join("new/file"), "x").expect("a file");
        let directories = BTreeMap::from([(dir.path().to_owned(), BTreeSet::from(["old".to_owned()]))]);
        let before = Baseline { directories, ..Baseline::default() };
        let mut left = Vec::new();
        before.remove_new(dir.path(), |_| true, &mut left).expect("directory is readable");
        assert!(left.is_empty());
        assert!(dir.path().join("old").exists() && !dir.path().join("new").exists());
    }

    #[test]
    fn new_directory_is_removed_whole() {
        let parent = tempfile::tempdir().expect("a directory");
        let dir = parent.path().join("dir");
        std::fs::create_dir_all(dir.join("a/b")).expect("directories");
        Baseline::default().remove_new(&dir, |_| true, &mut Vec::new()).expect("directory is readable");
        assert!(!dir.exists());
    }
}
