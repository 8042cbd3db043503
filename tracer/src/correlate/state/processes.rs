//! The process table: reuse-safe, bounded, with tombstones.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::table::Table;
use crate::correlate::limits::{Caps, MAX_LINEAGE, MAX_LISTENERS, REMEMBER};
use crate::model::{
    Ancestor, Ancestry, BootTime, ExitStatus, HostNo, Listener, ProcessInfo, Program, RawText, TaskKey, parse_abstract,
};

#[derive(Clone, Debug, Default)]
pub(in crate::correlate) struct Process {
    pub(in crate::correlate) info: Arc<ProcessInfo>,
    /// Who called fork, as seen; `info.parent` may be another one (CLONE_PARENT, reparenting).
    pub(in crate::correlate) forked_by: Option<TaskKey>,
    pub(in crate::correlate) exit: Option<(BootTime, ExitStatus)>,
    /// When it was looked for and was gone, although no record told how it ended.
    pub(in crate::correlate) gone: Option<BootTime>,
    /// TCP ports it listens on.
    pub(in crate::correlate) ports: BTreeSet<u16>,
    /// Since when it is known to listen or accept.
    pub(in crate::correlate) serves_since: Option<BootTime>,
    /// It listens on a runtime's socket.
    pub(in crate::correlate) is_runtime: bool,
    /// Name of the runtime that it is, where its socket says so.
    pub(in crate::correlate) runtime_name: Option<&'static str>,
    /// Where its verified listeners are reached, by the names that they were bound with.
    pub(in crate::correlate) serves_at: BTreeMap<RawText, RawText>,
    /// Its cgroup, as a snapshot of the program that it runs now has it.
    pub(in crate::correlate) cgroup: Option<RawText>,
    /// What it had open.
    pub(in crate::correlate) looked: Looked,
    /// Where it comes from.
    pub(in crate::correlate) ancestry: Option<Above>,
}

/// Whether it is known what a daemon has begun with and not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::correlate) enum Looked {
    /// All that it does is told, since its start or since long; a recording of an older format does not say.
    #[default]
    Known,
    /// What it does is told since then, what it has open is about to be.
    Watched(BootTime),
    /// What it had open was told then.
    At(BootTime),
}

impl Looked {
    /// Whether what it had open was told after that.
    pub(in crate::correlate) fn is_after(self, at: BootTime) -> bool {
        matches!(self, Self::At(looked) if looked >= at)
    }
}

/// Where a process comes from: its sessions share it.
#[derive(Clone, Debug)]
pub(in crate::correlate) struct Above {
    pub(in crate::correlate) parents: Arc<[Ancestor]>,
    pub(in crate::correlate) names: BTreeMap<u32, String>,
}

impl From<Ancestry> for Above {
    fn from(Ancestry { parents, names }: Ancestry) -> Self {
        Self { parents: parents.into(), names }
    }
}

#[derive(Default)]
pub(in crate::correlate) struct Processes {
    by_key: Table<TaskKey, Process>,
    /// Newest bearer of a pid: unix peers are named by pid alone.
    by_tgid: Table<(HostNo, u32), TaskKey>,
    ended: BTreeSet<(BootTime, TaskKey)>,
    pub(in crate::correlate) caps: Caps,
    /// Entries discarded to make room, since [`Processes::take_discarded`] was called.
    discarded: u64,
}

impl Processes {
    pub(in crate::correlate) fn get(&self, task: TaskKey) -> Option<&Process> {
        self.by_key.get(&task)
    }

    /// Every one that is known, in no order that means anything.
    pub(in crate::correlate) fn iter(&self) -> impl Iterator<Item = (TaskKey, &Process)> {
        self.by_key.iter().map(|(task, process)| (*task, process))
    }

    /// The one that has this pid now on that host.
    pub(in crate::correlate) fn bearer(&self, host: HostNo, tgid: u32) -> Option<TaskKey> {
        self.by_tgid
            .get(&(host, tgid))
            .copied()
            .filter(|task| self.by_key.get(task).is_some_and(|one| one.exit.is_none()))
    }

    pub(in crate::correlate) fn entry(&mut self, task: TaskKey) -> &mut Process {
        if !self.by_key.contains_key(&task) {
            if self.by_key.len() >= self.caps.processes {
                self.discard_one();
            }
            let newer =
                self.by_tgid.get(&(task.host, task.tgid)).is_none_or(|other| other.start_ticks <= task.start_ticks);
            if newer {
                self.by_tgid.insert((task.host, task.tgid), task);
            }
        }
        self.by_key.entry(task).or_default()
    }

    pub(in crate::correlate) fn serves(&mut self, task: TaskKey, at: BootTime) {
        let since = &mut self.entry(task).serves_since;
        *since = since.or(Some(at));
    }

    pub(in crate::correlate) fn forked(&mut self, by: TaskKey, child: TaskKey) {
        let inherited = self.by_key.get(&by).map(|parent| Arc::clone(&parent.info));
        let process = self.entry(child);
        process.forked_by = Some(by);
        // Until it runs execve, it is a copy of its maker.
        if let (true, Some(inherited)) = (*process.info == ProcessInfo::default(), inherited) {
            let inherited = Arc::unwrap_or_clone(inherited);
            process.info = Arc::new(ProcessInfo { parent: Some(by), watched: None, ..inherited });
        }
    }

    /// It runs another program now: what was known of the old one is void.
    pub(in crate::correlate) fn executed(&mut self, task: TaskKey, info: &ProcessInfo) {
        let process = self.entry(task);
        // What forked it may have been in another cgroup.
        process.cgroup = None;
        let known = Arc::make_mut(&mut process.info);
        known.exe = None;
        known.program = None;
        self.learn(task, info.clone());
    }

    /// Whether it is a Go program, as far as is known.
    pub(in crate::correlate) fn is_go(&self, task: TaskKey) -> bool {
        self.by_key.get(&task).is_some_and(|process| matches!(process.info.program, Some(Program::Go(_))))
    }

    /// Takes over what `info` knows; what it does not know stays. Tells whether that is anything new.
    pub(in crate::correlate) fn learn(&mut self, task: TaskKey, info: ProcessInfo) -> bool {
        let is_new = !self.by_key.contains_key(&task);
        let known = &mut self.entry(task).info;
        let (old, mut new) = (&**known, info);
        // Of a process that has ended meanwhile, /proc has no arguments any more.
        let is_zombie = new.argv.is_empty();
        if is_zombie {
            (new.argv, new.argv_truncated) = (old.argv.clone(), old.argv_truncated);
        }
        new.exe = new.exe.or_else(|| old.exe.clone());
        new.program = new.program.or_else(|| old.program.clone());
        // /proc gives the terminal together with the cgroup. A zombie has lost its terminal, and shows no arguments.
        if new.cgroup.is_none() || is_zombie {
            new.tty = new.tty.or_else(|| old.tty.clone());
        }
        new.cgroup = new.cgroup.or_else(|| old.cgroup.clone());
        new.parent = new.parent.or(old.parent);
        new.uid = new.uid.or(old.uid);
        new.login_uid = new.login_uid.or(old.login_uid);
        new.netns = new.netns.or(old.netns);
        new.mntns = new.mntns.or(old.mntns);
        new.stdin = new.stdin.or(old.stdin);
        new.userns = new.userns.or(old.userns);
        new.watched = new.watched.or(old.watched);
        let is_different = new != *old;
        if is_different {
            *known = Arc::new(new);
        }
        is_new || is_different
    }

    /// It was looked for and is not there. A record of its end may still come.
    pub(in crate::correlate) fn gone(&mut self, task: TaskKey, at: BootTime) {
        if let Some(process) = self.by_key.get_mut(&task) {
            process.gone = process.gone.or(Some(at));
        }
    }

    /// What a snapshot verified of one of its listeners.
    pub(in crate::correlate) fn listens(&mut self, task: TaskKey, bound: &RawText, listener: &Listener) {
        let process = self.entry(task);
        if let Some(at) = listener.serves_at()
            && process.serves_at.len() < MAX_LISTENERS
        {
            process.serves_at.insert(parse_abstract(bound), at.clone());
        }
    }

    /// The path at which clients reach the listener that was bound with that name; `None` where none is verified.
    pub(in crate::correlate) fn serves_at(&self, task: TaskKey, bound: &RawText) -> Option<&RawText> {
        self.by_key.get(&task)?.serves_at.get(&parse_abstract(bound))
    }

    /// Whether it may be a kubelet: root in the initial user namespace. Recordings of formats 1 to 3 do not tell.
    pub(in crate::correlate) fn may_be_kubelet(&self, task: TaskKey) -> bool {
        self.by_key.get(&task).is_none_or(|process| {
            process.info.userns.is_none() || (!process.info.is_in_own_userns() && process.info.uid == Some(0))
        })
    }

    /// Whether it may be an API server: any user of the host. Recordings of formats 1 to 3 do not tell.
    pub(in crate::correlate) fn may_be_apiserver(&self, task: TaskKey) -> bool {
        self.by_key.get(&task).is_none_or(|process| !process.info.is_in_own_userns())
    }

    pub(in crate::correlate) fn exited(&mut self, task: TaskKey, at: BootTime, status: ExitStatus) {
        let process = self.entry(task);
        if process.exit.is_none() {
            process.exit = Some((at, status));
            self.ended.insert((at, task));
        }
    }

    /// `task` and who forked it, and so on upwards; bounded.
    pub(in crate::correlate) fn lineage(&self, task: TaskKey) -> impl Iterator<Item = TaskKey> + '_ {
        std::iter::successors(Some(task), |task| {
            let process = self.by_key.get(task)?;
            process.forked_by.or(process.info.parent)
        })
        .take(MAX_LINEAGE)
    }

    /// Forgets what ended long ago and nobody needs.
    pub(in crate::correlate) fn sweep(&mut self, now: BootTime, needed: impl Fn(TaskKey) -> bool) {
        while let Some(&(at, task)) = self.ended.first() {
            if now.since(at) < REMEMBER {
                break;
            }
            self.ended.pop_first();
            if needed(task) {
                self.ended.insert((now, task));
            } else {
                self.remove(task);
            }
        }
    }

    /// Makes room for one entry: the process that ended first goes, or the first of the table where all are alive.
    fn discard_one(&mut self) {
        let ended = self.ended.pop_first().map(|(_, task)| task);
        if let Some(task) = ended.or_else(|| self.by_key.first().map(|(task, _)| *task)) {
            self.remove(task);
            self.discarded += 1;
        }
    }

    /// Number of entries discarded to make room since the last call.
    pub(in crate::correlate) fn take_discarded(&mut self) -> u64 {
        std::mem::take(&mut self.discarded)
    }

    fn remove(&mut self, task: TaskKey) {
        self.by_key.swap_remove(&task);
        let bearer = (task.host, task.tgid);
        if self.by_tgid.get(&bearer) == Some(&task) {
            self.by_tgid.swap_remove(&bearer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RawText;

    #[test]
    fn what_was_known_outlasts_a_look_at_what_has_ended() {
        let task = TaskKey::from_ticks(50, 1);
        let argv: Vec<RawText> = ["kubectl", "get", "pods"].map(RawText::from).to_vec();
        let mut processes = Processes::default();
        processes.learn(task, ProcessInfo { argv: argv.clone(), uid: Some(0), ..ProcessInfo::default() });
        // A zombie: /proc/PID/cmdline is empty.
        processes.learn(task, ProcessInfo { netns: Some(1), ..ProcessInfo::default() });
        let known = &processes.get(task).unwrap().info;
        assert_eq!((&known.argv, known.uid, known.netns), (&argv, Some(0), Some(1)));
    }
}
