//! The session: the answer.

use std::sync::Arc;

use super::{
    Ancestor, BootTime, Confidence, ContainerInfo, ExitStatus, Gap, KubeUser, ProcessInfo, Proofs, RawText, SocketId,
    TaskKey, Tuple,
};

/// Short hash of a stable identity: the boot id with the exec id, else with the client socket's cookie.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(pub Arc<str>);

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `kubectl exec`, and what looks the same on the node.
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
    /// CRI ExecSync: an exec probe or a lifecycle hook, no stream.
    Probe,
    /// Past the kubelet: `docker exec`, `ctr task exec`, `crictl exec`.
    Local,
    /// A pod's start: its sandbox, then its containers.
    Start,
    /// What kubectl asks of the API server and of nobody behind it but its store: `kubectl get`, `kubectl create`.
    Request,
}

impl Kind {
    /// Every one.
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

    /// Whether somebody waits at a terminal for it, or a script does: what can be stuck. Probes come by themselves; starts and
    /// requests are there to tell the story of a pod.
    #[must_use]
    pub const fn is_of_people(self) -> bool {
        !matches!(self, Self::Probe | Self::Start | Self::Request)
    }

    /// Whether it tells a story rather than carries bytes: nothing of it is measured, and it is never at fault.
    #[must_use]
    pub const fn is_story(self) -> bool {
        matches!(self, Self::Start | Self::Request)
    }

    /// Stable token.
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

/// Whether it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Open,
    /// It does not.
    Closed,
}

/// The container it leads into.
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
    /// The names are those in kubectl's arguments; nothing on this host confirms them.
    pub said_by_client: bool,
}

impl Target {
    /// Adds each field that `other` knows and `self` does not. A field that is known stays.
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

/// Who began it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Address of the client's end, as the first proxy sees it.
    pub address: Option<std::net::SocketAddr>,
    /// User of the client's process, where that is on this host.
    pub uid: Option<u32>,
    /// Name of that user on this host.
    pub uid_name: Option<String>,
    /// Login user of it.
    pub login_uid: Option<u32>,
    /// Name of that user on this host.
    pub login_name: Option<String>,
    /// Its terminal.
    pub tty: Option<String>,
    /// Processes above it, its parent first; `None` where nobody told.
    pub parents: Option<Arc<[Ancestor]>>,
    /// Whom the API server took it for, as its audit log has it.
    pub user: Option<Box<KubeUser>>,
    /// Whether the audit log may still tell.
    pub pending: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionExit {
    /// Exit code of the process.
    pub code: Option<u8>,
    /// Signal that ended the process.
    pub signal: Option<u8>,
    /// In a word.
    pub reason: ExitReason,
}

/// How it ended, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// The process called exit.
    Exited,
    /// A signal ended the process.
    Signalled,
    /// The runtime could not start the process.
    StartFailed,
    /// Not known.
    Unknown,
}

impl ExitReason {
    /// Stable token.
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

/// What a process does on the path. A role belongs to a socket or an act, so one process can be two hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// kubectl, or another client.
    Client,
    /// Passes the connection on, and is none of the others.
    Proxy,
    /// kube-apiserver.
    ApiServer,
    /// Where the API server keeps everything.
    Etcd,
    /// kubelet.
    Kubelet,
    /// dockerd, containerd, crio …
    Runtime,
    /// containerd-shim-runc-v2, conmon …
    Shim,
    /// runc, crun …: starts the process and goes.
    Runc,
    /// What was asked for.
    Process,
}

impl Role {
    /// Stable token.
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
}

/// One process in one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// What it does here.
    pub role: Role,
    /// Which process.
    pub task: TaskKey,
    /// What is known of it; shared by what is known of it elsewhere, since arguments can be long and sessions many.
    pub process: Arc<ProcessInfo>,
    /// How it ended, if it did.
    pub exit: Option<ExitStatus>,
}

/// What a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// A TCP connection.
    Tcp,
    /// A unix connection.
    Unix,
    /// Inbound to outbound inside one process.
    Relay,
    /// FIFOs.
    Fifo,
    /// One forked the other.
    Fork,
    /// One became, or started by way of stages, the other.
    Exec,
}

impl LinkKind {
    /// Stable token.
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

/// Both ends of a TCP leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpEnds {
    /// Addresses, seen from the end nearer to the client.
    pub tuple: Tuple,
    /// The end nearer to the client.
    pub near: Option<SocketId>,
    /// The end nearer to the process.
    pub far: Option<SocketId>,
    /// When the near end connected, or else the far end was accepted; `None` where neither was seen.
    pub begun: Option<BootTime>,
    /// Bytes that the near end sent and the far end acknowledged; known once it is closed.
    pub sent: Option<u64>,
    /// Bytes that the near end received; known once it is closed.
    pub received: Option<u64>,
}

/// A proved step from one hop to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index of a hop.
    pub from: usize,
    /// Index of a hop; the same one for a relay.
    pub to: usize,
    /// What it is.
    pub kind: LinkKind,
    /// How sure it is.
    pub confidence: Confidence,
    /// What it rests on, in order of strength.
    pub evidence: Proofs,
    /// Whether sessions share it.
    pub persistent: bool,
    /// Of TCP legs.
    pub tcp: Option<TcpEnds>,
    /// Of relays: inbound and outbound socket.
    pub relay: Option<(SocketId, SocketId)>,
    /// Of unix connections: path, near end, far end.
    pub unix: Option<(RawText, SocketId, SocketId)>,
}

/// One session, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// What it is for.
    pub kind: Kind,
    /// Whether it goes on.
    pub state: State,
    /// When it began: when the client connected, as far as that was seen; of one older than the tracer, when its command or its kubectl
    /// was started, else when it was found.
    pub opened_at: BootTime,
    /// When it ended.
    pub closed_at: Option<BootTime>,
    /// Last sign of life that was seen.
    pub last_seen: BootTime,
    /// Whether it is older than the tracer.
    pub preexisting: bool,
    /// It was a part of that session, which goes on; known only now.
    pub merged_into: Option<SessionId>,
    /// Where it leads.
    pub target: Arc<Target>,
    /// Who began it.
    pub client: Client,
    /// The command that was asked for: the first that the process ran, or, of a session older than the tracer, what its kubectl was
    /// told to run, else what the process has as its arguments.
    pub command: Arc<[RawText]>,
    /// Whether the command was cut.
    pub command_truncated: bool,
    /// Pid of the command as the runtime wrote it down, also where no process has it any more.
    pub command_pid: Option<u32>,
    /// Whether the process has a terminal; `None` until runc was seen.
    pub tty: Option<bool>,
    /// Whether stdin is passed on.
    pub stdin: Option<bool>,
    /// The runtime's id of the exec.
    pub exec_id: Option<Arc<str>>,
    /// How it ended; `None` while open.
    pub exit: Option<SessionExit>,
    /// Client to process.
    pub hops: Vec<Hop>,
    /// In the order of the path.
    pub links: Vec<Link>,
    /// Addresses at which the path leaves this host: (side, address).
    pub beyond: Vec<(&'static str, std::net::SocketAddr)>,
    /// What is not known.
    pub gaps: Vec<Gap>,
    /// Whether every hop that can be on this host is there.
    pub complete: bool,
}

impl Session {
    /// The confidence of its weakest link; `None` without links.
    #[must_use]
    pub fn confidence(&self) -> Option<Confidence> {
        self.links.iter().map(|link| link.confidence).min()
    }
}

/// Which of these sessions a person means by `text`: the one with that id, else those whose id begins with it, those that have
/// that pid on their path, and those that lead into the pod `POD`, `NAMESPACE/POD` or `NAMESPACE/POD/CONTAINER`.
#[must_use]
pub fn matching(sessions: &[Session], text: &str) -> Vec<usize> {
    if let Some(exactly) = sessions.iter().position(|session| *session.id.0 == *text) {
        return vec![exactly];
    }
    let pid: Option<u32> = text.parse().ok();
    let words: Vec<&str> = text.split('/').collect();
    let is_meant = |session: &Session| {
        let target = &session.target;
        let is = |name: &Option<String>, word: &str| name.as_deref() == Some(word);
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
    found.map(|(index, _)| index).collect()
}

/// `s-` and a digit.
const MIN_ID: usize = 3;
