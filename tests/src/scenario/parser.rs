//! Names and values in a line of a scenario.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use execpath::model::{
    Actor, AuditEvent, AuditRequest, AuditUser, BootTime, Family, FileId, FileKind, INITIAL_USERNS, Isn, ProcessInfo,
    Program, RawText, SocketId, SocketInfo, SocketRole, Subresource, TaskKey, Tuple, WatchAs,
};

use super::long_id;

/// The sockets named so far in a scenario of one cluster.
pub(super) struct Parser {
    pub(super) cluster: u32,
    sockets: BTreeMap<String, SocketInfo>,
}

/// The words of a line.
pub(super) struct Words<'a> {
    pub(super) rest: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
}

impl<'a> Words<'a> {
    pub(super) fn of(line: &'a str) -> Self {
        Self { rest: line.split_whitespace().peekable() }
    }

    pub(super) fn next(&mut self, what: &str) -> Result<&'a str, String> {
        self.rest.next().ok_or_else(|| format!("{what} is missing"))
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, String> {
        let word = self.next(what)?;
        word.parse().map_err(|_no_number| format!("{what} is a number, not `{word}`"))
    }

    pub(super) fn is_next(&mut self, word: &str) -> bool {
        self.rest.next_if(|next| *next == word).is_some()
    }

    pub(super) fn end(&mut self) -> Result<(), String> {
        match self.rest.next() {
            None => Ok(()),
            Some(word) => Err(format!("`{word}` is too much")),
        }
    }
}

/// Any number is good if equal names give equal numbers.
pub(super) fn number_of(name: &str) -> u64 {
    name.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte))) % 1_000_000_000
}

pub(super) fn nanoseconds(word: &str) -> Result<u64, String> {
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

impl Parser {
    pub(super) fn new(cluster: u32) -> Self {
        Self { cluster, sockets: BTreeMap::new() }
    }

    pub(super) fn task(&self, words: &mut Words<'_>) -> Result<TaskKey, String> {
        let word = words.next("a pid")?;
        self.pid(word)
    }

    pub(super) fn pid(&self, word: &str) -> Result<TaskKey, String> {
        let (pid, start) = word.split_once('/').unwrap_or((word, "1"));
        let wrong = || format!("a process is named by its pid, not `{word}`");
        let (pid, start): (u32, u64) =
            (pid.parse().map_err(|_no_number| wrong())?, start.parse().map_err(|_no_number| wrong())?);
        Ok(TaskKey::from_ticks(pid + 100_000 * self.cluster, start))
    }

    pub(super) fn address(&self, word: &str) -> Result<SocketAddr, String> {
        let mut address: SocketAddr =
            word.parse().map_err(|_no_address| format!("`{word}` is no address with a port"))?;
        // An address belongs to one host: two clusters share loopback alone.
        if let (IpAddr::V4(ip), Ok(cluster)) = (address.ip(), u8::try_from(self.cluster))
            && let [10, 0, 0, last] = ip.octets()
        {
            address.set_ip(IpAddr::from([10, 0, cluster, last]));
        }
        // Ports chosen by a client's kernel.
        if address.port() >= 30_000 {
            address.set_port(address.port() + u16::try_from(self.cluster * 1_000).unwrap_or(0));
        }
        Ok(address)
    }

    /// A socket by its name, with addresses if the line has them.
    pub(super) fn socket(&mut self, words: &mut Words<'_>, role: Option<SocketRole>) -> Result<SocketInfo, String> {
        let name = words.next("the name of a socket")?;
        self.named(name, words, role)
    }

    pub(super) fn named(
        &mut self,
        name: &str,
        words: &mut Words<'_>,
        role: Option<SocketRole>,
    ) -> Result<SocketInfo, String> {
        let number = u64::try_from(self.sockets.len()).unwrap_or(0) + 1 + u64::from(self.cluster) * 1_000;
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
            netns: (namespace != 0).then_some(namespace + 100 * self.cluster),
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
    pub(super) fn isn(&self, word: &str, role: Option<SocketRole>) -> Result<Isn, String> {
        let wrong = || format!("sequence numbers are `~OWN/PEER`, not `{word}`");
        let (own, peer) = word.trim_start_matches('~').split_once('/').ok_or_else(wrong)?;
        let number = |digits: &str| -> Result<u32, String> {
            let number: u32 = digits.parse().map_err(|_no_number| wrong())?;
            Ok(number.wrapping_add(self.cluster * 1_000_000))
        };
        let syn = u32::from(role == Some(SocketRole::Connected));
        Ok(Isn { own: number(own)?.wrapping_sub(syn), peer: number(peer)? })
    }

    pub(super) fn known(&self, name: &str) -> Result<SocketInfo, String> {
        self.sockets.get(name).copied().ok_or_else(|| format!("no socket `{name}` so far"))
    }

    /// Parses an optional `by g1`.
    pub(super) fn actor(&self, words: &mut Words<'_>) -> Result<Actor, String> {
        if !words.is_next("by") {
            return Ok(Actor::default());
        }
        let word = words.next("a goroutine")?;
        let wrong = || format!("a goroutine is `g1`, `g1!` or `g1/7`, not `{word}`");
        let number = |digits: &str| {
            digits.parse::<u64>().map(|number| number + u64::from(self.cluster) * 10_000).map_err(|_no_number| wrong())
        };
        let rest = word.strip_prefix('g').ok_or_else(wrong)?;
        let (name, parent) = rest.split_once('/').map_or((rest, None), |(name, parent)| (name, Some(parent)));
        let (name, identified) = name.strip_suffix('!').map_or((name, parent.is_some()), |name| (name, true));
        let id = number(name)?;
        let parent_goid = parent.map(number).transpose()?;
        Ok(Actor { g: Some(0xc000_0000 + id), goid: identified.then_some(id), parent_goid })
    }

    pub(super) fn from(&self, words: &mut Words<'_>) -> Result<Option<SocketId>, String> {
        if !words.is_next("from") {
            return Ok(None);
        }
        let name = words.next("the name of a socket")?;
        if let Some(unknown) = name.strip_suffix('?') {
            let number = 1_000_000 + number_of(&format!("{unknown} {}", self.cluster));
            return Ok(Some(SocketId::new(number, number)));
        }
        Ok(Some(self.known(name)?.id))
    }

    /// Parses `from NAME`, or `from NAME!` with the socket's properties known to the probe; `NAME! LOCAL>REMOTE` at its
    /// first mention.
    pub(super) fn inbound_and_info(
        &mut self,
        words: &mut Words<'_>,
    ) -> Result<(Option<SocketId>, Option<SocketInfo>), String> {
        let name = words.rest.clone().nth(1).and_then(|name| name.strip_suffix('!'));
        let Some(name) = name.filter(|_| words.rest.peek() == Some(&"from")) else {
            return Ok((self.from(words)?, None));
        };
        words.next("`from`")?;
        words.next("the name of a socket")?;
        let socket = self.named(name, words, Some(SocketRole::Accepted))?;
        Ok((Some(socket.id), Some(socket)))
    }

    pub(super) fn info(&self, words: &mut Words<'_>) -> Result<ProcessInfo, String> {
        let mut info = ProcessInfo { uid: Some(0), ..ProcessInfo::default() };
        while let Some(word) = words.rest.next_if(|word| word.starts_with('@')) {
            match word.split_once('=').unwrap_or((word, "")) {
                ("@below", _) => info.watched = Some(WatchAs::RuntimeChild),
                ("@contained", _) => info.watched = Some(WatchAs::InContainer),
                ("@parent", pid) => info.parent = Some(self.pid(pid)?),
                ("@in", container) => {
                    let id = long_id(container, self.cluster);
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

    pub(super) fn fifo_path(&self, container: &str, exec: &str, stream: &str) -> String {
        let (container, exec) = (long_id(container, self.cluster), long_id(exec, self.cluster));
        format!("/run/containerd/io.containerd.grpc.v1.cri/containers/{container}/io/1/{exec}-{stream}")
    }

    /// A pipe, by number.
    pub(super) fn pipe(&self, number: u64) -> FileId {
        FileId::new(14, 500_000 + number + 1_000 * u64::from(self.cluster))
    }

    /// A FIFO's path and file.
    pub(super) fn held(&self, words: &mut Words<'_>) -> Result<(String, FileId), String> {
        let (container, exec) = (words.next("a container")?, words.next("an exec id")?);
        let path = self.fifo_path(container, exec, words.next("a stream")?);
        let inode = number_of(&path);
        Ok((path, FileId::new(1, inode)))
    }

    /// A unix socket by its name.
    pub(super) fn unix(&mut self, words: &mut Words<'_>) -> Result<SocketId, String> {
        let name = words.next("the name of a socket")?;
        let number = u64::try_from(self.sockets.len()).unwrap_or(0) + 1 + u64::from(self.cluster) * 1_000;
        let id = SocketId::new(0, 100_000 + number);
        let info = SocketInfo { id, family: Family::Unix, tuple: None, netns: None, role: None, isn: None };
        Ok(self.sockets.entry(name.to_owned()).or_insert(info).id)
    }

    pub(super) fn pid_file(&self, container: &str, exec: &str) -> String {
        let (container, exec) = (long_id(container, self.cluster), long_id(exec, self.cluster));
        format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{container}/{exec}.pid")
    }

    pub(super) fn audit(&self, words: &mut Words<'_>, read: BootTime) -> Result<AuditEvent, String> {
        let (id, user) = (words.next("an id")?, words.next("a user")?);
        let subresource = words.next("a subresource")?;
        let subresource =
            Subresource::named(subresource).ok_or_else(|| format!("`{subresource}` is no subresource"))?;
        let (namespace, pod, container) = self.container_name(words.next("NAMESPACE/POD/NAME")?)?;
        let time = |words: &mut Words<'_>| Ok::<_, String>(BootTime(nanoseconds(words.next("a time")?)?));
        let mut event = AuditEvent {
            id: format!("{id}-{}", self.cluster),
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

    /// Parses NAMESPACE/POD/NAME. Each cluster has its own namespaces.
    pub(super) fn container_name(&self, word: &str) -> Result<(String, String, String), String> {
        let [namespace, pod, name] = word.split('/').collect::<Vec<_>>()[..] else {
            return Err(format!("a container is NAMESPACE/POD/NAME, not `{word}`"));
        };
        let namespace = if self.cluster == 0 { namespace.to_owned() } else { format!("{namespace}-{}", self.cluster) };
        Ok((namespace, pod.to_owned(), name.to_owned()))
    }
}
