//! Daemons of the path, for `doctor`.

use std::collections::BTreeSet;

use super::{
    on_path::{self, HOST_SERVICES},
    open_files::OpenFiles,
    procfs::Rights,
    view::HostView,
};
use crate::model::{DaemonCandidate, DaemonKind, INITIAL_USERNS, RawText};

/// Sockets of the kubelet's plug-ins: devices, volumes.
const KUBELET_PLUGINS: [&[u8]; 1] = [b"/var/lib/kubelet/"];

/// Runtimes, API servers and kubelets; processes that only look like one; and servers of unknown kind to which a kubelet is
/// connected.
pub(super) fn find(view: &HostView, open_files: &OpenFiles) -> Vec<DaemonCandidate> {
    let mut found = BTreeSet::new();
    let known = runtimes(view, open_files, &mut found);
    let kubelets = servers(view, open_files, &mut found);
    unknown(view, open_files, &known, &kubelets, &mut found);
    found.into_iter().collect()
}

/// Adds listeners on the sockets of runtimes. Returns the names to which these sockets are bound.
fn runtimes(view: &HostView, open_files: &OpenFiles, found: &mut BTreeSet<DaemonCandidate>) -> BTreeSet<RawText> {
    let mut known = BTreeSet::new();
    for ((inode, pid), listener) in on_path::find(view, open_files).listeners {
        let bound = open_files.sockets.unix.get(&inode).and_then(|socket| socket.path.clone()).unwrap_or_default();
        known.insert(bound.clone());
        let (kind, at) = match listener.serves_at() {
            Some(at) if view.options.endpoints.is_runtime_socket(at) => (DaemonKind::Runtime, at.clone()),
            Some(_shim) => continue,
            None => (DaemonKind::Refused, bound),
        };
        found.extend(daemonlike(view, kind, at, pid));
    }
    known
}

/// Adds listeners on the ports of API server and kubelet. Returns the kubelets.
fn servers(view: &HostView, open_files: &OpenFiles, found: &mut BTreeSet<DaemonCandidate>) -> BTreeSet<u32> {
    let endpoints = &view.options.endpoints;
    let mut kubelets = BTreeSet::new();
    for (inode, socket) in open_files.sockets.tcp.iter().filter(|(_, socket)| socket.listening) {
        let port = socket.tuple.local.port();
        for pid in open_files.holders(*inode).iter().filter(|_| endpoints.is_path_port(port)) {
            let kind = if !endpoints.is_kubelet_port(port) {
                let is_host = view.proc.namespace(*pid, "user") == Some(INITIAL_USERNS);
                if is_host { DaemonKind::ApiServer } else { DaemonKind::Refused }
            } else if view.proc.rights(*pid) >= Rights::Root {
                kubelets.insert(*pid);
                DaemonKind::Kubelet
            } else {
                DaemonKind::Refused
            };
            found.extend(daemonlike(view, kind, socket.tuple.local.to_string().as_str().into(), *pid));
        }
    }
    kubelets
}

/// Adds servers of unix sockets to which a kubelet is connected and that are neither known nor a service of the host: one may
/// be a runtime that the options do not name.
fn unknown(
    view: &HostView,
    open_files: &OpenFiles,
    known: &BTreeSet<RawText>,
    kubelets: &BTreeSet<u32>,
    found: &mut BTreeSet<DaemonCandidate>,
) {
    let unix = &open_files.sockets.unix;
    for inode in kubelets.iter().flat_map(|pid| open_files.held_by(*pid)) {
        let Some(peer) = unix.get(&inode).filter(|one| one.path.is_none()).and_then(|one| one.peer) else { continue };
        let Some(path) = unix.get(&peer).and_then(|peer| peer.path.clone()) else { continue };
        let is_known = known.contains(&path)
            || HOST_SERVICES.iter().chain(&KUBELET_PLUGINS).any(|prefix| path.as_bytes().starts_with(prefix));
        for pid in open_files.holders(peer).iter().filter(|pid| !is_known && !kubelets.contains(*pid)) {
            found.extend(daemonlike(view, DaemonKind::Unknown, path.clone(), *pid));
        }
    }
}

fn daemonlike(view: &HostView, kind: DaemonKind, at: RawText, pid: u32) -> Option<DaemonCandidate> {
    Some(DaemonCandidate { kind, at, pid, comm: view.proc.comm(pid)? })
}
