//! Explains links between two processes, or between two connections inside one process.

use super::{
    Explanation, known, manual,
    programs::{NAME, is_again, is_dockerd, name, who_at},
};
use crate::{
    escape,
    model::{Kind, Link, LinkKind, Role, Session},
};

pub(super) fn link(session: &Session, index: usize) -> Option<Explanation> {
    let link = session.links.get(index)?;
    let (title, what, why) = match link.kind {
        LinkKind::Relay => relay(session, link),
        LinkKind::Tcp => tcp(session, link),
        LinkKind::Unix => unix(session, link),
        LinkKind::Fifo => fifo(session, link),
        LinkKind::Fork => fork(session, link),
        LinkKind::Exec => exec(session, link),
    };
    Some(Explanation {
        title,
        what,
        why: why.to_owned(),
        known: known::known(link),
        unknown: Vec::new(),
        manual: manual::link(session, link),
    })
}

type Texts = (String, String, &'static str);

fn role(session: &Session, index: usize) -> Option<Role> {
    session.hops.get(index).map(|hop| hop.role)
}

fn relay(session: &Session, link: &Link) -> Texts {
    let who = who_at(session, link.from);
    (
        format!("inside {who}: one connection leads to the other"),
        "The process has many connections. What comes in by this one goes out by that one, and the other way round."
            .to_owned(),
        "This is the step that neither `ss` nor `netstat` can show: they list a process's connections, not which of them \
         belong together.",
    )
}

fn tcp(session: &Session, link: &Link) -> Texts {
    let ends = link.tcp.map(|ends| format!(" {} to {}", ends.tuple.local, ends.tuple.remote)).unwrap_or_default();
    let title = format!("TCP connection{ends}");
    let (from, to) = (role(session, link.from), role(session, link.to));
    let (what, why) = match (from, to) {
        (Some(Role::Client), _) if session.kind == Kind::Request => {
            ("HTTPS. Requests and answers, one after another or side by side (HTTP/2).", "")
        }
        (Some(Role::Client), Some(Role::ApiServer | Role::Proxy)) if session.kind == Kind::Logs => (
            "HTTPS. What was printed comes back as the answer to a plain request; with `-f` that answer does not end.",
            "Nothing is typed here, so no stream for both directions is needed.",
        ),
        (Some(Role::Client), Some(Role::ApiServer | Role::Proxy)) => (
            "HTTPS. Once the client's request is granted, it is turned into a stream (an HTTP upgrade): from then on input, \
             output, errors, the size of the window and the exit code share this one connection.",
            "kubectl makes another one to the same place as a rule, to ask for the pod first. `ss` shows both alike, and does \
             not say which of them is the session's.",
        ),
        (Some(Role::ApiServer), Some(Role::Kubelet)) if is_again(session, link.to) => (
            "HTTPS, to the kubelet's port. Both ends are in one process: it connected to itself.",
            "API server and kubelet are one program here and still speak to each other as if they were two.",
        ),
        (Some(Role::ApiServer), Some(Role::Kubelet)) => (
            "HTTPS, to the kubelet's port. The API server made it for this session alone, and it ends with it.",
            "The request has to get from the control plane to the node on which the pod runs.",
        ),
        (Some(Role::Proxy), Some(Role::Kubelet)) => (
            "To the kubelet's port, made for this session alone.",
            "The last step out of the tunnel. What is encrypted in it is the API server's.",
        ),
        (Some(Role::Kubelet), Some(Role::Kubelet)) => (
            "Plain HTTP on this machine, from the kubelet to itself: the stream's URL leads to dockershim, which is a part \
             of it.",
            "dockershim was written as if it were a runtime of its own, so the kubelet calls on itself as on any other.",
        ),
        (Some(Role::Kubelet), Some(Role::Runtime)) => (
            "As a rule plain HTTP, turned into a stream by an upgrade (SPDY). It goes to the URL that the runtime gave the \
             kubelet, most often at a random port of 127.0.0.1, and it is made for this session alone.",
            "The CRI's own connection carries short questions and answers. Streams get one of their own beside it.",
        ),
        (_, Some(Role::Etcd)) => (
            "gRPC, encrypted. The API server has a connection for each kind of object, and all requests share them.",
            "What the API server knows it has from etcd, and what it is told it writes there.",
        ),
        (Some(Role::Runtime), Some(Role::Process)) => (
            "The runtime connected to the forwarded port, inside the pod's network namespace, where the pod's own \
             127.0.0.1 is.",
            "Each connection that the user makes to the local port gets one of these.",
        ),
        _ => ("A connection that was made for this session.", ""),
    };
    (title, what.to_owned(), why)
}

fn unix(session: &Session, link: &Link) -> Texts {
    let path = link.unix.as_ref().map(|(path, ..)| escape::shortened(path)).unwrap_or_default();
    let title = format!("unix connection {path}");
    let (from, to) = (role(session, link.from), role(session, link.to));
    let (what, why) = match (from, to) {
        (_, Some(Role::Runtime)) if is_dockerd(session, link.to) => (
            "Plain HTTP over a unix socket, Docker's API. A request to start an exec turns its connection into the stream.",
            "Each exec takes one of these for itself; questions about containers ride another one.",
        ),
        (Some(Role::Runtime), Some(Role::Runtime)) => (
            "gRPC over a unix socket: the one runtime has the other do the work.",
            "dockerd keeps no container itself.",
        ),
        (Some(Role::Kubelet), Some(Role::Runtime)) if session.kind == Kind::Start => (
            "gRPC over a unix socket: the CRI. The kubelet asks for the sandbox and for each container by it.",
            "All requests of the kubelet share it, so that its bytes say nothing of one pod.",
        ),
        (Some(Role::Kubelet), Some(Role::Runtime)) => (
            "gRPC over a unix socket: the CRI. The request for the exec went this way, and the answer was the URL of the \
             stream.",
            "All requests of the kubelet share it, so that its bytes say nothing of one session.",
        ),
        (_, Some(Role::Shim)) => (
            "ttrpc, a small gRPC, over a unix socket: by this the runtime tells the shim what to start, and the shim tells \
             it what ended.",
            "The stream itself does not go here: it goes through the FIFOs.",
        ),
        (Some(Role::Client), _) => {
            ("The runtime's API, over a unix socket.", "A socket in the file system needs no network.")
        }
        _ => ("A connection between two processes of this host.", ""),
    };
    let shared = if link.persistent { " It is shared by sessions and stays when this one is over." } else { "" };
    (title, format!("{what}{shared}"), why)
}

fn fifo(session: &Session, link: &Link) -> Texts {
    let (from, to) = (name_at(session, link.from), name_at(session, link.to));
    let id = match &session.exec_id {
        Some(id) => format!(" Their names begin with the exec id, {}.", escape::str(id, NAME + 1)),
        None => String::new(),
    };
    (
        format!("FIFOs between {from} and {to}"),
        format!(
            "Pipes with names, one each for stdin, stdout and, without a terminal, stderr: {from} has the one end and {to} \
             the other.{id}"
        ),
        "Because they have names, either side can be restarted and open them again: the session's bytes are not tied to a \
         connection here.",
    )
}

fn fork(session: &Session, link: &Link) -> Texts {
    let (from, to) = (name_at(session, link.from), name_at(session, link.to));
    (
        format!("{from} started {to}"),
        format!("{from} made a child process (fork) that became {to} (execve)."),
        "From here on there are no connections any more: the rest of the path is parents and children.",
    )
}

fn exec(session: &Session, link: &Link) -> Texts {
    let (from, to) = (name_at(session, link.from), name_at(session, link.to));
    let through_runc = role(session, link.from) == Some(Role::Runc);
    let what = if through_runc {
        format!(
            "{from} set up a process in the container, which then became {to} (execve), by way of some short stages."
        )
    } else {
        format!("{to} is the process that {from} keeps; what started it is gone already.")
    };
    let why = match session.kind {
        Kind::Exec | Kind::Cp => "This is where the command that was typed begins to run.",
        Kind::Start => "This is where the container begins to run.",
        Kind::Attach | Kind::Debug | Kind::PortForward | Kind::Logs | Kind::Probe | Kind::Local | Kind::Request => {
            "This is where the command begins to run."
        }
    };
    (format!("{to} was started in the container"), what, why)
}

fn name_at(session: &Session, index: usize) -> String {
    session.hops.get(index).map_or_else(|| "a process".to_owned(), name)
}
