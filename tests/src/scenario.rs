//! Scenarios: handwritten facts, and the sessions that follow from them.
//!
//! ```text
//! # Comment. Times are milliseconds since boot; `0.03` is 30 µs.
//! 10    listen  60 10.0.0.1:6443             pid, address
//! 11    exec    50 kubectl exec web          pid, arguments; `@below`, `@contained`, `@parent=40`, `@tty=pts/0` before them
//! 12    connect 50 a 10.0.0.9:1000>10.0.0.1:6443 by g1 from b
//! 12.1  accept  60 b 10.0.0.1:6443<10.0.0.9:1000
//! expect
//! session e1 exec open
//! then
//! 20    exit    70 code 0
//! expect
//! …
//! ```
//!
//! * Processes are named by pid; `812/2` is the second process with this pid.
//! * Sockets are named by a word, the same in every fact; each has its own cookie and inode. `c2=c` reuses the inode of
//!   `c`. Addresses follow the first mention of a socket: `LOCAL>REMOTE`. `%2` behind them is the second network
//!   namespace, `%0` an unknown one.
//! * `~OWN/PEER` behind name and addresses are the initial sequence numbers chosen by this end and the peer. A socket
//!   keeps them. An end that does not connect on this line counts as accepting.
//! * Ports 6443 and 16443 belong to API servers, 10250 and 20250 to kubelets ([`options`]). `listen` takes `%2` as
//!   well.
//! * `by g1` is goroutine 1, `g1!` a goroutine with a known id, `g1/7` one started by goroutine 7. Without `by`, the
//!   actor is a thread. `from NAME` is the socket from which the actor received last. `fifo … from NAME!` adds the
//!   socket's addresses, as probes do: `from NAME! LOCAL>REMOTE` at its first mention. `from NAME?` is a socket without
//!   any other fact.
//! * Containers and exec ids are words; facts contain them as 64 hexadecimal digits. `=sh` is the literal exec id `sh`,
//!   as chosen by a user.
//! * `audit-follow` is the beginning of an audit log; `audit ID USER SUBRESOURCE NS/POD/CONTAINER at TIME` is a line of
//!   the log, read at the time of the fact. `from ADDR,ADDR`, `as USER`, `code N`, `over`, `older`, `tty`, `stdin` may
//!   follow, and `-- COMMAND`. `written TIME` is the writer's own time; the default is right before reading.
//! * `unix-listen PID PATH` is of an older format; `at PATH`, `nowhere` or `by-user PATH` behind it is the result of a
//!   snapshot's verification. `bound` behind a `unix-accept`: the path is a name alone. `@userns=host`, `@userns=7`:
//!   reported by snapshots only.
//! * `ancestry PID COMM:PID:UID… [UID=NAME…]`
//! * `older since 40` is a session older than the tracer, first active 40 ms after the host's start.
//! * Sessions follow `expect` in the format of [`render`]; `then` continues with facts. Before an `expect`, time passes
//!   until no fact waits in the reorder buffer.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use execpath::{
    correlate::Options,
    model::{
        Actor, Ancestor, Ancestry, AuditEvent, AuditRequest, AuditUser, BootTime, ContainerInfo, ExitStatus, Fact,
        Family, FileId, FileKind, HostNo, INITIAL_USERNS, Isn, KubeUser, Listener, Observation, ProcessInfo, Program,
        RawText, Report, Session, SocketId, SocketInfo, SocketRole, Source, Span, State, Subresource, TaskKey, Tuple,
        WatchAs,
    },
};

/// Time between the last fact and an `expect`: a little longer than the correlator's reordering window.
pub const SETTLE: Span = Span::from_millis(6);

/// A mistake in a scenario.
#[derive(Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// Name of the file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Description of the mistake.
    pub text: String,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.text)
    }
}

impl std::error::Error for ScenarioError {}

/// Facts, and the sessions expected after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Facts in order of arrival.
    pub facts: Vec<Observation>,
    /// Expected sessions in the format of [`render`].
    pub expected: String,
    /// Line of the `expect`.
    pub line: usize,
}

/// A scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// Steps in order of time.
    pub steps: Vec<Step>,
}

impl Scenario {
    /// All facts, in order of arrival.
    #[must_use]
    pub fn facts(&self) -> Vec<Observation> {
        self.steps.iter().flat_map(|step| step.facts.clone()).collect()
    }
}

/// Parses a scenario. Another `world` changes every identity, so that two scenarios can be mixed: pids, ids, cookies,
/// inodes, goroutines, addresses except loopback, and ports chosen by clients.
///
/// # Errors
/// If the text has a mistake.
pub fn parse(file: &str, text: &str, world: u32) -> Result<Scenario, ScenarioError> {
    let mut names = Names { world, sockets: BTreeMap::new() };
    let mut steps = Vec::new();
    let mut facts = Vec::new();
    let mut expected: Option<(usize, String)> = None;
    for (index, whole) in text.lines().enumerate() {
        let error = |text: String| ScenarioError { file: file.to_owned(), line: index + 1, text };
        let line = whole.trim_end();
        if line.starts_with('#') || (line.is_empty() && expected.is_none()) {
            continue;
        }
        match (line, &mut expected) {
            ("expect", None) => expected = Some((index + 1, String::new())),
            ("then", Some(_)) => {
                let (line, expected) = expected.take().ok_or_else(|| error("`then` without `expect`".to_owned()))?;
                steps.push(Step { facts: std::mem::take(&mut facts), expected: clean(&expected), line });
            }
            (_, Some((_, expected))) => {
                expected.push_str(line);
                expected.push('\n');
            }
            (_, None) => facts.push(names.fact(line).map_err(error)?),
        }
    }
    let lines = text.lines().count();
    let Some((line, expected)) = expected else {
        return Err(ScenarioError { file: file.to_owned(), line: lines, text: "no `expect` at the end".to_owned() });
    };
    steps.push(Step { facts, expected: clean(&expected), line });
    Ok(Scenario { steps })
}

fn clean(text: &str) -> String {
    format!("{}\n", text.trim())
}

/// Options for tracing scenarios: a second cluster uses other ports.
#[must_use]
pub fn options() -> Options {
    Options { apiserver_port: Some(16443), kubelet_port: Some(20250), ..Options::default() }
}

/// A word as 64 hexadecimal digits. Behind `=` it stays as it is: an id chosen by a user.
#[must_use]
pub fn long_id(word: &str, world: u32) -> String {
    if let Some(chosen) = word.strip_prefix('=') {
        return chosen.to_owned();
    }
    let hex: String =
        word.bytes().chain([b'-', u8::try_from(world).unwrap_or(0)]).map(|b| format!("{b:02x}")).collect();
    format!("{hex:0<64}").chars().take(64).collect()
}

/// The word of an id made by [`long_id`].
#[must_use]
pub fn short_id(id: &str) -> String {
    if id.len() != 64 {
        return format!("={id}");
    }
    let bytes = (0..id.len() / 2).filter_map(|at| u8::from_str_radix(id.get(2 * at..2 * at + 2)?, 16).ok());
    let text: String = bytes.take_while(|byte| *byte != b'-').map(char::from).collect();
    if text.is_empty() { id.to_owned() } else { text }
}

struct Names {
    world: u32,
    sockets: BTreeMap<String, SocketInfo>,
}

/// The words of a line.
struct Words<'a> {
    rest: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
}

impl<'a> Words<'a> {
    fn next(&mut self, what: &str) -> Result<&'a str, String> {
        self.rest.next().ok_or_else(|| format!("{what} is missing"))
    }

    fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.next(what)?;
        word.parse().map_err(|_no_number| format!("{what} is a number, not `{word}`"))
    }

    fn is_next(&mut self, word: &str) -> bool {
        self.rest.next_if(|next| *next == word).is_some()
    }

    fn end(&mut self) -> Result<(), String> {
        match self.rest.next() {
            None => Ok(()),
            Some(word) => Err(format!("`{word}` is too much")),
        }
    }
}

/// Any number is good if equal names give equal numbers.
fn number_of(name: &str) -> u64 {
    name.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte))) % 1_000_000_000
}

fn nanoseconds(word: &str) -> Result<u64, String> {
    let wrong = || format!("a line begins with a time in milliseconds, not `{word}`");
    let (whole, part) = word.split_once('.').unwrap_or((word, ""));
    if part.len() > 6 {
        return Err(wrong());
    }
    let digits = format!("{whole}{part:0<6}");
    if whole.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    digits.parse().map_err(|_no_number| wrong())
}

impl Names {
    fn task(&self, words: &mut Words<'_>) -> Result<TaskKey, String> {
        let word = words.next("a pid")?;
        self.pid(word)
    }

    fn pid(&self, word: &str) -> Result<TaskKey, String> {
        let (pid, start) = word.split_once('/').unwrap_or((word, "1"));
        let wrong = || format!("a process is named by its pid, not `{word}`");
        let (pid, start): (u32, u64) =
            (pid.parse().map_err(|_no_number| wrong())?, start.parse().map_err(|_no_number| wrong())?);
        Ok(TaskKey::from_ticks(pid + 100_000 * self.world, start))
    }

    fn address(&self, word: &str) -> Result<SocketAddr, String> {
        let mut address: SocketAddr =
            word.parse().map_err(|_no_address| format!("`{word}` is no address with a port"))?;
        // An address belongs to one host: two worlds share loopback alone.
        if let (IpAddr::V4(ip), Ok(world)) = (address.ip(), u8::try_from(self.world))
            && let [10, 0, 0, last] = ip.octets()
        {
            address.set_ip(IpAddr::from([10, 0, world, last]));
        }
        // Ports chosen by a client's kernel.
        if address.port() >= 30_000 {
            address.set_port(address.port() + u16::try_from(self.world * 1_000).unwrap_or(0));
        }
        Ok(address)
    }

    /// A socket by its name, with addresses if the line has them.
    fn socket(&mut self, words: &mut Words<'_>, role: Option<SocketRole>) -> Result<SocketInfo, String> {
        let name = words.next("the name of a socket")?;
        self.named(name, words, role)
    }

    fn named(&mut self, name: &str, words: &mut Words<'_>, role: Option<SocketRole>) -> Result<SocketInfo, String> {
        let number = u64::try_from(self.sockets.len()).unwrap_or(0) + 1 + u64::from(self.world) * 1_000;
        // `NAME=OTHER`: reuses the inode of another socket.
        let (name, other) = name.split_once('=').map_or((name, None), |(name, other)| (name, Some(other)));
        let inode = match other {
            Some(other) => self.known(other)?.id.inode.unwrap_or(0),
            None => 100_000 + number,
        };
        let addresses = words.rest.next_if(|word| word.contains('>'));
        let mut tuple = None;
        let mut namespace = 1;
        if let Some(word) = addresses {
            let (ends, number) = word.split_once('%').unwrap_or((word, "1"));
            namespace =
                number.parse().map_err(|_no_number| format!("`{number}` is no number of a network namespace"))?;
            let (local, remote) = ends.split_once('>').ok_or("addresses are LOCAL>REMOTE")?;
            tuple = Some(Tuple::new(self.address(local)?, self.address(remote)?));
        }
        let isn = words.rest.next_if(|word| word.starts_with('~')).map(|word| self.isn(word, role)).transpose()?;
        let unix = words.is_next("unix");
        let known = self.sockets.entry(name.to_owned()).or_insert(SocketInfo {
            id: SocketId::new(number, inode),
            family: if unix { Family::Unix } else { Family::Inet },
            tuple: None,
            netns: (namespace != 0).then_some(namespace + 100 * self.world),
            role: None,
            isn: None,
        });
        known.isn = isn.or(known.isn);
        if known.tuple.is_none() && known.family != Family::Unix {
            known.tuple = Some(tuple.ok_or_else(|| format!("`{name}` has no addresses yet: LOCAL>REMOTE"))?);
        }
        Ok(SocketInfo { role, ..*known })
    }

    /// The kernel's numbers: `own` of a connecting socket is one less.
    fn isn(&self, word: &str, role: Option<SocketRole>) -> Result<Isn, String> {
        let wrong = || format!("sequence numbers are `~OWN/PEER`, not `{word}`");
        let (own, peer) = word.trim_start_matches('~').split_once('/').ok_or_else(wrong)?;
        let number = |digits: &str| -> Result<u32, String> {
            let number: u32 = digits.parse().map_err(|_no_number| wrong())?;
            Ok(number.wrapping_add(self.world * 1_000_000))
        };
        let syn = u32::from(role == Some(SocketRole::Connected));
        Ok(Isn { own: number(own)?.wrapping_sub(syn), peer: number(peer)? })
    }

    fn known(&self, name: &str) -> Result<SocketInfo, String> {
        self.sockets.get(name).copied().ok_or_else(|| format!("no socket `{name}` so far"))
    }

    /// Parses an optional `by g1`.
    fn actor(&self, words: &mut Words<'_>) -> Result<Actor, String> {
        if !words.is_next("by") {
            return Ok(Actor::default());
        }
        let word = words.next("a goroutine")?;
        let wrong = || format!("a goroutine is `g1`, `g1!` or `g1/7`, not `{word}`");
        let number = |digits: &str| {
            digits.parse::<u64>().map(|number| number + u64::from(self.world) * 10_000).map_err(|_no_number| wrong())
        };
        let rest = word.strip_prefix('g').ok_or_else(wrong)?;
        let (name, parent) = rest.split_once('/').map_or((rest, None), |(name, parent)| (name, Some(parent)));
        let (name, identified) = name.strip_suffix('!').map_or((name, parent.is_some()), |name| (name, true));
        let id = number(name)?;
        let parent_goid = parent.map(number).transpose()?;
        Ok(Actor { g: Some(0xc000_0000 + id), goid: identified.then_some(id), parent_goid })
    }

    fn from(&self, words: &mut Words<'_>) -> Result<Option<SocketId>, String> {
        if !words.is_next("from") {
            return Ok(None);
        }
        let name = words.next("the name of a socket")?;
        if let Some(unknown) = name.strip_suffix('?') {
            let number = 1_000_000 + number_of(&format!("{unknown} {}", self.world));
            return Ok(Some(SocketId::new(number, number)));
        }
        Ok(Some(self.known(name)?.id))
    }

    /// Parses `from NAME`, or `from NAME!` with the socket's properties known to the probe; `NAME! LOCAL>REMOTE` at its
    /// first mention.
    fn told_from(&mut self, words: &mut Words<'_>) -> Result<(Option<SocketId>, Option<SocketInfo>), String> {
        let name = words.rest.clone().nth(1).and_then(|name| name.strip_suffix('!'));
        let Some(name) = name.filter(|_| words.rest.peek() == Some(&"from")) else {
            return Ok((self.from(words)?, None));
        };
        words.next("`from`")?;
        words.next("the name of a socket")?;
        let socket = self.named(name, words, Some(SocketRole::Accepted))?;
        Ok((Some(socket.id), Some(socket)))
    }

    fn info(&self, words: &mut Words<'_>) -> Result<ProcessInfo, String> {
        let mut info = ProcessInfo { uid: Some(0), ..ProcessInfo::default() };
        while let Some(word) = words.rest.next_if(|word| word.starts_with('@')) {
            match word.split_once('=').unwrap_or((word, "")) {
                ("@below", _) => info.watched = Some(WatchAs::Below),
                ("@contained", _) => info.watched = Some(WatchAs::Contained),
                ("@parent", pid) => info.parent = Some(self.pid(pid)?),
                ("@in", container) => {
                    let id = long_id(container, self.world);
                    info.cgroup = Some(format!("/kubepods/podab/{id}").as_str().into());
                }
                ("@stdin", "pipe") => info.stdin = Some(FileKind::Pipe),
                ("@stdin", "null") => info.stdin = Some(FileKind::Other),
                ("@tty", tty) => info.tty = Some(tty.to_owned()),
                ("@go", version) => info.program = Some(Program::Go(version.to_owned())),
                ("@userns", "host") => info.userns = Some(INITIAL_USERNS),
                ("@userns", number) => {
                    let userns = number.parse();
                    info.userns = Some(userns.map_err(|_no_number| format!("`{number}` is no user namespace"))?);
                }
                ("@uid", uid) => info.uid = Some(uid.parse().map_err(|_no_number| format!("`{uid}` is no uid"))?),
                _ => {
                    return Err(format!(
                        "`{word}` is none of @below, @contained, @parent=, @uid=, @userns=, @in=, @stdin=, @tty=, @go="
                    ));
                }
            }
        }
        info.argv = words.rest.by_ref().map(RawText::from).collect();
        let program = info.argv.first().ok_or("arguments are missing")?;
        info.comm = RawText::from(program.basename());
        Ok(info)
    }

    fn fifo_path(&self, container: &str, exec: &str, stream: &str) -> String {
        let (container, exec) = (long_id(container, self.world), long_id(exec, self.world));
        format!("/run/containerd/io.containerd.grpc.v1.cri/containers/{container}/io/1/{exec}-{stream}")
    }

    /// A pipe, by number.
    fn pipe(&self, number: u64) -> FileId {
        FileId::new(14, 500_000 + number + 1_000 * u64::from(self.world))
    }

    /// A FIFO's path and file.
    fn held(&self, words: &mut Words<'_>) -> Result<(String, FileId), String> {
        let (container, exec) = (words.next("a container")?, words.next("an exec id")?);
        let path = self.fifo_path(container, exec, words.next("a stream")?);
        let inode = number_of(&path);
        Ok((path, FileId::new(1, inode)))
    }

    /// A unix socket by its name.
    fn unix(&mut self, words: &mut Words<'_>) -> Result<SocketId, String> {
        let name = words.next("the name of a socket")?;
        let number = u64::try_from(self.sockets.len()).unwrap_or(0) + 1 + u64::from(self.world) * 1_000;
        let id = SocketId::new(0, 100_000 + number);
        let info = SocketInfo { id, family: Family::Unix, tuple: None, netns: None, role: None, isn: None };
        Ok(self.sockets.entry(name.to_owned()).or_insert(info).id)
    }

    fn pid_file(&self, container: &str, exec: &str) -> String {
        let (container, exec) = (long_id(container, self.world), long_id(exec, self.world));
        format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{container}/{exec}.pid")
    }

    fn audit(&self, words: &mut Words<'_>, read: BootTime) -> Result<AuditEvent, String> {
        let (id, user) = (words.next("an id")?, words.next("a user")?);
        let subresource = words.next("a subresource")?;
        let subresource =
            Subresource::named(subresource).ok_or_else(|| format!("`{subresource}` is no subresource"))?;
        let (namespace, pod, container) = self.container_name(words.next("NAMESPACE/POD/NAME")?)?;
        let time = |words: &mut Words<'_>| Ok::<_, String>(BootTime(nanoseconds(words.next("a time")?)?));
        let mut event = AuditEvent {
            id: format!("{id}-{}", self.world),
            received: read,
            written: read,
            over: false,
            code: None,
            older: false,
            sources: Vec::new(),
            user: AuditUser { name: user.to_owned(), ..AuditUser::default() },
            request: AuditRequest {
                subresource,
                namespace,
                pod,
                container: (container != "-").then_some(container),
                command: Vec::new(),
                command_truncated: false,
                stdin: false,
                tty: false,
            },
        };
        while let Some(word) = words.rest.next() {
            match word {
                "at" => event.received = time(words)?,
                "written" => event.written = time(words)?,
                "from" => {
                    for address in words.next("addresses")?.split(',') {
                        event.sources.push(self.address(&format!("{address}:1"))?.ip());
                    }
                }
                "as" => event.user.impersonated = Some(words.next("a user")?.to_owned()),
                "code" => event.code = Some(words.number("a code")?),
                "over" => event.over = true,
                "older" => event.older = true,
                "tty" => event.request.tty = true,
                "stdin" => event.request.stdin = true,
                "cut" => event.request.command_truncated = true,
                "--" => event.request.command = words.rest.by_ref().map(RawText::from).collect(),
                other => return Err(format!("`{other}` is nothing of an audit log")),
            }
        }
        Ok(event)
    }

    /// Parses NAMESPACE/POD/NAME. Each world is a cluster with its own namespaces.
    fn container_name(&self, word: &str) -> Result<(String, String, String), String> {
        let [namespace, pod, name] = word.split('/').collect::<Vec<_>>()[..] else {
            return Err(format!("a container is NAMESPACE/POD/NAME, not `{word}`"));
        };
        let namespace = if self.world == 0 { namespace.to_owned() } else { format!("{namespace}-{}", self.world) };
        Ok((namespace, pod.to_owned(), name.to_owned()))
    }

    fn fact(&mut self, line: &str) -> Result<Observation, String> {
        let mut words = Words { rest: line.split_whitespace().peekable() };
        let at = BootTime(nanoseconds(words.next("a time")?)?);
        let kind = words.next("a fact")?;
        let mut source = Source::Ebpf;
        let mut task = None;
        let fact = match kind {
            "fork" => {
                task = Some(self.task(&mut words)?);
                let child = self.task(&mut words)?;
                Fact::Fork { child, actor: self.actor(&mut words)?, inbound: self.from(&mut words)? }
            }
            "exec" | "enrolled" | "process" => {
                task = Some(self.task(&mut words)?);
                let info = Box::new(self.info(&mut words)?);
                match kind {
                    "exec" => Fact::Exec(info),
                    "enrolled" => Fact::Enrolled(info),
                    _ => {
                        source = Source::Snapshot;
                        Fact::ProcessSeen(info)
                    }
                }
            }
            // runc PID CONTAINER EXEC [tty]
            "runc" | "runc-as-endpoint" => {
                task = Some(self.task(&mut words)?);
                let (container, exec) = (words.next("a container")?, words.next("an exec id")?);
                let pid_file = self.pid_file(container, exec);
                let tty = if words.is_next("tty") { "--console-socket /tmp/pty " } else { "" };
                let line = format!(
                    "runc --root /run/runc exec --process /tmp/p {tty}--detach --pid-file {pid_file} {}",
                    long_id(container, self.world)
                );
                let mut info = self.info(&mut Words { rest: line.split_whitespace().peekable() })?;
                info.watched = Some(if kind == "runc" { WatchAs::Below } else { WatchAs::Endpoint });
                Fact::Exec(Box::new(info))
            }
            // runc-create PID CONTAINER [moby]: of dockerd, by default of the kubelet.
            "runc-create" => {
                task = Some(self.task(&mut words)?);
                let container = long_id(words.next("a container")?, self.world);
                let namespace = if words.is_next("moby") { "moby" } else { "k8s.io" };
                let bundle = format!("/run/containerd/io.containerd.runtime.v2.task/{namespace}/{container}");
                let line = format!("runc create --bundle {bundle} --pid-file {bundle}/init.pid {container}");
                let mut info = self.info(&mut Words { rest: line.split_whitespace().peekable() })?;
                info.watched = Some(WatchAs::Below);
                Fact::Exec(Box::new(info))
            }
            // runc-foreground PID CONTAINER: as started by CRI-O.
            "runc-foreground" => {
                task = Some(self.task(&mut words)?);
                let container = long_id(words.next("a container")?, self.world);
                let line = format!("runc --root /run/runc exec --process /tmp/p {container}");
                let mut info = self.info(&mut Words { rest: line.split_whitespace().peekable() })?;
                info.watched = Some(WatchAs::Below);
                Fact::Exec(Box::new(info))
            }
            // runc-foreground-seen PID PARENT CONTAINER: the same, older than the tracer.
            "runc-foreground-seen" => {
                source = Source::Snapshot;
                task = Some(self.task(&mut words)?);
                let parent = self.task(&mut words)?;
                let container = long_id(words.next("a container")?, self.world);
                let line = format!("runc --root /run/runc exec --process /tmp/p {container}");
                let mut info = self.info(&mut Words { rest: line.split_whitespace().peekable() })?;
                info.parent = Some(parent);
                Fact::ProcessSeen(Box::new(info))
            }
            // monitor PID CONTAINER POD [exec]: conmon as started by CRI-O for a container, or for one ExecSync.
            "monitor" => {
                task = Some(self.task(&mut words)?);
                let container = long_id(words.next("a container")?, self.world);
                let pod = words.next("a pod")?;
                let exec = if words.is_next("exec") { " -e" } else { "" };
                let name = format!("k8s_web_{pod}_default_0a_0");
                let line = format!("conmon -c {container} -n {name} -r /usr/bin/runc -p /tmp/pidfile1{exec} --sync");
                let mut info = self.info(&mut Words { rest: line.split_whitespace().peekable() })?;
                info.watched = Some(WatchAs::Below);
                Fact::Exec(Box::new(info))
            }
            // runc-monitored PID CONTAINER: as started by conmon.
            "runc-monitored" => {
                task = Some(self.task(&mut words)?);
                let container = long_id(words.next("a container")?, self.world);
                let line = format!(
                    "runc --root=/run/runc exec --pid-file /tmp/pidfile1 --process /tmp/p --detach {container}"
                );
                let mut info = self.info(&mut Words { rest: line.split_whitespace().peekable() })?;
                info.watched = Some(WatchAs::Below);
                Fact::Exec(Box::new(info))
            }
            "exit" => {
                task = Some(self.task(&mut words)?);
                let status = match words.next("`code` or `signal`")? {
                    "code" => ExitStatus::Code(words.number("an exit code")?),
                    "signal" => ExitStatus::Signal(words.number("a signal")?),
                    other => return Err(format!("a process ends with `code` or `signal`, not `{other}`")),
                };
                Fact::Exit { status }
            }
            "listen" => {
                task = Some(self.task(&mut words)?);
                let word = words.next("an address")?;
                let (address, netns) = word.split_once('%').unwrap_or((word, "1"));
                let address = self.address(address)?;
                let netns: u32 =
                    netns.parse().map_err(|_no_number| format!("`{netns}` is no number of a network namespace"))?;
                // Any number is good if equal listeners give equal numbers.
                let name = format!("{word} {}", self.world);
                let number = name.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)))
                    % 1_000_000_000;
                let nobody = SocketAddr::from(([0, 0, 0, 0], 0));
                source = Source::Snapshot;
                Fact::Listening {
                    socket: SocketInfo {
                        id: SocketId::new(number, 100_000 + number),
                        family: Family::Inet,
                        tuple: Some(Tuple::new(address, nobody)),
                        netns: Some(netns + 100 * self.world),
                        role: Some(SocketRole::Listening),
                        isn: None,
                    },
                }
            }
            "watched" | "looked" => {
                task = Some(self.task(&mut words)?);
                source = Source::Snapshot;
                if kind == "watched" { Fact::Watched } else { Fact::Looked }
            }
            "unix-listen" => {
                task = Some(self.task(&mut words)?);
                source = Source::Snapshot;
                let path = words.next("a path")?.into();
                // `at PATH`: verified, and clients reach the socket there. `nowhere`: no client reaches it. `by-user`:
                // not root's.
                let listener = match words.rest.next() {
                    None => None,
                    Some("at") => Some(Listener { root: true, at: Some(words.next("a path")?.into()) }),
                    Some("nowhere") => Some(Listener { root: true, at: None }),
                    Some("by-user") => Some(Listener { root: false, at: Some(words.next("a path")?.into()) }),
                    Some(other) => return Err(format!("`{other}` is none of `at`, `nowhere`, `by-user`")),
                };
                Fact::ListeningUnix { path, socket: SocketId::new(0, 99), listener }
            }
            "connect" => {
                task = Some(self.task(&mut words)?);
                let socket = self.socket(&mut words, Some(SocketRole::Connected))?;
                Fact::Connected { socket, actor: self.actor(&mut words)?, inbound: self.from(&mut words)? }
            }
            "accept" => {
                task = Some(self.task(&mut words)?);
                Fact::Accepted { socket: self.socket(&mut words, Some(SocketRole::Accepted))? }
            }
            "seen" | "seen-accepted" | "seen-connected" => {
                source = Source::Snapshot;
                task = Some(self.task(&mut words)?);
                let role = match kind {
                    "seen-accepted" => Some(SocketRole::Accepted),
                    "seen-connected" => Some(SocketRole::Connected),
                    _ => None,
                };
                Fact::SocketSeen { socket: self.socket(&mut words, role)? }
            }
            "close" => {
                let socket = self.known(words.next("the name of a socket")?)?;
                Fact::Closed { socket: socket.id, received: Some(100), acked: Some(200) }
            }
            "absent" => {
                source = Source::Snapshot;
                let socket = self.known(words.next("the name of a socket")?)?;
                Fact::PeerAbsent {
                    tuple: socket.tuple.ok_or("it has no addresses")?,
                    netns: socket.netns,
                    host: HostNo::default(),
                }
            }
            "relay" => {
                task = Some(self.task(&mut words)?);
                let from = self.socket(&mut words, None)?;
                let to = self.socket(&mut words, None)?;
                let actor = self.actor(&mut words)?;
                Fact::Relayed { actor, from, to, sightings: 1, splice: words.is_next("splice") }
            }
            "fifo" => {
                task = Some(self.task(&mut words)?);
                let (container, exec) = (words.next("a container")?, words.next("an exec id")?);
                let stream = words.next("a stream")?;
                let path = self.fifo_path(container, exec, stream);
                let actor = self.actor(&mut words)?;
                let (inbound, from) = self.told_from(&mut words)?;
                Fact::FifoMade { actor, inbound, from, path: path.as_str().into() }
            }
            // unix-accept PID FAR NEAR PID PATH
            "unix-accept" => {
                task = Some(self.task(&mut words)?);
                let (far, near) = (self.unix(&mut words)?, self.unix(&mut words)?);
                let connector = Some(self.task(&mut words)?.tgid);
                let path = words.next("a path")?.into();
                Fact::UnixAccepted { socket: far, peer: near, connector, path, bound: words.is_next("bound") }
            }
            "touch" => {
                task = Some(self.task(&mut words)?);
                let socket = self.socket(&mut words, None)?;
                Fact::Touched { socket, actor: self.actor(&mut words)? }
            }
            "fifo-held" => {
                source = Source::Snapshot;
                task = Some(self.task(&mut words)?);
                let (path, file) = self.held(&mut words)?;
                Fact::FifoHeld { path: path.as_str().into(), file, fd: None }
            }
            // pipe-held PID NUMBER FD: a pipe of a runc that stays.
            "pipe-held" => {
                source = Source::Snapshot;
                task = Some(self.task(&mut words)?);
                let file = self.pipe(words.number("a pipe")?);
                let path = format!("pipe:[{}]", file.inode).as_str().into();
                Fact::FifoHeld { path, file, fd: Some(words.number("a descriptor")?) }
            }
            "pipe-relay" => {
                task = Some(self.task(&mut words)?);
                let fifo = self.pipe(words.number("a pipe")?);
                let to = self.socket(&mut words, None)?;
                Fact::FifoRelayed { fifo, to, actor: self.actor(&mut words)? }
            }
            "pipe-await" => {
                source = Source::Snapshot;
                task = Some(self.task(&mut words)?);
                let path = format!("pipe:[{}]", self.pipe(words.number("a pipe")?).inode).as_str().into();
                let socket = self.known(words.next("a socket")?)?.id;
                Fact::FifoAwaited { path, socket, copied: words.is_next("copied") }
            }
            "fifo-relay" => {
                task = Some(self.task(&mut words)?);
                let (_, fifo) = self.held(&mut words)?;
                let to = self.socket(&mut words, None)?;
                Fact::FifoRelayed { fifo, to, actor: self.actor(&mut words)? }
            }
            "fifo-await" => {
                source = Source::Snapshot;
                task = Some(self.task(&mut words)?);
                let (path, _) = self.held(&mut words)?;
                let socket = self.known(words.next("a socket")?)?.id;
                Fact::FifoAwaited { path: path.as_str().into(), socket, copied: words.is_next("copied") }
            }
            "await" => {
                source = Source::Snapshot;
                task = Some(self.task(&mut words)?);
                let (from, to) = (words.next("from a socket")?, words.next("to a socket")?);
                let (from, to) = (self.known(from)?.id, self.known(to)?.id);
                Fact::RelayAwaited { from, to, copied: words.is_next("copied") }
            }
            "gone" => {
                source = Source::Snapshot;
                task = Some(self.task(&mut words)?);
                Fact::ProcessGone
            }
            "container" => {
                source = Source::Snapshot;
                let (id, name) = (words.next("a container")?, words.next("NAMESPACE/POD/NAME")?);
                let (namespace, pod, name) = self.container_name(name)?;
                // An unknown part is `-`.
                let known = |name: String| Some(name).filter(|name| !name.starts_with('-'));
                Fact::ContainerSeen(Box::new(ContainerInfo {
                    id: long_id(id, self.world),
                    name: known(name),
                    pod: known(pod),
                    namespace: known(namespace),
                    ..ContainerInfo::default()
                }))
            }
            // shim-pid-file SHIM CONTAINER EXEC PID: a file of a shim's state, found at the start.
            "shim-pid-file" => {
                source = Source::Snapshot;
                task = Some(self.task(&mut words)?);
                let (container, exec) = (words.next("a container")?, words.next("an exec id")?);
                let path = self.pid_file(container, exec);
                Fact::PidFile { path: path.as_str().into(), pid: Some(self.task(&mut words)?.tgid) }
            }
            "pid-file" => {
                source = Source::Snapshot;
                let (container, exec) = (words.next("a container")?, words.next("an exec id")?);
                let path = self.pid_file(container, exec);
                Fact::PidFile { path: path.as_str().into(), pid: Some(self.task(&mut words)?.tgid) }
            }
            "ancestry" => {
                source = Source::Snapshot;
                task = Some(self.task(&mut words)?);
                let mut ancestry = Ancestry::default();
                for word in words.rest.by_ref() {
                    let wrong = || format!("COMM:PID:UID or UID=NAME, not `{word}`");
                    if let Some((uid, name)) = word.split_once('=') {
                        ancestry.names.insert(uid.parse().map_err(|_no_number| wrong())?, name.to_owned());
                        continue;
                    }
                    let [comm, pid, uid] = word.split(':').collect::<Vec<_>>()[..] else { return Err(wrong()) };
                    let uid = Some(uid.parse().map_err(|_no_number| wrong())?);
                    ancestry.parents.push(Ancestor { task: self.pid(pid)?, comm: comm.into(), uid });
                }
                Fact::Ancestry(Box::new(ancestry))
            }
            "audit-follow" => {
                source = Source::Snapshot;
                Fact::AuditFollowed
            }
            "audit-skipped" => {
                source = Source::Snapshot;
                Fact::AuditSkipped { count: words.number("how many")? }
            }
            "audit" => {
                source = Source::Snapshot;
                Fact::Audited(Box::new(self.audit(&mut words, at)?))
            }
            "lost" => {
                source = Source::Engine;
                Fact::Lost { what: "ring-full".to_owned(), count: words.number("how many")? }
            }
            "tick" => {
                source = Source::Engine;
                Fact::Tick
            }
            other => return Err(format!("there is no fact `{other}`")),
        };
        words.end()?;
        Ok(Observation { at, source, seq: None, task, tid: task.map(|task| task.tgid), fact })
    }
}

/// Sessions in order of opening, in the format of scenarios.
#[must_use]
pub fn render(report: &Report, world: u32) -> String {
    let text: Vec<String> = report.sessions.iter().map(|session| render_session(session, world)).collect();
    clean(if text.is_empty() { "nothing".to_owned() } else { text.join("\n") }.as_str())
}

/// One session in the format of scenarios.
#[must_use]
pub fn render_session(session: &Session, world: u32) -> String {
    let mut lines = Vec::new();
    let mut head = vec!["session".to_owned()];
    head.push(session.exec_id.as_deref().map_or_else(|| session.id.0.to_string(), short_id));
    head.push(session.kind.token().to_owned());
    head.push(if session.state == State::Open { "open" } else { "closed" }.to_owned());
    head.push(if session.complete { "complete" } else { "incomplete" }.to_owned());
    head.push(session.confidence().map_or("-", |confidence| confidence.token()).to_owned());
    if session.preexisting {
        head.push("older".to_owned());
        // Younger than the sessions that exist from the first tick on.
        if session.opened_at.0 > TaskKey::from_ticks(1, 1).start_ns() {
            head.push(format!("since {}", Span(session.opened_at.0).as_millis()));
        }
    }
    if session.merged_into.is_some() {
        head.push("merged".to_owned());
    }
    if session.tty == Some(true) {
        head.push("tty".to_owned());
    }
    lines.push(head.join(" "));
    if !session.command.is_empty() {
        let words: Vec<_> = session.command.iter().map(RawText::to_text).collect();
        lines.push(format!("  command {}", words.join(" ")));
    }
    if let Some(pod) = &session.target.pod {
        lines.push(format!("  pod {pod}"));
    }
    if let Some(KubeUser { user, audit_id, confidence }) = session.client.user.as_deref() {
        let other = user.impersonated.as_ref().map(|other| format!(" as {other}")).unwrap_or_default();
        let id = audit_id.as_ref().and_then(|id| id.split('-').next()).unwrap_or("-");
        lines.push(format!("  user {}{other} {} {id}", user.name, confidence.token()));
    }
    if let Some(parents) = session.client.parents.as_ref().filter(|parents| !parents.is_empty()) {
        let chain: Vec<_> = parents.iter().rev().map(|above| above.comm.to_text()).collect();
        let name = session.client.uid_name.as_deref().unwrap_or("-");
        lines.push(format!("  client {name} {}", chain.join(" ")));
    }
    for (index, hop) in session.hops.iter().enumerate() {
        let pid = hop.task.tgid - 100_000 * world;
        let again = if hop.task.start_ticks == 1 { String::new() } else { format!("/{}", hop.task.start_ticks) };
        let exit = match hop.exit {
            None => String::new(),
            Some(ExitStatus::Code(code)) => format!(" code {code}"),
            Some(ExitStatus::Signal(signal)) => format!(" signal {signal}"),
        };
        lines.push(format!("  {} {pid}{again}{exit}", hop.role.token()));
        for link in session.links.iter().filter(|link| link.from == index) {
            let evidence: Vec<_> = link.evidence.iter().map(|evidence| evidence.token()).collect();
            lines.push(format!("    {} {} {}", link.kind.token(), link.confidence.token(), evidence.join(" ")));
        }
    }
    for (side, address) in &session.beyond {
        lines.push(format!("  beyond {side} {address}"));
    }
    for gap in &session.gaps {
        let between = gap.between.map(|(from, to)| format!(" {from} {to}")).unwrap_or_default();
        lines.push(format!("  gap {}{between}", gap.code.token()));
    }
    if let Some(exit) = &session.exit {
        let code = exit.code.map(|code| format!(" {code}")).unwrap_or_default();
        let signal = exit.signal.map(|signal| format!(" {signal}")).unwrap_or_default();
        lines.push(format!("  exit {}{code}{signal}", exit.reason.token()));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_errors_name_file_and_line() {
        for (text, line, told) in [
            ("x exec 1 sh\n", 1, "a line begins with a time in milliseconds, not `x`"),
            ("# c\n\n1 dance 2\n", 3, "there is no fact `dance`"),
            ("1 exit 2 code 0 0\n", 1, "`0` is too much"),
            ("1 accept 2 a\n", 1, "`a` has no addresses yet: LOCAL>REMOTE"),
            ("1 close a\n", 1, "no socket `a` so far"),
            ("1 accept 2 a 10.0.0.1:1>10.0.0.2:2 ~7\n", 1, "sequence numbers are `~OWN/PEER`, not `~7`"),
            ("1 exec 5\n", 1, "arguments are missing"),
            ("1 tick\n", 1, "no `expect` at the end"),
        ] {
            let error = parse("s.txt", text, 0).unwrap_err();
            assert_eq!(error.to_string(), format!("s.txt:{line}: {told}"), "{text}");
        }
    }

    #[test]
    fn times_are_milliseconds_with_fraction() {
        assert_eq!(nanoseconds("10"), Ok(10_000_000));
        assert_eq!(nanoseconds("0.03"), Ok(30_000));
        assert!(nanoseconds("1.0000001").is_err() && nanoseconds(".1").is_err() && nanoseconds("-1").is_err());
    }

    #[test]
    fn ids_convert_to_words_and_back() {
        assert_eq!(long_id("web", 0).len(), 64);
        assert_ne!(long_id("web", 0), long_id("web", 1));
        assert_eq!(short_id(&long_id("web", 3)), "web");
    }
}
