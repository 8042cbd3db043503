//! A sample session on a real path: client, master and worker on one kernel, containerd below the kubelet.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use execpath::{
    model::{
        Ability, Ancestor, AuditUser, BootTime, Change, Client, ClockAnchor, Confidence, Evidence, ExitStatus, Finding,
        Gap, GapCode, Hop, HostFacts, Kind, KubeUser, Link, LinkKind, ProcessInfo, Report, Role, Session, SessionId,
        SocketId, Span, State, Target, TaskKey, TcpEnds, Totals, Tuple,
    },
    sink::Header,
};

/// Container id.
pub const CONTAINER: &str = "0f3c5d1e8a7b4c2d9e6f0a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc";
/// Exec id.
pub const EXEC: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
/// Opening time of the sample session.
pub const OPENED: BootTime = BootTime(2_043_120_000_000);

/// The host of the samples.
#[must_use]
pub fn header() -> Header {
    Header {
        anchor: ClockAnchor { boot_to_utc_ns: 1_795_297_200_000_000_000 },
        host: HostFacts {
            hostname: "worker".into(),
            kernel: "6.18.5".into(),
            arch: "x86_64".into(),
            boot_id: "3b9ae1c4-8a7e-4b52-9c5e-0f1f0a4f7d11".into(),
            btf: true,
            ..HostFacts::default()
        },
        others: Vec::new(),
        abilities: Ability::ALL.into(),
        degraded: Vec::new(),
    }
}

/// `milliseconds` after the session opened.
#[must_use]
pub fn after(milliseconds: u64) -> BootTime {
    OPENED.plus(Span::from_millis(milliseconds))
}

fn hop(role: Role, pid: u32, comm: &str, argv: &[&str]) -> Hop {
    Hop {
        role,
        task: TaskKey::from_ns(pid, OPENED.0 - 1_000_000_000),
        process: Arc::new(ProcessInfo {
            comm: comm.into(),
            argv: argv.iter().map(|word| (*word).into()).collect(),
            uid: Some(0),
            login_uid: (role == Role::Client).then_some(1000),
            ..ProcessInfo::default()
        }),
        exit: None,
    }
}

fn above((comm, generation): (&str, u32)) -> Ancestor {
    let task = TaskKey::from_ns(23605 - generation, OPENED.0 - 2_000_000_000);
    Ancestor { task, comm: comm.into(), uid: Some(if comm == "bash" { 1000 } else { 0 }) }
}

fn link(from: usize, to: usize, kind: LinkKind, evidence: &[Evidence]) -> Link {
    Link {
        from,
        to,
        kind,
        confidence: Confidence::Exact,
        evidence: evidence.iter().copied().collect(),
        persistent: false,
        tcp: None,
        relay: None,
        unix: None,
    }
}

fn tcp(from: usize, local: &str, remote: &str, inode: u64) -> Link {
    let parse = |text: &str| text.parse().expect("an address");
    Link {
        tcp: Some(TcpEnds {
            tuple: Tuple::new(parse(local), parse(remote)),
            near: Some(SocketId::new(inode, inode)),
            far: Some(SocketId::new(inode + 1, inode + 1)),
            begun: None,
            sent: None,
            received: None,
        }),
        ..link(from, from + 1, LinkKind::Tcp, &[Evidence::SocketPair])
    }
}

fn relay(at: usize, inbound: u64) -> Link {
    Link {
        relay: Some((SocketId::new(inbound, inbound), SocketId::new(inbound + 1, inbound + 1))),
        ..link(at, at, LinkKind::Relay, &[Evidence::Goroutine])
    }
}

/// The complete session, open.
#[must_use]
pub fn whole() -> Session {
    let command = ["sh", "-c", "sleep 5000"];
    Session {
        id: SessionId("s-4f9c2a".into()),
        kind: Kind::Exec,
        state: State::Open,
        opened_at: OPENED,
        closed_at: None,
        last_seen: after(70),
        preexisting: false,
        merged_into: None,
        target: Arc::new(Target {
            namespace: Some("default".into()),
            pod: Some("web".into()),
            pod_uid: Some("8c7a3f52-2f0f-4a08-9b39-0d4cf4e4d7a6".into()),
            container: Some("web".into()),
            container_id: Some(CONTAINER.into()),
            runtime: Some("containerd".into()),
            said_by_client: false,
        }),
        client: Client {
            address: "192.168.205.1:60886".parse().ok(),
            uid: Some(0),
            uid_name: Some("root".into()),
            login_uid: Some(1000),
            login_name: Some("alice".into()),
            tty: Some("pts/3".into()),
            user: Some(Box::new(KubeUser {
                user: AuditUser {
                    name: "alice@example.com".into(),
                    groups: ["oncall", "system:authenticated"].map(str::to_owned).into(),
                    impersonated: Some("admin".into()),
                    agent: Some("kubectl/v1.33.2 (linux/amd64) kubernetes/a0b1c2d".into()),
                },
                audit_id: Some("d2f7a8c1-6b0e-4c53-9a3f-0e1d2c3b4a59".into()),
                confidence: Confidence::Exact,
            })),
            pending: false,
            parents: Some(["sudo", "bash", "sshd"].into_iter().zip(1..).map(above).collect()),
        },
        command: command.map(Into::into).into(),
        command_truncated: false,
        command_pid: None,
        tty: Some(false),
        stdin: Some(true),
        killed: None,
        attempt: None,
        exec_id: Some(EXEC.into()),
        exit: None,
        hops: vec![
            hop(
                Role::Client,
                23605,
                "kubectl",
                &["kubectl", "exec", "-i", "web", "-c", "web", "--", "sh", "-c", "sleep 5000"],
            ),
            hop(Role::ApiServer, 812, "kube-apiserver", &["kube-apiserver", "--etcd-servers=http://127.0.0.1:2379"]),
            hop(Role::Kubelet, 934, "kubelet", &["kubelet", "--config=/etc/kubelet.yaml"]),
            hop(Role::Runtime, 640, "containerd", &["/usr/bin/containerd"]),
            hop(Role::Shim, 1201, "containerd-shim", &["containerd-shim-runc-v2", "-namespace", "k8s.io"]),
            hop(Role::Runc, 23641, "runc", &["runc", "exec"]),
            hop(Role::Process, 23652, "sh", &command),
        ],
        links: vec![
            tcp(0, "192.168.205.1:60886", "192.168.205.10:6443", 71_001),
            relay(1, 71_002),
            tcp(1, "192.168.205.10:55352", "192.168.205.11:10250", 71_011),
            relay(2, 71_012),
            tcp(2, "127.0.0.1:48000", "127.0.0.1:42367", 71_021),
            Link {
                persistent: true,
                unix: Some((
                    "/run/containerd/s/5d41402abc4b2a76b9719d911017c592ae8f3f1c2b6f4a7c9d0e1f2a3b4c5d6e".into(),
                    SocketId::new(9001, 9001),
                    SocketId::new(9002, 9002),
                )),
                evidence: [Evidence::UnixPeer, Evidence::ExecId, Evidence::Fifo].into_iter().collect(),
                ..link(3, 4, LinkKind::Unix, &[])
            },
            link(4, 5, LinkKind::Fork, &[Evidence::Fork, Evidence::RuncArgs]),
            link(5, 6, LinkKind::Exec, &[Evidence::PidFile, Evidence::Cgroup]),
        ],
        beyond: Vec::new(),
        gaps: Vec::new(),
        complete: true,
    }
}

/// The session while only the first `hops` hops are known.
#[must_use]
pub fn partial(hops: usize) -> Session {
    let mut session = whole();
    session.complete = hops == session.hops.len();
    session.hops.truncate(hops);
    session.links.retain(|link| link.to < hops);
    if hops < 6 {
        session.target = Arc::default();
        session.exec_id = None;
    }
    if hops < 7 {
        session.command = Arc::default();
        session.client.user = None;
        session.gaps.push(Gap {
            code: GapCode::ProcessUnknown,
            between: None,
            text: "the process in the container was not seen".into(),
        });
    }
    session
}

/// The session, closed after a minute with this exit status.
#[must_use]
pub fn closed(status: ExitStatus) -> Session {
    let mut session = whole();
    session.state = State::Closed;
    session.closed_at = Some(after(61_022));
    session.exit = Some(status.into());
    for ends in session.links.iter_mut().filter_map(|link| link.tcp.as_mut()) {
        (ends.sent, ends.received) = (Some(234), Some(539));
    }
    session
}

/// A finding about `session`.
#[must_use]
pub fn finding(milliseconds: u64, change: fn(Arc<Session>) -> Change, session: Session) -> Finding {
    Finding { at: after(milliseconds), change: change(Arc::new(session)) }
}

/// Findings of one session's life, as the correlator emits them.
#[must_use]
pub fn life() -> Vec<Finding> {
    let mut findings = vec![finding(1, Change::Opened, partial(1))];
    findings.extend(
        [(2, 2), (9, 3), (12, 4), (30, 6), (70, 7)].map(|(at, hops)| finding(at, Change::Changed, partial(hops))),
    );
    findings.push(finding(61_022, Change::Closed, closed(ExitStatus::Code(3))));
    findings
}

fn named(id: &str, session: Session) -> Session {
    Session { id: SessionId(id.into()), ..session }
}

/// Findings of one session; then an older session that is joined late, a third one between its lines, and a loss.
#[must_use]
pub fn timeline() -> (Vec<Finding>, Report) {
    let mut old = named("s-0b77e1", whole());
    old.preexisting = true;
    old.complete = false;
    old.links.retain(|link| link.from != 1);
    old.gaps.push(Gap {
        code: GapCode::Unjoined,
        between: Some((1, 2)),
        text: "waiting for traffic: no byte has passed since the trace began, so nothing says which of its outbound \
               connections belongs to this one"
            .into(),
    });
    let third = named("s-c01d99", partial(3));
    let mut findings = life();
    findings.extend([
        finding(70_000, Change::Opened, old),
        finding(70_001, Change::Opened, named("s-c01d99", partial(2))),
        finding(70_100, Change::Changed, named("s-0b77e1", whole())),
        Finding { at: after(70_110), change: Change::Loss { what: "ring-full".into(), count: 12 } },
        finding(70_120, Change::Changed, third.clone()),
        finding(71_000, Change::Closed, named("s-0b77e1", closed(ExitStatus::Signal(9)))),
    ]);
    let totals = Totals { observations: 420, late: 0, opened: 3, closed: 2, lost: [("ring-full".into(), 12)].into() };
    (findings, Report { at: after(75_000), sessions: vec![third], totals, ..Report::default() })
}

/// A writer that keeps all bytes.
#[derive(Clone, Default)]
pub struct CaptureWriter(Arc<Mutex<Vec<u8>>>);

impl CaptureWriter {
    /// The text written so far.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for CaptureWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
