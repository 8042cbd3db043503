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
            what: "A user runs a command in a running container. The request passes from program to program, down to \
                   the container's node, and each program keeps a connection open until the command ends: input \
                   travels down these connections, and output comes back.",
            why: "The path is long because each program has one task: kubectl asks, the API server checks the user \
                  and finds the node, the kubelet acts for that node, and the runtime manages its containers. None of \
                  the first three can start a process in a container.",
        },
        Kind::Attach => Words {
            typed: "kubectl attach",
            what: "A user is connected to the input and output of the container's first process. The connections are \
                   those of an exec; no process is started.",
            why: "It gives access to a program that runs already, as after `kubectl run -it`.",
        },
        Kind::Debug => Words {
            typed: "kubectl debug",
            what: "kubectl added a container to the pod for inspecting the others, and is now attached to it. The \
                   connections are those of an exec.",
            why: "Images are often too small to hold a shell; the added container brings its own tools.",
        },
        Kind::Cp => Words {
            typed: "kubectl cp",
            what: "Files are copied into a container or out of it. kubectl runs tar by an exec: the archive travels \
                   as the command's input or output.",
            why: "No program on the path handles files; a command in the container does, and most images contain tar.",
        },
        Kind::PortForward => Words {
            typed: "kubectl port-forward",
            what: "A port on the user's machine is connected to a port of a pod. For each connection of the user, the \
                   runtime opens one inside the pod's network namespace. In between, all of them share one \
                   connection.",
            why: "The user's machine often cannot reach the pod's address, but it can reach the API server.",
        },
        Kind::Logs => Words {
            typed: "kubectl logs",
            what: "A user reads the output of a container. The kubelet reads it from files on its node and sends it \
                   back; neither runtime nor container takes part.",
            why: "The runtime writes a container's output to files, and these exist only on the node.",
        },
        Kind::Probe => Words {
            typed: "a probe",
            what: "The kubelet itself runs a command in a container: an exec probe or a hook of the pod. It uses the \
                   CRI call ExecSync, which returns output and exit code in one answer.",
            why: "This is how Kubernetes checks that a container is alive and ready. No user, no kubectl and no API \
                  server takes part, and no stream is open.",
        },
        Kind::Start => Words {
            typed: "the start of a pod",
            what: "A pod bound to this node is created: first a sandbox, whose only process holds the pod's network, \
                   then its containers, one after another. No user and no kubectl takes part at this point.",
            why: "kubectl only creates the pod's object. The scheduler chooses a node, and that node's kubelet asks \
                  the runtime for the rest.",
        },
        Kind::Request => Words {
            typed: "a request of kubectl",
            what: "kubectl reads or changes objects of the API server. The API server answers on its own: no node \
                   takes part.",
            why: "The API server is the only access to the state of the cluster, and etcd stores that state.",
        },
        Kind::Local => Words {
            typed: "a command given to the runtime",
            what: "A user on the node itself runs a command in a container, through the runtime's own client (docker, \
                   ctr, crictl).",
            why: "This bypasses Kubernetes: no API server checks the user, and no audit log records the command.",
        },
    }
}
