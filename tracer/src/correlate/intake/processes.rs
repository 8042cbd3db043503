//! What runs: forks, the runtime's `runc exec`, the process in the container, and how they end.

use std::{collections::BTreeSet, sync::Arc};

use super::streams::by;
use crate::correlate::{
    Correlator, limits,
    state::{
        Dependency, State,
        anchor_id::AnchorId,
        anchors::{Exec, What},
    },
    timers::Timer,
};
use crate::model::{
    Actor, BootTime, ExitStatus, HostNo, Monitor, ProcessInfo, RawText, RuncExec, SocketId, TaskKey, Want, WatchAs,
    parse_cgroup, parse_monitor, parse_pid_file, parse_runc_create, parse_runc_exec,
};

/// A monitor forks runc itself; where it first leaves its session (`daemon(3)`), a child of it does.
const MONITOR_WITHIN: usize = 2;

impl Correlator {
    pub(in crate::correlate) fn forked(
        &mut self,
        at: BootTime,
        by: TaskKey,
        child: TaskKey,
        actor: Actor,
        inbound: Option<SocketId>,
    ) {
        self.state.processes.forked(by, child);
        self.watched.insert(child);
        // CRI-O's goroutine that serves a stream starts the OCI runtime itself.
        if let Some(stream) = self.stream_of_actor(at, by, actor, inbound)
            && self.state.sockets.get(stream).is_some_and(|socket| socket.tuple.is_some())
        {
            self.state.execs.note_fork(child, stream, actor);
        }
    }

    /// An execve: of runc, of the command in the container, or of something else below a daemon.
    pub(in crate::correlate) fn executed(&mut self, at: BootTime, task: TaskKey, info: &ProcessInfo) {
        self.watched.insert(task);
        self.state.processes.executed(task, info);
        self.touch(&Dependency::Task(task));
        let forked_for = self.state.execs.take_fork(task);
        match info.watched {
            Some(WatchAs::Contained) => self.contained(at, task, info),
            Some(WatchAs::Below) => {
                if let Some(create) = parse_runc_create(&info.argv) {
                    self.container_created(at, task, &create);
                    return;
                }
                if let Some(monitor) = parse_monitor(&info.argv) {
                    self.monitor_started(task, monitor);
                    return;
                }
                let Some(runc) = parse_runc_exec(&info.argv) else { return };
                match (&runc.exec, forked_for) {
                    (Some(exec), _) => {
                        let id = self.exec_of_runc(task, exec, &runc);
                        self.runc_started(at, task, &id, What::Exec, &runc);
                    }
                    (None, Some((stream, actor))) => {
                        // No id of the runtime's: the process that starts it is as unique.
                        let id = AnchorId::runc(&self.state.hosts, task);
                        self.runc_started(at, task, &id, What::Unnamed, &runc);
                        if let Some(exec) = self.state.execs.get_mut(&id) {
                            exec.runtime = exec.shim;
                        }
                        self.claim(at, &id, stream, by(actor), actor.goid.is_some());
                        // Its pipes say whether the command gets input.
                        self.ask(Want::Fifos(task));
                    }
                    (None, None) => self.monitored(at, task, &runc),
                }
            }
            Some(WatchAs::Endpoint | WatchAs::Daemon) | None => {}
        }
    }

    /// A monitor that a runtime forked. Its arguments name the container.
    fn monitor_started(&mut self, task: TaskKey, monitor: Monitor) {
        if self.state.runtime_above(task).is_some() && monitor.names.pod.is_some() {
            self.container_named(monitor.names);
        }
    }

    /// A `runc exec` without an exec id and without a stream: an exec of its own where a runtime forked a monitor for it.
    fn monitored(&mut self, at: BootTime, task: TaskKey, runc: &RuncExec) {
        let monitor = self.state.processes.lineage(task).skip(1).take(MONITOR_WITHIN).find_map(|above| {
            let monitor = parse_monitor(&self.state.processes.get(above)?.info.argv)?;
            (monitor.exec && monitor.container == runc.container).then_some((above, monitor))
        });
        let Some((above, monitor)) = monitor else { return };
        let Some(runtime) = self.state.runtime_above(above) else { return };
        // The process that starts it is as unique as an id.
        let id = AnchorId::runc(&self.state.hosts, task);
        self.runc_started(at, task, &id, What::Unnamed, runc);
        if let Some(exec) = self.state.execs.get_mut(&id) {
            exec.runtime = Some(runtime);
            exec.shim = Some(above);
            exec.tty = Some(monitor.tty);
            exec.stdin = Some(monitor.stdin);
        }
    }

    /// What /proc says of a process in the container settles whether it has a terminal, where runc's arguments do not.
    pub(in crate::correlate) fn perhaps_terminal(&mut self, task: TaskKey, described: bool) {
        let Some(id) = self.state.execs.by_process(task).filter(|_| described).cloned() else { return };
        let Some(info) = self.state.processes.get(task).map(|process| Arc::clone(&process.info)) else { return };
        let Some(exec) = self.state.execs.get_mut(&id).filter(|exec| exec.tty.is_none()) else { return };
        let container = info.cgroup.as_ref().and_then(RawText::as_str).and_then(parse_cgroup);
        if container.is_some_and(|container| *container.id == *exec.container) {
            exec.tty = Some(info.tty.is_some());
            self.dirty.insert(id);
        }
    }

    /// Asks for the names of that container, with what runc's arguments say of where they are.
    fn ask_names(&mut self, runc: &RuncExec) {
        if !self.state.containers.get(&runc.container).is_some_and(|known| known.is_some()) {
            self.ask(Want::Container { id: runc.container.clone(), bundle: runc.state() });
        }
    }

    /// The exec that this `runc exec` starts. A runtime refuses an exec id that is in use in the container, so that another runc starts
    /// another exec; a runc below the known one (a wrapper's) starts the same one.
    fn exec_of_runc(&mut self, task: TaskKey, exec: &str, runc: &RuncExec) -> AnchorId {
        let (execs, processes) = (&mut self.state.execs, &self.state.processes);
        let newest = execs.newest_or_new(task.host, &runc.container, exec);
        let known = execs.get(&newest).and_then(|exec| exec.runc);
        let is_other = known.is_some_and(|known| !processes.lineage(task).any(|above| above == known));
        // Older than the tracer: its runc was not seen.
        let ended = |exec: &Exec| exec.runc.is_none() && (exec.over || exec.exit.is_some());
        let is_over = !newest.is_random() && execs.get(&newest).is_some_and(ended);
        if !is_other && !is_over {
            return newest;
        }
        // The pid file gets a new content.
        if let Some(path) = &runc.pid_file {
            self.asked.swap_remove(&Want::PidFile(path.clone()));
        }
        execs.next(task.host, &runc.container, exec)
    }

    fn runc_started(&mut self, at: BootTime, task: TaskKey, id: &AnchorId, what: What, runc: &RuncExec) {
        let (execs, hosts) = (&mut self.state.execs, &self.state.hosts);
        let Some(exec) = execs.entry(hosts, task.host, id, &runc.container, at) else { return };
        // The first one counts: the id is one exec's.
        if exec.runc.is_none() {
            if what != What::Exec {
                exec.what = what;
            }
            exec.tty = runc.tty;
            let process = self.state.processes.get(task);
            let forked_by = process.and_then(|process| process.forked_by);
            exec.shim_forked = forked_by.is_some();
            let shim = forked_by.or(process.and_then(|process| process.info.parent));
            self.state.execs.set_runc(id, task, shim, runc.pid_file.as_ref());
            self.timers.set(at.plus(limits::LOCAL_AFTER), Timer::ExecUnclaimed(id.clone()));
            self.timers.set(at.plus(limits::BEGUN), Timer::ExecUnused(id.clone()));
            self.ask_names(runc);
        }
        self.touch(&Dependency::Exec(id.clone()));
        self.dirty.insert(id.clone());
    }

    /// Something is known now of that process: is it the `runc exec` of an exec that was found, which is still being started?
    pub(in crate::correlate) fn perhaps_starting(&mut self, task: TaskKey) {
        let Some(info) = self.state.processes.get(task).map(|process| &process.info) else { return };
        let Some(runc) = parse_runc_exec(&info.argv) else { return };
        let of_shim =
            info.parent.is_some_and(|parent| self.state.daemon_connections.keys().any(|(_, to)| *to == parent));
        let Some(exec) = runc.exec.as_deref().filter(|_| of_shim) else { return };
        let Some(id) = self.state.execs.newest(task.host, &runc.container, exec).cloned() else { return };
        if self.state.execs.get(&id).is_some_and(|exec| exec.preexisting && exec.process.is_none()) {
            self.runc_started(self.now, task, &id, What::Exec, &runc);
        }
    }

    /// `runc exec` below a shim, and nobody made FIFOs for it on the runtime's side: another client of the runtime's API did.
    pub(in crate::correlate) fn look_at_unclaimed(&mut self, id: &AnchorId) {
        let Some(exec) = self.state.execs.get(id).filter(|exec| !exec.is_session()) else { return };
        let (shim, container) = (exec.shim, Arc::clone(&exec.container));
        // Whoever is connected to the shim had it start the command.
        let mut asking =
            self.state.daemon_connections.keys().filter(|(_, to)| Some(*to) == shim).map(|(from, _)| *from);
        let (Some(runtime), None) = (asking.next(), asking.next()) else { return };
        let coverage = self.state.processes.get(runtime).map(|runtime| runtime.coverage).unwrap_or_default();
        if coverage.is_scan_pending() {
            return;
        }
        if let Some(exec) = self.state.execs.get_mut(id) {
            exec.what = What::Local;
            exec.runtime = Some(runtime);
            exec.under_way = coverage.is_scanned_since(exec.since);
        }
        self.ask(Want::Container { id: container.to_string(), bundle: None });
        self.dirty.insert(id.clone());
    }

    /// Something is known now of that process: is it a `runc exec` of an older session, which the runtime itself started?
    pub(in crate::correlate) fn perhaps_foreground(&mut self, task: TaskKey) {
        let Some(process) = self.state.processes.get(task) else { return };
        // One that was seen to be forked is known by its fork.
        if process.forked_by.is_some() || self.state.execs.by_runc(task).is_some() {
            return;
        }
        let Some(runc) = parse_runc_exec(&process.info.argv).filter(|runc| runc.exec.is_none() && !runc.detached)
        else {
            return;
        };
        let is_runtime = |task: &TaskKey| self.state.processes.get(*task).is_some_and(|process| process.is_runtime);
        let Some(runtime) = process.info.parent.filter(is_runtime) else { return };
        let has_terminal = process.info.tty.is_some();
        let id = AnchorId::runc(&self.state.hosts, task);
        self.runc_started(self.now, task, &id, What::Unnamed, &runc);
        if let Some(exec) = self.state.execs.get_mut(&id) {
            exec.preexisting = true;
            exec.runtime = Some(runtime);
            // The runtime gives runc a terminal of its own where the process gets one.
            exec.tty = exec.tty.or(has_terminal.then_some(true));
        }
        let waits = self.state.execs.unresolved().any(|stream| stream.preexisting && stream.runtime == Some(runtime));
        if waits {
            self.offer_stream(Some(runtime));
        }
    }

    /// Something is known now of that process: is it what an older `runc exec` runs?
    pub(in crate::correlate) fn perhaps_of_foreground(&mut self, task: TaskKey) {
        let Some(info) = self.state.processes.get(task).map(|process| Arc::clone(&process.info)) else { return };
        let Some(id) = info.parent.and_then(|runc| self.state.execs.by_runc(runc)).cloned() else { return };
        let Some(exec) = self.state.execs.get(&id).filter(|exec| exec.preexisting && exec.is_foreground()) else {
            return;
        };
        let container = info.cgroup.as_ref().and_then(RawText::as_str).and_then(parse_cgroup);
        if container.is_none_or(|container| *container.id != *exec.container) {
            return;
        }
        if let Some(exec) = self.state.execs.set_process(&id, task) {
            exec.command = info.argv.as_slice().into();
            exec.command_truncated = info.argv_truncated;
            exec.tty = exec.tty.or(Some(info.tty.is_some()));
            self.dirty.insert(id);
        }
    }

    /// What that daemon does is told from now on.
    pub(in crate::correlate) fn watched(&mut self, at: BootTime, daemon: TaskKey) {
        self.state.processes.entry(daemon).coverage.attach(at);
    }

    /// What that daemon had open was looked at: what can be known of the execs that it was at work with is known by now.
    pub(in crate::correlate) fn looked(&mut self, at: BootTime, daemon: TaskKey) {
        let Some(attached) = self.state.processes.entry(daemon).coverage.scan(at) else { return };
        let under_way = self.state.execs.under_way(daemon, attached.plus(limits::ASKED_WITHIN), at);
        for id in &under_way {
            self.timers.set(at.plus(limits::LOCAL_AFTER), Timer::ExecUnclaimed(id.clone()));
        }
        self.dirty.extend(under_way);
        let streams = self.state.execs.unresolved().filter(|stream| stream.preexisting);
        let owners: BTreeSet<Option<TaskKey>> = streams.map(|stream| stream.runtime).collect();
        for owner in owners {
            self.offer_stream(owner);
        }
    }

    /// The first execve inside the container of something that a `runc exec` forked.
    pub(in crate::correlate) fn contained(&mut self, at: BootTime, task: TaskKey, info: &ProcessInfo) {
        let id = self.state.processes.lineage(task).skip(1).find_map(|above| self.state.execs.by_runc(above)).cloned();
        let Some(id) = id else { return };
        let Some(exec) = self.state.execs.set_process(&id, task) else { return };
        exec.process_since = Some(at);
        exec.command = info.argv.as_slice().into();
        exec.command_truncated = info.argv_truncated;
        self.ask(Want::Process(task));
        self.touch(&Dependency::Exec(id.clone()));
        self.dirty.insert(id);
    }

    /// runc may be gone before its process has run execve: both orders were seen, 30 µs apart.
    pub(in crate::correlate) fn exited(&mut self, at: BootTime, task: TaskKey, status: ExitStatus) {
        self.state.processes.exited(task, at, status);
        self.touch(&Dependency::Task(task));
        if let Some(id) = self.state.execs.by_process(task).cloned() {
            if let Some(exec) = self.state.execs.get_mut(&id) {
                exec.exit = exec.exit.or(Some((at, status)));
            }
            self.touch(&Dependency::Exec(id.clone()));
            self.dirty.insert(id);
        } else if let Some(id) = self.state.execs.by_runc(task).cloned() {
            let mut pid_file = None;
            if let Some(exec) = self.state.execs.get_mut(&id) {
                if status == ExitStatus::Code(0) {
                    // The file is written before `runc exec --detach` ends.
                    pid_file.clone_from(&exec.pid_file);
                } else if exec.process.is_none() {
                    exec.start_failed = Some(at);
                }
            }
            if let Some(path) = pid_file {
                self.ask(Want::PidFile(path));
            }
            self.touch(&Dependency::Exec(id.clone()));
            self.dirty.insert(id);
        }
    }

    /// A pid file: of runc, which ended well, or out of the state of a shim older than the tracer.
    pub(in crate::correlate) fn pid_file(
        &mut self,
        at: BootTime,
        shim: Option<TaskKey>,
        path: &RawText,
        pid: Option<u32>,
    ) {
        if let Some(id) = self.state.execs.by_pid_file(path).cloned()
            && let Some(exec) = self.state.execs.get_mut(&id)
        {
            exec.pid_file_says = pid;
            self.touch(&Dependency::Exec(id));
            return;
        }
        let (Some(shim), Some(pid), Some((container, id))) = (shim, pid, path.as_str().and_then(parse_pid_file)) else {
            return;
        };
        let id = self.state.execs.newest_or_new(shim.host, &container, &id);
        let Some(exec) = self.state.exec(shim.host, &id, &container, at) else { return };
        if exec.runc.is_some() || exec.process.is_some() {
            return;
        }
        exec.preexisting = true;
        exec.shim = exec.shim.or(Some(shim));
        self.state.execs.set_pid(&id, pid);
        match self.state.processes.current_task(shim.host, pid) {
            Some(task) => self.current_task_found(task),
            None => self.ask(Want::Pid(pid)),
        }
        self.dirty.insert(id);
    }

    /// Something is known now of the process that has this pid: was it asked for?
    pub(in crate::correlate) fn current_task_found(&mut self, task: TaskKey) {
        for idx in self.unowned.remove(&(task.host, task.tgid)).unwrap_or_default() {
            self.state.sockets.set_owner(idx, task);
            self.touch(&Dependency::Socket(idx));
        }
        let Some(id) = self.state.execs.by_pid(task.host, task.tgid).cloned() else { return };
        let Some(info) = self.state.processes.get(task).map(|process| Arc::clone(&process.info)) else { return };
        let Some(exec) = self.state.execs.get(&id) else { return };
        // The file stays when the process is gone: what has the pid now must be the shim's child, in that container.
        let container = info.cgroup.as_ref().and_then(RawText::as_str).and_then(parse_cgroup);
        let is_it = info.parent == exec.shim && container.is_some_and(|container| *container.id == *exec.container);
        if exec.process.is_some() || !is_it {
            return;
        }
        if let Some(exec) = self.state.execs.set_process(&id, task) {
            exec.command = info.argv.as_slice().into();
            exec.command_truncated = info.argv_truncated;
        }
        self.dirty.insert(id);
    }
}

impl State {
    /// The runtime that forked that process, or forked who forked it.
    fn runtime_above(&self, task: TaskKey) -> Option<TaskKey> {
        let is_runtime = |task: &TaskKey| self.processes.get(*task).is_some_and(|process| process.is_runtime);
        self.processes.lineage(task).skip(1).find(is_runtime)
    }

    /// The exec that a pid file belongs to: runc was told so, or a shim keeps the file.
    pub(in crate::correlate) fn exec_of_pid_file(&self, host: HostNo, path: &RawText) -> Option<&AnchorId> {
        self.execs.by_pid_file(path).or_else(|| {
            let (container, exec) = path.as_str().and_then(parse_pid_file)?;
            self.execs.newest(host, &container, &exec)
        })
    }
}
