//! Explains processes on the path: clients, proxies, API server and kubelet here; everything below the kubelet in
//! `runtimes`.

use super::{
    Explanation, manual,
    programs::{self, Program, is_again, is_program, name, program, who},
    runtimes, stories,
    words::Words,
};
use crate::{
    escape,
    model::{Client, Hop, Kind, LinkKind, Role, Session, State},
};

pub(super) fn hop(session: &Session, index: usize) -> Option<Explanation> {
    let hop = session.hops.get(index)?;
    let words = stories::hop(session, index).unwrap_or_else(|| match hop.role {
        Role::Client => client(session, hop),
        Role::Proxy => proxy(session, index),
        Role::ApiServer => apiserver(session, index),
        Role::Kubelet => kubelet(session, index),
        Role::Runtime => runtimes::runtime(session, index),
        Role::Shim => runtimes::shim(session, index),
        Role::Runc => runtimes::runc(session, index),
        Role::Process => runtimes::process(session, index),
        Role::Etcd => stories::etcd(),
    });
    let Words { title, what, why, unknown, manual } = words;
    let by_hand = manual::process(session, hop);
    Some(Explanation {
        title: format!("{}: {title}", who(hop)),
        what,
        why,
        known: Vec::new(),
        unknown,
        manual: by_hand.into_iter().chain(manual).collect(),
    })
}

fn client(session: &Session, hop: &Hop) -> Words {
    if session.kind == Kind::Local {
        return local(session, hop);
    }
    let Client { uid, login_name, .. } = &session.client;
    let user = match (uid, login_name) {
        (Some(uid), Some(name)) => {
            format!(" Its user on this host is uid {uid}, who logged in as {}.", escape::str(name, programs::NAME))
        }
        (Some(uid), None) => format!(" Its user on this host is uid {uid}."),
        (None, _) => String::new(),
    };
    let what = match session.kind {
        Kind::Logs => "It asks the API server for a container's output, and prints it.",
        Kind::PortForward => {
            "It listens on a port of the user's machine and passes incoming bytes on to the API server."
        }
        Kind::Exec
        | Kind::Attach
        | Kind::Debug
        | Kind::Cp
        | Kind::Probe
        | Kind::Local
        | Kind::Start
        | Kind::Request => {
            "It reads the kubeconfig for the API server's address and the user's credential, asks for a stream into \
             the container, and then copies: input to the stream, output to the screen."
        }
    };
    let title = match program(hop) {
        Some(Program::Kubectl) => "the command that the user typed",
        _ => "the client that requested it",
    };
    Words {
        title,
        what: format!("{what}{user}"),
        why: "It runs on the user's machine and can reach only the API server. It cannot run anything on a node \
             itself."
            .to_owned(),
        ..Words::default()
    }
}

fn local(session: &Session, hop: &Hop) -> Words {
    let socket = session.links.iter().find(|link| link.from == 0 && link.kind == LinkKind::Unix);
    let by = if socket.is_some() { " over the runtime's unix socket" } else { "" };
    Words {
        title: "a client of the runtime, on the node itself",
        what: format!("{} asks the runtime{by} to run a command in a container.", name(hop)),
        why: "Access to that socket means full access to the node: Kubernetes is not asked, and checks nothing."
            .to_owned(),
        ..Words::default()
    }
}

fn proxy(session: &Session, index: usize) -> Words {
    let above = session.hops.get(..index).unwrap_or_default();
    let below = session.hops.get(index + 1..).unwrap_or_default();
    let behind = |role: Role| above.iter().any(|hop| hop.role == role);
    let before = |role: Role| below.iter().any(|hop| hop.role == role);
    if before(Role::ApiServer) && !behind(Role::ApiServer) {
        return Words {
            title: "passes bytes on to the API server",
            what: "It accepts the client's connection and opens one of its own to the API server: a load balancer, or \
                   a proxy for users, in front of it."
                .to_owned(),
            why: "Clusters with several API servers have one address for all of them, and this program answers there. \
                  The API server then sees the proxy's address, not the client's."
                .to_owned(),
            ..Words::default()
        };
    }
    let shared = !session.links.iter().any(|link| link.from == index && link.to == index);
    Words {
        title: "passes bytes on to the kubelet",
        what: "It opens the connection to the kubelet on behalf of the API server: it is the near end of a tunnel \
               between the control plane and the nodes, as in konnectivity and k3s."
            .to_owned(),
        why: "The API server often cannot reach nodes. So the nodes open a tunnel to it, and the API server's \
              connections to kubelets come back through that tunnel. The kubelet sees this process as its client."
            .to_owned(),
        unknown: shared
            .then_some(
                "The API server and the client behind it are not known: many sessions share a \
                                   tunnel.",
            )
            .map(str::to_owned)
            .into_iter()
            .collect(),
        ..Words::default()
    }
}

fn apiserver(session: &Session, index: usize) -> Words {
    let leads_on = session.links.iter().any(|link| link.from == index && link.to > index);
    let again = is_again(session, index);
    let mut what = format!(
        "It checks the user (authentication), the user's rights (RBAC: {}) and the request itself (admission, with \
         webhooks).",
        right(session.kind)
    );
    what.push_str(if leads_on {
        " The pod's object names the node, and the node's object has the address and port of its kubelet. The API \
         server connected there and now passes bytes both ways, without inspecting them."
    } else {
        " The pod's object names the node, and the node's object has the address and port of its kubelet. The API \
         server connects there."
    });
    if again {
        what.push_str(" It is the same process as before: it connected to itself, as k3s does through its own tunnel.");
    }
    let mut unknown = vec![
        "The protocol of the stream, SPDY (kubectl before 1.30) or WebSocket, is hidden by TLS, and so is the program \
         that translates between the two."
            .to_owned(),
    ];
    if session.client.user.is_none() {
        unknown.push(
            "The Kubernetes user is hidden by TLS as well. With `--audit-log`, execpath reads the name from the API \
             server's audit log."
                .to_owned(),
        );
    }
    Words {
        title: "the API server, the cluster's front door",
        what,
        why: "It is the only way in: only the API server knows users, rights, and the node of each pod.".to_owned(),
        unknown: if session.kind == Kind::Logs { Vec::new() } else { unknown },
        manual: manual::listens(session, index).into_iter().collect(),
    }
}

/// The permission that a user needs for this kind of session.
const fn right(kind: Kind) -> &'static str {
    match kind {
        Kind::Exec | Kind::Cp => "`create` on `pods/exec`",
        Kind::Attach | Kind::Debug => "`create` on `pods/attach`",
        Kind::PortForward => "`create` on `pods/portforward`",
        Kind::Logs => "`get` on `pods/log`",
        Kind::Probe | Kind::Local | Kind::Start | Kind::Request => "the verb on the resource",
    }
}

fn kubelet(session: &Session, index: usize) -> Words {
    let before = index.checked_sub(1).and_then(|before| session.hops.get(before));
    if before.is_some_and(|before| before.role == Role::Kubelet) && is_again(session, index) {
        return Words {
            title: "the same kubelet again: dockershim, inside it",
            what: "This kubelet has its own CRI runtime built in, dockershim (Kubernetes before 1.24). The stream's URL leads \
                   back into the kubelet: it connected to itself, and this is the accepting side, which speaks to dockerd."
                .to_owned(),
            why: "Docker does not speak the CRI. dockershim translated, and was a part of the kubelet.".to_owned(),
            ..Words::default()
        };
    }
    let mut what = match session.kind {
        Kind::PortForward => "It asks the runtime, by the CRI call PortForward, for a stream to the pod's ports.",
        Kind::Attach | Kind::Debug => "It asks the runtime, by the CRI call Attach, for a stream to the container.",
        Kind::Exec | Kind::Cp | Kind::Logs | Kind::Probe | Kind::Local | Kind::Start | Kind::Request => {
            "It does not run the command either: it asks the runtime by the CRI call Exec. The answer is not a result \
             but a URL at which the runtime waits for a stream; the kubelet connects there and passes bytes both \
             ways."
        }
    }
    .to_owned();
    if is_again(session, index) {
        let program = if is_program(session, index, Program::MicroShift) {
            "MicroShift"
        } else if is_program(session, index, Program::K3s) {
            "k3s"
        } else {
            "small distributions (k3s, MicroShift)"
        };
        what.push_str(&format!(
            " It is the same process as the API server: {program} runs both in one, and it connects to itself."
        ));
    }
    let unknown = (session.state == State::Open && before.is_none_or(|before| before.role != Role::ApiServer))
        .then(|| "The API server that sent the request is not known here.".to_owned())
        .filter(|_| before.is_none() && session.beyond.is_empty());
    Words {
        title: "the kubelet, the node's agent",
        what,
        why: "It acts for the node: it knows the node's pods and their runtime. To the kubelet the API server is a \
             client with a certificate. The API server does not check the kubelet's certificate unless the cluster is \
             set up to do so."
            .to_owned(),
        unknown: unknown.into_iter().collect(),
        manual: manual::listens(session, index).into_iter().collect(),
    }
}
