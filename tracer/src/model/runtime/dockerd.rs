//! dockerd, with cri-dockerd (Kubernetes ≥ 1.24) or dockershim (before) between the kubelet and dockerd.
//!
//! An exec takes a connection of its own to Docker's API (`POST /exec/ID/start`), which becomes its stream. dockerd makes the
//! FIFOs and has containerd's shim run `runc exec`. No act of a thread joins the stream and the FIFOs: dockerd hands bytes
//! from goroutine to goroutine.

use super::row::{Layout, Names, Runtime};

/// The row of dockerd.
pub(super) static ROW: Runtime = Runtime {
    name: "docker",
    sockets: &[
        "/run/docker.sock",
        // The containerd that dockerd starts.
        "/run/docker/containerd/containerd.sock",
        "/run/cri-dockerd.sock",
    ],
    exec_socket: Some("docker.sock"),
    shim_socket: None,
    comms: &["dockerd"],
    starters: &["dockerd"],
    // The containerd that dockerd starts.
    bundles: &["/run/docker/containerd/daemon/io.containerd.runtime.v2.task"],
    layout: Layout::Namespaces,
    // dockerd's namespace in containerd.
    bundle_mark: Some("moby"),
    delegates: true,
    first_pid_file: "init.pid",
    // libcontainerd: InitProcessName
    first_exec: Some("init"),
    kubelet_fifos: None,
    netns_folder: Some("/run/docker/netns"),
    // Bundles of dockerd have no annotations. dockershim and cri-dockerd store the names as labels.
    names: Names {
        folder: Some("/var/lib/docker/containers"),
        own_prefix: None,
        kind: "io.kubernetes.docker.type",
        sandbox_kind: "podsandbox",
        sandbox: "io.kubernetes.sandbox.id",
        container: "io.kubernetes.container.name",
        pod: "io.kubernetes.pod.name",
        namespace: "io.kubernetes.pod.namespace",
        pod_uid: "io.kubernetes.pod.uid",
    },
};
