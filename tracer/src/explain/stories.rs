//! Explains hops of pod starts and of kubectl requests, which differ from those of an exec.

use super::words::Words;
use crate::model::{Kind, Role, Session};

/// Texts for a hop of such a session; `None` if the usual text applies.
pub(super) fn hop(session: &Session, index: usize) -> Option<Words> {
    match session.kind {
        Kind::Start => started(session, index),
        Kind::Request => requested(session, index),
        Kind::Exec
        | Kind::Attach
        | Kind::Debug
        | Kind::Cp
        | Kind::PortForward
        | Kind::Logs
        | Kind::Probe
        | Kind::Local => None,
    }
}

fn words(title: &'static str, what: &str, why: &str) -> Option<Words> {
    Some(Words { title, what: what.to_owned(), why: why.to_owned(), ..Words::default() })
}

fn started(session: &Session, index: usize) -> Option<Words> {
    let first = |role: Role| session.hops.iter().position(|hop| hop.role == role) == Some(index);
    match session.hops.get(index)?.role {
        Role::Kubelet => words(
            "the kubelet, which found a pod for its node",
            "It watches the API server for pods that the scheduler has bound to its node. Then it asks the runtime, by CRI calls, \
             for the pod's sandbox and then for each container.",
            "No program calls the kubelet to start a pod: it finds new pods by itself, and retries until the node \
             matches the API server's objects.",
        ),
        Role::Shim => words(
            "the shim, the parent of the container's processes",
            "The runtime started it for this pod: it lets runc make the containers, stays their parent, holds the \
             other ends of their input and output and waits for exit codes.",
            "Containers survive a restart or update of the runtime, because they depend on the shim and not on the \
             runtime.",
        ),
        Role::Runc => words(
            "makes a container",
            "It is the OCI runtime (runc, or a compatible one). Its call `create` makes namespaces and cgroup, sets \
             up the file system and leaves a process waiting; a second call, `start`, turns that process into the \
             container's program.",
            "Between the two calls the runtime can set up parts that need the namespaces, such as the network.",
        ),
        Role::Process
            if first(Role::Process) && session.hops.iter().filter(|hop| hop.role == Role::Process).count() > 1 =>
        {
            words(
                "holds the pod's namespaces",
                "It is the first process of the pod: `pause`, the sandbox's process, which only waits. Later \
                 containers join its network.",
                "Containers come and go; the pod's address stays, because it belongs to this process.",
            )
        }
        Role::Process => words(
            "the container's first process",
            "It runs the program that the image or the pod specifies. In the container it is pid 1, unless the pod \
             shares its process namespace.",
            "The container ends with it.",
        ),
        Role::Client | Role::Proxy | Role::ApiServer | Role::Etcd | Role::Runtime => None,
    }
}

fn requested(session: &Session, index: usize) -> Option<Words> {
    match session.hops.get(index)?.role {
        Role::Client => words(
            "the command that the user typed",
            "It reads the kubeconfig for the API server's address and the user's credential, and sends requests: \
             first for the types of objects (discovery), then the user's own request.",
            "kubectl does nothing by itself: everything it shows or changes is in the API server.",
        ),
        Role::ApiServer => words(
            "the API server, the cluster's front door",
            "It checks the user (authentication), the user's rights (RBAC) and the request itself (admission). It \
             answers reads from its memory or from etcd, and writes to etcd.",
            "All other programs of the cluster watch it and act on its objects: it sends no commands to nodes.",
        ),
        Role::Proxy | Role::Etcd | Role::Kubelet | Role::Runtime | Role::Shim | Role::Runc | Role::Process => None,
    }
}

/// Texts for etcd.
pub(super) fn etcd() -> Words {
    Words {
        title: "etcd, the store of every object",
        what: "It stores the cluster's objects by name on disk, and notifies the API server of each change. Only the \
               API server connects to it."
            .to_owned(),
        why: "It is the one store that must not be lost. With several members, a majority has to agree to each write."
            .to_owned(),
        ..Words::default()
    }
}
