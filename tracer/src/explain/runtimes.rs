//! Explains everything below the kubelet: runtimes, shims, runc and the process itself.

use super::{
    programs::{self, Program, is_cri_dockerd, is_dockerd, is_program, name},
    words::Words,
};
use crate::model::{ExitStatus, Kind, LinkKind, Role, Session};

pub(super) fn runtime(session: &Session, index: usize) -> Words {
    let below_dockerd = (0..index).any(|above| is_dockerd(session, above));
    if is_cri_dockerd(session, index) {
        return Words {
            title: "between the kubelet and Docker",
            what: "It answers the kubelet's CRI calls and asks dockerd for each of them: cri-dockerd, or an \
                   equivalent program. The stream comes in by TCP and goes on over docker.sock."
                .to_owned(),
            why: "Docker does not speak the CRI. Until Kubernetes 1.24 the kubelet translated by itself (dockershim); since \
                  then a program beside it does."
                .to_owned(),
            ..Words::default()
        };
    }
    if is_dockerd(session, index) {
        return Words {
            title: "the Docker engine",
            what:
                "Its API takes two calls: one creates the exec, the next one starts it and turns its HTTP connection \
                 into the stream. It does not run containers itself; containerd does."
                    .to_owned(),
            why: "It is older than Kubernetes' interface for runtimes. Where it is still used, it is one more step on \
                 the way to containerd."
                .to_owned(),
            ..Words::default()
        };
    }
    if below_dockerd {
        return Words {
            title: "containerd, below Docker",
            what: "dockerd asks it to start the command, and it asks the shim. The stream does not go through it: dockerd \
                   and the shim have the FIFOs open themselves."
                .to_owned(),
            why: "Since 2016 Docker leaves the management of containers to containerd.".to_owned(),
            ..Words::default()
        };
    }
    let is_runc = |hop: usize| session.hops.get(hop).is_some_and(|hop| hop.role == Role::Runc);
    let starts_runc =
        session.links.iter().any(|link| link.from == index && is_runc(link.to) && link.kind == LinkKind::Fork);
    let mut what = match session.kind {
        Kind::Probe => "The kubelet asked it by the CRI call ExecSync to run a command and return its output.",
        Kind::PortForward => {
            "It accepted the kubelet's stream and connects to the ports inside the pod's network namespace."
        }
        Kind::Attach | Kind::Debug => {
            "It accepted the kubelet's stream and connects it to the container's own input \
                                       and output."
        }
        Kind::Local => "It was asked to run a command in one of its containers.",
        Kind::Start => "It was asked for a container, prepared the container's files, and started a shim for it.",
        Kind::Exec | Kind::Cp | Kind::Logs | Kind::Request => {
            "It answered the kubelet's CRI call with a URL on its own streaming server, accepted the stream there, \
             and requests the start of the command."
        }
    }
    .to_owned();
    if is_program(session, index, Program::ConmonRs) {
        what.push_str(" It is conmon-rs, which serves streams on behalf of CRI-O: they survive a restart of CRI-O.");
    } else if starts_runc {
        what.push_str(" It starts the OCI runtime itself, as CRI-O does: there is no shim in between.");
    }
    Words {
        title: "the container runtime",
        what,
        why: "It manages the node's containers: images, file systems, processes. The kubelet reaches every runtime \
              through the same interface, the CRI."
            .to_owned(),
        ..Words::default()
    }
}

pub(super) fn shim(session: &Session, index: usize) -> Words {
    // The runtime starts a shim with the pod, and a monitor with the command.
    let forked = session.links.iter().any(|link| link.to == index && link.from != index && link.kind == LinkKind::Fork);
    if forked && session.kind != Kind::Start {
        return Words {
            title: "the monitor of this command",
            what: "The runtime started it for this command alone: it starts runc, reads the command's output, and \
                   waits for the exit code. It ends with the command."
                .to_owned(),
            why: "CRI-O leaves the supervision of processes to a small program, conmon. CRI-O itself can then be \
                  restarted."
                .to_owned(),
            ..Words::default()
        };
    }
    let docker = (0..index).any(|above| is_dockerd(session, above));
    let each = if docker { "There is one for each container." } else { "There is one for each pod." };
    let hop = session.hops.get(index).map(name).unwrap_or_default();
    let what = if hop.contains("kata") {
        "It represents a container in a virtual machine: its processes run in the guest, where this kernel cannot see \
         them."
    } else {
        "It is the parent of the container's processes, holds the other ends of their input and output, starts runc for \
         each exec and waits for exit codes."
    };
    Words {
        title: "the shim, the parent of the container's processes",
        what: format!("{what} {each}"),
        why: "Containers survive a restart or update of the runtime, because they depend on the shim and not on the \
              runtime."
            .to_owned(),
        ..Words::default()
    }
}

pub(super) fn runc(session: &Session, index: usize) -> Words {
    let hop = session.hops.get(index);
    let runtime_above = index.checked_sub(1).and_then(|above| session.hops.get(above));
    let stays = runtime_above.is_some_and(|above| above.role == Role::Runtime);
    let failed = hop.is_some_and(|hop| hop.exit.is_some_and(|exit| exit != ExitStatus::Code(0)));
    let gone = match (stays, failed) {
        (_, true) => " It ended with an error.",
        (true, false) => " Here it stays until the command ends.",
        (false, false) => " Then it ends, and the process becomes a child of the shim.",
    };
    Words {
        title: "starts the process, inside the container",
        what: format!(
            "It is the OCI runtime (runc, or a compatible one): it joins the container's namespaces and cgroup, drops \
             rights, and becomes or starts the command.{gone}"
        ),
        why: "A container is an ordinary process with another view of the system. This program sets up that view."
            .to_owned(),
        ..Words::default()
    }
}

pub(super) fn process(session: &Session, index: usize) -> Words {
    let forwarded = session.kind == Kind::PortForward;
    let exit = session.hops.get(index).and_then(|hop| hop.exit);
    let ended = match exit {
        Some(ExitStatus::Code(code)) => format!(" It ended with exit code {code}."),
        Some(ExitStatus::Signal(signal)) => format!(" It was ended by signal {signal}."),
        None => String::new(),
    };
    let terminal = match session.tty {
        Some(true) => " It has a terminal (a pseudo-terminal, whose other end is held outside of the container).",
        Some(false) => " It has no terminal: its input and output are pipes.",
        None => "",
    };
    let target = programs::target(session);
    if forwarded {
        return Words {
            title: "the server on the forwarded port",
            what: format!("It runs in the pod and accepted the connection that the runtime made there.{ended}"),
            why: "This is the destination of the user's bytes.".to_owned(),
            ..Words::default()
        };
    }
    Words {
        title: "the requested command",
        what: format!("It is the command, running in {target}.{terminal}{ended}"),
        why: "To the node's kernel it is a process like any other, with a pid that `ps` on the node shows.".to_owned(),
        ..Words::default()
    }
}
