//! Explains hops of pod starts and of kubectl requests, which differ from those of an exec.

use super::hops::Words;
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
            "the kubelet, which saw that the pod is its own",
            "It watches the API server for pods that the scheduler has bound to its node. Then it asks the runtime, by CRI calls, \
             for the pod's sandbox and then for each container.",
            "Nobody calls the kubelet to start a pod: it finds out by itself, and goes on trying until the node is as the API \
             server says.",
        ),
        Role::Shim => words(
            "the shim, which keeps the container's processes",
            "The runtime started it for this: it has runc make the containers, stays their parent, holds the other ends of their \
             input and output and waits for exit codes.",
            "Containers live on while the runtime is restarted or updated, because the shim, not the runtime, is what they hang on.",
        ),
        Role::Runc => words(
            "makes a container",
            "It is the OCI runtime (runc, or one that takes the same arguments). By `create` it makes namespaces and cgroup, sets up \
             the file system and leaves a process waiting; a second call, `start`, lets that become the container's program.",
            "Between the two the runtime can still set up what needs the namespaces, as the network.",
        ),
        Role::Process
            if first(Role::Process) && session.hops.iter().filter(|hop| hop.role == Role::Process).count() > 1 =>
        {
            words(
                "holds the pod's namespaces",
                "The first process that the shim had made: in a pod the sandbox's, `pause`, which does nothing but wait. The \
                 containers after it join its network.",
                "Containers come and go; the pod's address stays, because it is this process's.",
            )
        }
        Role::Process => words(
            "the container's first process",
            "What the image or the pod says is to run. In the container it is pid 1, unless the pod shares its process namespace.",
            "When it ends the container has ended.",
        ),
        Role::Client | Role::Proxy | Role::ApiServer | Role::Etcd | Role::Runtime => None,
    }
}

fn requested(session: &Session, index: usize) -> Option<Words> {
    match session.hops.get(index)?.role {
        Role::Client => words(
            "the command that somebody typed",
            "It reads the kubeconfig for the API server's address and the user's credential, and sends requests: what there is \
             (discovery), and then what was asked for.",
            "kubectl does nothing by itself: whatever it shows or changes is in the API server.",
        ),
        Role::ApiServer => words(
            "the API server, the cluster's front door",
            "It checks who asks (authentication), whether they may (RBAC), and what is sent (admission); it answers reads out of its \
             own memory or from etcd, and writes to etcd.",
            "Everything else in the cluster watches it, and acts on what it finds there: nothing is told to a node directly.",
        ),
        Role::Proxy | Role::Etcd | Role::Kubelet | Role::Runtime | Role::Shim | Role::Runc | Role::Process => None,
    }
}

/// Texts for etcd.
pub(super) fn etcd() -> Words {
    Words {
        title: "etcd, which keeps every object",
        what: "It keeps the cluster's objects, by name, on disk, and tells the API server of each change. The API server alone speaks \
               to it."
            .to_owned(),
        why: "It is the one place that must not be lost. With several of them a majority has to agree to each write.".to_owned(),
        ..Words::default()
    }
}
