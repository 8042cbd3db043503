//! The anchor: the facts that one session is built from, by kind of anchor.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    anchor_id::{AnchorId, AnchorKey},
    sockets::SocketIdx,
};
use crate::model::{BootTime, Evidence, ExitStatus, HostNo, RawText, SessionId, Signal, TaskKey};

/// An anchor: the facts about one exec, connection, kubectl or container from which a session is built.
#[derive(Clone, Debug)]
pub(in crate::correlate) struct Anchor {
    /// Id of the container; empty if unknown.
    pub(in crate::correlate) container: Arc<str>,
    /// Time of the first fact: a FIFO was made, or a stream was found.
    pub(in crate::correlate) since: BootTime,
    /// Set when the anchor is older than the tracer.
    pub(in crate::correlate) preexisting: bool,
    /// Id of the session; provisional until `identified` is set.
    pub(in crate::correlate) session: SessionId,
    /// Set when `session` is final. Only execs with an id chosen by a user wait for it: see [`Anchors::identify`](super::anchors::Anchors::identify).
    pub(in crate::correlate) identified: bool,
    /// Host of the first fact.
    pub(in crate::correlate) host: HostNo,
    /// Set when the session was reported closed. Later facts do not open it again.
    pub(in crate::correlate) over: bool,
    /// Facts that only anchors of this kind have.
    pub(in crate::correlate) facts: Facts,
}

/// Facts of an anchor by its kind.
#[derive(Clone, Debug)]
pub(in crate::correlate) enum Facts {
    /// A process that a runtime was asked to start in a container.
    Exec(Box<Exec>),
    /// A connection to a runtime's streaming server without an exec.
    Stream(Stream),
    /// The connecting end of a connection to another host's kubelet.
    Leg(SocketIdx),
    /// A kubectl of this host.
    Kubectl(Call),
    /// A container with an observed start.
    Container(Box<Container>),
}

/// Facts about an exec.
#[derive(Clone, Debug, Default)]
pub(in crate::correlate) struct Exec {
    pub(in crate::correlate) origin: Origin,
    /// Process that made or holds the FIFOs, or that another client asked for the exec.
    pub(in crate::correlate) runtime: Option<TaskKey>,
    /// Set when the exec may have begun before the tracer attached to its runtime.
    pub(in crate::correlate) under_way: bool,
    /// Set when the FIFOs are in the directory of containerd's CRI plug-in: the kubelet requested the exec.
    pub(in crate::correlate) by_cri: bool,
    /// Set when the runtime had FIFOs of this older exec open.
    pub(in crate::correlate) held_by_runtime: bool,
    /// Names of the FIFOs seen: `stdin`, `stdout`, `stderr`.
    pub(in crate::correlate) fifos: BTreeSet<&'static str>,
    /// True if the process gets input, from the arguments of its monitor.
    pub(in crate::correlate) stdin: Option<bool>,
    pub(in crate::correlate) stream: StreamClaim,
    pub(in crate::correlate) launch: Launch,
}

/// Requester and naming of an exec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::correlate) enum Origin {
    /// The runtime made FIFOs for an exec id.
    #[default]
    Named,
    /// The runtime (CRI-O) gives no exec id. The `runc exec` identifies the exec.
    Unnamed,
    /// Another client than the kubelet asked the runtime (`ctr task exec`): the runtime itself made no FIFOs.
    Local,
}

/// Connection that carries the bytes of an exec.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::correlate) struct StreamClaim {
    /// Accepted connection for which the FIFOs were made; `None` for CRI ExecSync.
    pub(in crate::correlate) socket: Option<SocketIdx>,
    /// Evidence for `socket`, the strongest one.
    pub(in crate::correlate) by: Option<Evidence>,
    /// Set when the arguments of the copy name both FIFO and connection.
    pub(in crate::correlate) copied: bool,
    /// Time at which an actor without a goroutine id named the connection: a `g` alone, or a thread. `None` once an
    /// identified goroutine confirmed it.
    pub(in crate::correlate) unidentified: Option<BootTime>,
    /// Set when the FIFOs were made for a connection without a record.
    pub(in crate::correlate) for_unknown: bool,
    /// Set when several connections claim to be the stream. `socket` is then `None`.
    pub(in crate::correlate) ambiguous: bool,
    /// Set when an unclaimed stream of the same age may belong to this older exec.
    pub(in crate::correlate) may_exist: bool,
}

/// A process in a container, and how runc started it.
#[derive(Clone, Debug, Default)]
pub(in crate::correlate) struct Launch {
    /// The `runc exec` or `runc create` process.
    pub(in crate::correlate) runc: Option<TaskKey>,
    /// True if the process has a terminal.
    pub(in crate::correlate) tty: Option<bool>,
    /// Path of the pid file, from runc's arguments.
    pub(in crate::correlate) pid_file: Option<RawText>,
    /// Content of the pid file.
    pub(in crate::correlate) pid_file_says: Option<u32>,
    /// Process that started runc: the shim, a monitor, or the runtime itself.
    pub(in crate::correlate) shim: Option<TaskKey>,
    /// Set when the fork of runc by the shim was observed. Otherwise `shim` is runc's parent, which may have changed
    /// by reparenting.
    pub(in crate::correlate) shim_forked: bool,
    /// The process in the container.
    pub(in crate::correlate) process: Option<TaskKey>,
    /// Time of its first execve in the container, if observed.
    pub(in crate::correlate) process_since: Option<BootTime>,
    /// Arguments of the process at its first execve, or at its discovery.
    pub(in crate::correlate) command: Arc<[RawText]>,
    /// Set when `command` was cut.
    pub(in crate::correlate) command_truncated: bool,
    /// Time and status of the process's exit.
    pub(in crate::correlate) exit: Option<(BootTime, ExitStatus)>,
    /// Time and error number of the last execve(2) that failed below runc.
    pub(in crate::correlate) exec_failed: Option<(BootTime, u32)>,
    /// Time and sender of the last signal to the process. A later one does not replace the kernel's choice of a victim
    /// when memory is short.
    pub(in crate::correlate) signal: Option<(BootTime, Signal)>,
    /// Exit status of the last process below runc that ended, and its number of forks below runc.
    pub(in crate::correlate) stage_ended: Option<(usize, ExitStatus)>,
    /// Time at which runc failed without having started a process.
    pub(in crate::correlate) start_failed: Option<BootTime>,
}

/// Facts about a stream without an exec.
#[derive(Clone, Copy, Debug)]
pub(in crate::correlate) struct Stream {
    /// Process that accepted the connection.
    pub(in crate::correlate) runtime: Option<TaskKey>,
    /// The accepted connection.
    pub(in crate::correlate) socket: SocketIdx,
}

/// Facts about a kubectl.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::correlate) struct Call {
    /// The kubectl.
    pub(in crate::correlate) task: Option<TaskKey>,
    /// Its connection to the API server.
    pub(in crate::correlate) socket: Option<SocketIdx>,
    /// Set for a request that the API server answers itself. Otherwise kubectl waits for a session.
    pub(in crate::correlate) is_request: bool,
    /// Set if kubectl had ended before its request was shown.
    pub(in crate::correlate) is_attempt: bool,
}

/// Facts about a container.
#[derive(Clone, Debug, Default)]
pub(in crate::correlate) struct Container {
    /// Set for the first container of a shim.
    pub(in crate::correlate) is_first: bool,
    /// Runtime that started the shim; known for first containers only.
    pub(in crate::correlate) runtime: Option<TaskKey>,
    /// Set when another runtime had this one start the container (dockerd with containerd).
    pub(in crate::correlate) is_delegated: bool,
    /// Containers that the same shim started later.
    pub(in crate::correlate) siblings: Vec<AnchorId>,
    pub(in crate::correlate) launch: Launch,
}

/// Kinds of anchors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::correlate) enum AnchorKind {
    /// A process that a runtime was asked to start in a container, with an exec id.
    Exec,
    /// A process that a runtime without exec ids (CRI-O) was asked to start. Its `runc exec` identifies it.
    UnnamedExec,
    /// A process that another client than the kubelet requested (`ctr task exec`).
    LocalExec,
    /// A connection to a runtime's streaming server without an exec: exec, attach or port-forward.
    Stream,
    /// A connection to another host's kubelet.
    Leg,
    /// A kubectl of this host that waits for a session on its connection to the API server.
    PendingRequest,
    /// A kubectl of this host with a request that the API server answers itself.
    ApiRequest,
    /// First container of a shim: a pod's sandbox, or a container with a shim of its own.
    FirstContainer,
    /// Further container of a shim: a part of the first container's session.
    FurtherContainer,
}

impl Facts {
    /// No facts yet. The key of an anchor implies its kind.
    pub(super) fn new(key: &AnchorKey) -> Self {
        let exec = |origin| Self::Exec(Box::new(Exec { origin, ..Exec::default() }));
        match *key {
            AnchorKey::Exec { .. } => exec(Origin::Named),
            AnchorKey::Runc(_) => exec(Origin::Unnamed),
            AnchorKey::Stream(socket) => Self::Stream(Stream { runtime: None, socket }),
            AnchorKey::Leg(leg) => Self::Leg(leg),
            AnchorKey::Kubectl(_) => Self::Kubectl(Call::default()),
            AnchorKey::Container(_) => Self::Container(Box::default()),
        }
    }
}

impl Anchor {
    pub(in crate::correlate) fn kind(&self) -> AnchorKind {
        match &self.facts {
            Facts::Exec(exec) => match exec.origin {
                Origin::Named => AnchorKind::Exec,
                Origin::Unnamed => AnchorKind::UnnamedExec,
                Origin::Local => AnchorKind::LocalExec,
            },
            Facts::Stream(_) => AnchorKind::Stream,
            Facts::Leg(_) => AnchorKind::Leg,
            Facts::Kubectl(call) if call.is_request => AnchorKind::ApiRequest,
            Facts::Kubectl(_) => AnchorKind::PendingRequest,
            Facts::Container(container) if container.is_first => AnchorKind::FirstContainer,
            Facts::Container(_) => AnchorKind::FurtherContainer,
        }
    }

    /// Facts of an exec; `None` for other kinds.
    pub(in crate::correlate) fn as_exec(&self) -> Option<&Exec> {
        if let Facts::Exec(exec) = &self.facts { Some(exec) } else { None }
    }

    /// Facts of an exec; `None` for other kinds.
    pub(in crate::correlate) fn as_exec_mut(&mut self) -> Option<&mut Exec> {
        if let Facts::Exec(exec) = &mut self.facts { Some(exec) } else { None }
    }

    /// Facts of a container; `None` for other kinds.
    pub(in crate::correlate) fn as_container(&self) -> Option<&Container> {
        if let Facts::Container(container) = &self.facts { Some(container) } else { None }
    }

    /// Facts of a container; `None` for other kinds.
    pub(in crate::correlate) fn as_container_mut(&mut self) -> Option<&mut Container> {
        if let Facts::Container(container) = &mut self.facts { Some(container) } else { None }
    }

    /// Process in the container and its start; `None` for kinds without one.
    pub(in crate::correlate) fn launch(&self) -> Option<&Launch> {
        match &self.facts {
            Facts::Exec(exec) => Some(&exec.launch),
            Facts::Container(container) => Some(&container.launch),
            Facts::Stream(_) | Facts::Leg(_) | Facts::Kubectl(_) => None,
        }
    }

    /// Process in the container and its start; `None` for kinds without one.
    pub(in crate::correlate) fn launch_mut(&mut self) -> Option<&mut Launch> {
        match &mut self.facts {
            Facts::Exec(exec) => Some(&mut exec.launch),
            Facts::Container(container) => Some(&mut container.launch),
            Facts::Stream(_) | Facts::Leg(_) | Facts::Kubectl(_) => None,
        }
    }

    /// Runtime of the exec, stream or container.
    pub(in crate::correlate) fn runtime(&self) -> Option<TaskKey> {
        match &self.facts {
            Facts::Exec(exec) => exec.runtime,
            Facts::Stream(stream) => stream.runtime,
            Facts::Container(container) => container.runtime,
            Facts::Leg(_) | Facts::Kubectl(_) => None,
        }
    }

    /// Accepted connection that carries the bytes of the session.
    pub(in crate::correlate) fn stream(&self) -> Option<SocketIdx> {
        match &self.facts {
            Facts::Exec(exec) => exec.stream.socket,
            Facts::Stream(stream) => Some(stream.socket),
            Facts::Leg(_) | Facts::Kubectl(_) | Facts::Container(_) => None,
        }
    }

    /// Connection that is all there is of the path on this host: the leg to another host's kubelet, or kubectl's
    /// connection to the API server.
    pub(in crate::correlate) fn leaves_by(&self) -> Option<SocketIdx> {
        match &self.facts {
            Facts::Leg(leg) => Some(*leg),
            Facts::Kubectl(call) => call.socket,
            Facts::Exec(_) | Facts::Stream(_) | Facts::Container(_) => None,
        }
    }

    pub(in crate::correlate) fn runc(&self) -> Option<TaskKey> {
        self.launch()?.runc
    }

    pub(in crate::correlate) fn shim(&self) -> Option<TaskKey> {
        self.launch()?.shim
    }

    pub(in crate::correlate) fn process(&self) -> Option<TaskKey> {
        self.launch()?.process
    }

    pub(in crate::correlate) fn tty(&self) -> Option<bool> {
        self.launch()?.tty
    }

    pub(in crate::correlate) fn exit(&self) -> Option<(BootTime, ExitStatus)> {
        self.launch()?.exit
    }

    pub(in crate::correlate) fn start_failed(&self) -> Option<BootTime> {
        self.launch()?.start_failed
    }

    pub(in crate::correlate) fn pid_file_says(&self) -> Option<u32> {
        self.launch()?.pid_file_says
    }

    /// Command of the process, and whether it was cut.
    pub(in crate::correlate) fn command(&self) -> (Arc<[RawText]>, bool) {
        self.launch().map(|launch| (Arc::clone(&launch.command), launch.command_truncated)).unwrap_or_default()
    }

    /// Exec id that the runtime knows; `None` for other kinds.
    pub(in crate::correlate) fn exec_id(&self, id: &AnchorId) -> Option<Arc<str>> {
        matches!(self.kind(), AnchorKind::Exec | AnchorKind::LocalExec).then(|| id.name().into())
    }

    /// True if the exec has stdin or a terminal. Probes have neither.
    pub(in crate::correlate) fn reads(&self) -> bool {
        self.tty() == Some(true) || self.as_exec().is_some_and(|exec| exec.fifos.contains("stdin"))
    }

    /// True if the runtime itself started runc in the foreground. runc then stays as long as the process. Runtimes do
    /// so only for streams.
    pub(in crate::correlate) fn is_foreground(&self) -> bool {
        self.kind() == AnchorKind::UnnamedExec && self.runtime().is_some() && self.shim() == self.runtime()
    }

    /// True if the anchor is a session. An exec that is known from runc's arguments alone is not.
    pub(in crate::correlate) fn is_session(&self) -> bool {
        self.runtime().is_some() || matches!(self.facts, Facts::Leg(_) | Facts::Kubectl(_))
    }
}
