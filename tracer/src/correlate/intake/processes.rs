//! Facts about processes: forks, the runtime's `runc exec`, the process in the container, and how they end.

use std::sync::Arc;

use super::{
    attempts, daemons, kubectl, pods,
    streams::{self, by},
};
use crate::correlate::{
    effects::Effects,
    limits,
    state::{
        Dependency, State,
        anchor::{Anchor, Origin},
        anchor_id::AnchorId,
    },
    timers::Timer,
};
use crate::model::{
    Actor, BootTime, ExitStatus, Fact, Monitor, ProcessInfo, RawText, RuncExec, SentBy, Signal, SocketId, TaskKey,
    Want, WatchAs, parse_cgroup, parse_monitor, parse_pid_file, parse_runc_create, parse_runc_exec, parse_runc_kill,
};

/// Forks between monitor and runc. A monitor forks runc itself, or a child of it does, after it has left its session
/// (`daemon(3)`).
const MONITOR_WITHIN: usize = 2;

/// Applies a fact about the process `task`.
#[expect(clippy::wildcard_enum_match_arm, reason = "`apply` of the parent lists every fact")]
pub(super) fn apply(state: &mut State, effects: &mut Effects, at: BootTime, task: TaskKey, fact: Fact) {
    match fact {
        Fact::Fork { child, actor, inbound } => forked(state, at, task, child, actor, inbound),
        Fact::Exec(info) => executed(state, effects, at, task, &info),
        Fact::Enrolled(info) => {
            state.watched.insert(task);
            described(state, effects, task, *info);
            effects.ask(Want::Process(task));
            // Ask at once: the ancestors may be gone by the time this process turns out to be a session's client.
            effects.ask(Want::Ancestry(task));
        }
        Fact::Ancestry(ancestry) => {
            state.processes.entry(task).ancestry = Some((*ancestry).into());
            effects.changed(Dependency::Task(task));
        }
        Fact::ProcessSeen(info) => {
            // Snapshots of older formats do not report whether the process had ended by then, and give another cgroup.
            let cgroup = info.cgroup.clone().filter(|_| info.userns.is_some());
            described(state, effects, task, *info);
            if cgroup.is_some() {
                state.processes.entry(task).cgroup = cgroup;
            }
        }
        Fact::ProcessGone => {
            state.processes.gone(task, at);
            effects.changed(Dependency::Task(task));
        }
        Fact::Watched => daemons::attached(state, at, task),
        Fact::Looked => daemons::scanned(state, effects, at, task),
        Fact::ExecFailed { errno, .. } => exec_failed(state, effects, at, task, errno),
        Fact::Signalled(signal) => signalled(state, at, task, *signal),
        Fact::Exit { status } => exited(state, effects, at, task, status),
        _ => {}
    }
}

pub(in crate::correlate) fn described(state: &mut State, effects: &mut Effects, task: TaskKey, info: ProcessInfo) {
    // /proc gives neither arguments nor the terminal of a zombie.
    let is_complete = info.cgroup.is_some() && !info.argv.is_empty();
    if state.processes.learn(task, info) {
        effects.changed(Dependency::Task(task));
    }
    kubectl::set_request_timer(state, effects, task);
    note_terminal(state, effects, task, is_complete);
    if state.expected_daemons.remove(&(task.host, task.tgid)) {
        state.watched.insert(task);
        effects.ask(Want::Watch(task, WatchAs::Daemon));
    }
    current_task_found(state, effects, task);
    note_starting_runc(state, effects, task);
    note_foreground_runc(state, effects, task);
    note_foreground_command(state, effects, task);
}

pub(in crate::correlate) fn forked(
    state: &mut State,
    at: BootTime,
    by: TaskKey,
    child: TaskKey,
    actor: Actor,
    inbound: Option<SocketId>,
) {
    state.processes.forked(at, by, child);
    state.watched.insert(child);
    // CRI-O: the goroutine that serves a stream starts the OCI runtime itself.
    if let Some(stream) = streams::stream_of_actor(state, at, by, actor, inbound)
        && state.sockets.get(stream).is_some_and(|socket| socket.tuple.is_some())
    {
        state.anchors.note_fork(child, stream, actor);
    }
}

/// Handles an execve below a daemon: of runc, of the command in the container, or of another program.
pub(in crate::correlate) fn executed(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    info: &ProcessInfo,
) {
    state.watched.insert(task);
    state.processes.executed(task, info);
    effects.changed(Dependency::Task(task));
    let forked_for = state.anchors.take_fork(task);
    match info.watched {
        Some(WatchAs::InContainer) => command_started(state, effects, at, task, info),
        Some(WatchAs::RuntimeChild) => {
            if let Some(create) = parse_runc_create(&info.argv) {
                pods::container_created(state, effects, at, task, &create);
                return;
            }
            if let Some(monitor) = parse_monitor(&info.argv) {
                monitor_started(state, effects, task, monitor);
                return;
            }
            if let Some(container) = parse_runc_kill(&info.argv) {
                container_stopped(state, at, container);
                return;
            }
            let Some(runc) = parse_runc_exec(&info.argv) else { return };
            match (&runc.exec, forked_for) {
                (Some(exec), _) => {
                    let id = exec_of_runc(state, effects, task, exec, &runc);
                    runc_started(state, effects, at, task, &id, &runc);
                }
                (None, Some((stream, actor))) => {
                    // The runtime gave no id. The process that starts the exec identifies the exec as well.
                    let id = AnchorId::runc(&state.hosts, task);
                    runc_started(state, effects, at, task, &id, &runc);
                    if let Some(exec) = state.anchors.exec_mut(&id) {
                        exec.runtime = exec.launch.shim;
                    }
                    streams::claim(state, effects, at, &id, stream, by(actor), actor.goid.is_some());
                    // The pipes of runc show whether the command gets input.
                    effects.ask(Want::Fifos(task));
                }
                (None, None) => monitored(state, effects, at, task, &runc),
            }
        }
        Some(WatchAs::Endpoint | WatchAs::Daemon) | None => {}
    }
}

/// Handles the start of a monitor below a runtime. Its arguments name the container.
pub(in crate::correlate) fn monitor_started(state: &mut State, effects: &mut Effects, task: TaskKey, monitor: Monitor) {
    if runtime_above(state, task).is_some() && monitor.names.pod.is_some() {
        pods::container_named(state, effects, monitor.names);
    }
}

/// Handles a `runc exec` without an exec id and without a stream. It is an exec of its own if a runtime forked a
/// monitor for it.
pub(in crate::correlate) fn monitored(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    runc: &RuncExec,
) {
    let monitor = state.processes.lineage(task).skip(1).take(MONITOR_WITHIN).find_map(|above| {
        let monitor = parse_monitor(&state.processes.get(above)?.info.argv)?;
        (monitor.exec && monitor.container == runc.container).then_some((above, monitor))
    });
    let Some((above, monitor)) = monitor else { return };
    let Some(runtime) = runtime_above(state, above) else { return };
    // The process that starts the exec identifies the exec as well as an id.
    let id = AnchorId::runc(&state.hosts, task);
    runc_started(state, effects, at, task, &id, runc);
    if let Some(exec) = state.anchors.exec_mut(&id) {
        exec.runtime = Some(runtime);
        exec.launch.shim = Some(above);
        exec.launch.tty = Some(monitor.tty);
        exec.stdin = Some(monitor.stdin);
    }
}

/// Sets from /proc whether an exec has a terminal, if runc's arguments leave it open. `is_complete` is false for a
/// zombie.
pub(in crate::correlate) fn note_terminal(state: &mut State, effects: &mut Effects, task: TaskKey, is_complete: bool) {
    let Some(id) = state.anchors.by_process(task).filter(|_| is_complete).cloned() else { return };
    let Some(info) = state.processes.get(task).map(|process| Arc::clone(&process.info)) else { return };
    let Some(anchor) = state.anchors.get_mut(&id).filter(|anchor| anchor.tty().is_none()) else { return };
    let container = info.cgroup.as_ref().and_then(RawText::as_str).and_then(parse_cgroup);
    if container.is_some_and(|container| *container.id == *anchor.container)
        && let Some(launch) = anchor.launch_mut()
    {
        launch.tty = Some(info.tty.is_some());
        effects.invalidate(id);
    }
}

/// Asks for the names of a container. runc's arguments say where to search.
pub(in crate::correlate) fn ask_names(state: &mut State, effects: &mut Effects, runc: &RuncExec) {
    if !state.containers.get(&runc.container).is_some_and(|known| known.is_some()) {
        effects.ask(Want::Container { id: runc.container.clone(), bundle: runc.state() });
    }
}

/// Exec that this `runc exec` starts. A runtime refuses an exec id that is in use in the container, so another runc
/// with the same id starts another exec. A runc below the known one starts the same exec: the known one is a wrapper.
pub(in crate::correlate) fn exec_of_runc(
    state: &mut State,
    effects: &mut Effects,
    task: TaskKey,
    exec: &str,
    runc: &RuncExec,
) -> AnchorId {
    let (anchors, processes) = (&mut state.anchors, &state.processes);
    let newest = anchors.newest_or_new(task.host, &runc.container, exec);
    let known = anchors.get(&newest).and_then(Anchor::runc);
    let is_other = known.is_some_and(|known| !processes.lineage(task).any(|above| above == known));
    // An exec from before the tracer's start has no runc, and can only be recognized by its end.
    let ended = |anchor: &Anchor| anchor.runc().is_none() && (anchor.over || anchor.exit().is_some());
    let is_over = !newest.is_random() && anchors.get(&newest).is_some_and(ended);
    if !is_other && !is_over {
        return newest;
    }
    // The pid file of the new exec has new content: allow another query.
    if let Some(path) = &runc.pid_file {
        effects.forget_query(&Want::PidFile(path.clone()));
    }
    anchors.next(task.host, &runc.container, exec)
}

pub(in crate::correlate) fn runc_started(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    id: &AnchorId,

    runc: &RuncExec,
) {
    let (anchors, hosts) = (&mut state.anchors, &state.hosts);
    let Some(anchor) = anchors.entry(hosts, task.host, id, &runc.container, at) else { return };
    // The first runc counts, because the id belongs to one exec.
    if let Some(launch) = anchor.launch_mut().filter(|launch| launch.runc.is_none()) {
        launch.tty = runc.tty;
        let process = state.processes.get(task);
        let forked_by = process.and_then(|process| process.forked_by);
        launch.shim_forked = forked_by.is_some();
        let shim = forked_by.or(process.and_then(|process| process.info.parent));
        state.anchors.set_runc(id, task, shim, runc.pid_file.as_ref());
        effects.timers.set(at.plus(limits::EXEC_UNCLAIMED_AFTER), Timer::ExecUnclaimed(id.clone()));
        effects.timers.set(at.plus(limits::EXEC_UNUSED_AFTER), Timer::ExecUnused(id.clone()));
        ask_names(state, effects, runc);
    }
    effects.changed(Dependency::Exec(id.clone()));
    effects.invalidate(id.clone());
}

/// Recognizes the `runc exec` of an exec that a snapshot found, while it is still being started.
pub(in crate::correlate) fn note_starting_runc(state: &mut State, effects: &mut Effects, task: TaskKey) {
    let Some(info) = state.processes.get(task).map(|process| &process.info) else { return };
    let Some(runc) = parse_runc_exec(&info.argv) else { return };
    let of_shim = info.parent.is_some_and(|parent| state.daemon_connections.keys().any(|(_, to)| *to == parent));
    let Some(exec) = runc.exec.as_deref().filter(|_| of_shim) else { return };
    let Some(id) = state.anchors.newest(task.host, &runc.container, exec).cloned() else { return };
    if state.anchors.get(&id).is_some_and(|anchor| anchor.preexisting && anchor.process().is_none()) {
        runc_started(state, effects, effects.now, task, &id, &runc);
    }
}

/// Expires [`Timer::ExecUnclaimed`]: a `runc exec` below a shim without FIFOs by the runtime. Another client of the
/// runtime's API asked for this exec.
pub(in crate::correlate) fn show_unclaimed(state: &mut State, effects: &mut Effects, id: &AnchorId) {
    let Some(anchor) = state.anchors.get(id).filter(|anchor| !anchor.is_session()) else { return };
    let (shim, container, since) = (anchor.shim(), Arc::clone(&anchor.container), anchor.since);
    // The shim takes commands over its connection alone: the connected daemon started the command.
    let mut asking = state.daemon_connections.keys().filter(|(_, to)| Some(*to) == shim).map(|(from, _)| *from);
    let (Some(runtime), None) = (asking.next(), asking.next()) else { return };
    let coverage = state.processes.get(runtime).map(|runtime| runtime.coverage).unwrap_or_default();
    if coverage.is_scan_pending() {
        return;
    }
    let Some(exec) = state.anchors.exec_mut(id) else { return };
    exec.origin = Origin::Local;
    exec.runtime = Some(runtime);
    exec.under_way = coverage.is_scanned_since(since);
    effects.ask(Want::Container { id: container.to_string(), bundle: None });
    effects.invalidate(id.clone());
}

/// Recognizes the `runc exec` of an exec from before the tracer's start, if the runtime itself started it.
pub(in crate::correlate) fn note_foreground_runc(state: &mut State, effects: &mut Effects, task: TaskKey) {
    let Some(process) = state.processes.get(task) else { return };
    // A record of the fork says more than the snapshot.
    if process.forked_by.is_some() || state.anchors.by_runc(task).is_some() {
        return;
    }
    let Some(runc) = parse_runc_exec(&process.info.argv).filter(|runc| runc.exec.is_none() && !runc.detached) else {
        return;
    };
    let is_runtime = |task: &TaskKey| state.processes.get(*task).is_some_and(|process| process.is_runtime);
    let Some(runtime) = process.info.parent.filter(is_runtime) else { return };
    let has_terminal = process.info.tty.is_some();
    let id = AnchorId::runc(&state.hosts, task);
    runc_started(state, effects, effects.now, task, &id, &runc);
    if let Some(anchor) = state.anchors.get_mut(&id) {
        anchor.preexisting = true;
    }
    if let Some(exec) = state.anchors.exec_mut(&id) {
        exec.runtime = Some(runtime);
        // The runtime gives runc a terminal of its own if the command gets one.
        exec.launch.tty = exec.launch.tty.or(has_terminal.then_some(true));
    }
    let waits = state.anchors.unresolved().any(|stream| stream.preexisting && stream.runtime() == Some(runtime));
    if waits {
        streams::offer_stream(state, effects, Some(runtime));
    }
}

/// Recognizes the command of a `runc exec` from before the tracer's start.
pub(in crate::correlate) fn note_foreground_command(state: &mut State, effects: &mut Effects, task: TaskKey) {
    let Some(info) = state.processes.get(task).map(|process| Arc::clone(&process.info)) else { return };
    let Some(id) = info.parent.and_then(|runc| state.anchors.by_runc(runc)).cloned() else { return };
    let Some(exec) = state.anchors.get(&id).filter(|exec| exec.preexisting && exec.is_foreground()) else {
        return;
    };
    let container = info.cgroup.as_ref().and_then(RawText::as_str).and_then(parse_cgroup);
    if container.is_none_or(|container| *container.id != *exec.container) {
        return;
    }
    if let Some(launch) = state.anchors.set_process(&id, task) {
        launch.command = info.argv.as_slice().into();
        launch.command_truncated = info.argv_truncated;
        launch.tty = launch.tty.or(Some(info.tty.is_some()));
        effects.invalidate(id);
    }
}

/// Handles the first execve inside the container of a process that a `runc exec` forked: the command.
pub(in crate::correlate) fn command_started(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    info: &ProcessInfo,
) {
    let id = state.processes.lineage(task).skip(1).find_map(|above| state.anchors.by_runc(above)).cloned();
    let Some(id) = id else { return };
    let Some(launch) = state.anchors.set_process(&id, task) else { return };
    launch.process_since = Some(at);
    launch.command = info.argv.as_slice().into();
    launch.command_truncated = info.argv_truncated;
    effects.ask(Want::Process(task));
    effects.changed(Dependency::Exec(id.clone()));
    effects.invalidate(id);
}

/// Handles an execve that failed below a `runc exec`. The last failure counts.
fn exec_failed(state: &mut State, effects: &mut Effects, at: BootTime, task: TaskKey, errno: u32) {
    let id = state.processes.lineage(task).find_map(|above| state.anchors.by_runc(above)).cloned();
    let Some(id) = id else { return };
    if let Some(launch) = state.anchors.launch_mut(&id) {
        launch.exec_failed = Some((at, errno));
        effects.changed(Dependency::Exec(id));
    }
}

/// Handles a signal to the process of a session. The signal that ends the process is the last one, but for the choice of
/// a victim: the kernel sends SIGKILL first, and marks the victim then.
fn signalled(state: &mut State, at: BootTime, task: TaskKey, signal: Signal) {
    let Some(id) = state.anchors.by_process(task).cloned() else { return };
    if let Some(launch) = state.anchors.launch_mut(&id) {
        let is_victim = launch.signal.as_ref().is_some_and(|(_, known)| known.by == SentBy::OutOfMemory);
        if !is_victim {
            launch.signal = Some((at, signal));
        }
    }
}

/// Notes that a runtime has the OCI runtime kill a container. It may do so several times: the first one counts.
fn container_stopped(state: &mut State, at: BootTime, container: String) {
    let is_recent = |stopped: &BootTime| at.since(*stopped) <= limits::STOPPED_WITHIN;
    if state.stops.get(&container).is_some_and(is_recent) {
        return;
    }
    if state.stops.len() >= limits::MAX_CONTAINERS {
        state.stops.retain(|_, stopped| is_recent(stopped));
    }
    if state.stops.len() < limits::MAX_CONTAINERS {
        state.stops.insert(container, at);
    }
}

/// Handles the exit of a process. runc may exit before its process has run execve: both orders were measured, 30 µs
/// apart.
pub(in crate::correlate) fn exited(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    status: ExitStatus,
) {
    state.processes.exited(task, at, status);
    effects.changed(Dependency::Task(task));
    attempts::client_ended(state, effects, at, task);
    if let Some(id) = state.anchors.by_process(task).cloned() {
        if let Some(launch) = state.anchors.launch_mut(&id) {
            launch.exit = launch.exit.or(Some((at, status)));
        }
        effects.changed(Dependency::Exec(id.clone()));
        effects.invalidate(id);
    } else if let Some(id) = state.anchors.by_runc(task).cloned() {
        let mut pid_file = None;
        if let Some(launch) = state.anchors.launch_mut(&id) {
            if status == ExitStatus::Code(0) {
                // runc writes the pid file before `runc exec --detach` ends.
                pid_file.clone_from(&launch.pid_file);
            } else if launch.process.is_none() {
                launch.start_failed = Some(at);
            }
        }
        if let Some(path) = pid_file {
            effects.ask(Want::PidFile(path));
        }
        effects.changed(Dependency::Exec(id.clone()));
        effects.invalidate(id);
    } else {
        stage_ended(state, effects, at, task, status);
    }
}

/// Handles the end of a stage of runc that did not become the command. The last stage may try execve(2) after
/// `runc exec --detach` has ended with success: its failure is then the only one.
fn stage_ended(state: &mut State, effects: &mut Effects, at: BootTime, task: TaskKey, status: ExitStatus) {
    let below = state.processes.lineage(task).enumerate();
    let found = below.skip(1).find_map(|(depth, above)| Some((depth, state.anchors.by_runc(above)?.clone())));
    if let Some((depth, id)) = found
        && let Some(launch) = state.anchors.launch_mut(&id)
    {
        launch.stage_ended = Some((depth, status));
        if launch.exec_failed.is_some() && launch.process.is_none() && launch.start_failed.is_none() {
            launch.start_failed = Some(at);
            effects.changed(Dependency::Exec(id.clone()));
            effects.invalidate(id);
        }
    }
}

/// Handles the content of a pid file: of a runc that succeeded, or of a shim from before the tracer's start.
pub(in crate::correlate) fn pid_file(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    shim: Option<TaskKey>,
    path: &RawText,
    pid: Option<u32>,
) {
    if let Some(id) = state.anchors.by_pid_file(path).cloned()
        && let Some(launch) = state.anchors.launch_mut(&id)
    {
        launch.pid_file_says = pid;
        effects.changed(Dependency::Exec(id));
        return;
    }
    let (Some(shim), Some(pid), Some((container, id))) = (shim, pid, path.as_str().and_then(parse_pid_file)) else {
        return;
    };
    let id = state.anchors.newest_or_new(shim.host, &container, &id);
    let Some(anchor) = state.anchor(shim.host, &id, &container, at) else { return };
    if anchor.runc().is_some() || anchor.process().is_some() {
        return;
    }
    anchor.preexisting = true;
    if let Some(launch) = anchor.launch_mut() {
        launch.shim = launch.shim.or(Some(shim));
    }
    state.anchors.set_pid(&id, pid);
    match state.processes.current_task(shim.host, pid) {
        Some(task) => current_task_found(state, effects, task),
        None => effects.ask(Want::Pid(pid)),
    }
    effects.invalidate(id);
}

/// Hands out what waited for the process with this pid: ends of unix connections, and the exec of a pid file.
pub(in crate::correlate) fn current_task_found(state: &mut State, effects: &mut Effects, task: TaskKey) {
    for idx in state.unowned.remove(&(task.host, task.tgid)).unwrap_or_default() {
        state.sockets.set_owner(idx, task);
        effects.changed(Dependency::Socket(idx));
    }
    let Some(id) = state.anchors.by_pid(task.host, task.tgid).cloned() else { return };
    let Some(info) = state.processes.get(task).map(|process| Arc::clone(&process.info)) else { return };
    let Some(anchor) = state.anchors.get(&id) else { return };
    // A pid file outlives its process. The current process with this pid must be the shim's child, in the exec's
    // container.
    let container = info.cgroup.as_ref().and_then(RawText::as_str).and_then(parse_cgroup);
    let is_it = info.parent == anchor.shim() && container.is_some_and(|container| *container.id == *anchor.container);
    if anchor.process().is_some() || !is_it {
        return;
    }
    if let Some(launch) = state.anchors.set_process(&id, task) {
        launch.command = info.argv.as_slice().into();
        launch.command_truncated = info.argv_truncated;
    }
    effects.invalidate(id);
}

/// Nearest ancestor that is a runtime.
fn runtime_above(state: &State, task: TaskKey) -> Option<TaskKey> {
    let is_runtime = |task: &TaskKey| state.processes.get(*task).is_some_and(|process| process.is_runtime);
    state.processes.lineage(task).skip(1).find(is_runtime)
}
