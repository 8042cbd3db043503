//! The kubectl versions that the tests compare: old ones speak SPDY, new ones try WebSocket first.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::version::Version;
use crate::cache;
use crate::hint::hinted;
use crate::progress::Progress;
use crate::tools::{command, find, is_program, run};

/// All kubectls found, by version.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Kubectls {
    pub(super) by_version: BTreeMap<Version, PathBuf>,
}

impl Kubectls {
    /// Finds kubectls in `$KUBECTL_BINS`, else beside the kubectl on PATH. Always adds Debian's, the oldest.
    pub(super) fn discover(progress: &Progress) -> Result<Self> {
        let mut found = Self::default();
        for dir in directories() {
            found.add_from(&dir)?;
        }
        if let Err(error) = found.add_debians(progress) {
            if found.by_version.is_empty() {
                return Err(hinted(
                    format!("no kubectl: {error:#}"),
                    "set KUBECTL_BINS to a directory that holds kubectl, or kubectl.1.N for several versions",
                ));
            }
            progress.report(format!("continuing without Debian's kubectl: {error:#}"));
        }
        Ok(found)
    }

    /// The newest kubectl. `lab exec` and the lab itself use it.
    pub(super) fn newest(&self) -> Result<&Path> {
        self.by_version.values().next_back().map(PathBuf::as_path).context("no kubectl was found")
    }

    /// Picks a kubectl by version or path.
    pub(super) fn pick(&self, wanted: &str) -> Result<PathBuf> {
        if wanted.contains('/') {
            return Ok(PathBuf::from(wanted));
        }
        let version = wanted.parse::<Version>()?;
        let known = || self.by_version.keys().map(Version::to_string).collect::<Vec<_>>().join(", ");
        self.by_version
            .get(&version)
            .cloned()
            .ok_or_else(|| hinted(format!("no kubectl {version}"), format!("available: {}; or give a path", known())))
    }

    /// Links all kubectls into `dir`, one directory per version. Each link is named `kubectl`: users know this name,
    /// and it is also the process name and the user agent.
    pub(super) fn linked_in(&self, dir: &Path) -> Result<Self> {
        let mut links = Self::default();
        for (version, file) in &self.by_version {
            let link = dir.join(version.to_string()).join("kubectl");
            fs::create_dir_all(link.parent().context("a path in a directory")?)?;
            symlink(file, &link).with_context(|| format!("cannot make {}", link.display()))?;
            links.by_version.insert(*version, link);
        }
        Ok(links)
    }

    fn add_from(&mut self, dir: &Path) -> Result<()> {
        let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|it| is_kubectl(it))
            .collect();
        // Read files with a version in their name first: these need not be executed. A plain `kubectl` beside them
        // may only dispatch to another one.
        names.sort_by_key(|name| name == "kubectl");
        for name in names {
            let file = dir.join(&name);
            if !is_program(&file) || (name == "kubectl" && !self.by_version.is_empty()) {
                continue;
            }
            let version = match Version::find_in(&name) {
                Some(version) => version,
                None => query_version(&file)?,
            };
            self.by_version.entry(version).or_insert(file);
        }
        Ok(())
    }

    /// Adds Debian's kubectl. The package is unpacked, never installed, because it conflicts with a kubectl from
    /// elsewhere.
    fn add_debians(&mut self, progress: &Progress) -> Result<()> {
        let dir = cache::dir("execpath-lab")?.join("kubectl-1.20");
        let file = dir.join("usr/bin/kubectl");
        if !is_program(&file) {
            progress.report("downloading Debian's kubernetes-client");
            fetch(&dir)?;
        }
        let version = query_version(&file)?;
        self.by_version.entry(version).or_insert(file);
        Ok(())
    }
}

/// True for names such as `kubectl`, `kubectl.1.27`, `kubectl-v1.27.3`, `kubectl1.27`.
fn is_kubectl(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("kubectl") else { return false };
    rest.is_empty() || rest.trim_start_matches(['.', '-', '_']).parse::<Version>().is_ok()
}

fn directories() -> Vec<PathBuf> {
    if let Some(dirs) = env::var_os("KUBECTL_BINS").filter(|dirs| !dirs.is_empty()) {
        return env::split_paths(&dirs).collect();
    }
    let on_path = find("kubectl").and_then(|file| file.canonicalize().ok());
    on_path.and_then(|file| file.parent().map(Path::to_owned)).into_iter().collect()
}

fn query_version(kubectl: &Path) -> Result<Version> {
    let text = run(command(kubectl).args(["version", "--client", "-o", "json"]))?;
    let output: serde_json::Value = serde_json::from_str(&text)?;
    let version = output.pointer("/clientVersion/gitVersion").and_then(serde_json::Value::as_str);
    version.with_context(|| format!("{} does not report its version", kubectl.display()))?.parse()
}

fn fetch(dir: &Path) -> Result<()> {
    let download = cache::beside(dir, ".download");
    let unpacked = cache::beside(dir, ".new");
    for unfinished in [&download, &unpacked] {
        if unfinished.exists() {
            fs::remove_dir_all(unfinished).with_context(|| format!("cannot remove {}", unfinished.display()))?;
        }
    }
    fs::create_dir_all(&download)?;
    let get = || run(command("apt-get").current_dir(&download).args(["download", "-qq", "kubernetes-client"]));
    get().or_else(|_| run(command("apt-get").args(["update", "-qq"])).and_then(|_| get()))?;
    let packages = fs::read_dir(&download)?.filter_map(|entry| Some(entry.ok()?.path()));
    let Some(package) = packages.into_iter().find(|file| file.extension().is_some_and(|ext| ext == "deb")) else {
        bail!("apt-get download kubernetes-client left no package");
    };
    run(command("dpkg-deb").arg("-x").arg(&package).arg(&unpacked))?;
    fs::rename(&unpacked, dir)?;
    Ok(fs::remove_dir_all(&download)?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Kubectls, is_kubectl};
    use crate::lab::version::Version;

    fn program(dir: &Path, name: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let file = dir.join(name);
        std::fs::write(&file, "#!/bin/sh\nexit 1\n").expect("a file");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("mode is set");
    }

    #[test]
    fn kubectl_names_are_recognised() {
        for name in ["kubectl", "kubectl.1.27", "kubectl-v1.27.3", "kubectl1.27"] {
            assert!(is_kubectl(name), "{name}");
        }
        for name in ["kubectl.sha256", "kubectl-convert", "kubelet", "kubectx"] {
            assert!(!is_kubectl(name), "{name}");
        }
    }

    #[test]
    fn version_in_name_wins_over_plain_kubectl() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["kubectl", "kubectl.1.27", "kubectl.1.33", "kubectl.1.9"] {
            program(dir.path(), name);
        }
        let mut found = Kubectls::default();
        found.add_from(dir.path()).expect("directory is readable");
        assert_eq!(found.by_version.keys().copied().collect::<Vec<_>>(), [9, 27, 33].map(Version::one));
        assert!(found.newest().expect("kubectls were found").ends_with("kubectl.1.33"));
        assert!(found.pick("1.27").expect("kubectl 1.27 was found").ends_with("kubectl.1.27"));
        assert!(found.pick("v1.28").is_err());
        assert_eq!(found.pick("./kubectl").expect("a path"), Path::new("./kubectl"));
    }
}
