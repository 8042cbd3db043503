//! The process table: safe against pid reuse, bounded, with tombstones of exited processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::table::Table;
use crate::correlate::limits::{Caps, MAX_LINEAGE, MAX_LISTENERS, REMEMBER};
use crate::model::{
    self, Ancestor, BootTime, ExitStatus, HostNo, Listener, ProcessInfo, Program, RawText, Runtime, TaskKey,
    parse_abstract,
};

#[derive(Clone, Debug, Default)]
pub(in crate::correlate) struct Process {
    pub(in crate::correlate) info: Arc<ProcessInfo>,
    /// Process that called fork, from a record. `info.parent` may differ (CLONE_PARENT, reparenting).
    pub(in crate::correlate) forked_by: Option<TaskKey>,
    /// Time of that call. The start in the process's identity is rounded down to a tick of 10 ms.
    pub(in crate::correlate) forked_at: Option<BootTime>,
    /// Time and status of the exit, from a record.
    pub(in crate::correlate) exit: Option<(BootTime, ExitStatus)>,
    /// Time at which a search found the process gone without a record of its exit.
    pub(in crate::correlate) gone: Option<BootTime>,
    /// TCP ports on which the process listens.
    pub(in crate::correlate) ports: BTreeSet<u16>,
    /// Earliest known time at which the process listened or accepted.
    pub(in crate::correlate) serves_since: Option<BootTime>,
    /// Set when the process listens on a socket of a runtime.
    pub(in crate::correlate) is_runtime: bool,
    /// Name of the runtime, if the path of its socket implies one.
    pub(in crate::correlate) runtime: Option<&'static Runtime>,
    /// Verified unix listeners: name given to bind → path at which clients reach the listener.
    pub(in crate::correlate) serves_at: BTreeMap<RawText, RawText>,
    /// Cgroup of the current program, from a snapshot.
    pub(in crate::correlate) cgroup: Option<RawText>,
    /// Coverage of the process by records and snapshots; meaningful for daemons.
    pub(in crate::correlate) coverage: Coverage,
    /// Ancestors of the process.
    pub(in crate::correlate) ancestry: Option<Ancestry>,
}

/// Part of a daemon's work that records and snapshots cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::correlate) enum Coverage {
    /// All acts: the tracer attached at the daemon's start, or long ago. Also the default for recordings of older
    /// formats, which do not report coverage.
    #[default]
    Full,
    /// Acts since this time. A scan of the daemon's open files is outstanding.
    Attached(BootTime),
    /// Acts since attach, and all files that were open at this time. Work that began before attach and had
    /// finished by then may have been missed.
    Scanned(BootTime),
}

impl Coverage {
    /// Notes that the tracer attached to the daemon. The first report counts.
    pub(in crate::correlate) fn attach(&mut self, at: BootTime) {
        if *self == Self::Full {
            *self = Self::Attached(at);
        }
    }

    /// Notes a scan of the daemon's open files. Returns the time of the attach; `None` if no scan was outstanding.
    pub(in crate::correlate) fn scan(&mut self, at: BootTime) -> Option<BootTime> {
        let Self::Attached(attached) = *self else { return None };
        *self = Self::Scanned(at);
        Some(attached)
    }

    /// True between attach and scan.
    pub(in crate::correlate) fn is_scan_pending(self) -> bool {
        matches!(self, Self::Attached(_))
    }

    /// True if the daemon's open files were scanned at or after `at`.
    pub(in crate::correlate) fn is_scanned_since(self, at: BootTime) -> bool {
        matches!(self, Self::Scanned(scanned) if scanned >= at)
    }
}

/// Ancestors of a process, shared by its sessions.
#[derive(Clone, Debug)]
pub(in crate::correlate) struct Ancestry {
    /// Parent first.
    pub(in crate::correlate) parents: Arc<[Ancestor]>,
    /// User names by uid.
    pub(in crate::correlate) names: BTreeMap<u32, String>,
}

impl From<model::Ancestry> for Ancestry {
    fn from(model::Ancestry { parents, names }: model::Ancestry) -> Self {
        Self { parents: parents.into(), names }
    }
}

#[derive(Default)]
pub(in crate::correlate) struct Processes {
    by_key: Table<TaskKey, Process>,
    /// Newest process with each pid: unix peers are named by pid only.
    by_tgid: Table<(HostNo, u32), TaskKey>,
    /// Exited processes by time of exit, for [`Processes::sweep`].
    ended: BTreeSet<(BootTime, TaskKey)>,
    pub(in crate::correlate) caps: Caps,
    /// Entries discarded to make room since [`Processes::take_discarded`] was called.
    discarded: u64,
}

impl Processes {
    pub(in crate::correlate) fn get(&self, task: TaskKey) -> Option<&Process> {
        self.by_key.get(&task)
    }

    /// All known processes, in no meaningful order.
    pub(in crate::correlate) fn iter(&self) -> impl Iterator<Item = (TaskKey, &Process)> {
        self.by_key.iter().map(|(task, process)| (*task, process))
    }

    /// Living process that has this pid on this host.
    pub(in crate::correlate) fn current_task(&self, host: HostNo, tgid: u32) -> Option<TaskKey> {
        self.by_tgid
            .get(&(host, tgid))
            .copied()
            .filter(|task| self.by_key.get(task).is_some_and(|one| one.exit.is_none()))
    }

    /// Entry of a process, made if new.
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

    /// Notes that the process listens or accepts.
    pub(in crate::correlate) fn serves(&mut self, task: TaskKey, at: BootTime) {
        let since = &mut self.entry(task).serves_since;
        *since = since.or(Some(at));
    }

    /// Adds a fork.
    pub(in crate::correlate) fn forked(&mut self, at: BootTime, by: TaskKey, child: TaskKey) {
        let inherited = self.by_key.get(&by).map(|parent| Arc::clone(&parent.info));
        let process = self.entry(child);
        process.forked_by = Some(by);
        process.forked_at = Some(at);
        // Until its execve, the child is a copy of its parent.
        if let (true, Some(inherited)) = (*process.info == ProcessInfo::default(), inherited) {
            let inherited = Arc::unwrap_or_clone(inherited);
            process.info = Arc::new(ProcessInfo { parent: Some(by), watched: None, ..inherited });
        }
    }

    /// Adds an execve. Facts about the previous program no longer apply.
    pub(in crate::correlate) fn executed(&mut self, task: TaskKey, info: &ProcessInfo) {
        let process = self.entry(task);
        // The parent may have forked in another cgroup.
        process.cgroup = None;
        let known = Arc::make_mut(&mut process.info);
        known.exe = None;
        known.program = None;
        self.learn(task, info.clone());
    }

    /// True if the process is known to be a Go program.
    pub(in crate::correlate) fn is_go(&self, task: TaskKey) -> bool {
        self.by_key.get(&task).is_some_and(|process| matches!(process.info.program, Some(Program::Go(_))))
    }

    /// Merges `info` into the entry; unknown fields keep their value. Returns true if the entry is new or has
    /// changed.
    pub(in crate::correlate) fn learn(&mut self, task: TaskKey, info: ProcessInfo) -> bool {
        let is_new = !self.by_key.contains_key(&task);
        let known = &mut self.entry(task).info;
        let (old, mut new) = (&**known, info);
        // /proc/PID/cmdline of a zombie is empty.
        let is_zombie = new.argv.is_empty();
        if is_zombie {
            (new.argv, new.argv_truncated) = (old.argv.clone(), old.argv_truncated);
        }
        new.exe = new.exe.or_else(|| old.exe.clone());
        new.program = new.program.or_else(|| old.program.clone());
        // /proc gives the terminal together with the cgroup. A zombie has neither a terminal nor arguments.
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

    /// Notes that a search did not find the process. A record of its exit may still arrive.
    pub(in crate::correlate) fn gone(&mut self, task: TaskKey, at: BootTime) {
        if let Some(process) = self.by_key.get_mut(&task) {
            process.gone = process.gone.or(Some(at));
        }
    }

    /// Adds a unix listener that a snapshot verified.
    pub(in crate::correlate) fn listens(&mut self, task: TaskKey, bound: &RawText, listener: &Listener) {
        let process = self.entry(task);
        if let Some(at) = listener.serves_at()
            && process.serves_at.len() < MAX_LISTENERS
        {
            process.serves_at.insert(parse_abstract(bound), at.clone());
        }
    }

    /// Path at which clients reach the listener with this bind name; `None` if no such listener is verified.
    pub(in crate::correlate) fn serves_at(&self, task: TaskKey, bound: &RawText) -> Option<&RawText> {
        self.by_key.get(&task)?.serves_at.get(&parse_abstract(bound))
    }

    /// True unless the process cannot be a kubelet. A kubelet runs as root in the initial user namespace.
    /// Recordings of formats 1 to 3 have no such data.
    pub(in crate::correlate) fn may_be_kubelet(&self, task: TaskKey) -> bool {
        self.by_key.get(&task).is_none_or(|process| {
            process.info.userns.is_none() || (!process.info.is_in_own_userns() && process.info.uid == Some(0))
        })
    }

    /// True unless the process cannot be an API server. An API server may run as any user, but in the initial
    /// user namespace. Recordings of formats 1 to 3 have no such data.
    pub(in crate::correlate) fn may_be_apiserver(&self, task: TaskKey) -> bool {
        self.by_key.get(&task).is_none_or(|process| !process.info.is_in_own_userns())
    }

    /// Adds an exit. The first report counts.
    pub(in crate::correlate) fn exited(&mut self, task: TaskKey, at: BootTime, status: ExitStatus) {
        let process = self.entry(task);
        if process.exit.is_none() {
            process.exit = Some((at, status));
            self.ended.insert((at, task));
        }
    }

    /// `task`, the process that forked it, and so on upwards; at most [`MAX_LINEAGE`] processes.
    pub(in crate::correlate) fn lineage(&self, task: TaskKey) -> impl Iterator<Item = TaskKey> + '_ {
        std::iter::successors(Some(task), |task| {
            let process = self.by_key.get(task)?;
            process.forked_by.or(process.info.parent)
        })
        .take(MAX_LINEAGE)
    }

    /// Forgets processes that exited long ago, unless a session needs them.
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

    /// Makes room for one entry. Drops the process that exited first, or the first of the table if all are
    /// alive.
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
        let pid = (task.host, task.tgid);
        if self.by_tgid.get(&pid) == Some(&task) {
            self.by_tgid.swap_remove(&pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RawText;

    #[test]
    fn facts_outlast_a_look_at_a_zombie() {
        let task = TaskKey::from_ticks(50, 1);
        let argv: Vec<RawText> = ["kubectl", "get", "pods"].map(RawText::from).to_vec();
        let mut processes = Processes::default();
        processes.learn(task, ProcessInfo { argv: argv.clone(), uid: Some(0), ..ProcessInfo::default() });
        // A zombie: /proc/PID/cmdline is empty.
        processes.learn(task, ProcessInfo { netns: Some(1), ..ProcessInfo::default() });
        let known = &processes.get(task).unwrap().info;
        assert_eq!((&known.argv, known.uid, known.netns), (&argv, Some(0), Some(1)));
    }

    #[test]
    fn scan_covers_what_was_open_at_its_time() {
        let at = BootTime;
        let mut coverage = Coverage::default();
        assert_eq!(coverage.scan(at(1)), None, "nothing is outstanding under full coverage");
        assert!(!coverage.is_scanned_since(at(0)));
        coverage.attach(at(10));
        coverage.attach(at(20));
        assert!(coverage.is_scan_pending());
        assert_eq!(coverage.scan(at(30)), Some(at(10)), "the first attach counts");
        assert!(!coverage.is_scan_pending());
        assert!(coverage.is_scanned_since(at(30)) && !coverage.is_scanned_since(at(31)));
    }
}
