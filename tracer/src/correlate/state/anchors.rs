//! From the exec id to shim, runc and process.

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

/// What is known of one exec, or of one stream that may be an exec's.
#[derive(Clone, Debug, Default)]
pub(in crate::correlate) struct Exec {
    pub(in crate::correlate) what: What,
    pub(in crate::correlate) container: Arc<str>,
    /// When it was seen first: its FIFO made, its stream found.
    pub(in crate::correlate) since: BootTime,
    /// It is older than the tracer.
    pub(in crate::correlate) preexisting: bool,
    /// It may be older than what is seen of it: the runtime was at work with it when it came to be watched.
    pub(in crate::correlate) under_way: bool,
    /// Id of the session; provisional until `identified`.
    pub(in crate::correlate) session: SessionId,
    /// `session` is final. Set at once, but for execs whose id a user chose: see [`Execs::identify`].
    pub(in crate::correlate) identified: bool,
    /// On which host that was, going by what told of it.
    pub(in crate::correlate) host: HostNo,
    /// Who made or holds the FIFOs, or accepted the stream.
    pub(in crate::correlate) runtime: Option<TaskKey>,
    /// The accepted connection that the FIFOs were made for; `None` for CRI ExecSync.
    pub(in crate::correlate) stream: Option<SocketIdx>,
    /// How that is known.
    pub(in crate::correlate) stream_by: Option<Evidence>,
    /// The arguments of the copy from FIFO to stream name both.
    pub(in crate::correlate) stream_copied: bool,
    /// When somebody said so who is not known by an id: a `g` alone, or a thread.
    pub(in crate::correlate) stream_unidentified: Option<BootTime>,
    /// It was made for a connection of which nothing was told.
    pub(in crate::correlate) for_unknown: bool,
    pub(in crate::correlate) stream_ambiguous: bool,
    /// Older than the tracer, and so was a stream that nobody had claimed: it may be its own.
    pub(in crate::correlate) may_have_stream: bool,
    /// Its FIFOs are where containerd's CRI makes them: the kubelet asked for it.
    pub(in crate::correlate) by_cri: bool,
    /// Older than the tracer, and the runtime has FIFOs of it open.
    pub(in crate::correlate) held_by_runtime: bool,
    /// `stdin`, `stdout`, `stderr`.
    pub(in crate::correlate) streams: BTreeSet<&'static str>,
    pub(in crate::correlate) runc: Option<TaskKey>,
    pub(in crate::correlate) tty: Option<bool>,
    /// Whether the process gets input, where no FIFO says so.
    pub(in crate::correlate) stdin: Option<bool>,
    pub(in crate::correlate) pid_file: Option<RawText>,
    pub(in crate::correlate) pid_file_says: Option<u32>,
    pub(in crate::correlate) shim: Option<TaskKey>,
    /// The shim was seen to fork runc; else it is runc's parent, which after a reparenting may be another.
    pub(in crate::correlate) shim_forked: bool,
    pub(in crate::correlate) process: Option<TaskKey>,
    /// When it ran its first execve in the container, where that was seen.
    pub(in crate::correlate) process_since: Option<BootTime>,
    pub(in crate::correlate) command: Arc<[RawText]>,
    pub(in crate::correlate) command_truncated: bool,
    pub(in crate::correlate) exit: Option<(BootTime, ExitStatus)>,
    /// runc ended, and had not started anything.
    pub(in crate::correlate) start_failed: Option<BootTime>,
    /// The leg to another host's kubelet, or kubectl's to the API server, where that is all that is seen of it; then there is no exec
    /// id either.
    pub(in crate::correlate) leaves_by: Option<SocketIdx>,
    /// Set if one runtime had another runtime start it, as dockerd does.
    pub(in crate::correlate) is_delegated: bool,
    /// Containers that the same shim started after it.
    pub(in crate::correlate) beside: Vec<AnchorId>,
    /// Its session was told to be closed: what comes later does not open it again.
    pub(in crate::correlate) over: bool,
}

/// What is behind an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::correlate) enum What {
    /// A process that the runtime was asked to start in a container, by an id of the runtime's own.
    #[default]
    Exec,
    /// The same, of a runtime that gives it no id (CRI-O): named by its `runc exec`.
    Unnamed,
    /// A process that somebody other than the kubelet asked the runtime for (`ctr task exec`): the runtime itself made no
    /// FIFOs for it.
    Local,
    /// A connection to a runtime's streaming server, of which nothing else is known: exec, attach or port-forward.
    Stream,
    /// A leg to another host's kubelet.
    Leg,
    /// A kubectl of this host and its connection to the API server.
    Asked,
    /// The same, of what the API server answers by itself.
    Request,
    /// The first container that a shim starts: a pod's sandbox, or one that has a shim of its own.
    Start,
    /// Another container of that shim: a part of the first one's session.
    Beside,
}

impl Exec {
    /// The runtime's id of it.
    pub(in crate::correlate) fn exec_id(&self, id: &AnchorId) -> Option<Arc<str>> {
        matches!(self.what, What::Exec | What::Local).then(|| id.name().into())
    }

    /// Whether it has stdin or a terminal, which no probe has.
    pub(in crate::correlate) fn reads(&self) -> bool {
        self.streams.contains("stdin") || self.tty == Some(true)
    }

    /// Whether the runtime itself started runc, which stays as long as the process does. A runtime does so for streams alone.
    pub(in crate::correlate) fn is_foreground(&self) -> bool {
        self.what == What::Unnamed && self.runtime.is_some() && self.shim == self.runtime
    }

    /// Whether there is a session to tell of: an entry that is known from runc's arguments alone is none.
    pub(in crate::correlate) fn is_session(&self) -> bool {
        self.runtime.is_some() || self.leaves_by.is_some()
    }
}

/// Whose a stream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlate) enum Claim {
    /// The asker's.
    Ours,
    /// Another exec's.
    Anothers,
    /// The asker's from now on; before, it stood for itself.
    Resolved(AnchorId),
}

/// An exec as its runtime names it: exec id first, which tells most of them apart.
type ExecName = (Arc<str>, Arc<str>, HostNo);

#[derive(Default)]
pub(in crate::correlate) struct Execs {
    /// Boxed: they are large, and a tree moves what it holds.
    all: BTreeMap<AnchorId, Box<Exec>>,
    by_runc: BTreeMap<TaskKey, AnchorId>,
    by_process: BTreeMap<TaskKey, AnchorId>,
    by_pid_file: BTreeMap<RawText, AnchorId>,
    /// The newest exec of each exec id and container: those that the runtime named.
    by_name: BTreeMap<ExecName, AnchorId>,
    /// Session ids made of an exec id alone, and whose they are.
    by_session: BTreeMap<SessionId, AnchorId>,
    /// Of those older than the tracer.
    by_pid: BTreeMap<(HostNo, u32), AnchorId>,
    /// Who claimed a stream first.
    by_stream: BTreeMap<SocketIdx, AnchorId>,
    /// FIFOs that are held, by file: container and exec id, the container's own id for those of its first process.
    fifos: BTreeMap<FileId, ExecFifo>,
    /// Execs that got an id so far.
    made: u64,
    /// Pipes of runcs that stay, by the name that /proc gives them, and by file.
    pipes: BTreeMap<(HostNo, RawText), AnchorId>,
    pipe_files: BTreeMap<FileId, AnchorId>,
    /// Forked by the goroutine that serves a stream: what it becomes is that stream's.
    forked_for: BTreeMap<TaskKey, (SocketIdx, Actor)>,
    pub(in crate::correlate) caps: Caps,
    discarded_fifos: u64,
    discarded_forks: u64,
}

impl Execs {
    pub(in crate::correlate) fn get(&self, id: &AnchorId) -> Option<&Exec> {
        self.all.get(id).map(|exec| &**exec)
    }

    /// The anchor, made where it is new. `None` where the id is already that of another container.
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

    /// Id of a new anchor's session, and whether that is final.
    fn session_of_new(&mut self, hosts: &Hosts, host: HostNo, id: &AnchorId) -> (SessionId, bool) {
        if !matches!(id.key(), AnchorKey::Exec { .. }) {
            return (id.session(hosts, host, None), true);
        }
        // The id of another exec, with as many digits, must have been copied: the first one keeps its session's id.
        if id.is_random() {
            let session = id.session_of_random(hosts, host);
            if !self.by_session.contains_key(&session) {
                self.by_session.insert(session.clone(), id.clone());
                return (session, true);
            }
        }
        (id.session(hosts, host, None), false)
    }

    /// Makes the id of a session final as soon as all that goes into it is known: the start of the process in the container, which
    /// `ls` finds as well; of an exec that has none so far, that of its `runc exec`. Returns the time until which that is awaited.
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

    /// The newest exec that has this id in this container.
    pub(in crate::correlate) fn newest(&self, host: HostNo, container: &str, exec: &str) -> Option<&AnchorId> {
        self.by_name.get(&(exec.into(), container.into(), host))
    }

    /// The same; the id of a new one where there is none.
    pub(in crate::correlate) fn newest_or_new(&mut self, host: HostNo, container: &str, exec: &str) -> AnchorId {
        self.newest(host, container, exec).cloned().unwrap_or_else(|| self.next(host, container, exec))
    }

    /// The id of an exec that begins now, also where an earlier one had this exec id.
    pub(in crate::correlate) fn next(&mut self, host: HostNo, container: &str, exec: &str) -> AnchorId {
        let name: ExecName = (exec.into(), container.into(), host);
        self.made += 1;
        let again = self.by_name.contains_key(&name);
        let container = Arc::clone(&name.1);
        let next = AnchorId::exec(exec, AnchorKey::Exec { host, container, number: self.made, again });
        self.by_name.insert(name, next.clone());
        next
    }

    /// Makes the ids of all sessions final with what is known; returns the execs for which that was still awaited.
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

    /// Whether that connection is this exec's: a runtime's streaming connection carries one exec, that which made its FIFOs
    /// first. A goroutine that ended leaves its `g` to others, and with it the memory of a connection that is still open.
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

    /// Streams that stand for themselves: whose they are is not known.
    pub(in crate::correlate) fn unresolved(&self) -> impl Iterator<Item = &Exec> {
        self.by_stream.values().filter_map(|id| self.get(id)).filter(|exec| exec.what == What::Stream && !exec.over)
    }

    /// That exec's pid file holds this.
    pub(in crate::correlate) fn set_pid(&mut self, id: &AnchorId, pid: u32) {
        if let Some(exec) = self.all.get_mut(id) {
            exec.pid_file_says = Some(pid);
            self.by_pid.insert((exec.host, pid), id.clone());
        }
    }

    /// The exec older than the tracer whose pid file holds this.
    pub(in crate::correlate) fn by_pid(&self, host: HostNo, pid: u32) -> Option<&AnchorId> {
        self.by_pid.get(&(host, pid))
    }

    /// What that runtime had open was looked at. What it had made FIFOs for until `asked` it may have been asked for before it was
    /// watched. Tells what was seen of its execs by then, with what nobody has claimed yet.
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

    /// A stream older than the tracer is nobody's yet: it may be that of each exec that is as old, of that runtime where one
    /// is named. Tells which.
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

    pub(in crate::correlate) fn note_fifo(&mut self, file: FileId, fifo: &ExecFifo) {
        if self.fifos.len() >= self.caps.fifos && !self.fifos.contains_key(&file) {
            self.discarded_fifos += self.fifos.len() as u64;
            self.fifos.clear();
        }
        self.fifos.insert(file, fifo.clone());
    }

    /// A pipe of a runc that stays.
    pub(in crate::correlate) fn note_pipe(&mut self, host: HostNo, path: &RawText, file: FileId, exec: &AnchorId) {
        if self.pipes.len() >= self.caps.fifos {
            self.discarded_fifos += self.pipes.len() as u64;
            self.pipes.clear();
            self.pipe_files.clear();
        }
        self.pipes.insert((host, path.clone()), exec.clone());
        self.pipe_files.insert(file, exec.clone());
    }

    pub(in crate::correlate) fn of_pipe(&self, host: HostNo, path: &RawText) -> Option<&AnchorId> {
        self.pipes.get(&(host, path.clone()))
    }

    pub(in crate::correlate) fn of_pipe_file(&self, file: FileId) -> Option<&AnchorId> {
        self.pipe_files.get(&file)
    }

    pub(in crate::correlate) fn of_fifo(&self, file: FileId) -> Option<&ExecFifo> {
        self.fifos.get(&file)
    }

    pub(in crate::correlate) fn note_fork(&mut self, child: TaskKey, stream: SocketIdx, actor: Actor) {
        if self.forked_for.len() >= self.caps.forks {
            self.discarded_forks += self.forked_for.len() as u64;
            self.forked_for.clear();
        }
        self.forked_for.insert(child, (stream, actor));
    }

    /// FIFOs and forks that were discarded to make room since the last call.
    pub(in crate::correlate) fn take_discarded(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.discarded_fifos), std::mem::take(&mut self.discarded_forks))
    }

    pub(in crate::correlate) fn take_fork(&mut self, child: TaskKey) -> Option<(SocketIdx, Actor)> {
        self.forked_for.remove(&child)
    }

    pub(in crate::correlate) fn set_process(&mut self, id: &AnchorId, process: TaskKey) -> Option<&mut Exec> {
        let exec = self.all.get_mut(id)?;
        // `exec` within the shell is the same process; a second process below the same runc is none of ours.
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

    /// That connection is gone. It outlives its exec's session where a process was left running.
    pub(in crate::correlate) fn forget_stream(&mut self, stream: SocketIdx) {
        self.by_stream.remove(&stream);
    }

    pub(in crate::correlate) fn forget(&mut self, id: &AnchorId) {
        self.forget_all(BTreeSet::from([id.clone()]));
    }

    /// Forgets these, and what stands beside them.
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

    /// Forgets the FIFOs of execs that are gone, where no later exec has their names.
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

    /// Takes an exec out; tells what stands beside it.
    fn take(&mut self, id: &AnchorId) -> Vec<AnchorId> {
        let Some(exec) = self.all.remove(id) else { return Vec::new() };
        if let Some(runc) = exec.runc {
            self.by_runc.remove(&runc);
        }
        if let Some(process) = exec.process {
            self.by_process.remove(&process);
        }
        // A later exec may have taken over what names this one.
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

/// Removes an entry that is `id`'s.
fn remove_own<K: Ord>(from: &mut BTreeMap<K, AnchorId>, key: &K, id: &AnchorId) {
    if from.get(key).is_some_and(|owner| owner == id) {
        from.remove(key);
    }
}
