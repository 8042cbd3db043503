//! Independent evidence: `ss`, `ps`, the API server, and the files of the container runtime. Shares no code with
//! execpath.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::Path,
    process::Command,
    sync::OnceLock,
};

use serde_json::Value;

use crate::{
    env::{lab, on, output, wait_until},
    kubectl::{Exec, kubectl},
    reported::{COMPLETE_PATH, Leg, ReportedSession},
};

/// Folder in which containerd's shims keep the files of Kubernetes containers.
const TASKS: &str = "/run/containerd/io.containerd.runtime.v2.task/k8s.io";

/// One snapshot of sockets and processes.
pub(crate) struct Oracle {
    sockets: Vec<Socket>,
    processes: BTreeMap<u32, Process>,
}

/// One end of a connection, as `ss` shows it.
#[derive(Debug)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    pids: Vec<u32>,
    inode: u64,
}

/// A process, as `ps` shows it.
#[derive(Debug)]
struct Process {
    parent: u32,
    arguments: String,
}

impl Process {
    fn is_runc(&self) -> bool {
        let program = self.arguments.split(' ').next().unwrap_or_default();
        Path::new(program).file_name().is_some_and(|name| name == "runc")
    }
}

/// A container, as the API server reports it.
#[derive(Debug)]
pub(crate) struct Container {
    pod_uid: String,
    id: String,
}

impl Container {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

impl Oracle {
    /// Reads the sockets of all hosts, then all processes: a process in this list existed while the sockets were read.
    pub(crate) fn inspect() -> Self {
        let hosts = lab().netns.keys();
        let text = hosts.map(|host| output(on(host, "ss").arg("-tnpeH"))).collect::<String>();
        let sockets = text.lines().filter_map(socket).collect();
        let text = output(Command::new("ps").args(["-e", "-w", "-w", "-o", "pid=,ppid=,args="]));
        Self { sockets, processes: text.lines().filter_map(process).collect() }
    }

    /// The process that runs exactly this command, or the last command of its script. kubectl does not match: the
    /// command is only part of its arguments.
    pub(crate) fn pid_of(&self, command: &[String]) -> Option<u32> {
        let whole = command.join(" ");
        let last = command.last().and_then(|script| script.rsplit("; ").next()).unwrap_or_default();
        let runs = |process: &Process| process.arguments == whole || process.arguments == last;
        let mut found = self.processes.iter().filter(|(_, process)| runs(process));
        let (pid, _) = found.next()?;
        assert!(found.next().is_none(), "two processes run {whole}");
        Some(*pid)
    }

    /// Checks everything reported of this open session. Returns `None` if its process has already exited. `chain` lists
    /// the pids from the client to the kubelet.
    pub(crate) fn confirms(&self, session: &ReportedSession, exec: &Exec, chain: &[u32]) -> Option<()> {
        let process = self.pid_of(&exec.command)?;
        assert_eq!(session.pid("process"), Some(process), "{session:?}");
        let shim = session.pid("shim").expect("a shim");
        assert_eq!(self.starter_of(process), shim, "the shim starts the process");
        assert!(self.processes[&shim].arguments.contains("containerd-shim"), "{:?}", self.processes[&shim]);

        let container = container(exec.pod, exec.container);
        assert_eq!(session.text("/target/container_id"), Some(container.id.as_str()));
        assert_eq!(session.text("/target/pod_uid"), Some(container.pod_uid.as_str()));
        // runc writes the file after it has started the process. containerd removes the file of an exec whose process has
        // exited.
        let exec_id = session.text("/exec_id").expect("an exec id");
        let file = format!("{TASKS}/{}/{exec_id}.pid", container.id);
        let there = Path::new("/proc").join(process.to_string());
        let pid =
            wait_until("the exec id has a pid file, or its process has exited", || match fs::read_to_string(&file) {
                Ok(pid) if !pid.is_empty() => Some(Some(pid)),
                Ok(_) | Err(_) => (!there.exists()).then_some(None),
            });
        assert_eq!(pid?.trim(), process.to_string());

        let runtime = lab().daemon("containerd");
        let pids: Vec<u32> = chain.iter().copied().chain([runtime]).collect();
        let legs = session.legs();
        let ends: Vec<(u32, u32)> = legs.iter().map(|leg| (leg.from, leg.to)).collect();
        let expected: Vec<(u32, u32)> = pids.windows(2).map(|pair| (pair[0], pair[1])).collect();
        assert_eq!(ends, expected, "the legs are between kubectl, the proxies, the kubelet and containerd");
        for leg in legs {
            self.has(&leg);
        }
        Some(())
    }

    /// The parent of a process. While its runc still runs, the parent of runc: only then does the kernel hand the
    /// process over to the shim.
    fn starter_of(&self, process: u32) -> u32 {
        let parent = self.processes[&process].parent;
        self.processes.get(&parent).filter(|above| above.is_runc()).map_or(parent, |runc| runc.parent)
    }

    fn has(&self, leg: &Leg) {
        let near = (leg.local, leg.remote, leg.from, leg.inode);
        let far = (leg.remote, leg.local, leg.to, leg.peer_inode);
        for (local, remote, pid, inode) in [near, far] {
            let found = self.sockets.iter().find(|socket| (socket.local, socket.remote) == (local, remote));
            let found = found.unwrap_or(&NO_SOCKET);
            assert_eq!(found.local, local, "ss shows this end of {leg:?}");
            assert!(found.pids.contains(&pid), "ss shows {found:?}, not {leg:?}");
            assert_eq!(found.inode, inode, "ss shows {found:?}, not {leg:?}");
        }
    }
}

static NO_SOCKET: Socket = Socket {
    local: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0),
    remote: SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0),
    pids: Vec::new(),
    inode: 0,
};

/// A container of the lab.
pub(crate) fn container(pod: &str, name: &str) -> Container {
    static PODS: OnceLock<Value> = OnceLock::new();
    let pods = PODS.get_or_init(|| {
        let text = output(kubectl(lab().newest(), "admin", 0).args(["get", "pods", "-o", "json"]));
        serde_json::from_str(&text).expect("kubectl prints JSON")
    });
    let mut items = pods["items"].as_array().into_iter().flatten();
    let pod = items.find(|item| item["metadata"]["name"] == pod).expect("a pod of the lab");
    let mut statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let status = statuses.find(|status| status["name"] == name).expect("a container of that pod");
    let id = status["containerID"].as_str().expect("an id");
    let pod_uid = pod["metadata"]["uid"].as_str().expect("a uid").to_owned();
    Container { pod_uid, id: id.strip_prefix("containerd://").expect("containerd's").to_owned() }
}

/// Inode of a host's network namespace, as hops name it.
pub(crate) fn netns(host: &str) -> u64 {
    let name = lab().netns.get(host).expect("a host of the lab");
    fs::metadata(format!("/run/netns/{name}")).expect("its network namespace").ino()
}

/// Checks every property of a complete session that needs no look at the machine.
pub(crate) fn is_right(session: &ReportedSession, exec: &Exec, kubectl: u32) {
    let text = |pointer: &str| session.text(pointer).unwrap_or("null");
    assert!(session.is_complete(), "{session:?}");
    assert_eq!(text("/kind"), "exec");
    assert_eq!(text("/confidence"), "exact", "{session:?}");
    assert_eq!(session.gaps(), [""; 0], "{session:?}");
    assert_eq!(session.0["beyond"], serde_json::json!([]), "{session:?}");
    assert_eq!(text("/target/namespace"), "default");
    assert_eq!((text("/target/pod"), text("/target/container")), (exec.pod, exec.container));
    assert_eq!(text("/target/runtime"), "containerd");
    assert_eq!(session.command(), exec.command);
    use crate::kubectl::Mode;
    assert_eq!(session.0["tty"], exec.mode == Mode::Tty, "{session:?}");
    assert_eq!(session.0["stdin"], exec.mode != Mode::Plain, "{session:?}");
    assert_eq!(session.0["client"]["uid"], exec.uid);
    assert_eq!(text("/client/confidence"), "exact");

    let roles: Vec<&str> = session.roles().into_iter().filter(|role| *role != "proxy").collect();
    assert_eq!(roles, COMPLETE_PATH, "{session:?}");
    assert_eq!(session.pid("kubectl"), Some(kubectl));
    assert_eq!(session.pid("apiserver"), Some(lab().daemon("kube-apiserver")));
    assert_eq!(session.pid("kubelet"), Some(lab().daemon("kubelet")));
    assert_eq!(session.pid("runtime"), Some(lab().daemon("containerd")));
    let words: Vec<&str> = session.hop("kubectl").expect("a hop")["argv"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(words[1..], exec.arguments(), "kubectl's arguments are its own");
    for (role, host) in [("kubectl", "client"), ("apiserver", "master"), ("kubelet", "worker"), ("runtime", "worker")] {
        assert_eq!(session.hop(role).expect("a hop")["netns"], netns(host), "{role}");
    }
    // Every hop is linked to the next one, and each relaying process has a relay link.
    for (index, pair) in session.hops().windows(2).enumerate() {
        let linked = session.links().iter().any(|link| link["from"] == index && link["to"] == index + 1);
        assert!(linked, "{} to {}: {session:?}", pair[0]["role"], pair[1]["role"]);
    }
    let relays: Vec<u64> = session
        .links()
        .iter()
        .filter(|link| link["kind"] == "relay")
        .filter_map(|link| link["from"].as_u64())
        .collect();
    let passing = session.roles().iter().filter(|role| ["proxy", "apiserver", "kubelet"].contains(*role)).count();
    assert_eq!(relays, (1..=passing as u64).collect::<Vec<_>>(), "{session:?}");
    assert!(session.links().iter().all(|link| link["confidence"] == "exact"), "{session:?}");
}

fn socket(line: &str) -> Option<Socket> {
    let mut words = line.split_whitespace();
    let local = address(words.nth(3)?)?;
    let remote = address(words.next()?)?;
    let pids = line.split("pid=").skip(1).filter_map(|rest| rest.split(',').next()?.parse().ok()).collect();
    let inode = line.split(" ino:").nth(1)?.split_whitespace().next()?.parse().ok()?;
    Some(Socket { local, remote, pids, inode })
}

/// Parses an address; an IPv4 address of an IPv6 socket becomes plain IPv4.
fn address(text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = text.parse().ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

fn process(line: &str) -> Option<(u32, Process)> {
    let (pid, rest) = line.trim_start().split_once(' ')?;
    let (parent, arguments) = rest.trim_start().split_once(' ')?;
    Some((pid.parse().ok()?, Process { parent: parent.parse().ok()?, arguments: arguments.to_owned() }))
}
