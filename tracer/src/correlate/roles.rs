//! Who is who: from listening sockets and acts, not from names.

use std::collections::BTreeSet;

use super::Options;
use crate::model::{RawText, Role};

/// The API server's secure port as kubeadm and most distributions set it.
const APISERVER: u16 = 6443;
/// The kubelet's port (pkg/cluster/ports: KubeletPort).
const KUBELET: u16 = 10250;

/// Where container runtimes listen, as their packages and distributions set it.
const RUNTIME_SOCKETS: &[&str] = &[
    "/run/containerd/containerd.sock",
    "/run/containerd/containerd.sock.ttrpc",
    "/run/k3s/containerd/containerd.sock",
    "/run/docker/containerd/containerd.sock",
    "/run/docker.sock",
    "/run/crio/crio.sock",
    "/run/cri-dockerd.sock",
];

/// Where containerd's shims listen: `<state>/s/<sha256>` (pkg/shim/util_unix.go).
const SHIM_FOLDER: &str = "/containerd/s/";

/// Ports and sockets of the path.
pub(super) struct Roles {
    apiserver: BTreeSet<u16>,
    kubelet: BTreeSet<u16>,
    runtime: BTreeSet<String>,
}

impl Roles {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            apiserver: [APISERVER].into_iter().chain(options.apiserver_port).collect(),
            kubelet: [KUBELET].into_iter().chain(options.kubelet_port).collect(),
            runtime: RUNTIME_SOCKETS
                .iter()
                .map(|path| (*path).to_owned())
                .chain(options.runtime_socket.clone())
                .collect(),
        }
    }

    /// What a process is that passes on what came in at `inbound_port`, or listens on `ports`.
    pub(super) fn of(&self, inbound_port: Option<u16>, ports: &BTreeSet<u16>) -> Role {
        let by_port = |port: u16| {
            if self.kubelet.contains(&port) {
                Some(Role::Kubelet)
            } else if self.apiserver.contains(&port) {
                Some(Role::ApiServer)
            } else {
                None
            }
        };
        match inbound_port {
            // A role belongs to the socket: in k3s one process is both.
            Some(port) => by_port(port).unwrap_or(Role::Proxy),
            None => ports.iter().find_map(|port| by_port(*port)).unwrap_or(Role::Client),
        }
    }

    /// Whether the kubelet listens there.
    pub(super) fn is_kubelet_port(&self, port: u16) -> bool {
        self.kubelet.contains(&port)
    }

    /// Whether the API server or the kubelet listens there.
    pub(super) fn is_path_port(&self, port: u16) -> bool {
        self.apiserver.contains(&port) || self.kubelet.contains(&port)
    }

    /// Whether who listens there starts containers: what it forks is then followed.
    pub(super) fn is_daemon_socket(&self, path: &RawText) -> bool {
        let Some(path) = path.as_str() else { return false };
        let path = path.strip_prefix("/var").unwrap_or(path);
        self.runtime.contains(path) || path.contains(SHIM_FOLDER)
    }
}
