//! Facts of a scenario, one per line.

use std::net::SocketAddr;

use execpath::model::{
    Ancestor, Ancestry, BootTime, ContainerInfo, DialError, ExitStatus, Fact, Family, HostNo, Listener, Observation,
    SentBy, Signal, SocketId, SocketInfo, SocketRole, Source, TaskKey, Tuple, WatchAs,
};

use super::{
    long_id,
    parser::{Parser, Words, nanoseconds, number_of},
};

/// A fact with its source and its process, if it has one.
struct Parsed {
    source: Source,
    task: Option<TaskKey>,
    fact: Fact,
}

impl Parsed {
    /// A fact that a probe reports of a process.
    fn probe(task: TaskKey, fact: Fact) -> Option<Self> {
        Some(Self { source: Source::Ebpf, task: Some(task), fact })
    }

    /// A fact that a snapshot reports of a process.
    fn snapshot(task: TaskKey, fact: Fact) -> Option<Self> {
        Some(Self { source: Source::Snapshot, task: Some(task), fact })
    }

    /// A fact without a process.
    fn of(source: Source, fact: Fact) -> Option<Self> {
        Some(Self { source, task: None, fact })
    }
}

/// The fact of a line, or `None` if its word belongs to another group of facts.
type ParseResult = Result<Option<Parsed>, String>;

impl Parser {
    /// Parses a line: time, word, and the values of the fact.
    pub(super) fn fact(&mut self, line: &str) -> Result<Observation, String> {
        let mut words = Words::of(line);
        let at = BootTime(nanoseconds(words.next("a time")?)?);
        let word = words.next("a fact")?;
        let groups = [
            Self::process_fact,
            Self::runc_fact,
            Self::monitor_fact,
            Self::listener_fact,
            Self::tcp_fact,
            Self::fifo_fact,
            Self::pipe_fact,
            Self::file_fact,
            Self::engine_fact,
        ];
        for group in groups {
            let Some(Parsed { source, task, fact }) = group(self, word, at, &mut words)? else { continue };
            words.end()?;
            return Ok(Observation { at, source, seq: None, task, tid: task.map(|task| task.tgid), fact });
        }
        Err(format!("there is no fact `{word}`"))
    }

    /// Start, identity and end of processes.
    fn process_fact(&mut self, word: &str, _at: BootTime, words: &mut Words<'_>) -> ParseResult {
        Ok(match word {
            "fork" => {
                let task = self.task(words)?;
                let child = self.task(words)?;
                Parsed::probe(task, Fact::Fork { child, actor: self.actor(words)?, inbound: self.from(words)? })
            }
            "exec" => Parsed::probe(self.task(words)?, Fact::Exec(Box::new(self.info(words)?))),
            "enrolled" => Parsed::probe(self.task(words)?, Fact::Enrolled(Box::new(self.info(words)?))),
            "process" => Parsed::snapshot(self.task(words)?, Fact::ProcessSeen(Box::new(self.info(words)?))),
            "exit" => {
                let task = self.task(words)?;
                let status = match words.next("`code` or `signal`")? {
                    "code" => ExitStatus::Code(words.number("an exit code")?),
                    "signal" => ExitStatus::Signal(words.number("a signal")?),
                    other => return Err(format!("a process ends with `code` or `signal`, not `{other}`")),
                };
                Parsed::probe(task, Fact::Exit { status })
            }
            // exec-failed PID ERRNO
            "exec-failed" => {
                let task = self.task(words)?;
                Parsed::probe(task, Fact::ExecFailed { errno: words.number("an error number")?, mntns: None })
            }
            // signalled PID NUMBER process|kernel|out-of-memory SENDER COMM
            "signalled" => {
                let task = self.task(words)?;
                let number = words.number("a signal")?;
                let by = match words.next("an origin")? {
                    "process" => SentBy::Process,
                    "kernel" => SentBy::Kernel,
                    "out-of-memory" => SentBy::OutOfMemory,
                    other => return Err(format!("an origin is `process`, `kernel` or `out-of-memory`, not `{other}`")),
                };
                let sender = Some(self.task(words)?);
                let comm = words.next("a name")?.into();
                Parsed::probe(task, Fact::Signalled(Box::new(Signal { number, by, sender, comm, uid: Some(0) })))
            }
            "watched" => Parsed::snapshot(self.task(words)?, Fact::Watched),
            "looked" => Parsed::snapshot(self.task(words)?, Fact::Looked),
            "gone" => Parsed::snapshot(self.task(words)?, Fact::ProcessGone),
            "ancestry" => {
                let task = self.task(words)?;
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
                Parsed::snapshot(task, Fact::Ancestry(Box::new(ancestry)))
            }
            _ => None,
        })
    }

    /// An execve of this command line.
    fn exec_of(&self, line: &str, watched: WatchAs) -> Result<Fact, String> {
        let mut info = self.info(&mut Words::of(line))?;
        info.watched = Some(watched);
        Ok(Fact::Exec(Box::new(info)))
    }

    /// The OCI runtime, as the different runtimes start it.
    fn runc_fact(&mut self, word: &str, _at: BootTime, words: &mut Words<'_>) -> ParseResult {
        Ok(match word {
            // runc PID CONTAINER EXEC [tty]
            "runc" | "runc-as-endpoint" => {
                let task = self.task(words)?;
                let (container, exec) = (words.next("a container")?, words.next("an exec id")?);
                let pid_file = self.pid_file(container, exec);
                let tty = if words.is_next("tty") { "--console-socket /tmp/pty " } else { "" };
                let line = format!(
                    "runc --root /run/runc exec --process /tmp/p {tty}--detach --pid-file {pid_file} {}",
                    long_id(container, self.cluster)
                );
                let watched = if word == "runc" { WatchAs::RuntimeChild } else { WatchAs::Endpoint };
                Parsed::probe(task, self.exec_of(&line, watched)?)
            }
            // runc-create PID CONTAINER [moby]: of dockerd, by default of the kubelet.
            "runc-create" => {
                let task = self.task(words)?;
                let container = long_id(words.next("a container")?, self.cluster);
                let namespace = if words.is_next("moby") { "moby" } else { "k8s.io" };
                let bundle = format!("/run/containerd/io.containerd.runtime.v2.task/{namespace}/{container}");
                let line = format!("runc create --bundle {bundle} --pid-file {bundle}/init.pid {container}");
                Parsed::probe(task, self.exec_of(&line, WatchAs::RuntimeChild)?)
            }
            // runc-foreground PID CONTAINER: as started by CRI-O.
            "runc-foreground" => {
                let task = self.task(words)?;
                let container = long_id(words.next("a container")?, self.cluster);
                let line = format!("runc --root /run/runc exec --process /tmp/p {container}");
                Parsed::probe(task, self.exec_of(&line, WatchAs::RuntimeChild)?)
            }
            // runc-foreground-seen PID PARENT CONTAINER: the same, older than the tracer.
            "runc-foreground-seen" => {
                let task = self.task(words)?;
                let parent = self.task(words)?;
                let container = long_id(words.next("a container")?, self.cluster);
                let line = format!("runc --root /run/runc exec --process /tmp/p {container}");
                let mut info = self.info(&mut Words::of(&line))?;
                info.parent = Some(parent);
                Parsed::snapshot(task, Fact::ProcessSeen(Box::new(info)))
            }
            _ => None,
        })
    }

    /// CRI-O's monitor, and its runc.
    fn monitor_fact(&mut self, word: &str, _at: BootTime, words: &mut Words<'_>) -> ParseResult {
        Ok(match word {
            // monitor PID CONTAINER POD [exec]: conmon as started by CRI-O for a container, or for one ExecSync.
            "monitor" => {
                let task = self.task(words)?;
                let container = long_id(words.next("a container")?, self.cluster);
                let pod = words.next("a pod")?;
                let exec = if words.is_next("exec") { " -e" } else { "" };
                let name = format!("k8s_web_{pod}_default_0a_0");
                let line = format!("conmon -c {container} -n {name} -r /usr/bin/runc -p /tmp/pidfile1{exec} --sync");
                Parsed::probe(task, self.exec_of(&line, WatchAs::RuntimeChild)?)
            }
            // runc-monitored PID CONTAINER: as started by conmon.
            "runc-monitored" => {
                let task = self.task(words)?;
                let container = long_id(words.next("a container")?, self.cluster);
                let line = format!(
                    "runc --root=/run/runc exec --pid-file /tmp/pidfile1 --process /tmp/p --detach {container}"
                );
                Parsed::probe(task, self.exec_of(&line, WatchAs::RuntimeChild)?)
            }
            _ => None,
        })
    }

    /// Listeners, and connections over unix sockets.
    fn listener_fact(&mut self, word: &str, _at: BootTime, words: &mut Words<'_>) -> ParseResult {
        Ok(match word {
            "listen" => {
                let task = self.task(words)?;
                let word = words.next("an address")?;
                let (address, netns) = word.split_once('%').unwrap_or((word, "1"));
                let address = self.address(address)?;
                let netns: u32 =
                    netns.parse().map_err(|_no_number| format!("`{netns}` is no number of a network namespace"))?;
                let number = number_of(&format!("{word} {}", self.cluster));
                let no_peer = SocketAddr::from(([0, 0, 0, 0], 0));
                let socket = SocketInfo {
                    id: SocketId::new(number, 100_000 + number),
                    family: Family::Inet,
                    tuple: Some(Tuple::new(address, no_peer)),
                    netns: Some(netns + 100 * self.cluster),
                    role: Some(SocketRole::Listening),
                    isn: None,
                };
                Parsed::snapshot(task, Fact::Listening { socket })
            }
            "unix-listen" => {
                let task = self.task(words)?;
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
                Parsed::snapshot(task, Fact::ListeningUnix { path, socket: SocketId::new(0, 99), listener })
            }
            // unix-accept PID FAR NEAR PID PATH
            "unix-accept" => {
                let task = self.task(words)?;
                let (socket, peer) = (self.unix(words)?, self.unix(words)?);
                let connector = Some(self.task(words)?.tgid);
                let path = words.next("a path")?.into();
                let bound = words.is_next("bound");
                Parsed::probe(task, Fact::UnixAccepted { socket, peer, connector, path, bound })
            }
            _ => None,
        })
    }

    /// TCP connections, and their pairs inside a process.
    fn tcp_fact(&mut self, word: &str, _at: BootTime, words: &mut Words<'_>) -> ParseResult {
        Ok(match word {
            "connect" => {
                let task = self.task(words)?;
                let socket = self.socket(words, Some(SocketRole::Connected))?;
                let (actor, inbound) = (self.actor(words)?, self.from(words)?);
                Parsed::probe(task, Fact::Connected { socket, actor, inbound })
            }
            // dial PID SOCKET ADDRESS>ADDRESS [by G] [from SOCKET] [failed [ERRNO]]
            "dial" => {
                let task = self.task(words)?;
                let socket = self.socket(words, Some(SocketRole::Connected))?;
                let (actor, inbound) = (self.actor(words)?, self.from(words)?);
                let failed = words.is_next("failed");
                let errno = if failed { words.rest.next() } else { None };
                let errno = errno.map(str::parse).transpose().map_err(|_no_number| "the error is no number")?;
                let failed = failed.then_some(DialError { errno });
                let remote = socket.tuple.map(|tuple| tuple.remote);
                Parsed::probe(
                    task,
                    Fact::Dialled { socket: socket.id, remote, netns: socket.netns, actor, inbound, failed },
                )
            }
            "accept" => {
                let task = self.task(words)?;
                Parsed::probe(task, Fact::Accepted { socket: self.socket(words, Some(SocketRole::Accepted))? })
            }
            "seen" | "seen-accepted" | "seen-connected" => {
                let task = self.task(words)?;
                let role = match word {
                    "seen-accepted" => Some(SocketRole::Accepted),
                    "seen-connected" => Some(SocketRole::Connected),
                    _ => None,
                };
                Parsed::snapshot(task, Fact::SocketSeen { socket: self.socket(words, role)? })
            }
            "close" => {
                // close SOCKET [RECEIVED ACKED]
                let socket = self.known(words.next("the name of a socket")?)?.id;
                let (received, acked) = match words.rest.peek() {
                    Some(_) => (words.number("bytes received")?, words.number("bytes acknowledged")?),
                    None => (100, 200),
                };
                Parsed::of(Source::Ebpf, Fact::Closed { socket, received: Some(received), acked: Some(acked) })
            }
            "absent" => {
                let socket = self.known(words.next("the name of a socket")?)?;
                let tuple = socket.tuple.ok_or("it has no addresses")?;
                let fact = Fact::PeerAbsent { tuple, netns: socket.netns, host: HostNo::default() };
                Parsed::of(Source::Snapshot, fact)
            }
            "relay" => {
                let task = self.task(words)?;
                let (from, to) = (self.socket(words, None)?, self.socket(words, None)?);
                let actor = self.actor(words)?;
                let splice = words.is_next("splice");
                Parsed::probe(task, Fact::Relayed { actor, from, to, sightings: 1, splice })
            }
            "touch" => {
                let task = self.task(words)?;
                let socket = self.socket(words, None)?;
                Parsed::probe(task, Fact::Touched { socket, actor: self.actor(words)? })
            }
            "await" => {
                let task = self.task(words)?;
                let (from, to) = (words.next("from a socket")?, words.next("to a socket")?);
                let (from, to) = (self.known(from)?.id, self.known(to)?.id);
                Parsed::snapshot(task, Fact::RelayAwaited { from, to, copied: words.is_next("copied") })
            }
            _ => None,
        })
    }

    /// FIFOs of execs.
    fn fifo_fact(&mut self, word: &str, _at: BootTime, words: &mut Words<'_>) -> ParseResult {
        Ok(match word {
            "fifo" => {
                let task = self.task(words)?;
                let (container, exec) = (words.next("a container")?, words.next("an exec id")?);
                let stream = words.next("a stream")?;
                let path = self.fifo_path(container, exec, stream);
                let actor = self.actor(words)?;
                let (inbound, from) = self.inbound_and_info(words)?;
                Parsed::probe(task, Fact::FifoMade { actor, inbound, from, path: path.as_str().into() })
            }
            "fifo-held" => {
                let task = self.task(words)?;
                let (path, file) = self.held(words)?;
                Parsed::snapshot(task, Fact::FifoHeld { path: path.as_str().into(), file, fd: None })
            }
            "fifo-relay" => {
                let task = self.task(words)?;
                let (_, fifo) = self.held(words)?;
                let to = self.socket(words, None)?;
                Parsed::probe(task, Fact::FifoRelayed { fifo, to, actor: self.actor(words)? })
            }
            "fifo-await" => {
                let task = self.task(words)?;
                let (path, _) = self.held(words)?;
                let socket = self.known(words.next("a socket")?)?.id;
                let copied = words.is_next("copied");
                Parsed::snapshot(task, Fact::FifoAwaited { path: path.as_str().into(), socket, copied })
            }
            _ => None,
        })
    }

    /// Pipes of a runc that stays.
    fn pipe_fact(&mut self, word: &str, _at: BootTime, words: &mut Words<'_>) -> ParseResult {
        Ok(match word {
            // pipe-held PID NUMBER FD
            "pipe-held" => {
                let task = self.task(words)?;
                let file = self.pipe(words.number("a pipe")?);
                let path = format!("pipe:[{}]", file.inode).as_str().into();
                Parsed::snapshot(task, Fact::FifoHeld { path, file, fd: Some(words.number("a descriptor")?) })
            }
            "pipe-relay" => {
                let task = self.task(words)?;
                let fifo = self.pipe(words.number("a pipe")?);
                let to = self.socket(words, None)?;
                Parsed::probe(task, Fact::FifoRelayed { fifo, to, actor: self.actor(words)? })
            }
            "pipe-await" => {
                let task = self.task(words)?;
                let path = format!("pipe:[{}]", self.pipe(words.number("a pipe")?).inode).as_str().into();
                let socket = self.known(words.next("a socket")?)?.id;
                Parsed::snapshot(task, Fact::FifoAwaited { path, socket, copied: words.is_next("copied") })
            }
            _ => None,
        })
    }

    /// Answers from files: containers, pid files, the audit log.
    fn file_fact(&mut self, word: &str, at: BootTime, words: &mut Words<'_>) -> ParseResult {
        Ok(match word {
            "container" => {
                let (id, name) = (words.next("a container")?, words.next("NAMESPACE/POD/NAME")?);
                let (namespace, pod, name) = self.container_name(name)?;
                // An unknown part is `-`.
                let known = |name: String| Some(name).filter(|name| !name.starts_with('-'));
                let info = ContainerInfo {
                    id: long_id(id, self.cluster),
                    name: known(name),
                    pod: known(pod),
                    namespace: known(namespace),
                    ..ContainerInfo::default()
                };
                Parsed::of(Source::Snapshot, Fact::ContainerSeen(Box::new(info)))
            }
            // shim-pid-file SHIM CONTAINER EXEC PID: a file of a shim's state, found at the start.
            "shim-pid-file" => {
                let shim = self.task(words)?;
                Parsed::snapshot(shim, self.pid_file_fact(words)?)
            }
            "pid-file" => Parsed::of(Source::Snapshot, self.pid_file_fact(words)?),
            "audit-follow" => Parsed::of(Source::Snapshot, Fact::AuditFollowed),
            "audit-skipped" => Parsed::of(Source::Snapshot, Fact::AuditSkipped { count: words.number("how many")? }),
            "audit" => Parsed::of(Source::Snapshot, Fact::Audited(Box::new(self.audit(words, at)?))),
            _ => None,
        })
    }

    fn pid_file_fact(&self, words: &mut Words<'_>) -> Result<Fact, String> {
        let (container, exec) = (words.next("a container")?, words.next("an exec id")?);
        let path = self.pid_file(container, exec);
        Ok(Fact::PidFile { path: path.as_str().into(), pid: Some(self.task(words)?.tgid) })
    }

    /// Losses and the passing of time.
    #[expect(clippy::unused_self, reason = "a group of facts like the others")]
    fn engine_fact(&mut self, word: &str, _at: BootTime, words: &mut Words<'_>) -> ParseResult {
        Ok(match word {
            "lost" => {
                let fact = Fact::Lost { what: "ring-full".to_owned(), count: words.number("how many")? };
                Parsed::of(Source::Engine, fact)
            }
            "tick" => Parsed::of(Source::Engine, Fact::Tick),
            _ => None,
        })
    }
}
