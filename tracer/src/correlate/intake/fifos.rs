//! Facts about FIFOs, which carry the streams of an exec between runtime and shim.

use super::{
    sockets,
    streams::{self, by},
};
use crate::correlate::{
    effects::Effects,
    state::{
        State,
        anchor::{Anchor, AnchorKind, Origin},
        anchor_id::AnchorId,
    },
};
use crate::model::{
    Actor, BootTime, Evidence, ExecFifo, Fact, FileId, HostNo, RawText, SocketId, SocketInfo, TaskKey, Want,
    is_kubelet_fifo, parse_fifo_path,
};

/// Streams by their descriptors.
const STREAMS: [&str; 3] = ["stdin", "stdout", "stderr"];

/// Applies a fact about a FIFO that `task` makes, holds or reads.
#[expect(clippy::wildcard_enum_match_arm, reason = "`apply` of the parent lists every fact")]
pub(super) fn apply(state: &mut State, effects: &mut Effects, at: BootTime, task: TaskKey, fact: Fact) {
    match fact {
        Fact::FifoHeld { path, file, fd } => match fd {
            Some(fd) => pipe_held(state, effects, task, &path, file, fd),
            None => fifo_held(state, effects, at, task, &path, file),
        },
        Fact::FifoRelayed { actor, fifo, to } => fifo_relayed(state, effects, at, task, actor, fifo, &to),
        Fact::FifoAwaited { path, socket, copied } => fifo_awaited(state, effects, at, task, &path, socket, copied),
        Fact::FifoMade { actor, inbound, from, path } => {
            if let Some(from) = from {
                sockets::add_inbound(state, effects, at, task, &from);
            }
            fifo_made(state, effects, at, task, actor, inbound, &path);
        }
        _ => {}
    }
}

/// Handles a FIFO that a runtime creates for an exec. The runtime does so on the goroutine that serves the exec's
/// stream.
pub(in crate::correlate) fn fifo_made(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    actor: Actor,
    inbound: Option<SocketId>,
    path: &RawText,
) {
    let Some(fifo) = path.as_str().and_then(parse_fifo_path) else { return };
    // FIFOs of a container's first process belong to a start, not to an exec.
    if fifo.exec == fifo.container || !state.may_be_daemon(task) {
        return;
    }
    let stream = streams::stream_of_actor(state, at, task, actor, inbound);
    let for_unknown = inbound.is_some_and(|id| state.sockets.find(id).is_none());
    let id = exec_of_new_fifo(state, task.host, &fifo);
    let Some(exec) = state.anchor(task.host, &id, &fifo.container, at).and_then(Anchor::as_exec_mut) else { return };
    // `ctr` may create FIFOs before the runtime does. The exec is the runtime's all the same.
    exec.origin = Origin::Named;
    exec.runtime = exec.runtime.or(Some(task));
    exec.fifos.insert(fifo.stream);
    exec.stream.for_unknown |= for_unknown;
    if let Some(stream) = stream {
        streams::claim(state, effects, at, &id, stream, by(actor), actor.goid.is_some());
    }
    if !state.containers.contains_key(&fifo.container) {
        effects.ask(Want::Container { id: fifo.container, bundle: None });
    }
    effects.invalidate(id);
}

/// Exec for which a FIFO is created: a new one, if the last exec with this id is over. An id of random digits is
/// never reused: the record came late, and belongs to the exec that is over.
pub(in crate::correlate) fn exec_of_new_fifo(state: &mut State, host: HostNo, fifo: &ExecFifo) -> AnchorId {
    let anchors = &mut state.anchors;
    let newest = anchors.newest_or_new(host, &fifo.container, &fifo.exec);
    if newest.is_random() || anchors.get(&newest).is_none_or(|exec| !exec.over) {
        return newest;
    }
    anchors.next(host, &fifo.container, &fifo.exec)
}

/// Handles a FIFO that a snapshot or a query found. The process that holds the FIFO serves the exec.
pub(in crate::correlate) fn fifo_held(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    path: &RawText,
    file: FileId,
) {
    let Some(fifo) = path.as_str().and_then(parse_fifo_path).filter(|_| state.may_be_daemon(task)) else {
        return;
    };
    state.anchors.note_fifo(file, &fifo);
    if fifo.exec == fifo.container {
        return;
    }
    let id = state.anchors.newest_or_new(task.host, &fifo.container, &fifo.exec);
    let is_runtime = state.processes.get(task).is_some_and(|process| process.is_runtime);
    if state.anchors.get(&id).is_some_and(|exec| !exec.preexisting) {
        return;
    }
    let (anchors, hosts) = (&mut state.anchors, &state.hosts);
    let Some(anchor) = anchors.entry(hosts, task.host, &id, &fifo.container, at) else { return };
    anchor.preexisting = true;
    let Some(exec) = anchor.as_exec_mut() else { return };
    exec.fifos.insert(fifo.stream);
    exec.by_cri = path.as_str().is_some_and(is_kubelet_fifo);
    if is_runtime {
        exec.runtime = exec.runtime.or(Some(task));
        exec.held_by_runtime = true;
    } else {
        exec.launch.shim = exec.launch.shim.or(Some(task));
        // The runtime has closed the FIFO, or was restarted. The daemon that is connected to the shim is the runtime.
        let mut connected = state.daemon_connections.keys().filter(|(_, to)| *to == task).map(|(from, _)| *from);
        if let (true, Some(runtime), None) = (exec.by_cri, connected.next(), connected.next()) {
            exec.runtime = exec.runtime.or(Some(runtime));
        }
    }
    if !state.containers.contains_key(&fifo.container) {
        effects.ask(Want::Container { id: fifo.container, bundle: None });
    }
    effects.invalidate(id);
}

/// Handles bytes that a goroutine of the runtime moves from a FIFO to a connection. The FIFO of an exec leads to the
/// exec's stream. The FIFO of a container's own output leads to a session that is attached to the container.
pub(in crate::correlate) fn fifo_relayed(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    actor: Actor,
    fifo: FileId,
    to: &SocketInfo,
) {
    if let Some(id) = state.anchors.of_pipe_file(fifo).cloned() {
        if let Some(to) = sockets::relay_end(state, effects, at, task, to) {
            streams::claim(state, effects, at, &id, to, by(actor), actor.goid.is_some());
        }
        return;
    }
    let Some(ExecFifo { container, exec, .. }) = state.anchors.of_fifo(fifo).cloned() else {
        effects.ask(Want::Fifos(task));
        return;
    };
    let Some(to) = sockets::relay_end(state, effects, at, task, to) else { return };
    if exec != container {
        if let Some(id) = state.anchors.newest(task.host, &container, &exec).cloned() {
            streams::claim(state, effects, at, &id, to, by(actor), actor.goid.is_some());
        }
    } else if let Some(id) = state.anchors.by_stream(to).cloned()
        && let Some(stream) = state.anchors.get_mut(&id)
        && stream.kind() == AnchorKind::Stream
    {
        stream.container = container.as_str().into();
        effects.ask(Want::Container { id: container, bundle: None });
        effects.invalidate(id);
    }
}

/// Handles a goroutine that waits for a FIFO and refers to a connection, which is the exec's stream.
pub(in crate::correlate) fn fifo_awaited(
    state: &mut State,
    effects: &mut Effects,
    at: BootTime,
    task: TaskKey,
    path: &RawText,
    socket: SocketId,
    copied: bool,
) {
    let Some(id) = exec_awaited(state, task, path).cloned() else { return };
    if let Some(stream) = state.sockets.find(socket) {
        streams::claim(state, effects, at, &id, stream, Evidence::Memory, true);
        if let Some(exec) = state.anchors.exec_mut(&id) {
            exec.stream.copied |= copied;
        }
    }
}

/// Handles a pipe that a `runc exec` has for stdin, stdout or stderr. The runtime has the other end.
pub(in crate::correlate) fn pipe_held(
    state: &mut State,
    effects: &mut Effects,
    runc: TaskKey,
    path: &RawText,
    file: FileId,
    fd: u32,
) {
    let Some(id) = state.anchors.by_runc(runc).cloned() else { return };
    let stream = usize::try_from(fd).ok().and_then(|fd| STREAMS.get(fd).copied());
    let (Some(stream), Some(exec)) = (stream, state.anchors.exec_mut(&id)) else { return };
    exec.fifos.insert(stream);
    // A command with pipes has no terminal.
    exec.launch.tty = exec.launch.tty.or(Some(false));
    // The runtime writes to stdin what it received, and reads from the others. Only reads lead to a connection.
    if fd != 0 {
        state.anchors.note_pipe(runc.host, path, file, &id);
    }
    effects.invalidate(id);
}

/// Exec with this FIFO, or with this pipe of its runc.
fn exec_awaited<'a>(state: &'a State, task: TaskKey, path: &RawText) -> Option<&'a AnchorId> {
    match path.as_str().and_then(parse_fifo_path) {
        Some(fifo) => state.anchors.newest(task.host, &fifo.container, &fifo.exec),
        None => state.anchors.of_pipe(task.host, path),
    }
}
