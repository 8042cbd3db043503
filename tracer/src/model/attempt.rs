//! Attempts: how far a client came, rung by rung. A session is an attempt that reached its process.

use std::net::SocketAddr;

use super::BootTime;

/// A stage of an attempt, in the order of the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// The client's process started.
    ClientStarted,
    /// The client knows the API server's address. No probe shows this.
    NameResolved,
    /// The client's connection to the API server was established.
    Connected,
    /// TLS with the API server is established. No probe shows this.
    Tls,
    /// The API server accepted the connection.
    ApiserverAccepted,
    /// The API server dialled the kubelet.
    KubeletDialled,
    /// The kubelet accepted the connection.
    KubeletAccepted,
    /// The kubelet read the request and answered.
    KubeletAnswered,
    /// The kubelet asked the runtime. No probe shows this: all requests share one connection.
    RuntimeAsked,
    /// The kubelet dialled the runtime's streaming server.
    StreamDialled,
    /// The runtime made the FIFOs of the exec.
    FifosMade,
    /// The OCI runtime was started.
    RuncStarted,
    /// The command was executed in the container.
    Executed,
    /// The command runs.
    Running,
    /// The command ended.
    Ended,
}

impl Rung {
    /// All stages, in the order of the path.
    pub const ALL: [Self; 15] = [
        Self::ClientStarted,
        Self::NameResolved,
        Self::Connected,
        Self::Tls,
        Self::ApiserverAccepted,
        Self::KubeletDialled,
        Self::KubeletAccepted,
        Self::KubeletAnswered,
        Self::RuntimeAsked,
        Self::StreamDialled,
        Self::FifosMade,
        Self::RuncStarted,
        Self::Executed,
        Self::Running,
        Self::Ended,
    ];

    /// Stable token for JSON.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::ClientStarted => "client-started",
            Self::NameResolved => "name-resolved",
            Self::Connected => "connected",
            Self::Tls => "tls",
            Self::ApiserverAccepted => "apiserver-accepted",
            Self::KubeletDialled => "kubelet-dialled",
            Self::KubeletAccepted => "kubelet-accepted",
            Self::KubeletAnswered => "kubelet-answered",
            Self::RuntimeAsked => "runtime-asked",
            Self::StreamDialled => "stream-dialled",
            Self::FifosMade => "fifos-made",
            Self::RuncStarted => "runc-started",
            Self::Executed => "executed",
            Self::Running => "running",
            Self::Ended => "ended",
        }
    }
}

/// Result of a rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RungState {
    /// Reached.
    Reached,
    /// Begun, without a result yet: a SYN without an answer, a connection that no process has accepted.
    Waiting,
    /// Begun and failed.
    Failed,
    /// Not begun by the end of the attempt: every act that could have begun it was observed.
    Absent,
    /// Not to be seen on this host.
    Unseen,
}

impl RungState {
    /// Stable token for JSON.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Absent => "absent",
            Self::Unseen => "unseen",
        }
    }
}

/// What is known of one rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RungSeen {
    /// The rung.
    pub rung: Rung,
    /// Its result.
    pub state: RungState,
    /// Time of the result; of the beginning, while the rung waits. `None` if unknown.
    pub at: Option<BootTime>,
    /// Address that was dialled, for the rungs of a dial.
    pub address: Option<SocketAddr>,
    /// Error number of a failed rung, if the kernel gave one.
    pub errno: Option<u32>,
}

impl RungSeen {
    /// A rung without address and error.
    #[must_use]
    pub const fn new(rung: Rung, state: RungState, at: Option<BootTime>) -> Self {
        Self { rung, state, at, address: None, errno: None }
    }
}

/// A connection to a pod's port that the runtime could not establish for a port-forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardFailed {
    /// Time of the error.
    pub at: BootTime,
    /// Address in the pod's network namespace.
    pub address: SocketAddr,
    /// Error number of connect(2), if the kernel gave one.
    pub errno: Option<u32>,
}

/// How far an attempt came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// Known rungs, in order. A rung that is neither known nor below a known one is left out.
    pub rungs: Vec<RungSeen>,
    /// Time at which the client's process ended, if a record reported it.
    pub client_ended: Option<BootTime>,
    /// Set if the attempt was over before it could be reported as a session.
    pub is_over_at_once: bool,
    /// Set if the OCI runtime's last stage ended with an error of its own before any execve(2): it found no such program, or
    /// could not prepare the command's environment.
    pub was_start_refused: bool,
    /// Last connection to a pod's port that failed, unless a later one to the same port was established. Its stream is
    /// known only while the runtime serves one stream without an exec.
    pub forward_failed: Option<ForwardFailed>,
}

impl Attempt {
    /// The last rung that was reached.
    #[must_use]
    pub fn reached(&self) -> Option<&RungSeen> {
        self.rungs.iter().rev().find(|one| one.state == RungState::Reached)
    }

    /// The first rung beyond it that failed, or is known not to have been begun.
    #[must_use]
    pub fn failed(&self) -> Option<&RungSeen> {
        let reached = self.reached().map(|one| one.rung);
        let is_failed = |one: &&RungSeen| matches!(one.state, RungState::Failed | RungState::Absent);
        self.rungs.iter().find(|one| is_failed(one) && Some(one.rung) > reached)
    }

    /// The rung that waits for a result.
    #[must_use]
    pub fn waiting(&self) -> Option<&RungSeen> {
        let reached = self.reached().map(|one| one.rung);
        self.rungs.iter().find(|one| one.state == RungState::Waiting && Some(one.rung) > reached)
    }

    /// A rung, if anything is known of it.
    #[must_use]
    pub fn rung(&self, rung: Rung) -> Option<&RungSeen> {
        self.rungs.iter().find(|one| one.rung == rung)
    }

    /// True if this rung has this result.
    #[must_use]
    pub fn is(&self, rung: Rung, state: RungState) -> bool {
        self.rung(rung).is_some_and(|one| one.state == state)
    }
}

/// The most bytes that a TLS client of this Go version sends in a handshake that it gives up; `None` for an unknown
/// version. A ClientHello has about 300 bytes, since Go 1.23 with a post-quantum key share of 1,216 bytes more
/// (crypto/tls: defaultCurvePreferences). The alert has 30. A request adds 350 bytes at least: Finished, and headers.
#[must_use]
pub fn handshake_given_up(go_version: &str) -> Option<u64> {
    let minor: u32 = go_version.strip_prefix("go1.")?.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    Some(if minor >= 23 { 1_750 } else { 500 })
}

/// Minimum size of a ServerHello with a certificate. After fewer bytes there was no certificate to refuse.
pub const CERTIFICATE: u64 = 500;

/// Name of an error number of connect(2) or execve(2) on Linux; `None` for others.
#[must_use]
pub const fn errno_name(errno: u32) -> Option<&'static str> {
    Some(match errno {
        1 => "EPERM",
        2 => "ENOENT",
        7 => "E2BIG",
        8 => "ENOEXEC",
        12 => "ENOMEM",
        13 => "EACCES",
        20 => "ENOTDIR",
        21 => "EISDIR",
        26 => "ETXTBSY",
        40 => "ELOOP",
        97 => "EAFNOSUPPORT",
        101 => "ENETUNREACH",
        103 => "ECONNABORTED",
        104 => "ECONNRESET",
        110 => "ETIMEDOUT",
        111 => "ECONNREFUSED",
        112 => "EHOSTDOWN",
        113 => "EHOSTUNREACH",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(rungs: &[(Rung, RungState)]) -> Attempt {
        let rungs = rungs.iter().map(|(rung, state)| RungSeen::new(*rung, *state, None)).collect();
        Attempt { rungs, ..Attempt::default() }
    }

    #[test]
    fn failed_rung_is_the_first_beyond_the_last_reached() {
        let refused = attempt(&[
            (Rung::Connected, RungState::Reached),
            (Rung::Tls, RungState::Unseen),
            (Rung::KubeletDialled, RungState::Failed),
        ]);
        assert_eq!(refused.reached().map(|one| one.rung), Some(Rung::Connected));
        assert_eq!(refused.failed().map(|one| one.rung), Some(Rung::KubeletDialled));
        // A second dial succeeded: the first failure is no end.
        let again = attempt(&[(Rung::KubeletDialled, RungState::Failed), (Rung::StreamDialled, RungState::Reached)]);
        assert_eq!(again.failed(), None);
        let waits = attempt(&[(Rung::Connected, RungState::Waiting)]);
        assert_eq!((waits.reached(), waits.waiting().map(|one| one.rung)), (None, Some(Rung::Connected)));
    }

    #[test]
    fn handshake_size_depends_on_the_version_of_go() {
        assert_eq!(handshake_given_up("go1.19.8"), Some(500));
        assert_eq!(handshake_given_up("go1.26.0"), Some(1_750));
        assert_eq!(handshake_given_up(""), None);
    }
}
