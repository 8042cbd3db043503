//! Made-up reports: a healthy session with two samples, for a rule's fixture to modify.

use std::{collections::BTreeMap, sync::Arc};

use super::samples::APART;
use crate::model::{
    Access, Attempt, BootTime, Call, CgroupMeasure, Confidence, Daemon, Descriptor, Diagnosis, Evidence, ExitStatus,
    Fact, Family, FileId, FileKind, FileMeasure, Gap, GapCode, Hop, Link, LinkKind, Measures, Observation, ProcessInfo,
    ProcessMeasure, RawText, Report, Role, Rung, RungSeen, RungState, Session, SessionExit, SessionId, SocketId,
    SocketInfo, SocketRole, Source, Span, State, Target, TaskKey, TcpEnds, TcpInfo, TcpMeasure, TcpState,
    ThreadMeasure, Timer, TimerKind, Totals, Tuple, UnattributedEnd, UnixMeasure,
};

pub(super) const KUBECTL: u32 = 100;
pub(super) const APISERVER: u32 = 200;
pub(super) const KUBELET: u32 = 300;
pub(super) const RUNTIME: u32 = 400;
pub(super) const SHIM: u32 = 500;
pub(super) const RUNC: u32 = 590;
pub(super) const PROCESS: u32 = 600;

/// Container and exec id of the session.
pub(super) const CONTAINER: &str = "0f3c5d1e8a7b4c2d9e6f0a1b2c3d4e5f60718293a4b5c6d7e8f9012345678abc";
pub(super) const EXEC: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";

/// Start of the session, and time of the second sample a minute later.
pub(super) const OPENED: BootTime = BootTime(1_000_000_000_000);
pub(super) const NOW: BootTime = OPENED.plus(Span::from_secs(60));
/// Distance of the samples: the minimum for rules, plus a second.
const BETWEEN: Span = Span::from_millis(APART.as_millis() + 1_000);

/// A leg. The number is the inode of its near end; the far end has the next inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum On {
    /// kubectl – API server
    Client = 10,
    /// API server – kubelet
    Kubelet = 20,
    /// kubelet – runtime
    Stream = 30,
}

impl On {
    const fn near(self) -> u64 {
        self as u64
    }

    const fn far(self) -> u64 {
        self as u64 + 1
    }

    const fn addresses(self) -> (&'static str, &'static str) {
        match self {
            Self::Client => ("192.168.205.1:60886", "192.168.205.10:6443"),
            Self::Kubelet => ("192.168.205.10:55352", "192.168.205.11:10250"),
            Self::Stream => ("127.0.0.1:48000", "127.0.0.1:42367"),
        }
    }
}

pub(super) fn task(pid: u32) -> TaskKey {
    TaskKey::from_ns(pid, OPENED.0 - 1_000_000_000)
}

pub(super) fn socket(inode: u64) -> SocketId {
    SocketId::new(inode, inode)
}

/// An attempt with these rungs.
pub(super) fn attempt(rungs: &[(Rung, RungState)]) -> Option<Box<Attempt>> {
    let rungs = rungs.iter().map(|(rung, state)| RungSeen::new(*rung, *state, None)).collect();
    Some(Box::new(Attempt { rungs, ..Attempt::default() }))
}

/// Measurements at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    pub(super) tcp: BTreeMap<u64, TcpMeasure>,
    pub(super) peers: BTreeMap<u64, Option<TcpState>>,
    pub(super) unix: BTreeMap<u64, (RawText, UnixMeasure)>,
    pub(super) processes: BTreeMap<u32, ProcessMeasure>,
    pub(super) files: BTreeMap<(FileKind, u64), FileMeasure>,
    pub(super) descriptors: BTreeMap<u32, Vec<Descriptor>>,
    pub(super) unlisted: Vec<(u32, u32, u64)>,
    pub(super) gone: Vec<u64>,
}

/// A report under construction.
#[derive(Clone, Debug)]
pub(super) struct Fixture {
    pub(super) about: &'static str,
    /// Codes that the report must yield, and no others.
    pub(super) named: &'static [&'static str],
    pub(super) sessions: Vec<Session>,
    pub(super) loose: Vec<UnattributedEnd>,
    /// Daemons that are known with or without a session through them.
    pub(super) daemons: Vec<(u32, Role)>,
    pub(super) lost: BTreeMap<String, u64>,
    /// Samples in order of time.
    pub(super) samples: [Sample; 2],
}

impl Fixture {
    /// `kubectl exec -i web -- cat`, through containerd, complete and idle. Yields at most the wait for input.
    pub(super) fn new(about: &'static str, named: &'static [&'static str]) -> Self {
        let mut sample = Sample::default();
        for leg in [On::Client, On::Kubelet, On::Stream] {
            sample.tcp.insert(leg.near(), idle());
            sample.tcp.insert(leg.far(), idle());
        }
        for pid in [KUBECTL, APISERVER, KUBELET, RUNTIME, SHIM] {
            sample.processes.insert(pid, sleeping("epoll_pwait", None));
        }
        let mut process = sleeping("wait4", None);
        process.cgroup = Some(CgroupMeasure {
            frozen: Some(false),
            pids: Some(3),
            pids_max: Some(100),
            pids_refused: Some(0),
            ..CgroupMeasure::default()
        });
        process.first_lives = Some(true);
        process.parent = Some(SHIM);
        sample.processes.insert(PROCESS, process);
        let mut fixture = Self {
            about,
            named,
            sessions: vec![session()],
            loose: Vec::new(),
            daemons: Vec::new(),
            lost: BTreeMap::new(),
            samples: [sample.clone(), sample],
        };
        fixture.each(|sample, _| {
            for (fd, stream) in ["stdin", "stdout", "stderr"].into_iter().enumerate() {
                let (fd, number) = (u32::try_from(fd).unwrap(), fd as u64);
                let to_process = fd == 0;
                sample.hold(PROCESS, pipe(fd, 60 + number, to_process));
                sample.hold(SHIM, pipe(20 + fd, 60 + number, !to_process));
                sample.files.insert((FileKind::Pipe, 60 + number), room());
                for (pid, fd) in [(SHIM, 30 + fd), (RUNTIME, 40 + fd)] {
                    let access = if (pid == SHIM) == to_process { Access::Read } else { Access::Write };
                    sample.hold(pid, fifo(fd, 70 + number, access, EXEC, stream));
                }
                sample.files.insert((FileKind::Fifo, 70 + number), room());
            }
            let stdout = sample.descriptors[&SHIM].iter().find(|one| one.fd == 31).cloned().unwrap();
            // The shim keeps a reader of its own to avoid SIGPIPE.
            sample.hold(SHIM, Descriptor { fd: 35, access: Access::Read, ..stdout });
            sample.hold(KUBECTL, pipe(0, 50, true));
        });
        fixture
    }

    /// The same through CRI-O: no shim and no exec id. runc stays as crio's child, and copies between its own pipes and
    /// the command's.
    pub(super) fn crio(about: &'static str, named: &'static [&'static str]) -> Self {
        let mut fixture = Self::new(about, named);
        fixture.session(|session| {
            Arc::make_mut(&mut session.target).runtime = Some("cri-o".into());
            session.exec_id = None;
            session.hops[3] = hop(Role::Runtime, RUNTIME, "crio", None);
            session.hops[5] = hop(Role::Runc, RUNC, "runc", None);
            session.hops.remove(4);
            session.links.truncate(5);
            session.links.extend([link(3, 4, LinkKind::Fork), link(4, 5, LinkKind::Exec)]);
        });
        fixture.each(|sample, _| {
            sample.processes.remove(&SHIM);
            sample.descriptors.remove(&SHIM);
            sample.descriptors.remove(&RUNTIME);
            sample.processes.insert(RUNC, sleeping("epoll_pwait", None));
            sample.processes.get_mut(&PROCESS).unwrap().parent = Some(RUNC);
            for (fd, number) in [(0, 0), (1, 1), (2, 2)] {
                let to_process = fd == 0;
                sample.files.remove(&(FileKind::Fifo, 70 + number));
                sample.files.insert((FileKind::Pipe, 70 + number), room());
                sample.hold(RUNC, pipe(fd, 70 + number, to_process));
                sample.hold(RUNC, pipe(20 + fd, 60 + number, !to_process));
                sample.hold(RUNTIME, pipe(40 + fd, 70 + number, !to_process));
            }
        });
        fixture
    }

    /// The same on a terminal.
    pub(super) fn terminal(about: &'static str, named: &'static [&'static str]) -> Self {
        let mut fixture = Self::new(about, named);
        fixture.session(|session| session.tty = Some(true));
        fixture.each(|sample, _| {
            let pty = |fd, master| Descriptor {
                kind: FileKind::Pty,
                access: Access::Both,
                master,
                path: None,
                ..pipe(fd, 80, true)
            };
            sample.descriptors.insert(PROCESS, (0..3).map(|fd| pty(fd, false)).collect());
            sample.descriptors.get_mut(&SHIM).unwrap().retain(|one| one.kind == FileKind::Fifo);
            sample.hold(SHIM, pty(20, true));
            sample.files.insert((FileKind::Pty, 80), FileMeasure { queued: 0, capacity: None });
            let process = sample.processes.get_mut(&PROCESS).unwrap();
            (process.foreground, process.group) = (Some(PROCESS), Some(PROCESS));
        });
        fixture
    }

    /// Modifies the session.
    pub(super) fn session(&mut self, change: impl FnOnce(&mut Session)) {
        change(&mut self.sessions[0]);
    }

    /// Modifies both samples, with their numbers.
    pub(super) fn each(&mut self, mut change: impl FnMut(&mut Sample, u64)) {
        for (number, sample) in (0..).zip(&mut self.samples) {
            change(sample, number);
        }
    }

    /// Modifies the end of a leg nearer to the client, in both samples.
    pub(super) fn near(&mut self, leg: On, mut change: impl FnMut(&mut TcpMeasure, u64)) {
        self.each(|sample, number| change(sample.tcp.get_mut(&leg.near()).unwrap(), number));
    }

    /// Modifies the end of a leg nearer to the process, in both samples.
    pub(super) fn far(&mut self, leg: On, mut change: impl FnMut(&mut TcpMeasure, u64)) {
        self.each(|sample, number| change(sample.tcp.get_mut(&leg.far()).unwrap(), number));
    }

    /// Modifies a process in both samples.
    pub(super) fn process(&mut self, pid: u32, mut change: impl FnMut(&mut ProcessMeasure, u64)) {
        self.each(|sample, number| change(sample.processes.get_mut(&pid).unwrap(), number));
    }

    /// The process sleeps in this call and does not wake between the samples.
    pub(super) fn waits(&mut self, pid: u32, call: &str, fd: Option<u32>) {
        self.process(pid, |process, _| process.threads = sleeping(call, fd).threads);
    }

    /// Fills a pipe or a FIFO in both samples.
    pub(super) fn full(&mut self, kind: FileKind, inode: u64) {
        self.each(|sample, _| {
            sample.files.insert((kind, inode), FileMeasure { queued: 65_536, capacity: Some(65_536) });
        });
    }

    /// Cuts the path before the process: the first `hops` hops remain.
    pub(super) fn ends_after(&mut self, hops: usize) {
        self.session(|session| {
            session.hops.truncate(hops);
            session.links.retain(|link| link.to < hops);
            session.command = Default::default();
            session.complete = false;
        });
        self.each(|sample, _| {
            sample.descriptors.remove(&PROCESS);
            sample.processes.remove(&PROCESS);
        });
    }

    /// Closes the session after this many milliseconds.
    pub(super) fn closes_after(&mut self, millis: u64) {
        self.session(|session| {
            session.state = State::Closed;
            session.closed_at = Some(OPENED.plus(Span::from_millis(millis)));
        });
    }

    pub(super) fn exits(&mut self, exit: SessionExit) {
        self.session(|session| session.exit = Some(exit));
    }

    pub(super) fn gap(&mut self, code: GapCode) {
        self.session(|session| session.gaps.push(Gap { code, between: None, text: String::new() }));
    }

    /// Adds a connection without a session: its holder, the holder's role, and the remote address.
    pub(super) fn stray(&mut self, pid: u32, role: Role, inode: u64, remote: &str, tcp: impl Fn(u64) -> TcpMeasure) {
        self.stray_from(pid, role, inode, "10.0.0.1:50000", remote, tcp);
    }

    /// The same from this local address.
    pub(super) fn stray_from(
        &mut self,
        pid: u32,
        role: Role,
        inode: u64,
        local: &str,
        remote: &str,
        tcp: impl Fn(u64) -> TcpMeasure,
    ) {
        let tuple = Tuple::new(local.parse().unwrap(), remote.parse().unwrap());
        let socket = SocketInfo {
            id: socket(inode),
            family: Family::Inet,
            tuple: Some(tuple),
            netns: None,
            role: Some(SocketRole::Connected),
            isn: None,
        };
        self.loose.push(UnattributedEnd {
            task: task(pid),
            role,
            socket,
            peer: None,
            session: None,
            peer_missing: false,
        });
        self.each(|sample, number| {
            sample.tcp.insert(inode, tcp(number));
        });
    }

    /// Adds the session's outermost end. Its other end is on this host, in that state, and held by no process.
    pub(super) fn outermost(
        &mut self,
        pid: u32,
        role: Role,
        inode: u64,
        remote: &str,
        other: Option<TcpState>,
        tcp: impl Fn(u64) -> TcpMeasure,
    ) {
        self.stray(pid, role, inode, remote, tcp);
        let session = self.sessions.first().map(|session| session.id.clone());
        if let Some(end) = self.loose.last_mut() {
            (end.session, end.peer_missing) = (session, true);
        }
        self.each(|sample, _| {
            sample.peers.insert(inode, other);
        });
    }

    /// The report as the correlator would build it.
    pub(super) fn report(&self) -> Report {
        self.report_of(&[0, 1])
    }

    /// The report with these samples alone.
    pub(super) fn report_of(&self, samples: &[usize]) -> Report {
        let mut measures = Measures::default();
        for number in samples {
            let at = if *number == 0 { NOW.minus(BETWEEN) } else { NOW };
            for seen in self.samples[*number].facts(at) {
                measures.take(&seen);
            }
        }
        Report {
            diagnosis: Diagnosis::default(),
            daemons: self
                .daemons
                .iter()
                .map(|(pid, role)| Daemon { task: task(*pid), role: *role, netns: None })
                .collect(),
            daemon_connections: Vec::new(),
            at: NOW,
            sessions: self.sessions.clone(),
            unattributed: self.loose.clone(),
            measures,
            totals: Totals { lost: self.lost.clone(), ..Totals::default() },
        }
    }
}

impl Sample {
    pub(super) fn hold(&mut self, pid: u32, descriptor: Descriptor) {
        self.descriptors.entry(pid).or_default().push(descriptor);
    }

    fn facts(&self, at: BootTime) -> Vec<Observation> {
        let plain = |fact| Observation::new(at, Source::Snapshot, fact);
        let of = |pid: u32, fact| Observation::of(at, Source::Snapshot, task(pid), fact);
        let mut facts = Vec::new();
        facts.extend(self.tcp.iter().map(|(inode, measure)| {
            plain(Fact::TcpMeasured { socket: socket(*inode), tuple: tuple_of(*inode), measure: *measure })
        }));
        let peer = |(inode, state): (&u64, &_)| plain(Fact::PeerMeasured { socket: socket(*inode), state: *state });
        facts.extend(self.peers.iter().map(peer));
        facts.extend(self.unix.iter().map(|(inode, (path, measure))| {
            plain(Fact::UnixMeasured { socket: socket(*inode), path: Some(path.clone()), measure: *measure })
        }));
        facts.extend(
            self.processes.iter().map(|(pid, measure)| of(*pid, Fact::ProcessMeasured(Box::new(measure.clone())))),
        );
        facts.extend(self.files.iter().map(|((kind, inode), measure)| {
            plain(Fact::FileMeasured { kind: *kind, file: file(*inode), measure: *measure })
        }));
        facts.extend(
            self.descriptors
                .iter()
                .map(|(pid, descriptors)| of(*pid, Fact::Descriptors { descriptors: descriptors.clone() })),
        );
        facts.extend(
            self.unlisted.iter().map(|(pid, fd, inode)| of(*pid, Fact::SocketUnlisted { fd: *fd, inode: *inode })),
        );
        facts.extend(self.gone.iter().map(|inode| plain(Fact::SocketGone { socket: socket(*inode) })));
        facts
    }
}

/// Addresses of an end of the session's legs.
fn tuple_of(inode: u64) -> Option<Tuple> {
    let on = [On::Client, On::Kubelet, On::Stream].into_iter().find(|on| [on.near(), on.far()].contains(&inode))?;
    let (local, remote) = on.addresses();
    let tuple = Tuple::new(local.parse().unwrap(), remote.parse().unwrap());
    Some(if inode == on.near() { tuple } else { tuple.mirrored() })
}

pub(super) fn file(inode: u64) -> FileId {
    FileId::new(14, inode)
}

/// An end of a pipe.
pub(super) fn pipe(fd: u32, inode: u64, reads: bool) -> Descriptor {
    let access = if reads { Access::Read } else { Access::Write };
    Descriptor { fd, file: file(inode), kind: FileKind::Pipe, access, master: false, path: None }
}

/// An end of an exec's FIFO.
pub(super) fn fifo(fd: u32, inode: u64, access: Access, exec: &str, stream: &str) -> Descriptor {
    let path = format!("/run/containerd/io.containerd.grpc.v1.cri/containers/{CONTAINER}/io/1/{exec}-{stream}");
    Descriptor { fd, file: file(inode), kind: FileKind::Fifo, access, master: false, path: Some(path.as_str().into()) }
}

/// An empty pipe.
pub(super) const fn room() -> FileMeasure {
    FileMeasure { queued: 0, capacity: Some(65_536) }
}

/// A connection with a ping four seconds ago.
pub(super) fn idle() -> TcpMeasure {
    TcpMeasure {
        state: TcpState::Established,
        recv_q: 0,
        send_q: 0,
        timer: Some(Timer { kind: TimerKind::KeepAlive, expires_ms: 11_000, retries: 0 }),
        info: Some(TcpInfo {
            rtt_us: 60,
            rto_us: 204_000,
            send_window: Some(65_536),
            send_mss: 1_448,
            path_mtu: 1_500,
            last_sent_ms: 4_000,
            last_received_ms: 4_000,
            last_ack_ms: 4_000,
            bytes_acked: 5_000,
            bytes_received: 5_000,
            data_segments_out: 40,
            data_segments_in: 40,
            ..TcpInfo::default()
        }),
    }
}

/// The counters of a connection, for modification.
pub(super) fn info(tcp: &mut TcpMeasure) -> &mut TcpInfo {
    tcp.info.get_or_insert_default()
}

/// A process with one thread that sleeps in that call.
pub(super) fn sleeping(call: &str, fd: Option<u32>) -> ProcessMeasure {
    ProcessMeasure {
        state: 'S',
        user_ticks: 5,
        system_ticks: 5,
        descriptors: Some(30),
        descriptors_max: Some(1_048_576),
        threads: vec![ThreadMeasure {
            tid: 1,
            state: 'S',
            call: Some(Call { name: call.to_owned(), fd }),
            switches: Some(77),
            stack: Vec::new(),
        }],
        thread_count: 1,
        pidns: Some(4_026_531_836),
        ..ProcessMeasure::default()
    }
}

fn hop(role: Role, pid: u32, comm: &str, exit: Option<ExitStatus>) -> Hop {
    let argv = vec![comm.into()];
    let process = ProcessInfo { comm: comm.into(), argv, ..ProcessInfo::default() };
    Hop { role, task: task(pid), process: process.into(), exit }
}

fn link(from: usize, to: usize, kind: LinkKind) -> Link {
    Link {
        from,
        to,
        kind,
        confidence: Confidence::Exact,
        evidence: [Evidence::SocketPair].into_iter().collect(),
        persistent: false,
        tcp: None,
        relay: None,
        unix: None,
    }
}

fn leg(from: usize, on: On) -> Link {
    let (local, remote) = on.addresses();
    let tuple = Tuple::new(local.parse().unwrap(), remote.parse().unwrap());
    let ends = TcpEnds {
        tuple,
        near: Some(socket(on.near())),
        far: Some(socket(on.far())),
        begun: None,
        sent: None,
        received: None,
    };
    Link { tcp: Some(ends), ..link(from, from + 1, LinkKind::Tcp) }
}

fn relay(at: usize, inbound: On, outbound: On) -> Link {
    Link { relay: Some((socket(inbound.far()), socket(outbound.near()))), ..link(at, at, LinkKind::Relay) }
}

/// The complete session.
fn session() -> Session {
    Session {
        id: SessionId("s-4f9c2a0b1d".into()),
        opened_at: OPENED,
        last_seen: NOW,
        target: Arc::new(Target {
            pod: Some("web".into()),
            container_id: Some(CONTAINER.into()),
            runtime: Some("containerd".into()),
            ..Target::default()
        }),
        command: ["cat".into()].into(),
        tty: Some(false),
        stdin: Some(true),
        exec_id: Some(EXEC.into()),
        hops: vec![
            hop(Role::Client, KUBECTL, "kubectl", None),
            hop(Role::ApiServer, APISERVER, "kube-apiserver", None),
            hop(Role::Kubelet, KUBELET, "kubelet", None),
            hop(Role::Runtime, RUNTIME, "containerd", None),
            hop(Role::Shim, SHIM, "containerd-shim-runc-v2", None),
            hop(Role::Runc, RUNC, "runc", Some(ExitStatus::Code(0))),
            hop(Role::Process, PROCESS, "cat", None),
        ],
        links: vec![
            leg(0, On::Client),
            relay(1, On::Client, On::Kubelet),
            leg(1, On::Kubelet),
            relay(2, On::Kubelet, On::Stream),
            leg(2, On::Stream),
            link(3, 4, LinkKind::Fifo),
            link(4, 5, LinkKind::Fork),
            link(5, 6, LinkKind::Exec),
        ],
        complete: true,
        ..Session::sample()
    }
}
