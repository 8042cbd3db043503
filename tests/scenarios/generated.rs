//! Laws over generated scenarios: many sessions at once on a host that reuses pids, ports, inodes and `g`s quickly.
//! Around them are probes, other clients' requests, idle connections and restarting kubelets. A seed gives the same
//! scenario on every run. The generator records the connections and processes of each session.
//!
//! * With all facts, the correlator finds every session completely, and nothing else, in any order within the
//!   reordering window.
//! * With fewer facts it finds less: every link is one of the recorded links.

use std::{
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    net::{IpAddr, SocketAddr},
};

use execpath::model::{
    Actor, BootTime, Change, ExitStatus, Fact, Family, GapCode, Kind, LinkKind, Observation, ProcessInfo, Program,
    RawText, Role, Session, SocketId, SocketInfo, SocketRole, Source, TaskKey, Tuple, WatchAs,
};
use execpath_tests::scenario::long_id;

use crate::{
    laws::{Dice, shuffled},
    run::{correlator, settle},
};

const MASTER: [u8; 4] = [10, 0, 0, 2];
const WORKER: [u8; 4] = [10, 0, 0, 3];
const CLIENT: [u8; 4] = [10, 0, 0, 1];
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
/// Port on which containerd serves streams.
const STREAMS: u16 = 5000;
/// Nanoseconds before a pid is reused: the kernel uses all other pids first. Longer than a clock tick, which
/// distinguishes two processes with one pid.
const PID_RESTS: u64 = 50_000_000;

/// Range of start times in microseconds. Setting up a session takes about 4,000, so several overlap.
const STARTS_WITHIN_US: u64 = 120_000;
/// Range of start times if ports rest: long enough for ports to be reused.
const STARTS_RESTED_WITHIN_US: u64 = 4_000_000;
/// Nanoseconds before a port is reused: slightly longer than the correlator pairs ends by their addresses alone.
const PORT_RESTS: u64 = 1_010_000_000;

/// Index into [`Host::sockets`].
type No = usize;

struct Socket {
    id: SocketId,
    tuple: Tuple,
    netns: u32,
    owner: TaskKey,
    role: SocketRole,
    peer: Option<No>,
    open: bool,
}

/// A goroutine of a process.
#[derive(Clone, Copy)]
struct Goroutine {
    task: TaskKey,
    g: u64,
    id: u64,
}

/// Properties of a host that make correlation easier.
#[derive(Clone, Copy, Debug)]
struct Luck {
    /// The probes know the offset of Go's goroutine id.
    ids_known: bool,
    /// A port rests for more than a second before its reuse. TCP keeps a port for a minute at the end that closed first
    /// (TIME_WAIT), and chooses among thousands.
    ports_rest: bool,
}

/// The true connections and processes of one exec.
#[derive(Clone, Debug, Default)]
struct Book {
    /// Connecting and accepting end, by cookie.
    legs: BTreeSet<(u64, u64)>,
    /// The client's idle connection, on no session's path.
    idle: BTreeSet<(u64, u64)>,
    /// Inbound and outbound end, by cookie.
    relays: BTreeSet<(u64, u64)>,
    /// Neighbours on the path.
    steps: BTreeSet<(TaskKey, TaskKey)>,
    hops: Vec<(Role, TaskKey)>,
    /// True if the session was fully set up before a restart cut it.
    whole: bool,
    stream: bool,
}

/// Model of the kernel and the probes.
struct Host {
    dice: Dice,
    now: u64,
    told: Vec<Observation>,
    sockets: Vec<Socket>,
    made: u64,
    inodes: Vec<u64>,
    /// Free ports, and the times at which they became free.
    ports: BTreeMap<[u8; 4], Vec<(u64, u16)>>,
    pids: Vec<(u64, u32)>,
    next_pid: u32,
    gs: BTreeMap<TaskKey, Vec<u64>>,
    goroutines: u64,
    luck: Luck,
    last: BTreeMap<(TaskKey, u64), (No, u64)>,
    pairs: BTreeSet<(No, No)>,
}

impl Host {
    fn new(seed: u64, luck: Luck) -> Self {
        Self {
            dice: Dice(seed),
            now: 1_000_000_000,
            told: Vec::new(),
            sockets: Vec::new(),
            made: 0,
            inodes: Vec::new(),
            ports: BTreeMap::new(),
            pids: Vec::new(),
            next_pid: 1000,
            gs: BTreeMap::new(),
            goroutines: 100,
            luck,
            last: BTreeMap::new(),
            pairs: BTreeSet::new(),
        }
    }

    fn tell(&mut self, source: Source, task: Option<TaskKey>, fact: Fact) {
        // All records have different times.
        self.now += 1_000;
        let tid = task.map(|task| task.tgid);
        self.told.push(Observation { at: BootTime(self.now), source, seq: None, task, tid, fact });
    }

    fn did(&mut self, task: TaskKey, fact: Fact) {
        self.tell(Source::Ebpf, Some(task), fact);
    }

    fn found(&mut self, task: TaskKey, fact: Fact) {
        self.tell(Source::Snapshot, Some(task), fact);
    }

    fn pid(&mut self) -> TaskKey {
        let rested = |freed: u64| freed + PID_RESTS < self.now;
        let tgid = if self.pids.first().is_some_and(|(freed, _)| rested(*freed)) {
            self.pids.remove(0).1
        } else {
            self.next_pid += 1;
            self.next_pid
        };
        TaskKey::from_ns(tgid, self.now)
    }

    fn fork(&mut self, by: TaskKey) -> TaskKey {
        let child = self.pid();
        self.did(by, Fact::Fork { child, actor: Actor::default(), inbound: None });
        child
    }

    fn exit(&mut self, task: TaskKey, status: ExitStatus) {
        self.did(task, Fact::Exit { status });
        self.pids.push((self.now, task.tgid));
    }

    /// Starts a goroutine of a Go daemon or client. The `g` that was freed last is reused first.
    fn goroutine(&mut self, task: TaskKey) -> Goroutine {
        self.goroutines += 1;
        let id = self.goroutines;
        let free = self.gs.get_mut(&task).and_then(Vec::pop);
        Goroutine { task, g: free.unwrap_or(0xc000_0000 + id * 0x100), id }
    }

    fn ends(&mut self, goroutine: Goroutine) {
        self.gs.entry(goroutine.task).or_default().push(goroutine.g);
    }

    fn actor(&self, goroutine: Goroutine) -> Actor {
        Actor { g: Some(goroutine.g), goid: self.luck.ids_known.then_some(goroutine.id), parent_goid: None }
    }

    fn received_last(&self, goroutine: Goroutine) -> Option<No> {
        let (no, id) = *self.last.get(&(goroutine.task, goroutine.g))?;
        ((!self.luck.ids_known || id == goroutine.id) && self.sockets[no].open).then_some(no)
    }

    fn inbound(&self, goroutine: Goroutine) -> Option<SocketId> {
        self.received_last(goroutine).map(|no| self.sockets[no].id)
    }

    fn socket(&mut self, owner: TaskKey, tuple: Tuple, role: SocketRole, peer: Option<No>) -> No {
        self.made += 1;
        let inode = self.inodes.pop().unwrap_or(100_000 + self.made);
        let netns = match tuple.local.ip() {
            IpAddr::V4(ip) if ip.octets() == CLIENT => 1,
            IpAddr::V4(ip) if ip.octets() == MASTER => 2,
            IpAddr::V4(_) | IpAddr::V6(_) => 3,
        };
        self.sockets.push(Socket { id: SocketId::new(self.made, inode), tuple, netns, owner, role, peer, open: true });
        self.sockets.len() - 1
    }

    fn info(&self, no: No, role: bool) -> SocketInfo {
        let Socket { id, tuple, netns, role: known, .. } = self.sockets[no];
        SocketInfo {
            id,
            family: Family::Inet,
            tuple: Some(tuple),
            netns: Some(netns),
            role: role.then_some(known),
            isn: None,
        }
    }

    fn cookie(&self, no: No) -> u64 {
        self.sockets[no].id.cookie.expect("a cookie")
    }

    fn connect(&mut self, goroutine: Goroutine, from: [u8; 4], to: [u8; 4], port: u16) -> No {
        let made = u16::try_from(self.made % 20_000).expect("a port");
        let (now, rests) = (self.now, self.luck.ports_rest);
        let free = self.ports.entry(from).or_default();
        let rested = free.iter().rposition(|(freed, _)| !rests || freed + PORT_RESTS < now);
        let local = rested.map_or(40_000 + made, |at| free.remove(at).1);
        let tuple = Tuple::new(SocketAddr::from((from, local)), SocketAddr::from((to, port)));
        let no = self.socket(goroutine.task, tuple, SocketRole::Connected, None);
        let fact = Fact::Connected {
            socket: self.info(no, true),
            actor: self.actor(goroutine),
            inbound: self.inbound(goroutine),
        };
        self.did(goroutine.task, fact);
        no
    }

    fn accept(&mut self, task: TaskKey, near: No) -> No {
        let far = self.socket(task, self.sockets[near].tuple.mirrored(), SocketRole::Accepted, Some(near));
        self.sockets[near].peer = Some(far);
        let socket = self.info(far, true);
        self.did(task, Fact::Accepted { socket });
        far
    }

    fn receive(&mut self, goroutine: Goroutine, no: No) {
        if self.sockets[no].open {
            self.last.insert((goroutine.task, goroutine.g), (no, goroutine.id));
        }
    }

    fn send(&mut self, goroutine: Goroutine, to: No) {
        let Some(from) = self.received_last(goroutine).filter(|from| *from != to) else { return };
        if self.sockets[to].open && self.pairs.insert((from, to)) {
            let (from, to) = (self.info(from, true), self.info(to, true));
            let fact = Fact::Relayed { actor: self.actor(goroutine), from, to, sightings: 1, splice: false };
            self.did(goroutine.task, fact);
        }
    }

    fn close(&mut self, no: No) {
        if !std::mem::take(&mut self.sockets[no].open) {
            return;
        }
        let Socket { id, tuple, owner, role, peer, .. } = self.sockets[no];
        self.did(owner, Fact::Closed { socket: id, received: Some(1), acked: Some(1) });
        self.inodes.extend(id.inode);
        if peer.is_none_or(|peer| !self.sockets[peer].open) {
            let client = if role == SocketRole::Connected { tuple.local } else { tuple.remote };
            if let IpAddr::V4(ip) = client.ip() {
                self.ports.entry(ip.octets()).or_default().push((self.now, client.port()));
            }
        }
    }

    fn close_all(&mut self, owner: TaskKey) {
        for no in 0..self.sockets.len() {
            if self.sockets[no].owner == owner {
                self.close(no);
            }
        }
    }
}

/// The next act, and its subject.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    /// The next step of this exec.
    Exec(usize),
    /// The next step of this probe.
    Probe(usize),
    /// A client sends another request, and exits.
    Request,
    /// The API server forwards a request over a pooled connection.
    Pooled,
    KubeletRestarts,
}

/// A client's exec, or a probe, in progress.
#[derive(Default)]
struct Run {
    id: String,
    step: u32,
    client: Option<TaskKey>,
    shim: Option<TaskKey>,
    /// Both ends of the client's idle connection, the exec's, the API server's to the kubelet, and the kubelet's to
    /// containerd.
    legs: [Option<(No, Option<No>)>; 4],
    serving: Vec<Goroutine>,
    runc: Option<TaskKey>,
    stages: Vec<TaskKey>,
    process: Option<TaskKey>,
    kubelet: Option<TaskKey>,
    cut: bool,
    translates: bool,
}

/// The step with which a session begins to end.
const ENDS: u32 = 20;

struct World {
    host: Host,
    queue: BinaryHeap<std::cmp::Reverse<(u64, u64, Act)>>,
    queued: u64,
    apiserver: TaskKey,
    kubelet: TaskKey,
    containerd: TaskKey,
    shims: Vec<TaskKey>,
    etcd: No,
    pooled: No,
    runs: Vec<Run>,
    probes: Vec<Run>,
    books: BTreeMap<String, Book>,
}

/// Facts in order of time, and the true sessions.
struct Scenario {
    told: Vec<Observation>,
    books: BTreeMap<String, Book>,
}

fn container(shim: usize) -> String {
    long_id(&format!("web{shim}"), 0)
}

impl World {
    fn new(seed: u64, luck: Luck) -> Self {
        let mut host = Host::new(seed, luck);
        let daemon = |host: &mut Host, comm: &str| {
            let task = host.pid();
            let info = ProcessInfo {
                comm: comm.into(),
                program: Some(Program::Go("go1.24".to_owned())),
                ..ProcessInfo::default()
            };
            host.found(task, Fact::ProcessSeen(Box::new(info)));
            task
        };
        let apiserver = daemon(&mut host, "kube-apiserver");
        let kubelet = daemon(&mut host, "kubelet");
        let containerd = daemon(&mut host, "containerd");
        let path = |path: &str| Fact::ListeningUnix { path: path.into(), socket: SocketId::new(0, 99), listener: None };
        host.found(containerd, path("/run/containerd/containerd.sock"));
        let shims: Vec<TaskKey> = (0..3).map(|_| daemon(&mut host, "containerd-shim")).collect();
        for shim in &shims {
            host.found(*shim, path("/run/containerd/s/0123456789abcdef0123456789abcdef"));
        }
        listens(&mut host, apiserver, MASTER, 6443);
        listens(&mut host, kubelet, WORKER, 10250);
        let dialling = host.goroutine(apiserver);
        let etcd = host.connect(dialling, LOOPBACK, LOOPBACK, 2379);
        let pooled = host.connect(dialling, MASTER, WORKER, 10250);
        host.accept(kubelet, pooled);
        Self {
            host,
            queue: BinaryHeap::new(),
            queued: 0,
            apiserver,
            kubelet,
            containerd,
            shims,
            etcd,
            pooled,
            runs: Vec::new(),
            probes: Vec::new(),
            books: BTreeMap::new(),
        }
    }

    fn after(&mut self, at_most_us: u64, act: Act) {
        self.queued += 1;
        let at = self.host.now + 1_000 * (1 + self.host.dice.below(at_most_us));
        self.queue.push(std::cmp::Reverse((at, self.queued, act)));
    }

    fn play(mut self, sessions: usize) -> Scenario {
        let within = if self.host.luck.ports_rest { STARTS_RESTED_WITHIN_US } else { STARTS_WITHIN_US };
        for number in 0..sessions {
            let shim = self.shims[number % 3];
            let translates = self.host.dice.below(3) == 0;
            self.runs.push(Run {
                id: long_id(&format!("e{number}"), 0),
                shim: Some(shim),
                translates,
                ..Run::default()
            });
            self.probes.push(Run { id: long_id(&format!("p{number}"), 0), shim: Some(shim), ..Run::default() });
            for act in [Act::Exec(number), Act::Probe(number), Act::Request, Act::Request, Act::Pooled] {
                self.after(within, act);
            }
        }
        for _ in 0..3 {
            self.after(within, Act::KubeletRestarts);
        }
        while let Some(std::cmp::Reverse((at, _, act))) = self.queue.pop() {
            self.host.now = self.host.now.max(at);
            match act {
                Act::Exec(number) => self.exec(number),
                Act::Probe(number) => self.probe(number),
                Act::Request => self.request(),
                Act::Pooled => self.pooled(),
                Act::KubeletRestarts => self.kubelet_restarts(),
            }
        }
        Scenario { told: self.host.told, books: self.books }
    }

    fn leg(&mut self, run: &Run, leg: usize) {
        if let Some((near, Some(far))) = run.legs[leg] {
            let ends = (self.host.cookie(near), self.host.cookie(far));
            let owners = (self.host.sockets[near].owner, self.host.sockets[far].owner);
            let book = self.books.entry(run.id.clone()).or_default();
            book.legs.insert(ends);
            book.steps.insert(owners);
        }
    }

    fn relay(&mut self, run: &Run, leg: usize) {
        if let (Some((_, Some(inbound))), Some((outbound, _))) = (run.legs[leg - 1], run.legs[leg]) {
            let ends = (self.host.cookie(inbound), self.host.cookie(outbound));
            self.books.entry(run.id.clone()).or_default().relays.insert(ends);
        }
    }

    /// A goroutine reads from one socket and writes to the other.
    fn copies(&mut self, task: TaskKey, from: No, to: No) -> Goroutine {
        let goroutine = self.host.goroutine(task);
        self.host.receive(goroutine, from);
        self.host.send(goroutine, to);
        goroutine
    }

    fn exec(&mut self, number: usize) {
        let mut run = std::mem::take(&mut self.runs[number]);
        if run.cut && run.step < ENDS {
            run.step = ENDS;
        }
        let step = run.step;
        run.step += 1;
        let goes_on = self.exec_step(&mut run, step);
        // A session works for a while; other steps follow quickly.
        let pause = if run.step == ENDS { 700_000 } else { 400 };
        self.runs[number] = run;
        if goes_on {
            self.after(pause, Act::Exec(number));
        }
    }

    fn exec_step(&mut self, run: &mut Run, step: u32) -> bool {
        match step {
            0 => {
                let task = self.host.pid();
                let argv = ["kubectl", "exec", "-i", "web", "--", "sh"].map(RawText::from).to_vec();
                let info = ProcessInfo { comm: "kubectl".into(), argv, ..ProcessInfo::default() };
                self.host.did(task, Fact::Enrolled(Box::new(info)));
                run.client = Some(task);
                let goroutine = self.host.goroutine(task);
                run.legs[0] = Some((self.host.connect(goroutine, CLIENT, MASTER, 6443), None));
            }
            // The GET of the pod; the connection is idle afterwards.
            1 => {
                let (near, _) = run.legs[0].expect("a connection");
                let far = self.host.accept(self.apiserver, near);
                run.legs[0] = Some((near, Some(far)));
                let idle = (self.host.cookie(near), self.host.cookie(far));
                self.books.entry(run.id.clone()).or_default().idle.insert(idle);
                let goroutine = self.copies(self.apiserver, far, self.etcd);
                self.host.ends(goroutine);
            }
            2 => {
                let goroutine = self.host.goroutine(run.client.expect("a client"));
                run.legs[1] = Some((self.host.connect(goroutine, CLIENT, MASTER, 6443), None));
            }
            3 => self.accepts(run, 1, self.apiserver),
            4 => {
                run.kubelet = Some(self.kubelet);
                self.dials(run, 2, MASTER, WORKER, 10250);
            }
            5 => self.accepts(run, 2, self.kubelet),
            6 => self.dials(run, 3, LOOPBACK, LOOPBACK, STREAMS),
            7 => {
                self.accepts(run, 3, self.containerd);
                self.books.entry(run.id.clone()).or_default().stream = true;
            }
            8..=10 => {
                let stream = ["stdin", "stdout", "stderr"][usize::try_from(step - 8).expect("small")];
                let goroutine = *run.serving.last().expect("a goroutine");
                self.fifo(run, goroutine, stream);
            }
            11..=17 => self.below(run, step - 11),
            18 => {
                let [_, Some((_, Some(inbound))), Some((outbound, Some(far))), Some((stream, _))] = run.legs else {
                    unreachable!("all legs stand")
                };
                let mut copying = vec![
                    self.copies(self.apiserver, inbound, outbound),
                    self.copies(self.apiserver, outbound, inbound),
                ];
                if !run.translates {
                    let kubelet = run.kubelet.expect("a kubelet");
                    copying.push(self.copies(kubelet, far, stream));
                    copying.push(self.copies(kubelet, stream, far));
                }
                run.serving.extend(copying);
            }
            19 => {
                let hops = [
                    (Role::Client, run.client),
                    (Role::ApiServer, Some(self.apiserver)),
                    (Role::Kubelet, run.kubelet),
                    (Role::Runtime, Some(self.containerd)),
                ];
                self.whole(run, &hops);
            }
            ENDS => {
                if let Some(process) = run.process {
                    self.host.exit(process, ExitStatus::Code(0));
                }
                for goroutine in std::mem::take(&mut run.serving) {
                    self.host.ends(goroutine);
                }
            }
            // Close both ends of each connection, from the process to the client.
            21..=28 => {
                let at = usize::try_from(step - 21).expect("small");
                let ends = run.legs[3 - at / 2];
                if let Some(no) = ends.and_then(|(near, far)| if at % 2 == 0 { far } else { Some(near) }) {
                    self.host.close(no);
                }
            }
            _ => {
                if let Some(task) = run.client.take() {
                    self.host.exit(task, ExitStatus::Code(0));
                }
                return false;
            }
        }
        true
    }

    fn accepts(&mut self, run: &mut Run, leg: usize, task: TaskKey) {
        let (near, _) = run.legs[leg].expect("a connection");
        let far = self.host.accept(task, near);
        run.legs[leg] = Some((near, Some(far)));
        self.leg(run, leg);
        let goroutine = self.host.goroutine(task);
        self.host.receive(goroutine, far);
        run.serving.push(goroutine);
    }

    fn dials(&mut self, run: &mut Run, leg: usize, from: [u8; 4], to: [u8; 4], port: u16) {
        let goroutine = *run.serving.last().expect("a goroutine");
        run.legs[leg] = Some((self.host.connect(goroutine, from, to, port), None));
        self.relay(run, leg);
    }

    fn fifo(&mut self, run: &Run, goroutine: Goroutine, stream: &str) {
        let container = self.container_of(run);
        let folder = "/run/containerd/io.containerd.grpc.v1.cri/containers";
        let path = format!("{folder}/{container}/io/1/{}-{stream}", run.id);
        let (actor, inbound) = (self.host.actor(goroutine), self.host.inbound(goroutine));
        let from = self.host.received_last(goroutine).map(|no| self.host.info(no, true));
        self.host.did(goroutine.task, Fact::FifoMade { actor, inbound, from, path: path.as_str().into() });
    }

    fn container_of(&self, run: &Run) -> String {
        container(self.shims.iter().position(|shim| Some(*shim) == run.shim).expect("a shim"))
    }

    /// runc, its stages and the process, in seven steps.
    fn below(&mut self, run: &mut Run, step: u32) {
        let shim = run.shim.expect("a shim");
        let container = self.container_of(run);
        let pid_file = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{container}/{}.pid", run.id);
        match step {
            0 => run.runc = Some(self.host.fork(shim)),
            1 => {
                let line = format!("runc --root /r exec --process /p --detach --pid-file {pid_file} {container}");
                let argv = line.split(' ').map(RawText::from).collect();
                let watched = Some(WatchAs::Below);
                let info = ProcessInfo { comm: "runc".into(), argv, watched, ..ProcessInfo::default() };
                self.host.did(run.runc.expect("runc"), Fact::Exec(Box::new(info)));
            }
            2 | 3 => {
                let by = run.stages.last().copied().or(run.runc).expect("runc");
                run.stages.push(self.host.fork(by));
            }
            4 => {
                let process = self.host.fork(*run.stages.last().expect("a stage"));
                run.process = Some(process);
                let watched = Some(WatchAs::Contained);
                let info =
                    ProcessInfo { comm: "sh".into(), argv: vec!["sh".into()], watched, ..ProcessInfo::default() };
                self.host.did(process, Fact::Exec(Box::new(info)));
            }
            5 => {
                for task in std::mem::take(&mut run.stages).into_iter().chain(run.runc) {
                    self.host.exit(task, ExitStatus::Code(0));
                }
            }
            _ => {
                let pid = run.process.map(|process| process.tgid);
                let path = pid_file.as_str().into();
                self.host.tell(Source::Snapshot, None, Fact::PidFile { path, pid });
            }
        }
        let steps = [(self.containerd, Some(shim)), (shim, run.runc), (run.runc.unwrap_or(shim), run.process)];
        let book = self.books.entry(run.id.clone()).or_default();
        book.steps.extend(steps.into_iter().filter_map(|(from, to)| Some((from, to?))));
    }

    fn whole(&mut self, run: &Run, above: &[(Role, Option<TaskKey>)]) {
        let below = [(Role::Shim, run.shim), (Role::Runc, run.runc), (Role::Process, run.process)];
        let book = self.books.entry(run.id.clone()).or_default();
        book.whole = true;
        book.hops = above.iter().chain(&below).map(|(role, task)| (*role, task.expect("a process"))).collect();
    }

    /// CRI ExecSync over the persistent connection, by any goroutine.
    fn probe(&mut self, number: usize) {
        let mut run = std::mem::take(&mut self.probes[number]);
        let step = run.step;
        run.step += 1;
        match step {
            0 => run.serving.push(self.host.goroutine(self.containerd)),
            1 | 2 => self.fifo(&run, run.serving[0], ["stdout", "stderr"][usize::from(step == 2)]),
            3..=9 => self.below(&mut run, step - 3),
            10 => self.whole(&run, &[(Role::Runtime, Some(self.containerd))]),
            _ => {
                self.host.exit(run.process.expect("a process"), ExitStatus::Code(0));
                self.host.ends(run.serving[0]);
            }
        }
        self.probes[number] = run;
        if step <= 10 {
            self.after(400, Act::Probe(number));
        }
    }

    fn request(&mut self) {
        let task = self.host.pid();
        let info = ProcessInfo { comm: "curl".into(), argv: vec!["curl".into()], ..ProcessInfo::default() };
        self.host.did(task, Fact::Enrolled(Box::new(info)));
        let goroutine = self.host.goroutine(task);
        let near = self.host.connect(goroutine, CLIENT, MASTER, 6443);
        let far = self.host.accept(self.apiserver, near);
        let serving = self.copies(self.apiserver, far, self.etcd);
        self.host.ends(serving);
        self.host.close(near);
        self.host.close(far);
        self.host.exit(task, ExitStatus::Code(0));
    }

    fn pooled(&mut self) {
        let idle = self.runs.iter().filter_map(|run| run.legs[0]?.1).find(|no| self.host.sockets[*no].open);
        if let Some(idle) = idle {
            let goroutine = self.copies(self.apiserver, idle, self.pooled);
            self.host.ends(goroutine);
        }
        // A goroutine of the pool dials again.
        if !self.host.sockets[self.pooled].open {
            let goroutine = self.host.goroutine(self.apiserver);
            self.pooled = self.host.connect(goroutine, MASTER, WORKER, 10250);
            self.host.accept(self.kubelet, self.pooled);
            self.host.ends(goroutine);
        }
    }

    /// Cuts the sessions through the kubelet; their processes go on.
    fn kubelet_restarts(&mut self) {
        for run in &mut self.runs {
            run.cut |= run.kubelet == Some(self.kubelet);
        }
        self.host.close_all(self.kubelet);
        self.host.close(self.pooled);
        self.host.exit(self.kubelet, ExitStatus::Code(0));
        self.kubelet = self.host.pid();
        let info = ProcessInfo { comm: "kubelet".into(), argv: vec!["kubelet".into()], ..ProcessInfo::default() };
        self.host.did(self.kubelet, Fact::Enrolled(Box::new(info.clone())));
        listens(&mut self.host, self.kubelet, WORKER, 10250);
        let program = Some(Program::Go("go1.24".to_owned()));
        self.host.found(self.kubelet, Fact::ProcessSeen(Box::new(ProcessInfo { program, ..info })));
    }
}

fn listens(host: &mut Host, task: TaskKey, ip: [u8; 4], port: u16) {
    let tuple = Some(Tuple::new(SocketAddr::from((ip, port)), SocketAddr::from(([0; 4], 0))));
    let role = Some(SocketRole::Listening);
    let socket = SocketInfo { id: SocketId::default(), family: Family::Inet, tuple, netns: None, role, isn: None };
    host.found(task, Fact::Listening { socket });
}

/// Differences from the true sessions. A stream or leg without exec id must fit one of the execs.
fn wrong(session: &Session, books: &BTreeMap<String, Book>) -> Vec<String> {
    let Some(id) = &session.exec_id else {
        let is_of = |book: &Book| book.stream && unknown(session, book).is_empty();
        let fits = !session.complete && books.values().any(is_of);
        return if fits { Vec::new() } else { vec![format!("no exec's: {session:?}")] };
    };
    let Some(book) = books.get(&**id) else {
        return vec![format!("no such exec: {session:?}")];
    };
    let mut wrong = unknown(session, book);
    let says_kind = session.gaps.iter().all(|gap| gap.code != GapCode::KindUnknown);
    if session.kind == Kind::Exec && !book.stream && says_kind {
        wrong.push("a stream for a probe".to_owned());
    }
    if session.kind == Kind::Probe && book.stream && session.complete {
        wrong.push(format!("an exec is a whole probe: {session:?}"));
    }
    if session.kind == Kind::Local && says_kind {
        wrong.push(format!("a local exec was reported, but none was made: {session:?}"));
    }
    wrong
}

/// Links that are not in this book.
fn unknown(session: &Session, book: &Book) -> Vec<String> {
    let mut wrong = Vec::new();
    let cookie = |id: SocketId| id.cookie.expect("a cookie");
    for link in &session.links {
        let tasks = (session.hops[link.from].task, session.hops[link.to].task);
        let ends = link.tcp.and_then(|ends| Some((cookie(ends.near?), cookie(ends.far?))));
        let relay = link.relay.map(|(inbound, outbound)| (cookie(inbound), cookie(outbound)));
        // The link skips an unknown hop, and a gap reports this.
        let is_over =
            |gap: &execpath::model::Gap| gap.code == GapCode::ShimUnknown && gap.between == Some((link.from, link.to));
        let known = match link.kind {
            // An unserved request of kubectl is reported with all its connections.
            LinkKind::Tcp => {
                let is_leg =
                    |ends| book.legs.contains(&ends) || (session.exec_id.is_none() && book.idle.contains(&ends));
                ends.is_none_or(is_leg) && book.steps.contains(&tasks)
            }
            LinkKind::Relay => relay.is_some_and(|relay| book.relays.contains(&relay)),
            LinkKind::Unix | LinkKind::Fifo | LinkKind::Fork | LinkKind::Exec => {
                book.steps.contains(&tasks) || session.gaps.iter().any(is_over)
            }
        };
        if !known {
            wrong.push(format!("{link:?} of {:?} in {book:?}", session.exec_id));
        }
    }
    wrong
}

/// Sessions at the end, and wrong links at any time.
#[derive(Debug, Default)]
struct Found {
    sessions: BTreeMap<String, Session>,
    wrong: Vec<String>,
}

fn found<'a>(told: impl IntoIterator<Item = &'a Observation>, books: &BTreeMap<String, Book>) -> Found {
    let mut correlator = correlator();
    let mut found = Found::default();
    let mut last = BootTime::default();
    for seen in told {
        last = last.max(seen.at);
        correlator.ingest(seen.clone());
        for finding in correlator.drain() {
            if let Change::Opened(session) | Change::Changed(session) | Change::Closed(session) = finding.change {
                found.wrong.extend(wrong(&session, books));
            }
        }
    }
    settle(&mut correlator, last);
    let report = correlator.report();
    found.wrong.extend(report.sessions.iter().flat_map(|session| wrong(session, books)));
    let by_id = |session: Session| {
        Some((session.exec_id.as_deref()?.to_owned(), Session { last_seen: BootTime(0), ..session }))
    };
    found.sessions = report.sessions.into_iter().filter_map(by_id).collect();
    found
}

/// True sessions that were not found completely.
fn missing(found: &Found, books: &BTreeMap<String, Book>) -> Vec<String> {
    let mut missing = Vec::new();
    for (id, book) in books.iter().filter(|(_, book)| book.whole) {
        let Some(session) = found.sessions.get(id) else {
            missing.push(format!("{id} is not found"));
            continue;
        };
        let hops: Vec<(Role, TaskKey)> = session.hops.iter().map(|hop| (hop.role, hop.task)).collect();
        let kind = if book.stream { Kind::Exec } else { Kind::Probe };
        if !session.complete || hops != book.hops || session.kind != kind {
            missing.push(format!("{id} is not whole: {:?} {:?} instead of {:?}", session.gaps, hops, book.hops));
        }
    }
    missing
}

const SEEDS: std::ops::RangeInclusive<u64> = 1..=8;
const SESSIONS: usize = 30;

fn hosts() -> impl Iterator<Item = (u64, Luck)> {
    let lucks = [(false, false), (false, true), (true, false), (true, true)];
    let luck = |(ids_known, ports_rest)| Luck { ids_known, ports_rest };
    lucks.into_iter().flat_map(move |it| SEEDS.map(move |seed| (seed, luck(it))))
}

fn scenario(seed: u64, luck: Luck) -> Scenario {
    World::new(seed, luck).play(SESSIONS)
}
#[test]
fn generated_scenarios_reuse_names_often() {
    let Scenario { told, books } = scenario(1, Luck { ids_known: false, ports_rest: false });
    let count = |is: fn(&Book) -> bool| books.values().filter(|book| is(book)).count();
    assert!(count(|book| book.whole && book.stream) >= SESSIONS / 2, "most sessions are complete");
    assert!(count(|book| !book.whole) > 0, "restarts cut some sessions");
    assert!(count(|book| book.whole && !book.stream) > SESSIONS / 2, "most probes are complete");
    let mut names: [BTreeMap<u64, BTreeSet<u64>>; 3] = Default::default();
    for seen in &told {
        if let Fact::Accepted { socket } | Fact::Connected { socket, .. } = seen.fact {
            let (cookie, inode) = (socket.id.cookie.expect("a cookie"), socket.id.inode.expect("an inode"));
            names[0].entry(inode).or_default().insert(cookie);
            let port = socket.tuple.expect("addresses").local.port();
            if port >= 40_000 {
                names[1].entry(u64::from(port)).or_default().insert(cookie);
            }
        }
        if let Some(task) = seen.task {
            names[2].entry(u64::from(task.tgid)).or_default().insert(task.start_ticks);
        }
    }
    for (name, of) in ["inodes", "ports", "pids"].into_iter().zip(names) {
        let again = of.values().filter(|bearers| bearers.len() > 1).count();
        assert!(again > 10, "too few {name} are reused: {again} of {}", of.len());
    }
}

#[test]
fn all_facts_give_all_sessions_and_no_other_link() {
    for (seed, luck) in hosts() {
        let Scenario { told, books } = scenario(seed, luck);
        let found = found(&told, &books);
        assert!(found.wrong.is_empty(), "seed {seed}, {luck:?}: {:#?}", found.wrong);
        let missing = missing(&found, &books);
        assert!(missing.is_empty(), "seed {seed}, {luck:?}: {missing:#?}");
    }
}

#[test]
fn order_and_repetition_change_nothing() {
    for (seed, luck) in hosts() {
        let Scenario { told, books } = scenario(seed, luck);
        let expected = found(&told, &books).sessions;
        let mut dice = Dice(seed + 1_000);
        let late = found(&shuffled(&told, &mut dice), &books);
        assert_eq!(late.sessions, expected, "seed {seed}, {luck:?}, in another order");
        assert!(late.wrong.is_empty(), "seed {seed}, {luck:?}, in another order: {:#?}", late.wrong);
        let twice: Vec<Observation> =
            told.iter().flat_map(|seen| vec![seen.clone(); 1 + usize::from(dice.below(3) == 0)]).collect();
        let twice = found(&shuffled(&twice, &mut dice), &books);
        assert_eq!(twice.sessions, expected, "seed {seed}, {luck:?}, a third twice");
    }
}

/// Drops one of `one_of` droppable facts: no wrong link may appear. Each lost fact is followed by a loss report.
fn fewer(what: &str, one_of: u64, may_go: fn(&Fact) -> bool, hosts: impl Iterator<Item = (u64, Luck)>) {
    for (seed, luck) in hosts {
        let Scenario { told, books } = scenario(seed, luck);
        let mut dice = Dice(seed + 2_000);
        let lost = |at| Observation::new(at, Source::Engine, Fact::Lost { what: "ring-full".to_owned(), count: 1 });
        let left: Vec<Observation> = told
            .iter()
            .map(|seen| if may_go(&seen.fact) && dice.below(one_of) == 0 { lost(seen.at) } else { seen.clone() })
            .collect();
        let found = found(&left, &books);
        assert!(found.wrong.is_empty(), "seed {seed}, {luck:?}, one of {one_of} {what} gone: {:#?}", found.wrong);
    }
}

/// Ports rest here. With immediate reuse, a lost close and accept before and a lost connect after it make two
/// connections look like one. The correlator pairs by addresses only within a second.
#[test]
fn random_losses_give_no_other_links() {
    for one_of in [30, 10, 3] {
        // The kubelet's listener is read, not sent. Without it, the kubelet looks like any client of the runtime.
        let may_go = |fact: &Fact| !matches!(fact, Fact::Listening { .. });
        fewer("facts", one_of, may_go, hosts().filter(|(_, luck)| luck.ports_rest));
    }
}

#[test]
fn losses_of_one_kind_give_no_other_links() {
    type MayGo = fn(&Fact) -> bool;
    let kinds: [(&str, MayGo); 8] = [
        ("accepts", |fact| matches!(fact, Fact::Accepted { .. })),
        ("closes", |fact| matches!(fact, Fact::Closed { .. })),
        ("connects", |fact| matches!(fact, Fact::Connected { .. })),
        ("exits", |fact| matches!(fact, Fact::Exit { .. })),
        ("FIFOs", |fact| matches!(fact, Fact::FifoMade { .. })),
        ("forks", |fact| matches!(fact, Fact::Fork { .. })),
        ("pairs", |fact| matches!(fact, Fact::Relayed { .. })),
        ("processes", |fact| matches!(fact, Fact::ProcessSeen(_) | Fact::Enrolled(_) | Fact::Exec(_))),
    ];
    for one_of in [5, 1] {
        for (what, may_go) in kinds {
            fewer(what, one_of, may_go, hosts());
        }
    }
}
