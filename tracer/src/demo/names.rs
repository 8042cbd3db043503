//! Names and signals that the sandbox and its actors share.

/// Process names of the actors, visible in `ps` and in the path.
pub(super) const SANDBOX: &str = "demo-stage";
pub(super) const CLIENT: &str = "demo-kubectl";
pub(super) const APISERVER: &str = "demo-apiserver";
pub(super) const KUBELET: &str = "demo-kubelet";
pub(super) const RUNTIME: &str = "demo-containerd";
pub(super) const SHIM: &str = "demo-shim";
pub(super) const RUNC: &str = "demo-runc";

/// Line that an actor prints when it listens.
pub(super) const READY: &str = "ready";
