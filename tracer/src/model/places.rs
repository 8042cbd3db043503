//! Where the path's listeners are: the ports and sockets that make a process API server, kubelet, runtime or shim.

use std::collections::BTreeSet;

use super::RawText;

/// The API server's secure port as kubeadm and most distributions set it.
const APISERVER: u16 = 6443;
/// The kubelet's port (pkg/cluster/ports: KubeletPort).
const KUBELET: u16 = 10250;
/// etcd's port for clients (IANA: etcd-client).
const ETCD: u16 = 2379;

/// Sockets on which container runtimes listen, without the `/var` that some write before `/run`, and the runtime's name.
const RUNTIMES: &[(&str, &str)] = &[
    // containerd's default.
    ("/run/containerd/containerd.sock", "containerd"),
    // k3s, RKE2, k0s and microk8s bring their own containerd.
    ("/run/k3s/containerd/containerd.sock", "containerd"),
    ("/run/k0s/containerd.sock", "containerd"),
    ("/var/snap/microk8s/common/run/containerd.sock", "containerd"),
    // dockerd, and containerd where dockerd starts it.
    ("/run/docker.sock", "docker"),
    ("/run/docker/containerd/containerd.sock", "docker"),
    // CRI-O.
    ("/run/crio/crio.sock", "cri-o"),
    // dockerd behind the CRI, since Kubernetes 1.24.
    ("/run/cri-dockerd.sock", "docker"),
];
/// Name of the socket of dockerd's API (Docker Engine API, `POST /exec/ID/start`).
const DOCKER_API: &[u8] = b"docker.sock";
/// End of the folder of shims' sockets, below containerd's state; each is named by the SHA-256 of what it serves
/// (containerd ≥ 1.4: pkg/shim `SocketAddress`).
const SHIM_FOLDER: &[u8] = b"/containerd/s";
/// Abstract names of older shims: `/containerd-shim/<sha256>.sock`, `/containerd-shim/<namespace>/<id>/shim.sock`.
const SHIM_ABSTRACT: &[u8] = b"/containerd-shim/";
/// Digits of a name there: 64, a SHA-256; fewer where a long folder leaves no room for them (`sun_path` has 108 bytes).
const DIGITS: std::ops::RangeInclusive<usize> = 16..=64;

/// Ports and sockets of the path: the well-known ones and those that the user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    apiserver: BTreeSet<u16>,
    kubelet: BTreeSet<u16>,
    runtimes: BTreeSet<RawText>,
}

impl Default for Places {
    fn default() -> Self {
        Self::new(None, None, None)
    }
}

impl Places {
    /// The well-known ones and these.
    #[must_use]
    pub fn new(apiserver: Option<u16>, kubelet: Option<u16>, runtime: Option<&str>) -> Self {
        Self {
            apiserver: [APISERVER].into_iter().chain(apiserver).collect(),
            kubelet: [KUBELET].into_iter().chain(kubelet).collect(),
            runtimes: RUNTIMES.iter().map(|(path, _)| *path).chain(runtime).map(RawText::from).collect(),
        }
    }

    /// Every TCP port.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.apiserver.union(&self.kubelet).copied()
    }

    /// Whether the API server listens there.
    #[must_use]
    pub fn is_apiserver_port(&self, port: u16) -> bool {
        self.apiserver.contains(&port)
    }

    /// Whether the kubelet listens there.
    #[must_use]
    pub fn is_kubelet_port(&self, port: u16) -> bool {
        self.kubelet.contains(&port)
    }

    /// Whether etcd listens there.
    #[must_use]
    pub const fn is_etcd_port(&self, port: u16) -> bool {
        port == ETCD
    }

    /// Whether either listens there.
    #[must_use]
    pub fn is_path_port(&self, port: u16) -> bool {
        self.is_apiserver_port(port) || self.is_kubelet_port(port)
    }

    /// Paths of the sockets on which container runtimes listen.
    pub fn runtime_sockets(&self) -> impl Iterator<Item = &RawText> {
        self.runtimes.iter()
    }

    /// Whether a container runtime listens there.
    #[must_use]
    pub fn is_runtime_socket(&self, path: &RawText) -> bool {
        // /var/run is a link to /run; what the user named is taken as it is.
        let short = path.as_bytes().strip_prefix(b"/var").map(RawText::from);
        self.runtimes.contains(path) || short.is_some_and(|short| self.runtimes.contains(&short))
    }

    /// Name of the runtime that listens there: `containerd`, `docker` or `cri-o`. `None` for a socket that the user named.
    #[must_use]
    pub fn runtime_name(&self, path: &RawText) -> Option<&'static str> {
        let path = path.as_str()?;
        let short = path.strip_prefix("/var").unwrap_or(path);
        RUNTIMES.iter().find(|(known, _)| *known == path || *known == short).map(|(_, name)| *name)
    }

    /// Whether that is a path at which a runtime listens by convention: such a runtime gives each container a cgroup of its own.
    #[must_use]
    pub fn is_conventional(path: &RawText) -> bool {
        let path = path.as_bytes();
        let is = |known: &str| known.as_bytes() == path || path.strip_prefix(b"/var") == Some(known.as_bytes());
        RUNTIMES.iter().any(|(known, _)| is(known))
    }

    /// Whether dockerd's API is there: HTTP on which each exec takes a connection of its own, unlike gRPC.
    #[must_use]
    pub fn is_docker_api(&self, path: &RawText) -> bool {
        self.is_runtime_socket(path) && path.basename() == DOCKER_API
    }

    /// Whether a shim listens there.
    #[must_use]
    pub fn is_shim_socket(&self, path: &RawText) -> bool {
        let path = path.as_bytes();
        // An abstract name begins with NUL, which people write as `@`.
        let name = path.strip_prefix(b"\0").or_else(|| path.strip_prefix(b"@"));
        let mut parts = path.rsplitn(2, |byte| *byte == b'/');
        let (leaf, folder) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let is_digest = DIGITS.contains(&leaf.len()) && leaf.iter().all(u8::is_ascii_hexdigit);
        name.is_some_and(|name| name.starts_with(SHIM_ABSTRACT)) || (is_digest && folder.ends_with(SHIM_FOLDER))
    }
}

/// A process that listens where daemons of the path do, or to which a kubelet is connected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Daemonlike {
    /// What it is.
    pub kind: DaemonKind,
    /// Port or path.
    pub at: RawText,
    /// Its pid.
    pub pid: u32,
    /// Its name.
    pub comm: RawText,
}

/// What a listener is, going by what was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DaemonKind {
    /// A container runtime.
    Runtime,
    /// An API server.
    ApiServer,
    /// A kubelet.
    Kubelet,
    /// It listens where one of these would, and is not taken for one.
    Refused,
    /// A kubelet is connected to its unix socket, of which nothing is known.
    Unknown,
}

impl DaemonKind {
    /// Stable token.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::ApiServer => "apiserver",
            Self::Kubelet => "kubelet",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// An abstract name with `@` for the NUL at its beginning: snapshots and probes write it in two ways.
#[must_use]
pub fn parse_abstract(name: &RawText) -> RawText {
    name.as_bytes().strip_prefix(b"\0").map_or_else(|| name.clone(), |rest| RawText::from([b"@", rest].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_are_known_with_and_without_var() {
        let places = Places::new(None, None, Some("/var/tmp/mine.sock"));
        for path in [
            "/run/docker.sock",
            "/var/run/docker.sock",
            "/var/snap/microk8s/common/run/containerd.sock",
            "/var/tmp/mine.sock",
        ] {
            assert!(places.is_runtime_socket(&path.into()), "{path}");
        }
        assert_eq!(places.runtime_name(&"/var/run/crio/crio.sock".into()), Some("cri-o"));
        assert_eq!(places.runtime_name(&"/var/tmp/mine.sock".into()), None);
        for path in ["/tmp/mine.sock", "/run/docker.sock2", "", "/var"] {
            assert!(!places.is_runtime_socket(&path.into()), "{path}");
        }
    }

    #[test]
    fn shims_are_known_by_folder_or_abstract_name() {
        let digest = "0123456789abcdef".repeat(4);
        let places = Places::default();
        for path in [
            format!("/run/containerd/s/{digest}"),
            format!("/home/me/.state/containerd/s/{digest}"),
            format!("\0/containerd-shim/{digest}.sock"),
            format!("@/containerd-shim/moby/{digest}/shim.sock"),
        ] {
            assert!(places.is_shim_socket(&path.as_str().into()), "{path}");
        }
        for path in [format!("/run/containerd/s/{}", &digest[..8]), format!("/tmp/s/{digest}"), String::new()] {
            assert!(!places.is_shim_socket(&path.as_str().into()), "{path}");
        }
    }
}
