//! Table of anchors, with the names under which facts refer to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::Hash,
    sync::Arc,
};

use indexmap::Equivalent;

use super::{
    anchor::{Anchor, AnchorKind, Container, Exec, Facts, Launch},
    anchor_id::{AnchorId, AnchorKey},
    hosts::Hosts,
    sockets::SocketIdx,
    table::Table,
};
use crate::correlate::limits::{Caps, IDENTIFIED_WITHIN};
use crate::model::{Actor, BootTime, ExecFifo, FileId, HostNo, RawText, SessionId, TaskKey};

/// Owner of a stream after a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::correlate) enum Claim {
    /// The claiming exec.
    Own,
    /// Another exec.
    Foreign,
    /// The claiming exec. Until now the stream was a provisional session with this id.
    Resolved(AnchorId),
}

/// Exec id, container id and host: the name of an exec at its runtime. The exec id comes first, because it alone
/// is nearly unique.
type ExecName = (Arc<str>, Arc<str>, HostNo);

/// A borrowed [`ExecName`], for look-ups. Has the same hash.
#[derive(Hash)]
struct NameRef<'a>(&'a str, &'a str, HostNo);

impl Equivalent<ExecName> for NameRef<'_> {
    fn equivalent(&self, (exec, container, host): &ExecName) -> bool {
        self.0 == &**exec && self.1 == &**container && self.2 == *host
    }
}

#[derive(Default)]
pub(in crate::correlate) struct Anchors {
    /// Boxed: entries are large, and the table moves them.
    all: Table<AnchorId, Box<Anchor>>,
    by_runc: Table<TaskKey, AnchorId>,
    by_process: Table<TaskKey, AnchorId>,
    by_pid_file: Table<RawText, AnchorId>,
    /// Newest exec with each name.
    by_name: Table<ExecName, AnchorId>,
    /// Session ids made of a random exec id alone.
    by_session: Table<SessionId, AnchorId>,
    /// Anchors older than the tracer, by the pid in their pid file.
    by_pid: Table<(HostNo, u32), AnchorId>,
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
    /// FIFOs and pipes discarded since [`Anchors::take_discarded`] was called.
    discarded_fifos: u64,
    /// Forks discarded since [`Anchors::take_discarded`] was called.
    discarded_forks: u64,
}

impl Anchors {
    pub(in crate::correlate) fn get(&self, id: &AnchorId) -> Option<&Anchor> {
        self.all.get(id).map(|anchor| &**anchor)
    }

    /// The anchor with this id, made if new. `None` if the id belongs to another container.
    pub(in crate::correlate) fn entry(
        &mut self,
        hosts: &Hosts,
        host: HostNo,
        id: &AnchorId,
        container: &str,
        at: BootTime,
    ) -> Option<&mut Anchor> {
        if !self.all.contains_key(id) {
            let (session, identified) = self.session_of_new(hosts, host, id);
            let anchor = Anchor {
                container: container.into(),
                since: at,
                preexisting: false,
                session,
                identified,
                host,
                over: false,
                facts: Facts::new(id.key()),
            };
            self.all.insert(id.clone(), Box::new(anchor));
        }
        self.get_mut(id).filter(|anchor| *anchor.container == *container)
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
        let anchor = self.all.get_mut(id).filter(|anchor| !anchor.identified)?;
        let due = anchor.since.plus(IDENTIFIED_WITHIN);
        if anchor.process().is_none() && anchor.start_failed().is_none() && now < due {
            return Some(due);
        }
        anchor.session = id.session(hosts, anchor.host, anchor.process().or(anchor.runc()));
        anchor.identified = true;
        None
    }

    /// Newest exec with this id in this container.
    pub(in crate::correlate) fn newest(&self, host: HostNo, container: &str, exec: &str) -> Option<&AnchorId> {
        self.by_name.get(&NameRef(exec, container, host))
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
        let waiting = self.all.iter().filter(|(_, anchor)| !anchor.identified).map(|(id, _)| id.clone());
        let mut waiting: Vec<AnchorId> = waiting.collect();
        waiting.sort_unstable();
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
        let Some(launch) = self.launch_mut(id) else { return };
        launch.runc = Some(runc);
        launch.shim = shim;
        launch.pid_file = pid_file.cloned();
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
            return Claim::Own;
        }
        if self.all.get(holder).is_some_and(|other| other.kind() != AnchorKind::Stream) {
            return Claim::Foreign;
        }
        Claim::Resolved(std::mem::replace(holder, id.clone()))
    }

    pub(in crate::correlate) fn by_stream(&self, stream: SocketIdx) -> Option<&AnchorId> {
        self.by_stream.get(&stream)
    }

    /// Provisional sessions: streams without an exec.
    pub(in crate::correlate) fn unresolved(&self) -> impl Iterator<Item = &Anchor> {
        self.by_stream
            .values()
            .filter_map(|id| self.get(id))
            .filter(|anchor| anchor.kind() == AnchorKind::Stream && !anchor.over)
    }

    /// Sets the content of an older exec's pid file.
    pub(in crate::correlate) fn set_pid(&mut self, id: &AnchorId, pid: u32) {
        if let Some(anchor) = self.all.get_mut(id)
            && let Some(launch) = anchor.launch_mut()
        {
            launch.pid_file_says = Some(pid);
            self.by_pid.insert((anchor.host, pid), id.clone());
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
        for (id, anchor) in &mut self.all {
            let is_its = anchor.runtime() == Some(runtime);
            if anchor.since <= looked && (is_its || !anchor.is_session()) {
                let since = anchor.since;
                if let Some(exec) = anchor.as_exec_mut() {
                    exec.under_way = is_its && since <= asked;
                }
                under_way.push(id.clone());
            }
        }
        // The order of the table depends on earlier removals.
        under_way.sort_unstable();
        under_way
    }

    /// Marks every exec that may own an unclaimed older stream: older execs without a stream, of this runtime if
    /// one is given. Returns the marked execs.
    pub(in crate::correlate) fn offer_stream(&mut self, runtime: Option<TaskKey>) -> Vec<AnchorId> {
        let mut offered = Vec::new();
        for (id, anchor) in &mut self.all {
            let may_own = anchor.kind() == AnchorKind::Exec || anchor.is_foreground();
            let preexisting = anchor.preexisting;
            if let Some(exec) = anchor.as_exec_mut().filter(|_| may_own)
                && (preexisting || exec.under_way)
                && exec.stream.socket.is_none()
                && (runtime.is_none() || exec.runtime == runtime)
            {
                exec.stream.may_exist = true;
                offered.push(id.clone());
            }
        }
        offered.sort_unstable();
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
    pub(in crate::correlate) fn set_process(&mut self, id: &AnchorId, process: TaskKey) -> Option<&mut Launch> {
        let launch = self.all.get_mut(id)?.launch_mut()?;
        // A shell's `exec` keeps the process. A second process below the same runc is not the command.
        if launch.process.is_some() {
            return None;
        }
        launch.process = Some(process);
        self.by_process.insert(process, id.clone());
        Some(launch)
    }

    pub(in crate::correlate) fn get_mut(&mut self, id: &AnchorId) -> Option<&mut Anchor> {
        self.all.get_mut(id).map(|anchor| &mut **anchor)
    }

    /// Facts of an exec; `None` for other kinds.
    pub(in crate::correlate) fn exec_mut(&mut self, id: &AnchorId) -> Option<&mut Exec> {
        self.get_mut(id)?.as_exec_mut()
    }

    /// Process in the container and its start; `None` for kinds without one.
    pub(in crate::correlate) fn launch_mut(&mut self, id: &AnchorId) -> Option<&mut Launch> {
        self.get_mut(id)?.launch_mut()
    }

    /// Facts of a container; `None` for other kinds.
    pub(in crate::correlate) fn container_mut(&mut self, id: &AnchorId) -> Option<&mut Container> {
        self.get_mut(id)?.as_container_mut()
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
        let names: BTreeSet<(&str, &str, HostNo)> = gone
            .iter()
            .filter_map(|id| {
                let AnchorKey::Exec { host, container, .. } = id.key() else { return None };
                let is_left = self.by_name.contains_key(&NameRef(id.name(), container, *host));
                (!is_left).then_some((id.name(), &**container, *host))
            })
            .collect();
        self.fifos.retain(|file, fifo| !names.contains(&(fifo.exec.as_str(), fifo.container.as_str(), file.host)));
    }

    /// Removes an anchor. Returns the further containers of its shim.
    fn take(&mut self, id: &AnchorId) -> Vec<AnchorId> {
        let Some(anchor) = self.all.swap_remove(id) else { return Vec::new() };
        if let Some(runc) = anchor.runc() {
            self.by_runc.swap_remove(&runc);
        }
        if let Some(process) = anchor.process() {
            self.by_process.swap_remove(&process);
        }
        // A later exec may have the same pid file, pid or name.
        if let Some(path) = anchor.launch().and_then(|launch| launch.pid_file.as_ref()) {
            remove_own(&mut self.by_pid_file, path, id);
        }
        if let Some(pid) = anchor.pid_file_says() {
            remove_own(&mut self.by_pid, &(anchor.host, pid), id);
        }
        remove_own(&mut self.by_session, &anchor.session, id);
        if let AnchorKey::Exec { host, container, .. } = id.key() {
            remove_own(&mut self.by_name, &(id.name().into(), Arc::clone(container), *host), id);
        }
        match anchor.facts {
            Facts::Container(container) => container.siblings,
            Facts::Exec(_) | Facts::Stream(_) | Facts::Leg(_) | Facts::Kubectl(_) => Vec::new(),
        }
    }
}

/// Removes an entry if it belongs to `id`.
fn remove_own<K: Eq + Hash>(from: &mut Table<K, AnchorId>, key: &K, id: &AnchorId) {
    if from.get(key).is_some_and(|owner| owner == id) {
        from.swap_remove(key);
    }
}
