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
        "The process has many connections. Bytes received on one of these two are sent on the other, in both \
         directions."
            .to_owned(),
        "Neither `ss` nor `netstat` can show this step: they list a process's connections, but not the pairs that \
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
            "HTTPS. The output comes back as the answer to a plain request; with `-f` that answer does not end.",
            "There is no input, so no stream for both directions is needed.",
        ),
        (Some(Role::Client), Some(Role::ApiServer | Role::Proxy)) => (
            "HTTPS. Once the client's request is granted, an HTTP upgrade turns the connection into a stream: input, \
             output, errors, the size of the window and the exit code then share it.",
            "kubectl usually opens another one to the same address, to ask for the pod first. `ss` shows both alike \
             and cannot show the session's one.",
        ),
        (Some(Role::ApiServer), Some(Role::Kubelet)) if is_again(session, link.to) => (
            "HTTPS, to the kubelet's port. Both ends are in one process: it connected to itself.",
            "API server and kubelet are one program here, but still communicate as if they were two.",
        ),
        (Some(Role::ApiServer), Some(Role::Kubelet)) => (
            "HTTPS, to the kubelet's port. The API server opened it for this session alone, and closes it with the \
             session.",
            "The request has to get from the control plane to the pod's node.",
        ),
        (Some(Role::Proxy), Some(Role::Kubelet)) => (
            "To the kubelet's port, opened for this session alone.",
            "This is the last step out of the tunnel. The API server encrypted its content.",
        ),
        (Some(Role::Kubelet), Some(Role::Kubelet)) => (
            "Plain HTTP on this machine, from the kubelet to itself: the stream's URL leads to dockershim, a part of \
             the kubelet.",
            "dockershim was written like a separate runtime, so the kubelet connects to itself as to any other.",
        ),
        (Some(Role::Kubelet), Some(Role::Runtime)) => (
            "Usually plain HTTP, turned into a stream by an upgrade (SPDY). It leads to the URL that the runtime gave \
             the kubelet, most often at a random port of 127.0.0.1, and serves this session alone.",
            "The CRI's own connection carries short requests and answers. Each stream gets a connection of its own.",
        ),
        (_, Some(Role::Etcd)) => (
            "gRPC, encrypted. The API server has a connection for each kind of object, and all requests share them.",
            "The API server reads the cluster's state from etcd and writes changes to it.",
        ),
        (Some(Role::Runtime), Some(Role::Process)) => (
            "The runtime connected to the forwarded port, inside the pod's network namespace, which has its own \
             127.0.0.1.",
            "Each connection of the user to the local port gets one of these.",
        ),
        _ => ("A connection opened for this session.", ""),
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
            "Each exec has one of these for itself; other requests to Docker use another connection.",
        ),
        (Some(Role::Runtime), Some(Role::Runtime)) => {
            ("gRPC over a unix socket: one runtime lets the other do the work.", "dockerd runs no container itself.")
        }
        (Some(Role::Kubelet), Some(Role::Runtime)) if session.kind == Kind::Start => (
            "gRPC over a unix socket: the CRI. The kubelet uses it to request the sandbox and each container.",
            "All requests of the kubelet share it, so its byte counts do not describe a single pod.",
        ),
        (Some(Role::Kubelet), Some(Role::Runtime)) => (
            "gRPC over a unix socket: the CRI. The request for the exec went this way, and the answer was the URL of the \
             stream.",
            "All requests of the kubelet share it, so its byte counts do not describe a single session.",
        ),
        (_, Some(Role::Shim)) => (
            "ttrpc, a small gRPC, over a unix socket: the runtime sends requests to start processes, and the shim \
             reports their end.",
            "The stream itself does not pass here: it passes through the FIFOs.",
        ),
        (Some(Role::Client), _) => {
            ("The runtime's API, over a unix socket.", "A socket in the file system needs no network.")
        }
        _ => ("A connection between two processes of this host.", ""),
    };
    let shared = if link.persistent { " Sessions share it, and it stays open after this one." } else { "" };
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
            "Pipes with names, one each for stdin, stdout and, without a terminal, stderr: {from} has one end and \
             {to} the other.{id}"
        ),
        "Either side can be restarted and open them again by name: the session does not depend on a connection here.",
    )
}

fn fork(session: &Session, link: &Link) -> Texts {
    let (from, to) = (name_at(session, link.from), name_at(session, link.to));
    (
        format!("{from} started {to}"),
        format!("{from} made a child process (fork) that became {to} (execve)."),
        "There are no connections beyond this point: the rest of the path consists of parents and children.",
    )
}

fn exec(session: &Session, link: &Link) -> Texts {
    let (from, to) = (name_at(session, link.from), name_at(session, link.to));
    let through_runc = role(session, link.from) == Some(Role::Runc);
    let what = if through_runc {
        format!("{from} set up a process in the container, which then became {to} (execve) in a few short stages.")
    } else {
        format!("{to} is a process of {from}; the program that started it has ended.")
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
