//! A cluster on the model host: execs, probes, other requests and restarts, one step at a time.

use std::{
    collections::{BTreeMap, BinaryHeap},
    net::SocketAddr,
};

use execpath::model::{
    ExitStatus, Fact, Family, ProcessInfo, Program, RawText, Role, SocketId, SocketInfo, SocketRole, Source, TaskKey,
    Tuple, WatchAs,
};
use execpath_tests::scenario::long_id;

use super::{
    Scenario,
    host::{Goroutine, Host, HostTraits, SocketIdx},
    truth::TrueSession,
};

pub(super) const MASTER: [u8; 4] = [10, 0, 0, 2];
const WORKER: [u8; 4] = [10, 0, 0, 3];
pub(super) const CLIENT: [u8; 4] = [10, 0, 0, 1];
const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
/// Port on which containerd serves streams.
const STREAMS: u16 = 5000;
/// Range of start times in microseconds. Setting up a session takes about 4,000, so several overlap.
const STARTS_WITHIN_US: u64 = 120_000;
/// Range of start times if ports rest: long enough for ports to be reused.
const STARTS_RESTED_WITHIN_US: u64 = 4_000_000;

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
    legs: [Option<(SocketIdx, Option<SocketIdx>)>; 4],
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

pub(super) struct State {
    host: Host,
    queue: BinaryHeap<std::cmp::Reverse<(u64, u64, Act)>>,
    queued: u64,
    apiserver: TaskKey,
    kubelet: TaskKey,
    containerd: TaskKey,
    shims: Vec<TaskKey>,
    etcd: SocketIdx,
    pooled: SocketIdx,
    runs: Vec<Run>,
    probes: Vec<Run>,
    truth: BTreeMap<String, TrueSession>,
}

fn container(shim: usize) -> String {
    long_id(&format!("web{shim}"), 0)
}

impl State {
    pub(super) fn new(seed: u64, traits: HostTraits) -> Self {
        let mut host = Host::new(seed, traits);
        let daemon = |host: &mut Host, comm: &str| {
            let task = host.pid();
            let info = ProcessInfo {
                comm: comm.into(),
                program: Some(Program::Go("go1.24".to_owned())),
                ..ProcessInfo::default()
            };
            host.emit_snapshot(task, Fact::ProcessSeen(Box::new(info)));
            task
        };
        let apiserver = daemon(&mut host, "kube-apiserver");
        let kubelet = daemon(&mut host, "kubelet");
        let containerd = daemon(&mut host, "containerd");
        let path = |path: &str| Fact::ListeningUnix { path: path.into(), socket: SocketId::new(0, 99), listener: None };
        host.emit_snapshot(containerd, path("/run/containerd/containerd.sock"));
        let shims: Vec<TaskKey> = (0..3).map(|_| daemon(&mut host, "containerd-shim")).collect();
        for shim in &shims {
            host.emit_snapshot(*shim, path("/run/containerd/s/0123456789abcdef0123456789abcdef"));
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
            truth: BTreeMap::new(),
        }
    }

    fn after(&mut self, at_most_us: u64, act: Act) {
        self.queued += 1;
        let at = self.host.now + 1_000 * (1 + self.host.rng.below(at_most_us));
        self.queue.push(std::cmp::Reverse((at, self.queued, act)));
    }

    pub(super) fn run(mut self, sessions: usize) -> Scenario {
        let within = if self.host.traits.ports_rest { STARTS_RESTED_WITHIN_US } else { STARTS_WITHIN_US };
        for number in 0..sessions {
            let shim = self.shims[number % 3];
            let translates = self.host.rng.below(3) == 0;
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
        Scenario { facts: self.host.facts, truth: self.truth }
    }

    fn leg(&mut self, run: &Run, leg: usize) {
        if let Some((near, Some(far))) = run.legs[leg] {
            let ends = (self.host.cookie(near), self.host.cookie(far));
            let owners = (self.host.sockets[near].owner, self.host.sockets[far].owner);
            let expected = self.truth.entry(run.id.clone()).or_default();
            expected.legs.insert(ends);
            expected.steps.insert(owners);
        }
    }

    fn relay(&mut self, run: &Run, leg: usize) {
        if let (Some((_, Some(inbound))), Some((outbound, _))) = (run.legs[leg - 1], run.legs[leg]) {
            let ends = (self.host.cookie(inbound), self.host.cookie(outbound));
            self.truth.entry(run.id.clone()).or_default().relays.insert(ends);
        }
    }

    /// A goroutine reads from one socket and writes to the other.
    fn copies(&mut self, task: TaskKey, from: SocketIdx, to: SocketIdx) -> Goroutine {
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
                self.host.emit_ebpf(task, Fact::Enrolled(Box::new(info)));
                run.client = Some(task);
                let goroutine = self.host.goroutine(task);
                run.legs[0] = Some((self.host.connect(goroutine, CLIENT, MASTER, 6443), None));
            }
            // The GET of the pod; the connection is idle afterwards.
            1 => self.get_pod(run),
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
                self.truth.entry(run.id.clone()).or_default().stream = true;
            }
            8..=10 => {
                let stream = ["stdin", "stdout", "stderr"][usize::try_from(step - 8).expect("small")];
                let goroutine = *run.serving.last().expect("a goroutine");
                self.fifo(run, goroutine, stream);
            }
            11..=17 => self.start_process(run, step - 11),
            18 => self.copy_bytes(run),
            19 => {
                let hops = [
                    (Role::Client, run.client),
                    (Role::ApiServer, Some(self.apiserver)),
                    (Role::Kubelet, run.kubelet),
                    (Role::Runtime, Some(self.containerd)),
                ];
                self.complete(run, &hops);
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
                if let Some(idx) = ends.and_then(|(near, far)| if at % 2 == 0 { far } else { Some(near) }) {
                    self.host.close(idx);
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

    /// kubectl's GET of the pod: the API server answers from etcd.
    fn get_pod(&mut self, run: &mut Run) {
        let (near, _) = run.legs[0].expect("a connection");
        let far = self.host.accept(self.apiserver, near);
        run.legs[0] = Some((near, Some(far)));
        let idle = (self.host.cookie(near), self.host.cookie(far));
        self.truth.entry(run.id.clone()).or_default().idle.insert(idle);
        let goroutine = self.copies(self.apiserver, far, self.etcd);
        self.host.ends(goroutine);
    }

    /// Goroutines that copy between the legs, in both directions.
    fn copy_bytes(&mut self, run: &mut Run) {
        let [_, Some((_, Some(inbound))), Some((outbound, Some(far))), Some((stream, _))] = run.legs else {
            unreachable!("all legs stand")
        };
        let mut copying =
            vec![self.copies(self.apiserver, inbound, outbound), self.copies(self.apiserver, outbound, inbound)];
        if !run.translates {
            let kubelet = run.kubelet.expect("a kubelet");
            copying.push(self.copies(kubelet, far, stream));
            copying.push(self.copies(kubelet, stream, far));
        }
        run.serving.extend(copying);
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
        let from = self.host.received_last(goroutine).map(|idx| self.host.info(idx, true));
        self.host.emit_ebpf(goroutine.task, Fact::FifoMade { actor, inbound, from, path: path.as_str().into() });
    }

    fn container_of(&self, run: &Run) -> String {
        container(self.shims.iter().position(|shim| Some(*shim) == run.shim).expect("a shim"))
    }

    /// runc, its stages and the process, in seven steps.
    fn start_process(&mut self, run: &mut Run, step: u32) {
        let shim = run.shim.expect("a shim");
        let container = self.container_of(run);
        let pid_file = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{container}/{}.pid", run.id);
        match step {
            0 => run.runc = Some(self.host.fork(shim)),
            1 => {
                let line = format!("runc --root /r exec --process /p --detach --pid-file {pid_file} {container}");
                let argv = line.split(' ').map(RawText::from).collect();
                let watched = Some(WatchAs::RuntimeChild);
                let info = ProcessInfo { comm: "runc".into(), argv, watched, ..ProcessInfo::default() };
                self.host.emit_ebpf(run.runc.expect("runc"), Fact::Exec(Box::new(info)));
            }
            2 | 3 => {
                let by = run.stages.last().copied().or(run.runc).expect("runc");
                run.stages.push(self.host.fork(by));
            }
            4 => {
                let process = self.host.fork(*run.stages.last().expect("a stage"));
                run.process = Some(process);
                let watched = Some(WatchAs::InContainer);
                let info =
                    ProcessInfo { comm: "sh".into(), argv: vec!["sh".into()], watched, ..ProcessInfo::default() };
                self.host.emit_ebpf(process, Fact::Exec(Box::new(info)));
            }
            5 => {
                for task in std::mem::take(&mut run.stages).into_iter().chain(run.runc) {
                    self.host.exit(task, ExitStatus::Code(0));
                }
            }
            _ => {
                let pid = run.process.map(|process| process.tgid);
                let path = pid_file.as_str().into();
                self.host.emit(Source::Snapshot, None, Fact::PidFile { path, pid });
            }
        }
        let steps = [(self.containerd, Some(shim)), (shim, run.runc), (run.runc.unwrap_or(shim), run.process)];
        let expected = self.truth.entry(run.id.clone()).or_default();
        expected.steps.extend(steps.into_iter().filter_map(|(from, to)| Some((from, to?))));
    }

    fn complete(&mut self, run: &Run, above: &[(Role, Option<TaskKey>)]) {
        let below = [(Role::Shim, run.shim), (Role::Runc, run.runc), (Role::Process, run.process)];
        let expected = self.truth.entry(run.id.clone()).or_default();
        expected.whole = true;
        expected.hops = above.iter().chain(&below).map(|(role, task)| (*role, task.expect("a process"))).collect();
    }

    /// CRI ExecSync over the persistent connection, by any goroutine.
    fn probe(&mut self, number: usize) {
        let mut run = std::mem::take(&mut self.probes[number]);
        let step = run.step;
        run.step += 1;
        match step {
            0 => run.serving.push(self.host.goroutine(self.containerd)),
            1 | 2 => self.fifo(&run, run.serving[0], ["stdout", "stderr"][usize::from(step == 2)]),
            3..=9 => self.start_process(&mut run, step - 3),
            10 => self.complete(&run, &[(Role::Runtime, Some(self.containerd))]),
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
        self.host.emit_ebpf(task, Fact::Enrolled(Box::new(info)));
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
        let idle = self.runs.iter().filter_map(|run| run.legs[0]?.1).find(|idx| self.host.sockets[*idx].open);
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
        self.host.emit_ebpf(self.kubelet, Fact::Enrolled(Box::new(info.clone())));
        listens(&mut self.host, self.kubelet, WORKER, 10250);
        let program = Some(Program::Go("go1.24".to_owned()));
        self.host.emit_snapshot(self.kubelet, Fact::ProcessSeen(Box::new(ProcessInfo { program, ..info })));
    }
}

fn listens(host: &mut Host, task: TaskKey, ip: [u8; 4], port: u16) {
    let tuple = Some(Tuple::new(SocketAddr::from((ip, port)), SocketAddr::from(([0; 4], 0))));
    let role = Some(SocketRole::Listening);
    let socket = SocketInfo { id: SocketId::default(), family: Family::Inet, tuple, netns: None, role, isn: None };
    host.emit_snapshot(task, Fact::Listening { socket });
}
