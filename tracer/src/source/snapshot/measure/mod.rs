//! Numbers of the sockets, processes and files on which sessions depend.
//!
//! Measuring changes nothing. Queues of pipes and terminals are read on a copy of the holder's descriptor (pidfd_getfd(2)), because
//! the other end of a FIFO would notice a new reader or writer.

mod cgroup;
mod files;
mod process;

use std::{borrow::Cow, collections::BTreeMap};

use self::{
    cgroup::Hierarchies,
    files::{Files, Open},
};
use super::{
    facts::process_seen,
    fifos,
    namespaces::{self, Namespaces},
    open_files::OpenFiles,
    roots::is_container_running,
    sock_diag::{self, Wanted},
    sockets::Measured,
    starting::with_children,
    view::HostView,
};
use crate::model::{BootTime, Depth, Fact, Observation, Scope, SocketId, Source, TaskKey};

/// Processes that hold a session's files and are none of its hops: the children of its command.
const MAX_STRANGERS: usize = 1_000;
/// Sockets of one process that no table lists. Each takes some system calls to check. Leaks had 50,000 (k8s#67659).
const MAX_UNLISTED: usize = 100_000;

/// Measures everything in `scope` now.
pub(super) fn report(view: &mut HostView, scope: &Scope, now: BootTime) -> Vec<Observation> {
    if view.open_files.is_none() && scope.files {
        view.scan();
    }
    let scope = &with_children(view, scope);
    let open_files = view.open_files.clone();
    let namespaces = match &open_files {
        Some(open_files) => Cow::Borrowed(&open_files.namespaces),
        None => Cow::Owned(namespaces::processes(&view.proc, view.options.netns).1),
    };
    let mut facts = measure_sockets(view, scope, &namespaces, now);
    facts.extend(scope.shims.iter().flat_map(|shim| fifos::last_used(view, *shim, now)));
    let hierarchies = Hierarchies::open();
    let mut files = Files::default();
    let mut open = BTreeMap::new();
    if scope.files {
        let tasks = scope.tasks.keys();
        open.extend(tasks.filter_map(|task| Some((*task, files.read(&view.proc, *task, &view.files_of(*task)?)?))));
        facts.extend(unlisted(view, &open, &namespaces, now));
    }
    for (task, depth) in &scope.tasks {
        facts.extend(measure_process(view, *task, *depth, open.get(task), &hierarchies, now));
    }
    if let Some(open_files) = open_files.filter(|_| scope.files) {
        facts.extend(measure_strangers(view, scope, &open_files, &mut files, &hierarchies, now));
        facts.extend(files.report(&view.proc, now));
    }
    // The next measurement is about another moment.
    view.open_files = None;
    facts
}

/// Numbers of the sockets in `scope`, and states of their other ends.
fn measure_sockets(view: &mut HostView, scope: &Scope, namespaces: &Namespaces, now: BootTime) -> Vec<Observation> {
    let mut wanted: BTreeMap<u32, Wanted> = BTreeMap::new();
    let only = namespaces.first_key_value().map(|(netns, _)| *netns).filter(|_| namespaces.len() == 1);
    for (id, (tuple, netns)) in &scope.tcp {
        if let Some(netns) = netns.or(only) {
            wanted.entry(netns).or_default().tcp.push((*id, *tuple));
        }
    }
    for (id, (_, netns)) in &scope.unix {
        if let Some(netns) = netns.or(only) {
            wanted.entry(netns).or_default().unix.push(*id);
        }
    }
    let found = sock_diag::measure(namespaces, &wanted);
    view.errors.extend(&found.errors);
    let tuple = |id: SocketId| scope.tcp.get(&id).map(|(tuple, _)| *tuple);
    let path = |id: SocketId| scope.unix.get(&id).map(|(path, _)| path.clone());
    let lonely = scope.peer_missing.iter().filter_map(|id| Some((*id, *scope.tcp.get(id)?)));
    let lonely: BTreeMap<_, _> = lonely.map(|(id, (tuple, netns))| (id, (tuple, netns.or(only)))).collect();
    let others = if lonely.is_empty() { BTreeMap::new() } else { sock_diag::others(namespaces, &lonely) };
    let others = others.into_iter().map(|(socket, state)| Fact::PeerMeasured { socket, state });
    let fact = |(socket, measured)| match measured {
        Some(Measured::Tcp(measure)) => Fact::TcpMeasured { socket, tuple: tuple(socket), measure },
        Some(Measured::Unix(measure)) => Fact::UnixMeasured { socket, path: path(socket), measure },
        None => Fact::SocketGone { socket },
    };
    let facts = found.measured.into_iter().map(fact).chain(others);
    facts.map(|fact| Observation::new(now, Source::Snapshot, fact)).collect()
}

/// Numbers of one process: briefly, or with its files, cgroup and threads.
fn measure_process(
    view: &HostView,
    task: TaskKey,
    depth: Depth,
    open: Option<&Open>,
    hierarchies: &Hierarchies,
    now: BootTime,
) -> Option<Observation> {
    let mut measure = process::measure(&view.proc, task.tgid, depth);
    if let (Some(open), Some(measure)) = (open, &mut measure) {
        (measure.descriptors, measure.terminals) = (Some(open.count), Some(open.terminals));
    }
    if let (Depth::Whole, Some(measure)) = (depth, &mut measure) {
        measure.cgroup = hierarchies.measure(&view.proc, task.tgid);
        measure.first_lives = is_container_running(view, task.tgid);
    }
    // Check the identity last: no process gets the numbers of another one that took over its pid.
    let is_there = view.proc.is_still(task);
    let fact = match measure {
        _ if !is_there => Fact::ProcessGone,
        Some(measure) => Fact::ProcessMeasured(Box::new(measure)),
        None => return None,
    };
    Some(Observation::of(now, Source::Snapshot, task, fact))
}

/// TCP sockets that these processes have open and no table lists.
fn unlisted(
    view: &HostView,
    open: &BTreeMap<TaskKey, Open>,
    namespaces: &Namespaces,
    now: BootTime,
) -> Vec<Observation> {
    let listed = sock_diag::everything(namespaces);
    if !listed.errors.is_empty() {
        // The rest of a table that was cut may list them.
        return Vec::new();
    }
    let mut facts = Vec::new();
    for (task, open) in open {
        let unlisted = open.sockets.iter().filter(|(_, inode)| !listed.holds(*inode)).take(MAX_UNLISTED);
        for (fd, inode) in unlisted.copied() {
            if files::was_connected(&view.proc, *task, fd, inode) {
                let fact = Fact::SocketUnlisted { fd, inode };
                facts.push(Observation::of(now, Source::Snapshot, *task, fact));
            }
        }
    }
    facts
}

/// Processes outside of `scope` that have its files open, with their numbers.
fn measure_strangers(
    view: &HostView,
    scope: &Scope,
    open_files: &OpenFiles,
    files: &mut Files,
    hierarchies: &Hierarchies,
    now: BootTime,
) -> Vec<Observation> {
    for (pid, open) in open_files.processes() {
        let found = files.known_among(&view.proc, pid, open);
        // Read the identity only now that a file is shared. A process younger than the scan had none of these files then.
        let Some(task) = view.proc.key(pid).filter(|_| !found.is_empty()) else { continue };
        if open_files.knows(task) && !scope.tasks.contains_key(&task) {
            files.add(task, found);
        }
    }
    let strangers = files.tasks().filter(|task| !scope.tasks.contains_key(task)).take(MAX_STRANGERS);
    let mut facts = Vec::new();
    for task in strangers {
        let Some((key, info)) = view.proc.describe(task.tgid).filter(|(key, _)| *key == task) else { continue };
        facts.push(process_seen(now, key, info));
        facts.extend(measure_process(view, task, Depth::Whole, None, hierarchies, now));
    }
    facts
}
