//! Well-known endpoints of the path: ports and sockets that identify API server, kubelet, runtimes and shims.

use std::collections::BTreeSet;

use super::{RawText, runtimes};

/// Secure port of the API server in kubeadm and most distributions.
const APISERVER: u16 = 6443;
/// Port of the kubelet (pkg/cluster/ports: KubeletPort).
const KUBELET: u16 = 10250;
/// Client port of etcd (IANA: etcd-client).
const ETCD: u16 = 2379;

/// Endpoints of the path: the well-known ones and those given by the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    apiserver: BTreeSet<u16>,
    kubelet: BTreeSet<u16>,
    runtimes: BTreeSet<RawText>,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self::new(None, None, None)
    }
}

impl Endpoints {
    /// The well-known endpoints and these.
    #[must_use]
    pub fn new(apiserver: Option<u16>, kubelet: Option<u16>, runtime: Option<&str>) -> Self {
        Self {
            apiserver: [APISERVER].into_iter().chain(apiserver).collect(),
            kubelet: [KUBELET].into_iter().chain(kubelet).collect(),
            runtimes: runtimes().flat_map(|one| one.sockets).copied().chain(runtime).map(RawText::from).collect(),
        }
    }

    /// All TCP ports.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.apiserver.union(&self.kubelet).copied()
    }

    /// True for a port of the API server.
    #[must_use]
    pub fn is_apiserver_port(&self, port: u16) -> bool {
        self.apiserver.contains(&port)
    }

    /// True for the port of the kubelet.
    #[must_use]
    pub fn is_kubelet_port(&self, port: u16) -> bool {
        self.kubelet.contains(&port)
    }

    /// True for the port of etcd.
    #[must_use]
    pub const fn is_etcd_port(&self, port: u16) -> bool {
        port == ETCD
    }

    /// True for a port of the API server or the kubelet.
    #[must_use]
    pub fn is_path_port(&self, port: u16) -> bool {
        self.is_apiserver_port(port) || self.is_kubelet_port(port)
    }

    /// Paths of the runtimes' sockets.
    pub fn runtime_sockets(&self) -> impl Iterator<Item = &RawText> {
        self.runtimes.iter()
    }

    /// True for the path of a runtime's socket.
    #[must_use]
    pub fn is_runtime_socket(&self, path: &RawText) -> bool {
        // /var/run is a link to /run. A path given by the user is compared as it is.
        let short = path.as_bytes().strip_prefix(b"/var").map(RawText::from);
        self.runtimes.contains(path) || short.is_some_and(|short| self.runtimes.contains(&short))
    }

    /// True for the path of a socket with one connection per exec, unlike gRPC.
    #[must_use]
    pub fn is_exec_socket(&self, path: &RawText) -> bool {
        let has_name = |name: &str| path.basename() == name.as_bytes();
        self.is_runtime_socket(path) && runtimes().filter_map(|one| one.exec_socket).any(has_name)
    }
}

/// A process that listens at an endpoint of the path, or that a kubelet is connected to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DaemonCandidate {
    /// Kind of the daemon.
    pub kind: DaemonKind,
    /// Port or path of the endpoint.
    pub at: RawText,
    /// Pid of the process.
    pub pid: u32,
    /// `comm` of the process.
    pub comm: RawText,
}

/// Kind of a listener, according to verified properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DaemonKind {
    /// A container runtime.
    Runtime,
    /// An API server.
    ApiServer,
    /// A kubelet.
    Kubelet,
    /// The process listens at such an endpoint but is not accepted as a daemon.
    Refused,
    /// Unknown process with a unix socket that a kubelet is connected to.
    Unknown,
}

impl DaemonKind {
    /// Stable token for JSON.
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

/// An abstract name with `@` for its leading NUL: snapshots and probes write the name differently.
#[must_use]
pub fn parse_abstract(name: &RawText) -> RawText {
    name.as_bytes().strip_prefix(b"\0").map_or_else(|| name.clone(), |rest| RawText::from([b"@", rest].concat()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Runtime, is_shim_socket};

    #[test]
    fn runtimes_are_recognised_with_and_without_var() {
        let endpoints = Endpoints::new(None, None, Some("/var/tmp/mine.sock"));
        for path in [
            "/run/docker.sock",
            "/var/run/docker.sock",
            "/var/snap/microk8s/common/run/containerd.sock",
            "/var/tmp/mine.sock",
        ] {
            assert!(endpoints.is_runtime_socket(&path.into()), "{path}");
        }
        assert_eq!(Runtime::at_socket(&"/var/run/crio/crio.sock".into()).map(|one| one.name), Some("cri-o"));
        assert!(Runtime::at_socket(&"/var/tmp/mine.sock".into()).is_none());
        for path in ["/tmp/mine.sock", "/run/docker.sock2", "", "/var"] {
            assert!(!endpoints.is_runtime_socket(&path.into()), "{path}");
        }
    }

    #[test]
    fn shims_are_recognised_by_folder_or_abstract_name() {
        let digest = "0123456789abcdef".repeat(4);
        for path in [
            format!("/run/containerd/s/{digest}"),
            format!("/home/me/.state/containerd/s/{digest}"),
            format!("\0/containerd-shim/{digest}.sock"),
            format!("@/containerd-shim/moby/{digest}/shim.sock"),
        ] {
            assert!(is_shim_socket(&path.as_str().into()), "{path}");
        }
        for path in [format!("/run/containerd/s/{}", &digest[..8]), format!("/tmp/s/{digest}"), String::new()] {
            assert!(!is_shim_socket(&path.as_str().into()), "{path}");
        }
    }
}
