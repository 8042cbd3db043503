//! How things stand: numbers of the sockets, processes and files that sessions rest on.
//!
//! Nothing is changed: queues of pipes and terminals are asked for on a copy of the holder's descriptor (pidfd_getfd(2)), because
//! to open a FIFO anew would be seen by its other end.

mod cgroup;
mod files;
mod process;

use std::{borrow::Cow, collections::BTreeMap};

use self::{
    cgroup::Hierarchies,
    files::{Files, Open},
};
use super::{
    Snapshot,
    census::{self, Census},
    process_seen,
    sock_diag::{self, Measured, Namespaces, Wanted},
};
use crate::model::{BootTime, Depth, Fact, Observation, Scope, SocketId, Source, TaskKey, parse_cgroup};

impl Snapshot {
    /// How everything in `scope` stands now.
    pub fn measure(&mut self, scope: &Scope, now: BootTime) -> Vec<Observation> {
        if self.census.is_none() && scope.files {
            self.look();
        }
        let scope = &self.with_children(scope);
        let census = self.census.clone();
        let namespaces = match &census {
            Some(census) => Cow::Borrowed(&census.namespaces),
            None => Cow::Owned(census::processes(&self.proc, self.netns).1),
        };
        let mut facts = self.measure_sockets(scope, &namespaces, now);
        facts.extend(scope.shims.iter().flat_map(|shim| self.used_fifos(*shim, now)));
        let hierarchies = Hierarchies::open();
        let mut files = Files::default();
        let mut open = BTreeMap::new();
        if scope.files {
            let tasks = scope.tasks.keys();
            open.extend(tasks.filter_map(|task| Some((*task, files.read(&self.proc, *task, &self.files_of(*task)?)?))));
            facts.extend(self.unlisted(&open, &namespaces, now));
        }
        for (task, depth) in &scope.tasks {
            facts.extend(self.measure_process(*task, *depth, open.get(task), &hierarchies, now));
        }
        if let Some(census) = census.filter(|_| scope.files) {
            facts.extend(self.measure_strangers(scope, &census, &mut files, &hierarchies, now));
            facts.extend(files.tell(&self.proc, now));
        }
        // The next one is of another moment.
        self.census = None;
        facts
    }

    fn measure_sockets(&mut self, scope: &Scope, namespaces: &Namespaces, now: BootTime) -> Vec<Observation> {
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
        self.troubles.extend(&found.troubles);
        let tuple = |id: SocketId| scope.tcp.get(&id).map(|(tuple, _)| *tuple);
        let path = |id: SocketId| scope.unix.get(&id).map(|(path, _)| path.clone());
        let lonely = scope.lonely.iter().filter_map(|id| Some((*id, *scope.tcp.get(id)?)));
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

    fn measure_process(
        &self,
        task: TaskKey,
        depth: Depth,
        open: Option<&Open>,
        hierarchies: &Hierarchies,
        now: BootTime,
    ) -> Option<Observation> {
        let mut measure = self.proc.measure(task.tgid, depth);
        if let (Some(open), Some(measure)) = (open, &mut measure) {
            (measure.descriptors, measure.terminals) = (Some(open.count), Some(open.terminals));
        }
        if let (Depth::Whole, Some(measure)) = (depth, &mut measure) {
            measure.cgroup = hierarchies.measure(&self.proc, task.tgid);
            measure.first_lives = self.first_lives(task.tgid);
        }
        // Asked after: a pid that changed hands in between gets nobody else's numbers.
        let is_there = self.proc.is_still(task);
        let fact = match measure {
            _ if !is_there => Fact::ProcessGone,
            Some(measure) => Fact::ProcessMeasured(Box::new(measure)),
            None => return None,
        };
        Some(Observation::of(now, Source::Snapshot, task, fact))
    }

    /// Whether the first process of that process's container lives.
    fn first_lives(&self, pid: u32) -> Option<bool> {
        let id = self.proc.cgroup(pid)?.as_str().and_then(parse_cgroup)?.id;
        let first = self.in_roots(|root| root.first_pid(&id))?;
        // The pid may be somebody else's by now.
        let now = self.proc.cgroup(first);
        Some(now.is_some_and(|path| path.as_str().and_then(parse_cgroup).is_some_and(|one| one.id == id)))
    }

    /// TCP sockets that these processes hold and no table lists.
    fn unlisted(&self, open: &BTreeMap<TaskKey, Open>, namespaces: &Namespaces, now: BootTime) -> Vec<Observation> {
        let listed = sock_diag::everything(namespaces);
        if !listed.troubles.is_empty() {
            // A table that was cut may list them after all.
            return Vec::new();
        }
        let mut facts = Vec::new();
        for (task, open) in open {
            let unlisted = open.sockets.iter().filter(|(_, inode)| !listed.holds(*inode)).take(MAX_UNLISTED);
            for (fd, inode) in unlisted.copied() {
                if files::was_connected(&self.proc, *task, fd, inode) {
                    let fact = Fact::SocketUnlisted { fd, inode };
                    facts.push(Observation::of(now, Source::Snapshot, *task, fact));
                }
            }
        }
        facts
    }

    /// Who else has the same files open.
    fn measure_strangers(
        &self,
        scope: &Scope,
        census: &Census,
        files: &mut Files,
        hierarchies: &Hierarchies,
        now: BootTime,
    ) -> Vec<Observation> {
        for (pid, open) in census.everybody() {
            let found = files.known_among(&self.proc, pid, open);
            // Only now is it of interest who that is; what a younger process has open was another's.
            let Some(task) = self.proc.key(pid).filter(|_| !found.is_empty()) else { continue };
            if census.knows(task) && !scope.tasks.contains_key(&task) {
                files.add(task, found);
            }
        }
        let strangers = files.tasks().filter(|task| !scope.tasks.contains_key(task)).take(MAX_STRANGERS);
        let mut facts = Vec::new();
        for task in strangers {
            let Some((key, info)) = self.proc.describe(task.tgid).filter(|(key, _)| *key == task) else { continue };
            facts.push(process_seen(now, key, info));
            facts.extend(self.measure_process(task, Depth::Whole, None, hierarchies, now));
        }
        facts
    }
}

/// Processes that hold a session's files and are none of its hops: the children of its command.
const MAX_STRANGERS: usize = 1_000;
/// Sockets of one process that are in no table; each takes some system calls to look at. Leaks were 50,000 (k8s#67659).
const MAX_UNLISTED: usize = 100_000;
