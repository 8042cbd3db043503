//! The row that describes one container runtime.

use crate::model::RawText;

/// Everything that distinguishes one container runtime from the others. Each runtime has one file with one row.
#[derive(Debug)]
pub struct Runtime {
    /// Name in reports and JSON.
    pub name: &'static str,
    /// Paths of its sockets, without the `/var` that some tools write before `/run`.
    pub sockets: &'static [&'static str],
    /// File name of a socket with one connection per exec: the connection itself becomes the stream of the exec. Other
    /// sockets carry gRPC, which all execs share.
    pub exec_socket: Option<&'static str>,
    /// Recognises the paths of its shims' sockets.
    pub shim_socket: Option<fn(&RawText) -> bool>,
    /// Prefixes of `comm` of the processes that keep this runtime's files in their mount namespace.
    pub comms: &'static [&'static str],
    /// Prefixes of `comm` of the processes that start containers. Ancestors above them are not those of a client.
    pub starters: &'static [&'static str],
    /// Folders that contain the bundles of running containers.
    pub bundles: &'static [&'static str],
    /// Layout of those folders.
    pub layout: Layout,
    /// Component of a bundle's path that belongs to this runtime alone.
    pub bundle_mark: Option<&'static str>,
    /// Set if the runtime has another runtime start its containers, with bundles under `bundle_mark`.
    pub delegates: bool,
    /// File inside a bundle that contains the pid of the container's first process.
    pub first_pid_file: &'static str,
    /// Exec id in paths of a container's first process; `None` if its paths contain the container's id instead.
    pub first_exec: Option<&'static str>,
    /// Folder below which only the kubelet's execs have their FIFOs, as a part of the FIFO's path.
    pub kubelet_fifos: Option<&'static str>,
    /// Folder with network namespaces that no process needs to be in.
    pub netns_folder: Option<&'static str>,
    /// Keys under which the runtime stores the names of a container.
    pub names: Names,
}

/// Layout of the folder with bundles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `<containerd namespace>/<id>/config.json`
    Namespaces,
    /// `<id>/userdata/config.json`
    Userdata,
}

/// Place and keys of a container's names.
#[derive(Debug)]
pub struct Names {
    /// Folder with a file per container, `<id>/config.v2.json`, that contains the names as labels. `None` if the names are
    /// annotations in the bundle's `config.json`.
    pub folder: Option<&'static str>,
    /// Prefix of the annotations that only this runtime writes.
    pub own_prefix: Option<&'static str>,
    /// Key of the kind of a container.
    pub kind: &'static str,
    /// Value of `kind` for a pod's sandbox.
    pub sandbox_kind: &'static str,
    /// Key of the sandbox's id.
    pub sandbox: &'static str,
    /// Key of the container's name.
    pub container: &'static str,
    /// Key of the pod's name.
    pub pod: &'static str,
    /// Key of the pod's namespace.
    pub namespace: &'static str,
    /// Key of the pod's UID.
    pub pod_uid: &'static str,
}
