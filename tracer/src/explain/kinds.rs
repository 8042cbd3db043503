//! Explains the purpose of each kind of session.

use crate::model::Kind;

/// Texts for a kind.
pub(super) struct Words {
    /// The command that a user types.
    pub(super) typed: &'static str,
    /// Definition.
    pub(super) what: &'static str,
    /// Reason for the length of the path.
    pub(super) why: &'static str,
}

pub(super) const fn words(kind: Kind) -> Words {
    match kind {
        Kind::Exec => Words {
            typed: "kubectl exec",
            what: "Somebody runs a command in a container that runs already. The request is handed from program to program, \
                   down to the node on which the container is, and each of them keeps a connection open for it until the \
                   command ends: on these your keys go down, and what the command prints comes back.",
            why: "The path is long because each program does one thing: kubectl asks, the API server checks who asks and \
                  finds the node, the kubelet speaks for that node, the runtime keeps its containers. None of the first \
                  three can start a process in a container.",
        },
        Kind::Attach => Words {
            typed: "kubectl attach",
            what: "Somebody is connected to the input and output of the process that the container was started with. The \
                   connections are those of an exec; no process is started.",
            why: "It is how one sees and types to a program that runs already, as after `kubectl run -it`.",
        },
        Kind::Debug => Words {
            typed: "kubectl debug",
            what: "kubectl asked for one more container in the pod, to look at the others from, and is now attached to it: \
                   the connections are those of an exec.",
            why: "Images are often too small to hold a shell; the added container brings its own tools.",
        },
        Kind::Cp => Words {
            typed: "kubectl cp",
            what: "Files are copied into a container or out of it. kubectl does it by an exec of tar: the archive goes \
                   through the connection as the command's input or output.",
            why: "Nothing on the path knows files; a command in the container does, and tar is in most images.",
        },
        Kind::PortForward => Words {
            typed: "kubectl port-forward",
            what: "A port on the user's machine is joined to a port of a pod. The runtime makes a connection inside the \
                   pod's network namespace for each connection that the user makes, and the bytes of all of them ride \
                   together on the way between.",
            why: "The pod's address is often not to be reached from the user's machine; the API server is.",
        },
        Kind::Logs => Words {
            typed: "kubectl logs",
            what: "Somebody reads what a container printed. The kubelet reads it from files on its node and sends it back; \
                   neither runtime nor container takes part.",
            why: "The runtime writes what a container prints to files, and those are on the node alone.",
        },
        Kind::Probe => Words {
            typed: "a probe",
            what: "The kubelet runs a command in a container by itself: an exec probe or a hook of the pod. It asks the \
                   runtime by the CRI call ExecSync, which gives back output and exit code in one answer.",
            why: "So Kubernetes finds out whether a container is alive and ready. No user, no kubectl and no API server \
                  takes part, and no stream is open.",
        },
        Kind::Start => Words {
            typed: "the start of a pod",
            what: "A pod that was bound to this node is made: first a sandbox, whose one process holds the pod's network, then its \
                   containers, one after another. No user and no kubectl takes part any more.",
            why: "kubectl only writes down that there is to be a pod. The scheduler chooses a node, the node's kubelet sees it \
                  and has the runtime do the rest.",
        },
        Kind::Request => Words {
            typed: "a request of kubectl",
            what: "kubectl asks the API server for objects, or to change some. The API server answers by itself: no node takes \
                   part.",
            why: "The API server is the only way to what the cluster knows of itself, and etcd keeps that.",
        },
        Kind::Local => Words {
            typed: "a command given to the runtime",
            what: "Somebody on the node itself runs a command in a container, through the runtime's own client (docker, \
                   ctr, crictl).",
            why: "It goes past Kubernetes: no API server checks who asks, and its audit log does not know of it.",
        },
    }
}
