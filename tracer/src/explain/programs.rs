//! Recognizes well-known programs by the names that processes give themselves. A name proves nothing, so it only
//! selects words. Roles come from sockets and actions.

use crate::{
    escape,
    model::{Hop, LinkKind, Role, Session},
};

/// Most bytes of a name.
pub(super) const NAME: usize = 63;

/// A program with an explanation of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Kubectl,
    Docker,
    Ctr,
    Crictl,
    K3s,
    MicroShift,
    Containerd,
    Dockerd,
    CriDockerd,
    Crio,
    ConmonRs,
}

/// Names as `comm` has them: cut after 15 bytes. A distribution may use a name of its own.
const NAMES: &[(&[u8], Program)] = &[
    (b"kubectl", Program::Kubectl),
    (b"docker", Program::Docker),
    (b"ctr", Program::Ctr),
    (b"crictl", Program::Crictl),
    (b"k3s", Program::K3s),
    (b"k3s-server", Program::K3s),
    (b"k3s-agent", Program::K3s),
    (b"microshift", Program::MicroShift),
    (b"containerd", Program::Containerd),
    (b"dockerd", Program::Dockerd),
    (b"cri-dockerd", Program::CriDockerd),
    (b"crio", Program::Crio),
    (b"conmonrs", Program::ConmonRs),
    (b"conmon-rs", Program::ConmonRs),
];

/// The program, if its name is known.
pub(super) fn program(hop: &Hop) -> Option<Program> {
    let exe = hop.process.exe.as_ref().map(|path| path.basename());
    let argv = hop.process.argv.first().map(|path| path.basename());
    let named = |name: &[u8]| NAMES.iter().find(|(known, _)| *known == name).map(|(_, program)| *program);
    [Some(hop.process.comm.as_bytes()), exe, argv].into_iter().flatten().find_map(named)
}

/// The name that a process gives itself, or its role if that name is empty.
pub(super) fn name(hop: &Hop) -> String {
    let comm = escape::text(hop.process.comm.as_bytes(), NAME);
    if comm.is_empty() { hop.role.token().to_owned() } else { comm }
}

/// Name and pid.
pub(super) fn who(hop: &Hop) -> String {
    format!("{} (pid {})", name(hop), hop.task.tgid)
}

/// Name and pid of the hop at `index`.
pub(super) fn who_at(session: &Session, index: usize) -> String {
    session.hops.get(index).map_or_else(|| "an unknown process".to_owned(), who)
}

/// True if the hop before this one is the same process.
pub(super) fn is_again(session: &Session, index: usize) -> bool {
    let before = index.checked_sub(1).and_then(|before| session.hops.get(before));
    matches!((before, session.hops.get(index)), (Some(before), Some(hop)) if before.task == hop.task)
}

/// True for dockerd: the connection comes through Docker's socket, or the process has dockerd's name.
pub(super) fn is_dockerd(session: &Session, index: usize) -> bool {
    by_socket(session, index, b"docker.sock") || is_program(session, index, Program::Dockerd)
}

/// True for a process between a kubelet and dockerd, such as cri-dockerd.
pub(super) fn is_cri_dockerd(session: &Session, index: usize) -> bool {
    let leads_to_dockerd = session.links.iter().any(|link| {
        link.from == index && link.to > index && link.kind == LinkKind::Unix && is_dockerd(session, link.to)
    });
    let is_runtime = session.hops.get(index).is_some_and(|hop| hop.role == Role::Runtime);
    is_runtime && (leads_to_dockerd || is_program(session, index, Program::CriDockerd))
}

pub(super) fn is_program(session: &Session, index: usize, which: Program) -> bool {
    session.hops.get(index).and_then(program) == Some(which)
}

/// True if the process accepted a unix connection at a socket with that file name.
fn by_socket(session: &Session, index: usize, name: &[u8]) -> bool {
    let named = |link: &crate::model::Link| link.unix.as_ref().is_some_and(|(path, ..)| path.basename() == name);
    session.links.iter().any(|link| link.to == index && link.from != index && named(link))
}

/// Pod and container for the middle of a sentence, as far as they are known.
pub(super) fn target(session: &Session) -> String {
    let target = &session.target;
    let name = |name: &Option<String>| name.as_ref().map(|name| escape::str(name, NAME));
    let pod = name(&target.pod).map(|pod| match name(&target.namespace) {
        Some(namespace) => format!("the pod {namespace}/{pod}"),
        None => format!("the pod {pod}"),
    });
    match (name(&target.container), pod) {
        (Some(container), Some(pod)) => format!("the container {container} of {pod}"),
        (None, Some(pod)) => pod,
        (Some(container), None) => format!("the container {container}"),
        (None, None) => "a container without a known name".to_owned(),
    }
}
