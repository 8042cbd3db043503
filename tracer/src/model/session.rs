//! Sessions: the result of the correlation.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    Ancestor, Attempt, BootTime, Confidence, ContainerInfo, ExitStatus, Gap, GapCode, KubeUser, ProcessInfo, Proofs,
    RawText, Signal, SocketId, TaskKey, Tuple, parse_kubectl,
};

/// Short hash of a stable identity: the boot id with the exec id, otherwise with the client socket's cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub Arc<str>);

/// Purpose of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `kubectl exec`, and sessions that look the same on the node.
    Exec,
    /// `kubectl attach`, `kubectl run -it`: the container's own first process.
    Attach,
    /// `kubectl debug`: attached to a container made for it.
    Debug,
    /// `kubectl cp`: an exec of tar.
    Cp,
    /// `kubectl port-forward`
    PortForward,
    /// `kubectl logs`
    Logs,
    /// CRI ExecSync: an exec probe or a lifecycle hook, without a stream.
    Probe,
    /// Past the kubelet: `docker exec`, `ctr task exec`, `crictl exec`.
    Local,
    /// A pod's start: its sandbox, then its containers.
    Start,
    /// A request of kubectl that involves only the API server and its store: `kubectl get`, `kubectl create`.
    Request,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Exec,
        Self::Attach,
        Self::Debug,
        Self::Cp,
        Self::PortForward,
        Self::Logs,
        Self::Probe,
        Self::Local,
        Self::Start,
        Self::Request,
    ];

    /// Kind of session that a kubectl command keeps open; `None` for commands that only send requests.
    #[must_use]
    pub fn kept_open(word: &str) -> Option<Self> {
        match word {
            "exec" => Some(Self::Exec),
            "attach" | "run" => Some(Self::Attach),
            "debug" => Some(Self::Debug),
            "cp" => Some(Self::Cp),
            "port-forward" => Some(Self::PortForward),
            "logs" => Some(Self::Logs),
            _ => None,
        }
    }

    /// True for kinds that a person or a script waits for and that can therefore get stuck. Probes run by themselves;
    /// starts and requests only show the history of a pod.
    #[must_use]
    pub const fn is_of_people(self) -> bool {
        !matches!(self, Self::Probe | Self::Start | Self::Request)
    }

    /// True for kinds that carry no bytes: they show the history of a pod, are not measured, and are never at fault.
    #[must_use]
    pub const fn is_event(self) -> bool {
        matches!(self, Self::Start | Self::Request)
    }

    /// Stable token for JSON.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::Debug => "debug",
            Self::Cp => "cp",
            Self::PortForward => "port-forward",
            Self::Logs => "logs",
            Self::Probe => "probe",
            Self::Local => "local",
            Self::Start => "start",
            Self::Request => "request",
        }
    }
}

/// State of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The session continues.
    Open,
    /// The session has ended.
    Closed,
}

/// Container that a session leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Namespace of the pod.
    pub namespace: Option<String>,
    /// Name of the pod.
    pub pod: Option<String>,
    /// UID of the pod.
    pub pod_uid: Option<String>,
    /// Name of the container.
    pub container: Option<String>,
    /// Id of the container.
    pub container_id: Option<String>,
    /// `containerd`, `docker`, `cri-o`.
    pub runtime: Option<String>,
    /// Set if the names come from kubectl's arguments and nothing on this host confirms them.
    pub said_by_client: bool,
}

impl Target {
    /// Adds each field that `other` knows and `self` does not. Known fields stay.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            namespace: self.namespace.or(other.namespace),
            pod: self.pod.or(other.pod),
            pod_uid: self.pod_uid.or(other.pod_uid),
            container: self.container.or(other.container),
            container_id: self.container_id.or(other.container_id),
            runtime: self.runtime.or(other.runtime),
            said_by_client: self.said_by_client,
        }
    }
}

impl From<ContainerInfo> for Target {
    fn from(info: ContainerInfo) -> Self {
        let ContainerInfo { id, name, pod, namespace, pod_uid, sandbox: _, runtime } = info;
        Self { namespace, pod, pod_uid, container: name, container_id: Some(id), runtime, said_by_client: false }
    }
}

/// Origin of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Address of the client's end, as seen by the first proxy.
    pub address: Option<SocketAddr>,
    /// User id of the client's process, if that process is on this host.
    pub uid: Option<u32>,
    /// Name of that user on this host.
    pub uid_name: Option<String>,
    /// Login user id of the client's process.
    pub login_uid: Option<u32>,
    /// Name of that login user on this host.
    pub login_name: Option<String>,
    /// Terminal of the client's process.
    pub tty: Option<String>,
    /// Ancestors of the client's process, its parent first; `None` if unknown.
    pub parents: Option<Arc<[Ancestor]>>,
    /// User of the session according to the API server's audit log.
    pub user: Option<Box<KubeUser>>,
    /// Set while the audit log may still name the user.
    pub pending: bool,
}

/// Result of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExit {
    /// Exit code of the process.
    pub code: Option<u8>,
    /// Signal that ended the process.
    pub signal: Option<u8>,
    /// Category of the result.
    pub reason: ExitReason,
}

/// The signal that ended a session's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Killed {
    /// Time at which the signal was sent.
    pub at: BootTime,
    /// The signal and its sender.
    pub signal: Signal,
    /// Time at which the runtime was first asked to kill the container, if it was, shortly before the process ended.
    pub stopped: Option<BootTime>,
}

/// Category of a session's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// The process called exit.
    Exited,
    /// A signal ended the process.
    Signalled,
    /// The runtime could not start the process.
    StartFailed,
    /// Result unknown.
    Unknown,
}

impl ExitReason {
    /// Stable token for JSON.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Signalled => "signalled",
            Self::StartFailed => "start-failed",
            Self::Unknown => "unknown",
        }
    }
}

impl From<ExitStatus> for SessionExit {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Code(code) => Self { code: Some(code), signal: None, reason: ExitReason::Exited },
            ExitStatus::Signal(signal) => Self { code: None, signal: Some(signal), reason: ExitReason::Signalled },
        }
    }
}

/// Role of a process on the path. A role belongs to a socket or an act, so one process can be two hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// kubectl, or another client.
    Client,
    /// Passes the connection on and has no other role.
    Proxy,
    /// kube-apiserver.
    ApiServer,
    /// Store of the API server.
    Etcd,
    /// kubelet.
    Kubelet,
    /// dockerd, containerd, crio …
    Runtime,
    /// containerd-shim-runc-v2, conmon …
    Shim,
    /// runc, crun …: starts the process and exits.
    Runc,
    /// Process that runs the requested command.
    Process,
}

impl Role {
    /// Stable token for JSON.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Client => "kubectl",
            Self::Proxy => "proxy",
            Self::ApiServer => "apiserver",
            Self::Etcd => "etcd",
            Self::Kubelet => "kubelet",
            Self::Runtime => "runtime",
            Self::Shim => "shim",
            Self::Runc => "runc",
            Self::Process => "process",
        }
    }

    /// True for a daemon that passes sessions on: they are cut if it ends. A shim ends with its pod, and runc by itself.
    #[must_use]
    pub const fn is_daemon(self) -> bool {
        matches!(self, Self::Proxy | Self::ApiServer | Self::Kubelet | Self::Runtime)
    }
}

/// One process in one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Role on this path.
    pub role: Role,
    /// Identity of the process.
    pub task: TaskKey,
    /// Properties of the process. Shared between sessions: arguments can be long and sessions many.
    pub process: Arc<ProcessInfo>,
    /// Exit status, once the process has ended.
    pub exit: Option<ExitStatus>,
}

/// Kind of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// A TCP connection.
    Tcp,
    /// A unix connection.
    Unix,
    /// Inbound to outbound connection inside one process.
    Relay,
    /// FIFOs.
    Fifo,
    /// One process forked the other.
    Fork,
    /// One process became the other, or started it through intermediate stages.
    Exec,
}

impl LinkKind {
    /// Stable token for JSON.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Unix => "unix",
            Self::Relay => "relay",
            Self::Fifo => "fifo",
            Self::Fork => "fork",
            Self::Exec => "exec",
        }
    }
}

/// Both ends of one TCP connection on the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpEnds {
    /// Addresses, seen from the end nearer to the client.
    pub tuple: Tuple,
    /// The end nearer to the client.
    pub near: Option<SocketId>,
    /// The end nearer to the process.
    pub far: Option<SocketId>,
    /// Time at which the near end connected, or else the far end was accepted; `None` if neither was observed.
    pub begun: Option<BootTime>,
    /// Bytes sent by the near end and acknowledged by the far end; set once the near end is closed.
    pub sent: Option<u64>,
    /// Bytes received by the near end; set once it is closed.
    pub received: Option<u64>,
}

/// Proved step from one hop to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index of the hop nearer to the client.
    pub from: usize,
    /// Index of the hop nearer to the process; equal to `from` for a relay.
    pub to: usize,
    /// Kind of the link.
    pub kind: LinkKind,
    /// Certainty of the link.
    pub confidence: Confidence,
    /// Evidence, strongest first.
    pub evidence: Proofs,
    /// True if several sessions share the connection.
    pub persistent: bool,
    /// Ends of a TCP connection.
    pub tcp: Option<TcpEnds>,
    /// Inbound and outbound socket of a relay.
    pub relay: Option<(SocketId, SocketId)>,
    /// Path, near end and far end of a unix connection.
    pub unix: Option<(RawText, SocketId, SocketId)>,
}

/// One session with its whole path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Stable id.
    pub id: SessionId,
    /// Purpose.
    pub kind: Kind,
    /// Open or closed.
    pub state: State,
    /// Start of the session: the time at which the client connected, if observed. For a session older than the tracer,
    /// the start of its command or its kubectl, otherwise the time of discovery.
    pub opened_at: BootTime,
    /// End of the session.
    pub closed_at: Option<BootTime>,
    /// Time of the last observed activity.
    pub last_seen: BootTime,
    /// Set if the session is older than the tracer.
    pub preexisting: bool,
    /// Session that this one turned out to be a part of. That session continues.
    pub merged_into: Option<SessionId>,
    /// Target container.
    pub target: Arc<Target>,
    /// Origin.
    pub client: Client,
    /// Requested command: the first one that the process ran. For a session older than the tracer, the command in its
    /// kubectl's arguments, otherwise the process's present arguments.
    pub command: Arc<[RawText]>,
    /// Set if `command` is truncated.
    pub command_truncated: bool,
    /// Pid of the command, as recorded by the runtime. Kept after the process has ended.
    pub command_pid: Option<u32>,
    /// True if the process has a terminal; `None` until runc was observed.
    pub tty: Option<bool>,
    /// True if stdin is passed on; `None` if unknown.
    pub stdin: Option<bool>,
    /// Exec id of the runtime.
    pub exec_id: Option<Arc<str>>,
    /// Result; `None` while the session is open.
    pub exit: Option<SessionExit>,
    /// The signal that ended the process, if a record reported its sender.
    pub killed: Option<Box<Killed>>,
    /// How far the attempt came, for sessions that a client asked the API server for.
    pub attempt: Option<Box<Attempt>>,
    /// Hops, from client to process.
    pub hops: Vec<Hop>,
    /// Links, in the order of the path.
    pub links: Vec<Link>,
    /// Addresses at which the path leaves this host: (side, address).
    pub beyond: Vec<(&'static str, SocketAddr)>,
    /// Unknown parts of the path.
    pub gaps: Vec<Gap>,
    /// True if no hop that can be on this host is missing.
    pub complete: bool,
}

impl Session {
    /// True for an attempt that was over before it could be reported as a session.
    #[must_use]
    pub fn is_attempt_only(&self) -> bool {
        self.attempt.as_ref().is_some_and(|attempt| attempt.is_over_at_once)
    }

    /// True for an exec of a runtime of which no client is known, if it may as well be a probe of the kubelet.
    #[must_use]
    pub fn may_be_probe(&self) -> bool {
        let is_headless = self.hops.first().is_none_or(|hop| hop.role == Role::Runtime);
        is_headless && self.gaps.iter().any(|gap| gap.code == GapCode::KindUnknown)
    }

    /// Exit status of the client's process, if it is known.
    #[must_use]
    pub fn client_exit(&self) -> Option<ExitStatus> {
        self.hops.first().filter(|hop| hop.role == Role::Client)?.exit
    }

    /// True if `kubectl exec` ended as its command did. `None` for other clients and kinds, while one of the two is
    /// unknown, and after a signal to kubectl. kubectl exits with the command's code, or with 128 and its signal.
    #[must_use]
    pub fn exit_agrees(&self) -> Option<bool> {
        let client = self.hops.first().filter(|hop| hop.role == Role::Client)?;
        let is_exec = parse_kubectl(&client.process.argv).is_some_and(|call| call.word == "exec");
        let Some(ExitStatus::Code(told)) = self.client_exit().filter(|_| is_exec) else { return None };
        let exit = self.exit?;
        match (exit.code, exit.signal) {
            (Some(code), _) => Some(code == told),
            (None, Some(signal)) => Some(signal.checked_add(128) == Some(told)),
            (None, None) if exit.reason == ExitReason::StartFailed => Some(told != 0),
            (None, None) => {
                let runs_on = self.gaps.iter().any(|gap| gap.code == GapCode::ProcessLeftRunning);
                (runs_on && told == 0).then_some(false)
            }
        }
    }

    /// Confidence of the weakest link; `None` without links.
    #[must_use]
    pub fn confidence(&self) -> Option<Confidence> {
        self.links.iter().map(|link| link.confidence).min()
    }

    /// Address of the API server that serves the session: where the client's side reached it or, on a node without the API
    /// server, the host that dialled the kubelet, without a port. `None` if no API server takes part, or it is not known.
    #[must_use]
    pub fn server(&self) -> Option<(IpAddr, Option<u16>)> {
        let role = |hop: usize| self.hops.get(hop).map(|hop| hop.role);
        let both = |address: SocketAddr| (address.ip(), Some(address.port()));
        let leg = self.links.iter().filter(|link| role(link.to) == Some(Role::ApiServer)).find_map(|link| link.tcp);
        if let Some(ends) = leg {
            return Some(both(ends.tuple.remote));
        }
        if let Some((_, address)) = self.beyond.iter().find(|(side, _)| *side == "apiserver") {
            return Some(both(*address));
        }
        // The port of the dialling end says nothing about the server.
        let from_kubelet = self.hops.first().is_some_and(|hop| hop.role == Role::Kubelet);
        let dialler = self.beyond.iter().find(|(side, _)| *side == "client").filter(|_| from_kubelet);
        dialler.map(|(_, address)| (address.ip(), None))
    }
}

/// Namespace of a `POD/CONTAINER`, as for kubectl.
const DEFAULT_NAMESPACE: &str = "default";

/// Indexes of the sessions that a person means by `text`. An exact id matches alone. Otherwise: sessions with this
/// prefix of an id, this pid on their path, or this pod (`POD`, `NAMESPACE/POD`, `NAMESPACE/POD/CONTAINER`). If nothing
/// matches, `POD/CONTAINER` in the namespace `default`.
#[must_use]
pub fn matching(sessions: &[Session], text: &str) -> Vec<usize> {
    if let Some(exactly) = sessions.iter().position(|session| *session.id.0 == *text) {
        return vec![exactly];
    }
    let pid: Option<u32> = text.parse().ok();
    let words: Vec<&str> = text.split('/').collect();
    let is = |name: &Option<String>, word: &str| name.as_deref() == Some(word);
    let is_meant = |session: &Session| {
        let target = &session.target;
        let by_name = match words[..] {
            [pod] => is(&target.pod, pod),
            [namespace, pod] => is(&target.namespace, namespace) && is(&target.pod, pod),
            [namespace, pod, container] => {
                is(&target.namespace, namespace) && is(&target.pod, pod) && is(&target.container, container)
            }
            _ => false,
        };
        let by_pid = pid.is_some_and(|pid| session.hops.iter().any(|hop| hop.task.tgid == pid));
        let by_id = text.len() >= MIN_ID && session.id.0.starts_with(text);
        by_name || by_pid || by_id
    };
    let found = sessions.iter().enumerate().filter(|(_, session)| is_meant(session));
    let found: Vec<usize> = found.map(|(index, _)| index).collect();
    let (true, [pod, container]) = (found.is_empty(), &words[..]) else { return found };
    let by_container = sessions.iter().enumerate().filter(|(_, session)| {
        let target = &session.target;
        is(&target.namespace, DEFAULT_NAMESPACE) && is(&target.pod, pod) && is(&target.container, container)
    });
    by_container.map(|(index, _)| index).collect()
}

/// Length of `s-` and a digit.
const MIN_ID: usize = 3;

#[cfg(test)]
impl Session {
    /// An open exec that is known by its id alone. Tests set the fields that they are about.
    pub(crate) fn sample() -> Self {
        Self {
            id: SessionId("s-1".into()),
            kind: Kind::Exec,
            state: State::Open,
            opened_at: BootTime(1),
            closed_at: None,
            last_seen: BootTime(1),
            preexisting: false,
            merged_into: None,
            target: Arc::default(),
            client: Client::default(),
            command: Arc::default(),
            command_truncated: false,
            command_pid: None,
            tty: None,
            stdin: None,
            exec_id: None,
            exit: None,
            killed: None,
            attempt: None,
            hops: Vec::new(),
            links: Vec::new(),
            beyond: Vec::new(),
            gaps: Vec::new(),
            complete: false,
        }
    }
}
