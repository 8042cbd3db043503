//! Containers: names, ids, and cgroup paths that contain ids. Pure text functions; every input is hostile.

use serde::{Deserialize, Serialize};

/// Names of a container, read from the runtime's files on this host. No cluster credential is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInfo {
    /// Container id.
    pub id: String,
    /// Name in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Namespace of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// UID of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// Id of the pod's sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// `containerd`, `docker`, `cri-o`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
}

impl ContainerInfo {
    /// Approximate memory use in bytes.
    pub(super) fn weight(&self) -> usize {
        let Self { id, name, pod, namespace, pod_uid, sandbox, runtime } = self;
        let texts = [name, pod, namespace, pod_uid, sandbox, runtime].into_iter().flatten().map(String::len);
        size_of_val(self) + id.len() + texts.sum::<usize>()
    }

    /// Adds each field that `other` knows and `self` does not. Known fields stay.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            id: self.id,
            name: self.name.or(other.name),
            pod: self.pod.or(other.pod),
            namespace: self.namespace.or(other.namespace),
            pod_uid: self.pod_uid.or(other.pod_uid),
            sandbox: self.sandbox.or(other.sandbox),
            runtime: self.runtime.or(other.runtime),
        }
    }
}

/// Container named by a cgroup path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRef {
    /// Container id.
    pub id: String,
    /// UID of the pod, with hyphens.
    pub pod_uid: Option<String>,
}

/// True for an id as containerd, dockerd and CRI-O make them: 64 hexadecimal digits. Other names are refused, so that
/// an unrelated path never counts as a container's.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// True for an exec id. containerd's CRI and dockerd use 64 digits; `ctr` takes any id that its user chose.
pub(super) fn is_exec_id(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

/// Container and pod of a cgroup path: `…/pod<uid>/<cid>` (cgroupfs) or `…-pod<uid with
/// underscores>.slice/cri-containerd-<cid>.scope` (systemd).
#[must_use]
pub fn parse_cgroup(path: &str) -> Option<ContainerRef> {
    let mut parts = path.trim_end().rsplit('/');
    let leaf = parts.next()?;
    let leaf = leaf.strip_suffix(".scope").unwrap_or(leaf);
    let id = leaf.rsplit(['-', ':']).next()?;
    if !is_id(id) {
        return None;
    }
    let pod_uid = parts.find_map(|part| {
        let part = part.strip_suffix(".slice").unwrap_or(part);
        let uid = &part[part.rfind("pod").filter(|at| *at == 0 || part.as_bytes()[at - 1] == b'-')? + 3..];
        let uid = uid.replace('_', "-");
        (!uid.is_empty() && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')).then_some(uid)
    });
    Some(ContainerRef { id: id.to_owned(), pod_uid })
}

/// True if any component of a cgroup path names that container: processes in a container may create cgroups below the
/// container's own.
#[must_use]
pub fn names_container(path: &str, id: &str) -> bool {
    !id.is_empty()
        && path.split('/').any(|part| {
            let part = part.strip_suffix(".scope").unwrap_or(part);
            part.strip_suffix(id).is_some_and(|before| before.is_empty() || before.ends_with(['-', ':']))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn cgroup_names_container_in_any_component() {
        let id = "ab".repeat(32);
        for path in [
            format!("/kubepods/besteffort/pod1/{id}"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/kubepods.slice/cri-containerd-{id}.scope/init.scope"),
            format!("/system.slice:docker:{id}/below"),
        ] {
            assert!(names_container(&path, &id), "{path}");
        }
        for path in [format!("/kubepods/pod1/{id}0"), format!("/kubepods/pod1/0{id}"), "/".to_owned(), String::new()] {
            assert!(!names_container(&path, &id), "{path}");
        }
        assert!(names_container("/default/web", "web") && !names_container("/default/web", ""));
    }

    #[test]
    fn cgroup_paths_of_both_drivers_name_container_and_pod() {
        let uid = "8c7a3f52-2f0f-4a08-9b39-0d4cf4e4d7a6";
        for path in [
            format!("/kubepods/besteffort/pod{uid}/{CID}"),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{}.slice/cri-containerd-{CID}.scope",
                uid.replace('-', "_")
            ),
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod{}.slice:cri-containerd:{CID}",
                uid.replace('-', "_")
            ),
        ] {
            let found = parse_cgroup(&path).unwrap();
            assert_eq!(found.id, CID);
            if !path.contains(":cri") {
                assert_eq!(found.pod_uid.as_deref(), Some(uid), "{path}");
            }
        }
        assert_eq!(parse_cgroup("/user.slice/session-1.scope"), None);
        assert_eq!(parse_cgroup(""), None);
    }

    #[test]
    fn known_name_survives_merge_with_missing_name() {
        let rich =
            ContainerInfo { id: CID.into(), pod: Some("a".into()), pod_uid: Some("u".into()), ..Default::default() };
        let poor =
            ContainerInfo { id: CID.into(), name: Some("c".into()), pod: Some("b".into()), ..Default::default() };
        let both = ContainerInfo { name: Some("c".into()), ..rich.clone() };
        assert_eq!(rich.clone().or(poor.clone()), both);
        assert_eq!(poor.or(rich.clone()).pod_uid, rich.pod_uid);
    }
}
