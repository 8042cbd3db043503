//! Names of containers from the runtime's own files, which need no cluster credential.
//!
//! The container's owner controls parts of these files, and they lie in the runtime's mount namespace. Every path is resolved inside that
//! namespace's root (openat2, RESOLVE_IN_ROOT), every read is bounded, and every name is checked. Malformed JSON gives no answer.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, StatxFlags},
    io::Errno,
};
use serde::Deserialize;

use super::procfs;
use crate::model::{ContainerInfo, FileId, Layout, Names, Runtime, is_id, runtimes};

/// Largest `config.json`. Most have 5 to 50 KB.
const MAX_CONFIG_BYTES: usize = 1 << 20;
/// Entries of a folder that are read. kubelet's default is 110 pods a node.
const MAX_ENTRIES: usize = 16 << 10;
/// Namespaces of one containerd: `k8s.io`, `moby`, `default` and few more.
const MAX_CONTAINERD_NAMESPACES: usize = 64;
/// Longest name in Kubernetes: a DNS subdomain.
const MAX_NAME: usize = 253;
/// Longest path that is opened.
const MAX_PATH: usize = 4096;
/// Largest pid file. A pid has at most seven digits; a newline may follow.
const MAX_PID_FILE: usize = 32;
/// Tries of openat2, which fails with EAGAIN if a folder is renamed meanwhile.
const MAX_TRIES: usize = 4;

/// Folder with kubelet's log links, for every runtime: `<pod>_<namespace>_<container>-<id>.log`.
const LOGS: &str = "/var/log/containers";

/// Files of one mount namespace.
pub(super) struct Root {
    folder: OwnedFd,
    bundles: Vec<(String, Layout)>,
}

impl Root {
    /// Opens a root: `/`, or `/proc/PID/root`.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty()).ok()?;
        let folders = runtimes().flat_map(|one| one.bundles.iter().map(|base| ((*base).to_owned(), one.layout)));
        let bundles = folders.collect();
        Some(Self { folder, bundles })
    }

    /// The root with containerd's bundles in this folder, instead of the well-known ones of all runtimes.
    pub(super) fn with_bundles(self, folder: &str) -> Self {
        Self { bundles: vec![(folder.to_owned(), Layout::Namespaces)], ..self }
    }

    /// Opens a path, with links resolved inside this root. Never blocks, and never follows a link in the last place.
    fn get(&self, path: &str, flags: OFlags) -> Option<OwnedFd> {
        if path.len() > MAX_PATH {
            return None;
        }
        // With O_PATH nothing is opened, and openat2 refuses these flags (fs/open.c: `build_open_flags`).
        let opens = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK | OFlags::NOCTTY };
        let flags = flags | opens | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..MAX_TRIES {
            match rustix::fs::openat2(self.folder.as_fd(), path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
                Ok(file) => return Some(file),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// True if a folder of this root may not be opened. A folder that does not exist is not hidden.
    pub(super) fn hides(&self, path: &str) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::openat2(self.folder.as_fd(), path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
        matches!(opened, Err(Errno::ACCESS | Errno::PERM))
    }

    /// Content of a regular file of at most `most` bytes.
    fn read(&self, path: &str, most: usize) -> Option<Vec<u8>> {
        let file = self.get(path, OFlags::empty())?;
        let stat = rustix::fs::fstat(&file).ok()?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(most).ok()?.saturating_add(1);
        File::from(file).take(limit).read_to_end(&mut bytes).ok()?;
        (bytes.len() <= most).then_some(bytes)
    }

    /// The FIFO at this path. It is not opened, because a process that waits for the other end would notice.
    pub(super) fn fifo(&self, path: &str) -> Option<FileId> {
        let stat = rustix::fs::fstat(self.get(path, OFlags::PATH)?).ok()?;
        let is_fifo = FileType::from_raw_mode(stat.st_mode).is_fifo();
        is_fifo.then(|| FileId::new(procfs::kernel_device(stat.st_dev), stat.st_ino))
    }

    /// The socket's file at this path, the type of its file system, and the id of its mount (Linux 5.8 and later).
    pub(super) fn socket(&self, path: &str) -> Option<(Stat, i64, Option<u64>)> {
        let file = self.get(path, OFlags::PATH)?;
        let stat = rustix::fs::fstat(&file).ok()?;
        let is_socket = FileType::from_raw_mode(stat.st_mode).is_socket();
        let filesystem = rustix::fs::fstatfs(&file).ok().filter(|_| is_socket)?.f_type;
        let more = rustix::fs::statx(&file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok();
        Some((stat, filesystem, more.map(|more| more.stx_mnt_id).filter(|mount| *mount != 0)))
    }

    /// Names in a folder, sorted, because folders have no order.
    fn list(&self, path: &str) -> Vec<String> {
        let Some(folder) = self.get(path, OFlags::DIRECTORY) else { return Vec::new() };
        let Ok(entries) = Dir::new(folder) else { return Vec::new() };
        let mut names: Vec<String> = entries
            .take(MAX_ENTRIES)
            .map_while(Result::ok)
            .filter_map(|entry| Some(entry.file_name().to_str().ok()?.to_owned()))
            .filter(|name| name != "." && name != "..")
            .collect();
        names.sort_unstable();
        names
    }

    /// Pid in a pid file.
    pub(super) fn pid_file(&self, path: &str) -> Option<u32> {
        let bytes = self.read(path, MAX_PID_FILE)?;
        procfs::number(bytes.trim_ascii_end()).filter(|pid| *pid != 0)
    }

    /// Every container with a bundle in this root.
    pub(super) fn containers(&self) -> BTreeMap<String, ContainerInfo> {
        let logs = self.logs();
        let mut found = BTreeMap::new();
        for (base, layout) in &self.bundles {
            let groups = match layout {
                Layout::Namespaces => self.list(base).into_iter().take(MAX_CONTAINERD_NAMESPACES).collect(),
                Layout::Userdata => vec![String::new()],
            };
            for group in groups {
                for id in self.list(&format!("{base}/{group}")).into_iter().filter(|id| is_id(id)) {
                    let names = logs.get(&id).cloned();
                    if let Some(info) = self.resolve(&id, Some(&format!("{base}/{group}/{id}")), || names) {
                        found.insert(id, info);
                    }
                }
            }
        }
        found
    }

    /// One container by its id. `inside` is a path in its bundle, if one is known.
    pub(super) fn container(&self, id: &str, inside: Option<&str>) -> Option<ContainerInfo> {
        // The id becomes a part of a path.
        if !is_id(id) {
            return None;
        }
        let hint = inside.and_then(|inside| bundle_of(inside, id));
        let bundle = hint.and_then(|hint| self.bundle_at(&hint)).or_else(|| self.find_bundle(id));
        self.resolve(id, bundle.as_deref(), || self.logs().remove(id))
    }

    /// Pid of the container's first process, from the runtime's pid file. containerd's shim writes it beside the bundle's configuration
    /// (pkg/process/init.go: InitPidFile), CRI-O in its own folder.
    pub(super) fn first_pid(&self, id: &str) -> Option<u32> {
        if !is_id(id) {
            return None;
        }
        let bundle = self.find_bundle(id)?;
        runtimes().find_map(|one| self.pid_file(&format!("{bundle}/{}", one.first_pid_file)))
    }

    /// The bundle in this folder, or the one named by the state of runc or crun in this folder.
    fn bundle_at(&self, folder: &str) -> Option<String> {
        if self.config(folder).is_some() {
            return Some(folder.to_owned());
        }
        let state = |name: &str| self.read(&format!("{folder}/{name}"), MAX_CONFIG_BYTES);
        let named = state("state.json").and_then(|bytes| parse_runc_state(&bytes));
        let named = named.or_else(|| state("status").and_then(|bytes| parse_crun_status(&bytes)))?;
        let is_plain = named.starts_with('/') && named.split('/').all(|part| part != "..");
        Some(named).filter(|bundle| is_plain && self.config(bundle).is_some())
    }

    fn find_bundle(&self, id: &str) -> Option<String> {
        self.bundles.iter().find_map(|(base, layout)| {
            let groups = match layout {
                Layout::Namespaces => self.list(base).into_iter().take(MAX_CONTAINERD_NAMESPACES).collect(),
                Layout::Userdata => vec![String::new()],
            };
            groups.into_iter().map(|group| format!("{base}/{group}/{id}")).find(|bundle| self.config(bundle).is_some())
        })
    }

    /// `config.json` of a bundle, in either layout.
    fn config(&self, bundle: &str) -> Option<Vec<u8>> {
        ["config.json", "userdata/config.json"]
            .into_iter()
            .find_map(|name| self.read(&format!("{bundle}/{name}"), MAX_CONFIG_BYTES))
    }

    /// Names from the bundle, from the runtime's labels and from kubelet's log links. The first source with a name decides.
    fn resolve(
        &self,
        id: &str,
        bundle: Option<&str>,
        logs: impl FnOnce() -> Option<ContainerInfo>,
    ) -> Option<ContainerInfo> {
        let config = bundle.and_then(|bundle| self.config(bundle)).and_then(|bytes| parse_config(id, &bytes));
        let by_path = bundle.map(Runtime::of_bundle);
        // Labels of a runtime that writes no annotations.
        let labelled = runtimes().find_map(|one| {
            let may_have = config.is_none() || by_path.is_some_and(|path| path.name == one.name);
            let folder = one.names.folder.filter(|_| may_have)?;
            let bytes = self.read(&format!("{folder}/{id}/config.v2.json"), MAX_CONFIG_BYTES)?;
            Some((one, parse_labels(id, &one.names, &bytes)?))
        });
        let annotated = config.as_ref().and_then(|config| config.runtime.clone());
        let runtime = match (by_path, &labelled) {
            (Some(path), _) if path.delegates => Some(path.name),
            (_, Some((runtime, _))) => Some(runtime.name),
            _ if annotated.is_some() => annotated.as_deref(),
            (path, None) => path.map(|path| path.name),
        };
        let mut known = match (config, labelled.map(|(_, info)| info)) {
            (Some(config), Some(labelled)) => Some(config.or(labelled)),
            (one, other) => one.or(other),
        };
        if known.as_ref().is_none_or(|info| info.pod.is_none() || info.namespace.is_none())
            && let Some(logs) = logs()
        {
            known = Some(match known {
                Some(info) => info.or(logs),
                None => logs,
            });
        }
        known.map(|info| ContainerInfo { runtime: runtime.map(str::to_owned).or(info.runtime), ..info })
    }

    fn logs(&self) -> BTreeMap<String, ContainerInfo> {
        self.list(LOGS).iter().filter_map(|name| parse_log_name(name)).map(|info| (info.id.clone(), info)).collect()
    }
}

/// Folder of a container, from a path inside it. `None` unless the path is absolute and without `..`.
fn bundle_of(inside: &str, id: &str) -> Option<String> {
    if !inside.starts_with('/') || inside.len() > MAX_PATH || inside.split('/').any(|part| part == "..") {
        return None;
    }
    let before: Vec<&str> = inside.split('/').take_while(|part| *part != id).collect();
    let bundle = format!("{}/{id}", before.join("/"));
    inside.strip_prefix(&bundle).filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    Some(bundle)
}

/// A name of Kubernetes; `None` if the text is too long or not printable.
fn name(text: Option<&String>) -> Option<String> {
    text.filter(|text| (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()))
        .cloned()
}

#[derive(Deserialize)]
struct OciConfig {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// Names of a container among these annotations or labels, by the keys of these runtimes.
fn names(id: &str, keys: &[&Names], values: &BTreeMap<String, String>) -> ContainerInfo {
    let get = |key: fn(&Names) -> &str| keys.iter().find_map(|keys| name(values.get(key(keys))));
    let kind = keys.iter().find_map(|keys| Some(name(values.get(keys.kind))? == keys.sandbox_kind));
    let is_sandbox = kind == Some(true);
    let sandbox = get(|keys| keys.sandbox).filter(|id| is_id(id));
    ContainerInfo {
        id: id.to_owned(),
        name: get(|keys| keys.container).filter(|_| !is_sandbox),
        pod: get(|keys| keys.pod),
        namespace: get(|keys| keys.namespace),
        pod_uid: get(|keys| keys.pod_uid),
        sandbox: sandbox.or_else(|| is_sandbox.then(|| id.to_owned())),
        runtime: None,
    }
}

/// Names in the annotations of a bundle's configuration.
fn parse_config(id: &str, bytes: &[u8]) -> Option<ContainerInfo> {
    let annotations = serde_json::from_slice::<OciConfig>(bytes).ok()?.annotations;
    let keys: Vec<&Names> = runtimes().map(|one| &one.names).filter(|names| names.folder.is_none()).collect();
    let has = |prefix: &str| annotations.keys().any(|key| key.starts_with(prefix));
    let runtime = runtimes().find(|one| one.names.own_prefix.is_some_and(has)).map(|one| one.name.to_owned());
    Some(ContainerInfo { runtime, ..names(id, &keys, &annotations) })
}

#[derive(Deserialize)]
struct RuncState {
    config: RuncStateConfig,
}

#[derive(Deserialize)]
struct RuncStateConfig {
    #[serde(default)]
    labels: Vec<String>,
}

/// Path of the bundle in runc's state of a container (libcontainer/specconv: the label `bundle`).
fn parse_runc_state(bytes: &[u8]) -> Option<String> {
    let labels = serde_json::from_slice::<RuncState>(bytes).ok()?.config.labels;
    labels.iter().find_map(|label| label.strip_prefix("bundle=")).map(str::to_owned)
}

#[derive(Deserialize)]
struct CrunStatus {
    bundle: String,
}

/// Path of the bundle in crun's state of a container (libcrun/status.c).
fn parse_crun_status(bytes: &[u8]) -> Option<String> {
    Some(serde_json::from_slice::<CrunStatus>(bytes).ok()?.bundle)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OwnConfig {
    config: Labelled,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Labelled {
    // dockerd writes null for a container without labels.
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// Names in the labels of a runtime's own file for the container.
fn parse_labels(id: &str, keys: &Names, bytes: &[u8]) -> Option<ContainerInfo> {
    let labels = serde_json::from_slice::<OwnConfig>(bytes).ok()?.config.labels.unwrap_or_default();
    Some(names(id, &[keys], &labels))
}

/// Names in `<pod>_<namespace>_<container>-<id>.log`. No name may hold an underscore.
fn parse_log_name(file: &str) -> Option<ContainerInfo> {
    let (names, id) = file.strip_suffix(".log")?.rsplit_once('-')?;
    let mut parts = names.split('_').map(|part| name(Some(&part.to_owned())));
    let (pod, namespace, container) = (parts.next()??, parts.next()??, parts.next()??);
    (is_id(id) && parts.next().is_none()).then(|| ContainerInfo {
        id: id.to_owned(),
        name: Some(container),
        pod: Some(pod),
        namespace: Some(namespace),
        ..ContainerInfo::default()
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const SANDBOX: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    const V2: &str = "run/containerd/io.containerd.runtime.v2.task";

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn web() -> ContainerInfo {
        ContainerInfo {
            id: ID.to_owned(),
            name: Some("web".to_owned()),
            pod: Some("web-0".to_owned()),
            namespace: Some("shop".to_owned()),
            pod_uid: Some("8c7a3f52-2f0f-4a08-9b39-0d4cf4e4d7a6".to_owned()),
            sandbox: Some(SANDBOX.to_owned()),
            runtime: Some("containerd".to_owned()),
        }
    }

    fn containerd_config() -> String {
        format!(
            r#"{{"ociVersion":"1.0","process":{{"args":["sh"]}},"annotations":{{
            "io.kubernetes.cri.container-type":"container","io.kubernetes.cri.container-name":"web",
            "io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.sandbox-namespace":"shop",
            "io.kubernetes.cri.sandbox-uid":"8c7a3f52-2f0f-4a08-9b39-0d4cf4e4d7a6","io.kubernetes.cri.sandbox-id":"{SANDBOX}"}}}}"#
        )
    }

    #[test]
    fn containerd_names_container_and_sandbox() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &format!("{V2}/k8s.io/{ID}/config.json"), &containerd_config());
        let sandbox = r#"{"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-name":"web-0"}}"#;
        write(dir.path(), &format!("{V2}/k8s.io/{SANDBOX}/config.json"), sandbox);
        write(dir.path(), &format!("{V2}/k8s.io/not-an-id/config.json"), &containerd_config());
        let root = Root::open(dir.path()).unwrap();
        let found = root.containers();
        assert_eq!(found.keys().collect::<Vec<_>>(), [ID, SANDBOX]);
        assert_eq!(found[ID], web());
        assert_eq!((found[SANDBOX].name.as_ref(), found[SANDBOX].sandbox.as_deref()), (None, Some(SANDBOX)));
        assert_eq!(root.container(ID, None), Some(web()));
        assert_eq!(root.container(&"0".repeat(64), None), None);
        assert_eq!(root.container("../../../etc", None), None);
    }

    #[test]
    fn bundle_elsewhere_is_found_by_a_path_in_it() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &format!("odd/state/k8s.io/{ID}/config.json"), &containerd_config());
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(root.container(ID, None), None);
        assert_eq!(root.container(ID, Some(&format!("/odd/state/k8s.io/{ID}/x.pid"))), Some(web()));
        assert_eq!(root.container(ID, Some(&format!("/odd/../odd/state/k8s.io/{ID}"))), None);
        assert_eq!(root.container(ID, Some(&format!("odd/state/k8s.io/{ID}"))), None);
    }

    #[test]
    fn crio_docker_and_log_links_name_containers() {
        let dir = tempfile::tempdir().unwrap();
        let crio = r#"{"annotations":{"io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.container.name":"web",
            "io.kubernetes.pod.name":"web-0","io.kubernetes.pod.namespace":"shop"}}"#;
        write(dir.path(), &format!("run/containers/storage/overlay-containers/{ID}/userdata/config.json"), crio);
        let docker = format!(
            r#"{{"Config":{{"Labels":{{"io.kubernetes.container.name":"web","io.kubernetes.pod.name":"web-0",
            "io.kubernetes.pod.namespace":"shop","io.kubernetes.docker.type":"container","io.kubernetes.sandbox.id":"{SANDBOX}"}}}}}}"#
        );
        let other = ID.replace('0', "1");
        write(dir.path(), &format!("{V2}/moby/{other}/config.json"), r#"{"ociVersion":"1.0"}"#);
        write(dir.path(), &format!("var/lib/docker/containers/{other}/config.v2.json"), &docker);
        let bare = ID.replace('0', "2");
        write(dir.path(), &format!("{V2}/k8s.io/{bare}/config.json"), "{}");
        write(dir.path(), &format!("var/log/containers/web-0_shop_web-{bare}.log"), "");
        let root = Root::open(dir.path()).unwrap();
        for (id, runtime) in [(ID, "cri-o"), (&other, "docker"), (&bare, "containerd")] {
            let found = root.container(id, None).unwrap();
            let names = [&found.name, &found.pod, &found.namespace, &found.runtime].map(Option::as_deref);
            assert_eq!(names, [Some("web"), Some("web-0"), Some("shop"), Some(runtime)]);
            assert_eq!(root.containers()[id], found);
        }
        assert_eq!(root.container(&other, None).unwrap().sandbox.as_deref(), Some(SANDBOX));
    }

    #[test]
    fn state_of_runc_or_crun_leads_to_the_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = format!("/srv/storage/vfs-containers/{ID}/userdata");
        let config = r#"{"annotations":{"io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.container.name":"web",
            "io.kubernetes.pod.name":"web-0","io.kubernetes.pod.namespace":"shop"}}"#;
        write(dir.path(), &format!("{bundle}/config.json")[1..], config);
        write(
            dir.path(),
            &format!("run/runc/{ID}/state.json"),
            &format!(r#"{{"id":"{ID}","config":{{"labels":["a=b","bundle={bundle}"]}}}}"#),
        );
        write(dir.path(), &format!("run/crun/{ID}/status"), &format!(r#"{{"pid":1,"bundle":"{bundle}"}}"#));
        write(dir.path(), &format!("run/odd/{ID}/status"), r#"{"bundle":"/srv/../srv"}"#);
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(root.container(ID, None), None);
        for state in ["/run/runc", "/run/crun"] {
            let found = root.container(ID, Some(&format!("{state}/{ID}"))).unwrap();
            let names = [&found.name, &found.pod, &found.namespace, &found.runtime].map(Option::as_deref);
            assert_eq!(names, [Some("web"), Some("web-0"), Some("shop"), Some("cri-o")], "{state}");
        }
        assert_eq!(root.container(ID, Some(&format!("/run/odd/{ID}"))), None);
    }

    #[test]
    fn hostile_files_and_links_give_no_names() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        write(outside.path(), "config.json", &containerd_config());
        let bundle = format!("{V2}/k8s.io/{ID}");
        fs::create_dir_all(dir.path().join(&bundle)).unwrap();
        let config = dir.path().join(&bundle).join("config.json");
        let root = Root::open(dir.path()).unwrap();
        symlink(outside.path().join("config.json"), &config).unwrap();
        assert_eq!(root.container(ID, None), None, "a link in the last place");
        fs::remove_file(&config).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &config, FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert_eq!(root.container(ID, None), None, "a FIFO");
        fs::remove_file(&config).unwrap();
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        let huge = format!("{{\"annotations\":{{}},\"x\":\"{}\"}}", "y".repeat(MAX_CONFIG_BYTES));
        for text in ["", "{", "[1]", "null", r#"{"annotations":7}"#, "\u{0}", &deep, &huge] {
            fs::write(&config, text).unwrap();
            assert_eq!(root.container(ID, None), None, "{:.20}", text);
        }
        let long = format!(r#"{{"annotations":{{"io.kubernetes.cri.sandbox-name":"{}"}}}}"#, "a".repeat(254));
        let control = r#"{"annotations":{"io.kubernetes.cri.sandbox-name":"a\u001b[2J"}}"#;
        for text in [&long, control] {
            fs::write(&config, text).unwrap();
            assert_eq!(root.container(ID, None).unwrap().pod, None);
        }
        fs::remove_dir_all(dir.path().join("run")).unwrap();
        symlink(outside.path(), dir.path().join("run")).unwrap();
        assert_eq!(root.containers(), BTreeMap::new(), "a link out of the root");
    }

    #[test]
    fn log_names_need_three_parts_and_an_id() {
        assert_eq!(parse_log_name(&format!("a_b_c-{ID}.log")).unwrap().namespace.as_deref(), Some("b"));
        for odd in [format!("a_b-{ID}.log"), format!("a_b_c_d-{ID}.log"), "a_b_c-12.log".into(), format!("__-{ID}.log")]
        {
            assert_eq!(parse_log_name(&odd), None, "{odd}");
        }
    }

    #[test]
    fn pid_file_holds_one_small_number() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        for (text, pid) in [
            ("812", Some(812)),
            ("812\n", Some(812)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("0", None),
            ("8 1", None),
            ("99999999999", None),
            ("000000000000000000000000000000001", None),
        ] {
            fs::write(dir.path().join("p"), text).unwrap();
            assert_eq!(root.pid_file("/p"), pid, "{text}");
        }
        symlink("p", dir.path().join("link")).unwrap();
        fs::write(dir.path().join("p"), "1").unwrap();
        assert_eq!(root.pid_file("/link"), None);
        assert_eq!(root.pid_file("/"), None);
        assert_eq!(root.pid_file("/absent\0x"), None);
    }
}
