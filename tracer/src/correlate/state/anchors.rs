//! Anchors: the objects that sessions are built from, and the names under which facts refer to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    anchor_id::{AnchorId, AnchorKey},
    hosts::Hosts,
    sockets::SocketIdx,
};
use crate::correlate::limits::{Caps, IDENTIFIED_WITHIN};
use crate::model::{Actor, BootTime, Evidence, ExecFifo, ExitStatus, FileId, HostNo, RawText, SessionId, TaskKey};

/// Facts about one anchor.
#[derive(Clone, Debug, Default)]
pub(in crate::correlate) struct Exec {
    pub(in crate::correlate) what: What,
    /// Id of the container; empty if unknown.
    pub(in crate::correlate) container: Arc<str>,
    /// Time of the first fact: a FIFO was made, or a stream was found.
    pub(in crate::correlate) since: BootTime,
    /// Set when the anchor is older than the tracer.
    pub(in crate::correlate) preexisting: bool,
    /// Set when the exec may have begun before the tracer attached to its runtime.
    pub(in crate::correlate) under_way: bool,
    /// Id of the session; provisional until `identified` is set.
    pub(in crate::correlate) session: SessionId,
    /// Set when `session` is final. Only execs with an id chosen by a user wait for it: see [`Execs::identify`].
    pub(in crate::correlate) identified: bool,
    /// Host of the first fact.
    pub(in crate::correlate) host: HostNo,
    /// Process that made or holds the FIFOs, or accepted the stream.
    pub(in crate::correlate) runtime: Option<TaskKey>,
    /// Accepted connection for which the FIFOs were made; `None` for CRI ExecSync.
    pub(in crate::correlate) stream: Option<SocketIdx>,
    /// Evidence for `stream`, the strongest one.
    pub(in crate::correlate) stream_by: Option<Evidence>,
    /// Set when the arguments of the copy name both FIFO and stream.
    pub(in crate::correlate) stream_copied: bool,
    /// Time at which an actor without a goroutine id named the stream: a `g` alone, or a thread. `None` once an
    /// identified goroutine confirmed it.
    pub(in crate::correlate) stream_unidentified: Option<BootTime>,
    /// Set when the FIFOs were made for a connection without a record.
    pub(in crate::correlate) for_unknown: bool,
    /// Set when several connections claim to be the stream. `stream` is then `None`.
    pub(in crate::correlate) stream_ambiguous: bool,
    /// Set when an unclaimed stream of the same age may be the stream of this older exec.
    pub(in crate::correlate) may_have_stream: bool,
    /// Set when the FIFOs are in the directory of containerd's CRI plug-in: the kubelet requested the exec.
    pub(in crate::correlate) by_cri: bool,
    /// Set when the runtime had FIFOs of this older exec open.
    pub(in crate::correlate) held_by_runtime: bool,
    /// Names of the FIFOs seen: `stdin`, `stdout`, `stderr`.
    pub(in crate::correlate) streams: BTreeSet<&'static str>,
    /// The `runc exec` or `runc create` process.
    pub(in crate::correlate) runc: Option<TaskKey>,
    /// True if the process has a terminal.
    pub(in crate::correlate) tty: Option<bool>,
    /// True if the process gets input, from the arguments of its monitor.
    pub(in crate::correlate) stdin: Option<bool>,
    /// Path of the pid file, from runc's arguments.
    pub(in crate::correlate) pid_file: Option<RawText>,
    /// Content of the pid file.
    pub(in crate::correlate) pid_file_says: Option<u32>,
    /// Process that started runc: the shim, a monitor, or the runtime itself.
    pub(in crate::correlate) shim: Option<TaskKey>,
    /// Set when the fork of runc by the shim was observed. Otherwise `shim` is runc's parent, which may have
    /// changed by reparenting.
    pub(in crate::correlate) shim_forked: bool,
    /// The process in the container.
    pub(in crate::correlate) process: Option<TaskKey>,
    /// Time of its first execve in the container, if observed.
    pub(in crate::correlate) process_since: Option<BootTime>,
    /// Arguments of the process at its first execve, or at its discovery.
    pub(in crate::correlate) command: Arc<[RawText]>,
    /// Set when `command` was cut.
    pub(in crate::correlate) command_truncated: bool,
    /// Time and status of the process's exit.
    pub(in crate::correlate) exit: Option<(BootTime, ExitStatus)>,
    /// Time at which runc failed without having started a process.
    pub(in crate::correlate) start_failed: Option<BootTime>,
    /// Connection that is all there is of the path on this host: the leg to another host's kubelet, or kubectl's
    /// connection to the API server. Such an anchor has no exec id.
    pub(in crate::correlate) leaves_by: Option<SocketIdx>,
    /// Set if one runtime had another runtime start it, as dockerd does.
    pub(in crate::correlate) is_delegated: bool,
    /// Containers that the same shim started later.
    pub(in crate::correlate) beside: Vec<AnchorId>,
    /// Set when the session was reported closed. Later facts do not open it again.
    pub(in crate::correlate) over: bool,
}

/// Kinds of anchors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::correlate) enum What {
    /// A process that a runtime was asked to start in a container, with an exec id.
    #[default]
    Exec,
    /// A process that a runtime without exec ids (CRI-O) was asked to start. Its `runc exec` identifies it.
    Unnamed,
    /// A process that another client than the kubelet requested (`ctr task exec`): the runtime itself made no
    /// FIFOs for it.
    Local,
    /// A connection to a runtime's streaming server without an exec: exec, attach or port-forward.
    Stream,
    /// A connection to another host's kubelet.
    Leg,
    /// A kubectl of this host that waits for a session on its connection to the API server.
    Asked,
    /// A kubectl of this host with a request that the API server answers itself.
    Request,
    /// First container of a shim: a pod's sandbox, or a container with a shim of its own.
    Start,
    /// Further container of a shim: a part of the first container's session.
    Beside,
}

impl Exec {
    /// Exec id that the runtime knows; `None` for other kinds.
    pub(in crate::correlate) fn exec_id(&self, id: &AnchorId) -> Option<Arc<str>> {
        matches!(self.what, What::Exec | What::Local).then(|| id.name().into())
    }

    /// True if the exec has stdin or a terminal. Probes have neither.
    pub(in crate::correlate) fn reads(&self) -> bool {
        self.streams.contains("stdin") || self.tty == Some(true)
    }

    /// True if the runtime itself started runc in the foreground. runc then stays as long as the process.
    /// Runtimes do so only for streams.
    pub(in crate::correlate) fn is_foreground(&self) -> bool {
        self.what == What::Unnamed && self.runtime.is_some() && self.shim == self.runtime
    }

    /// True if the anchor is a session. An exec that is known from runc's arguments alone is not.
    pub(in crate::correlate) fn is_session(&self) -> bool {
        self.runtime.is_some() || self.leaves_by.is_some()
    }
}

/// Owner of a stream after a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlate) enum Claim {
    /// The claiming exec.
    Ours,
    /// Another exec.
    Anothers,
    /// The claiming exec. Until now the stream was a provisional session with this id.
    Resolved(AnchorId),
}

/// Exec id, container id and host: the name of an exec at its runtime. The exec id comes first, because it alone
/// is nearly unique.
type ExecName = (Arc<str>, Arc<str>, HostNo);

#[derive(Default)]
pub(in crate::correlate) struct Execs {
    /// Boxed: entries are large, and a tree moves them.
    all: BTreeMap<AnchorId, Box<Exec>>,
    by_runc: BTreeMap<TaskKey, AnchorId>,
    by_process: BTreeMap<TaskKey, AnchorId>,
    by_pid_file: BTreeMap<RawText, AnchorId>,
    /// Newest exec with each name.
    by_name: BTreeMap<ExecName, AnchorId>,
    /// Session ids made of a random exec id alone.
    by_session: BTreeMap<SessionId, AnchorId>,
    /// Execs older than the tracer, by the pid in their pid file.
    by_pid: BTreeMap<(HostNo, u32), AnchorId>,
    /// First claim of each stream.
    by_stream: BTreeMap<SocketIdx, AnchorId>,
    /// Open FIFOs by file. A container's first process has the container id as its exec id.
    fifos: BTreeMap<FileId, ExecFifo>,
    /// Number of exec ids given out.
    made: u64,
    /// Pipes of foreground runcs by their name in /proc, and by file.
    pipes: BTreeMap<(HostNo, RawText), AnchorId>,
    pipe_files: BTreeMap<FileId, AnchorId>,
    /// Children forked by the goroutine that serves a stream, before their execve.
    forked_for: BTreeMap<TaskKey, (SocketIdx, Actor)>,
    pub(in crate::correlate) caps: Caps,
    /// FIFOs and pipes discarded since [`Execs::take_discarded`] was called.
    discarded_fifos: u64,
    /// Forks discarded since [`Execs::take_discarded`] was called.
    discarded_forks: u64,
}

impl Execs {
    pub(in crate::correlate) fn get(&self, id: &AnchorId) -> Option<&Exec> {
        self.all.get(id).map(|exec| &**exec)
    }

    /// The anchor with this id, made if new. `None` if the id belongs to another container.
    pub(in crate::correlate) fn entry(
        &mut self,
        hosts: &Hosts,
        host: HostNo,
        id: &AnchorId,
        container: &str,
        at: BootTime,
    ) -> Option<&mut Exec> {
        if !self.all.contains_key(id) {
            let (session, identified) = self.session_of_new(hosts, host, id);
            let since = at;
            let exec = Exec { session, identified, container: container.into(), since, host, ..Exec::default() };
            self.all.insert(id.clone(), Box::new(exec));
        }
        self.get_mut(id).filter(|exec| *exec.container == *container)
    }

    /// Session id of a new anchor, and whether it is final.
    fn session_of_new(&mut self, hosts: &Hosts, host: HostNo, id: &AnchorId) -> (SessionId, bool) {
        if !matches!(id.key(), AnchorKey::Exec { .. }) {
            return (id.session(hosts, host, None), true);
        }
        // A second exec with a random id must have copied the id. The first exec keeps the plain session id.
        if id.is_random() {
            let session = id.session_of_random(hosts, host);
            if !self.by_session.contains_key(&session) {
                self.by_session.insert(session.clone(), id.clone());
                return (session, true);
            }
        }
        (id.session(hosts, host, None), false)
    }

    /// Makes a session's id final as soon as its ingredients are known: the start of the process in the
    /// container, which `ls` finds as well. An exec without a process by the deadline takes the start of its
    /// `runc exec`. Returns the deadline while the process is outstanding.
    pub(in crate::correlate) fn identify(&mut self, hosts: &Hosts, id: &AnchorId, now: BootTime) -> Option<BootTime> {
        let exec = self.all.get_mut(id).filter(|exec| !exec.identified)?;
        let due = exec.since.plus(IDENTIFIED_WITHIN);
        if exec.process.is_none() && exec.start_failed.is_none() && now < due {
            return Some(due);
        }
        exec.session = id.session(hosts, exec.host, exec.process.or(exec.runc));
        exec.identified = true;
        None
    }

    /// Newest exec with this id in this container.
    pub(in crate::correlate) fn newest(&self, host: HostNo, container: &str, exec: &str) -> Option<&AnchorId> {
        self.by_name.get(&(exec.into(), container.into(), host))
    }

    /// Newest exec with this id in this container, or the id of a new one.
    pub(in crate::correlate) fn newest_or_new(&mut self, host: HostNo, container: &str, exec: &str) -> AnchorId {
        self.newest(host, container, exec).cloned().unwrap_or_else(|| self.next(host, container, exec))
    }

    /// Id of an exec that begins now. An earlier exec may have had the same exec id.
    pub(in crate::correlate) fn next(&mut self, host: HostNo, container: &str, exec: &str) -> AnchorId {
        let name: ExecName = (exec.into(), container.into(), host);
        self.made += 1;
        let again = self.by_name.contains_key(&name);
        let container = Arc::clone(&name.1);
        let next = AnchorId::exec(exec, AnchorKey::Exec { host, container, number: self.made, again });
        self.by_name.insert(name, next.clone());
        next
    }

    /// Makes all session ids final with the facts at hand. Returns the anchors that were still waiting.
    pub(in crate::correlate) fn identify_all(&mut self, hosts: &Hosts) -> Vec<AnchorId> {
        let waiting = self.all.iter().filter(|(_, exec)| !exec.identified).map(|(id, _)| id.clone());
        let waiting: Vec<AnchorId> = waiting.collect();
        for id in &waiting {
            self.identify(hosts, id, BootTime(u64::MAX));
        }
        waiting
    }

    pub(in crate::correlate) fn by_runc(&self, runc: TaskKey) -> Option<&AnchorId> {
        self.by_runc.get(&runc)
    }

    pub(in crate::correlate) fn by_process(&self, process: TaskKey) -> Option<&AnchorId> {
        self.by_process.get(&process)
    }

    pub(in crate::correlate) fn by_pid_file(&self, path: &RawText) -> Option<&AnchorId> {
        self.by_pid_file.get(path)
    }

    pub(in crate::correlate) fn set_runc(
        &mut self,
        id: &AnchorId,
        runc: TaskKey,
        shim: Option<TaskKey>,
        pid_file: Option<&RawText>,
    ) {
        let Some(exec) = self.all.get_mut(id) else { return };
        exec.runc = Some(runc);
        exec.shim = shim;
        exec.pid_file = pid_file.cloned();
        self.by_runc.insert(runc, id.clone());
        if let Some(path) = pid_file {
            self.by_pid_file.insert(path.clone(), id.clone());
        }
    }

    /// Claims a stream for an exec. A runtime's streaming connection carries one exec: the first one that made
    /// FIFOs for it. A finished goroutine leaves its `g`, and with it the memory of an open connection, to other
    /// goroutines.
    pub(in crate::correlate) fn claim_stream(&mut self, id: &AnchorId, stream: SocketIdx) -> Claim {
        let holder = self.by_stream.entry(stream).or_insert_with(|| id.clone());
        if holder == id {
            return Claim::Ours;
        }
        if self.all.get(holder).is_some_and(|other| other.what != What::Stream) {
            return Claim::Anothers;
        }
        Claim::Resolved(std::mem::replace(holder, id.clone()))
    }

    pub(in crate::correlate) fn by_stream(&self, stream: SocketIdx) -> Option<&AnchorId> {
        self.by_stream.get(&stream)
    }

    /// Provisional sessions: streams without an exec.
    pub(in crate::correlate) fn unresolved(&self) -> impl Iterator<Item = &Exec> {
        self.by_stream.values().filter_map(|id| self.get(id)).filter(|exec| exec.what == What::Stream && !exec.over)
    }

    /// Sets the content of an older exec's pid file.
    pub(in crate::correlate) fn set_pid(&mut self, id: &AnchorId, pid: u32) {
        if let Some(exec) = self.all.get_mut(id) {
            exec.pid_file_says = Some(pid);
            self.by_pid.insert((exec.host, pid), id.clone());
        }
    }

    /// The older exec with this pid in its pid file.
    pub(in crate::correlate) fn by_pid(&self, host: HostNo, pid: u32) -> Option<&AnchorId> {
        self.by_pid.get(&(host, pid))
    }

    /// Marks the execs of a runtime that may have been requested before attach, and returns them with the
    /// unclaimed ones. Both have begun by the time of the scan.
    pub(in crate::correlate) fn under_way(
        &mut self,
        runtime: TaskKey,
        asked: BootTime,
        looked: BootTime,
    ) -> Vec<AnchorId> {
        let mut under_way = Vec::new();
        for (id, exec) in &mut self.all {
            let is_its = exec.runtime == Some(runtime);
            if exec.since <= looked && (is_its || !exec.is_session()) {
                exec.under_way = is_its && exec.since <= asked;
                under_way.push(id.clone());
            }
        }
        under_way
    }

    /// Marks every exec that may own an unclaimed older stream: older execs without a stream, of this runtime if
    /// one is given. Returns the marked execs.
    pub(in crate::correlate) fn offer_stream(&mut self, runtime: Option<TaskKey>) -> Vec<AnchorId> {
        let mut offered = Vec::new();
        for (id, exec) in &mut self.all {
            if (exec.preexisting || exec.under_way)
                && (exec.what == What::Exec || exec.is_foreground())
                && exec.stream.is_none()
                && (runtime.is_none() || exec.runtime == runtime)
            {
                exec.may_have_stream = true;
                offered.push(id.clone());
            }
        }
        offered
    }

    /// Adds an open FIFO. A full table is cleared first.
    pub(in crate::correlate) fn note_fifo(&mut self, file: FileId, fifo: &ExecFifo) {
        if self.fifos.len() >= self.caps.fifos && !self.fifos.contains_key(&file) {
            self.discarded_fifos += self.fifos.len() as u64;
            self.fifos.clear();
        }
        self.fifos.insert(file, fifo.clone());
    }

    /// Adds a pipe of a foreground runc. A full table is cleared first.
    pub(in crate::correlate) fn note_pipe(&mut self, host: HostNo, path: &RawText, file: FileId, exec: &AnchorId) {
        if self.pipes.len() >= self.caps.fifos {
            self.discarded_fifos += self.pipes.len() as u64;
            self.pipes.clear();
            self.pipe_files.clear();
        }
        self.pipes.insert((host, path.clone()), exec.clone());
        self.pipe_files.insert(file, exec.clone());
    }

    /// The exec of a pipe, by the pipe's name in /proc.
    pub(in crate::correlate) fn of_pipe(&self, host: HostNo, path: &RawText) -> Option<&AnchorId> {
        self.pipes.get(&(host, path.clone()))
    }

    /// The exec of a pipe, by file.
    pub(in crate::correlate) fn of_pipe_file(&self, file: FileId) -> Option<&AnchorId> {
        self.pipe_files.get(&file)
    }

    /// Container and exec id of an open FIFO.
    pub(in crate::correlate) fn of_fifo(&self, file: FileId) -> Option<&ExecFifo> {
        self.fifos.get(&file)
    }

    /// Adds a child forked by the goroutine that serves `stream`. A full table is cleared first.
    pub(in crate::correlate) fn note_fork(&mut self, child: TaskKey, stream: SocketIdx, actor: Actor) {
        if self.forked_for.len() >= self.caps.forks {
            self.discarded_forks += self.forked_for.len() as u64;
            self.forked_for.clear();
        }
        self.forked_for.insert(child, (stream, actor));
    }

    /// Numbers of FIFOs and of forks discarded since the last call.
    pub(in crate::correlate) fn take_discarded(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.discarded_fifos), std::mem::take(&mut self.discarded_forks))
    }

    /// Removes and returns the stream for which a child was forked.
    pub(in crate::correlate) fn take_fork(&mut self, child: TaskKey) -> Option<(SocketIdx, Actor)> {
        self.forked_for.remove(&child)
    }

    /// Sets the process of an exec. `None` if it has one already.
    pub(in crate::correlate) fn set_process(&mut self, id: &AnchorId, process: TaskKey) -> Option<&mut Exec> {
        let exec = self.all.get_mut(id)?;
        // A shell's `exec` keeps the process. A second process below the same runc is not the command.
        if exec.process.is_some() {
            return None;
        }
        exec.process = Some(process);
        self.by_process.insert(process, id.clone());
        Some(exec)
    }

    pub(in crate::correlate) fn get_mut(&mut self, id: &AnchorId) -> Option<&mut Exec> {
        self.all.get_mut(id).map(|exec| &mut **exec)
    }

    /// Forgets a closed connection. The connection may outlive its exec's session if a process was left running.
    pub(in crate::correlate) fn forget_stream(&mut self, stream: SocketIdx) {
        self.by_stream.remove(&stream);
    }

    pub(in crate::correlate) fn forget(&mut self, id: &AnchorId) {
        self.forget_all(BTreeSet::from([id.clone()]));
    }

    /// Forgets anchors, and the further containers of their shims.
    pub(in crate::correlate) fn forget_all(&mut self, mut ids: BTreeSet<AnchorId>) {
        let mut gone = BTreeSet::new();
        while let Some(id) = ids.pop_first() {
            ids.extend(self.take(&id));
            gone.insert(id);
        }
        if !gone.is_empty() {
            self.by_stream.retain(|_, claimed| !gone.contains(claimed));
            self.forget_fifos(&gone);
            self.pipes.retain(|_, exec| !gone.contains(exec));
            self.pipe_files.retain(|_, exec| !gone.contains(exec));
        }
    }

    /// Forgets the FIFOs of forgotten execs, unless a later exec has the same name.
    fn forget_fifos(&mut self, gone: &BTreeSet<AnchorId>) {
        let name = |id: &AnchorId| {
            let AnchorKey::Exec { host, container, .. } = id.key() else { return None };
            Some((id.name().into(), Arc::clone(container), *host))
        };
        let names: BTreeSet<ExecName> =
            gone.iter().filter_map(name).filter(|name| !self.by_name.contains_key(name)).collect();
        let is_gone = |file: &FileId, fifo: &ExecFifo| {
            names.contains(&(fifo.exec.as_str().into(), fifo.container.as_str().into(), file.host))
        };
        self.fifos.retain(|file, fifo| !is_gone(file, fifo));
    }

    /// Removes an anchor. Returns the further containers of its shim.
    fn take(&mut self, id: &AnchorId) -> Vec<AnchorId> {
        let Some(exec) = self.all.remove(id) else { return Vec::new() };
        if let Some(runc) = exec.runc {
            self.by_runc.remove(&runc);
        }
        if let Some(process) = exec.process {
            self.by_process.remove(&process);
        }
        // A later exec may have the same pid file, pid or name.
        if let Some(path) = exec.pid_file {
            remove_own(&mut self.by_pid_file, &path, id);
        }
        if let Some(pid) = exec.pid_file_says {
            remove_own(&mut self.by_pid, &(exec.host, pid), id);
        }
        remove_own(&mut self.by_session, &exec.session, id);
        if let AnchorKey::Exec { host, container, .. } = id.key() {
            remove_own(&mut self.by_name, &(id.name().into(), Arc::clone(container), *host), id);
        }
        exec.beside
    }
}

/// Removes an entry if it belongs to `id`.
fn remove_own<K: Ord>(from: &mut BTreeMap<K, AnchorId>, key: &K, id: &AnchorId) {
    if from.get(key).is_some_and(|owner| owner == id) {
        from.remove(key);
    }
}
