//! containerd, with the containerds that k3s, RKE2, k0s and microk8s bring.
//!
//! An exec starts in the shim of its pod: containerd's CRI plug-in makes the FIFOs and asks the shim, which runs `runc exec
//! --detach` and waits for the process. The shim keeps the pid in `<exec>.pid` beside the bundle's configuration.

use super::row::{Layout, Names, Runtime};
use crate::model::RawText;

/// The row of containerd.
pub(super) static ROW: Runtime = Runtime {
    name: "containerd",
    sockets: &[
        // The default.
        "/run/containerd/containerd.sock",
        // k3s and RKE2, k0s, microk8s.
        "/run/k3s/containerd/containerd.sock",
        "/run/k0s/containerd.sock",
        "/var/snap/microk8s/common/run/containerd.sock",
    ],
    exec_socket: None,
    shim_socket: Some(is_shim_socket),
    comms: &["containerd"],
    starters: &["containerd-shim"],
    bundles: &[
        // The default `state`.
        "/run/containerd/io.containerd.runtime.v2.task",
        // k3s and RKE2, k0s, microk8s.
        "/run/k3s/containerd/io.containerd.runtime.v2.task",
        "/run/k0s/containerd/io.containerd.runtime.v2.task",
        "/var/snap/microk8s/common/run/containerd/io.containerd.runtime.v2.task",
    ],
    layout: Layout::Namespaces,
    bundle_mark: None,
    delegates: false,
    // pkg/process/init.go: InitPidFile
    first_pid_file: "init.pid",
    first_exec: None,
    kubelet_fifos: Some("/io.containerd.grpc.v1.cri/"),
    netns_folder: None,
    names: Names {
        folder: None,
        own_prefix: None,
        kind: "io.kubernetes.cri.container-type",
        sandbox_kind: "sandbox",
        sandbox: "io.kubernetes.cri.sandbox-id",
        container: "io.kubernetes.cri.container-name",
        pod: "io.kubernetes.cri.sandbox-name",
        namespace: "io.kubernetes.cri.sandbox-namespace",
        pod_uid: "io.kubernetes.cri.sandbox-uid",
    },
};

/// End of the folder of shims' sockets, below containerd's state. Each socket is named by the SHA-256 of the served
/// container (containerd ≥ 1.4: pkg/shim `SocketAddress`).
const SHIM_FOLDER: &[u8] = b"/containerd/s";
/// Abstract names of older shims: `/containerd-shim/<sha256>.sock`, `/containerd-shim/<namespace>/<id>/shim.sock`.
const SHIM_ABSTRACT: &[u8] = b"/containerd-shim/";
/// Number of hexadecimal digits in such a name: 64 for a whole SHA-256, fewer if a long folder leaves no room (`sun_path`
/// has 108 bytes).
const DIGITS: std::ops::RangeInclusive<usize> = 16..=64;

/// True for the path of a shim's socket.
fn is_shim_socket(path: &RawText) -> bool {
    let path = path.as_bytes();
    // An abstract name begins with NUL, commonly written as `@`.
    let name = path.strip_prefix(b"\0").or_else(|| path.strip_prefix(b"@"));
    let mut parts = path.rsplitn(2, |byte| *byte == b'/');
    let (leaf, folder) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let is_digest = DIGITS.contains(&leaf.len()) && leaf.iter().all(u8::is_ascii_hexdigit);
    name.is_some_and(|name| name.starts_with(SHIM_ABSTRACT)) || (is_digest && folder.ends_with(SHIM_FOLDER))
}
