//! Container runtimes. Adding one takes a file with its row, and a line in [`ALL`].

mod containerd;
mod crio;
mod dockerd;
mod oci;
mod row;

pub use self::{
    crio::{Monitor, parse_monitor},
    oci::{RuncCreate, RuncExec, parse_runc_create, parse_runc_exec, parse_runc_kill},
    row::{Layout, Names, Runtime},
};
use super::{
    RawText,
    container::{is_exec_id, is_id},
};

/// All runtimes. The order decides between rows that match equally: names of containerd come before those of CRI-O.
static ALL: [&Runtime; 3] = [&containerd::ROW, &dockerd::ROW, &crio::ROW];

/// Prefixes of `comm` of OCI runtimes, which every container runtime starts.
const OCI_COMMS: &[&str] = &["runc"];

const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];

/// Exec and stream named by the path of a stdio FIFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecFifo {
    /// Container id.
    pub container: String,
    /// Exec id; the container's own id for the FIFOs of its first process.
    pub exec: String,
    /// `stdin`, `stdout` or `stderr`.
    pub stream: &'static str,
}

/// All runtimes.
pub fn runtimes() -> impl Iterator<Item = &'static Runtime> {
    ALL.into_iter()
}

impl Runtime {
    /// The runtime that a bundle's path belongs to. containerd, unless the path has another runtime's mark.
    #[must_use]
    pub fn of_bundle(bundle: &str) -> &'static Self {
        let has = |mark: &str| bundle.split('/').any(|part| part == mark);
        runtimes().find(|one| one.bundle_mark.is_some_and(has)).unwrap_or(&containerd::ROW)
    }

    /// The runtime that conventionally listens at this path.
    #[must_use]
    pub fn at_socket(path: &RawText) -> Option<&'static Self> {
        let path = path.as_bytes();
        let is = |known: &&str| known.as_bytes() == path || path.strip_prefix(b"/var") == Some(known.as_bytes());
        runtimes().find(|one| one.sockets.iter().any(is))
    }
}

/// True if a process with this `comm` may keep a runtime's files in its mount namespace.
#[must_use]
pub fn is_runtime_comm(comm: &RawText) -> bool {
    let known = runtimes().flat_map(|one| one.comms).chain(OCI_COMMS);
    known.into_iter().any(|prefix| comm.as_bytes().starts_with(prefix.as_bytes()))
}

/// True if a process with this `comm` starts containers.
#[must_use]
pub fn is_starter_comm(comm: &RawText) -> bool {
    runtimes().flat_map(|one| one.starters).any(|prefix| comm.as_bytes().starts_with(prefix.as_bytes()))
}

/// True for the path of a shim's socket.
#[must_use]
pub fn is_shim_socket(path: &RawText) -> bool {
    runtimes().filter_map(|one| one.shim_socket).any(|is_shim| is_shim(path))
}

/// Container, exec and stream of a FIFO's path. containerd's CRI: `…/containers/<cid>/io/<number>/<exec>-stdout`;
/// dockerd: `…/<cid>/<exec>-stdout`.
#[must_use]
pub fn parse_fifo_path(path: &str) -> Option<ExecFifo> {
    let mut parts = path.rsplit('/');
    let leaf = parts.next()?;
    let (exec, stream) = leaf.rsplit_once('-')?;
    let stream = STREAMS.into_iter().find(|name| *name == stream)?;
    if !is_exec_id(exec) {
        return None;
    }
    let container = parts.take(3).find(|part| is_id(part))?;
    let is_first = runtimes().any(|one| one.first_exec == Some(exec));
    let exec = if is_first { container } else { exec };
    Some(ExecFifo { container: container.to_owned(), exec: exec.to_owned(), stream })
}

/// True if the FIFO lies in a folder that a runtime uses for the kubelet's execs alone.
#[must_use]
pub fn is_kubelet_fifo(path: &str) -> bool {
    runtimes().filter_map(|one| one.kubelet_fifos).any(|folder| path.contains(folder))
}

/// Container and exec id of `…/<cid>/<exec>.pid`, the pid file that containerd's shims keep for an exec. `None` for the
/// container's own pid file.
#[must_use]
pub fn parse_pid_file(path: &str) -> Option<(String, String)> {
    let mut parts = path.rsplit('/');
    let exec = parts.next()?.strip_suffix(".pid")?;
    let container = parts.next()?;
    (exec != "init" && !exec.is_empty()).then(|| (container.to_owned(), exec.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const EXEC: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

    #[test]
    fn fifo_paths_of_containerd_and_dockerd_name_container_and_exec() {
        for path in [
            format!("/run/containerd/io.containerd.grpc.v1.cri/containers/{CID}/io/1234/{EXEC}-stdout"),
            format!("/var/run/docker/containerd/{CID}/{EXEC}-stdout"),
        ] {
            let found = parse_fifo_path(&path).unwrap();
            assert_eq!((found.container.as_str(), found.exec.as_str(), found.stream), (CID, EXEC, "stdout"));
        }
        let init = parse_fifo_path(&format!("/run/docker/containerd/{CID}/init-stdout")).unwrap();
        assert_eq!(init.exec, CID, "the container's own");
        assert_eq!(parse_fifo_path("/tmp/mine-stdout"), None);
        assert_eq!(parse_fifo_path(&format!("/x/{CID}/{EXEC}-log")), None);
    }

    #[test]
    fn pid_files_name_container_and_exec() {
        let found = parse_pid_file(&format!("/run/x/k8s.io/{CID}/{EXEC}.pid")).unwrap();
        assert_eq!((found.0.as_str(), found.1.as_str()), (CID, EXEC));
        assert_eq!(parse_pid_file(&format!("/run/x/k8s.io/{CID}/init.pid")), None, "the container's first process");
        assert_eq!(parse_pid_file(".pid"), None);
    }
}
