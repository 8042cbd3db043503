//! Execs that are older than the tracer: the FIFOs that runtime and shim have open name them, the shim's pid files their
//! processes.

use std::collections::{BTreeMap, BTreeSet};

use rustix::fs::FileType;

use super::{
    Snapshot,
    container::Root,
    descriptors::{Held, Target},
    process_seen,
    procfs::{DELETED, kernel_device},
};
use crate::model::{BootTime, Fact, FileId, Observation, RawText, Source, TaskKey, parse_fifo_path};

impl Snapshot {
    /// FIFOs of execs and containers that this very process has open.
    pub(super) fn fifos_of(&self, key: TaskKey, now: BootTime) -> Vec<Observation> {
        let fifos: BTreeMap<RawText, FileId> =
            self.exec_fifos(key).into_iter().map(|(_, path, file)| (path, file)).collect();
        let seen = |(path, file)| Observation::of(now, Source::Snapshot, key, Fact::FifoHeld { path, file });
        fifos.into_iter().map(seen).collect()
    }

    /// The same, by descriptor.
    fn exec_fifos(&self, key: TaskKey) -> Vec<(u32, RawText, FileId)> {
        let mut fifos = Vec::new();
        for file in self.files_of(key).iter().flat_map(|files| files.iter()) {
            let Target::Path(path) = &file.target else { continue };
            let path = path.as_bytes().strip_suffix(DELETED).map_or_else(|| path.clone(), RawText::from);
            if path.as_str().and_then(parse_fifo_path).is_none() {
                continue;
            }
            let Some(stat) = self.proc.stat_of(key.tgid, file.fd) else { continue };
            if FileType::from_raw_mode(stat.st_mode).is_fifo() {
                let id = FileId::new(kernel_device(stat.st_dev), stat.st_ino);
                fifos.push((file.fd, path, id));
            }
        }
        // Asked after: a pid that changed hands in between is noticed.
        if self.proc.is_still(key) { fifos } else { Vec::new() }
    }

    /// Its files that runtimes wait for, by descriptor.
    pub(super) fn held(&self, key: TaskKey) -> BTreeMap<u32, Held> {
        let mut held: BTreeMap<u32, Held> =
            self.exec_fifos(key).into_iter().map(|(fd, path, file)| (fd, Held::Fifo(path, file.inode))).collect();
        let files = self.files_of(key).unwrap_or_default();
        held.extend(files.iter().filter_map(|file| match file.target {
            Target::Epoll => Some((file.fd, Held::Epoll)),
            Target::Socket(inode) => Some((file.fd, Held::Socket(inode))),
            Target::Pipe(_) | Target::Path(_) | Target::Other => None,
        }));
        held
    }

    /// Pid files of the execs whose FIFOs this shim has open, and who has those pids. The files lie in the containers' folders
    /// beside the shim's own, which is its working directory (containerd: pkg/process, `<exec>.pid`).
    pub(super) fn execs_of(&mut self, shim: TaskKey, now: BootTime) -> Vec<Observation> {
        let Some(folder) = self.proc.folder_of(shim.tgid) else { return Vec::new() };
        let Some(state) = folder.parent().and_then(|state| state.to_str()).map(str::to_owned) else {
            return Vec::new();
        };
        let mut execs: Vec<(String, String)> = self
            .exec_fifos(shim)
            .into_iter()
            .filter_map(|(_, path, _)| parse_fifo_path(path.as_str()?))
            .filter(|fifo| fifo.exec != fifo.container)
            .map(|fifo| (fifo.container, fifo.exec))
            .collect();
        execs.sort_unstable();
        execs.dedup();
        // Asked after: a pid that changed hands in between is noticed.
        if execs.is_empty() || !self.proc.is_still(shim) {
            return Vec::new();
        }
        let roots: Vec<Root> = self.each_root().collect();
        let mut facts = self.inputs_of(shim, &roots, now);
        for (container, exec) in execs {
            let path = format!("{state}/{container}/{exec}.pid");
            let Some(pid) = roots.iter().find_map(|root| root.pid_file(&path)) else { continue };
            if let Some((key, info)) = self.proc.describe(pid) {
                facts.push(process_seen(now, key, info));
            }
            let fact = Fact::PidFile { path: path.as_str().into(), pid: Some(pid) };
            facts.push(Observation::of(now, Source::Snapshot, shim, fact));
        }
        facts
    }

    /// FIFOs for the input of that shim's execs which nobody holds: both ends are closed when the client's comes to its end. That there
    /// is one tells an exec from a probe.
    fn inputs_of(&self, shim: TaskKey, roots: &[Root], now: BootTime) -> Vec<Observation> {
        let held: Vec<RawText> = self.exec_fifos(shim).into_iter().map(|(_, path, _)| path).collect();
        let input = |path: &RawText| Some(format!("{}-stdin", path.as_str()?.rsplit_once('-')?.0));
        let inputs: BTreeSet<String> = held.iter().filter_map(input).collect();
        let left = inputs.into_iter().filter(|path| !held.iter().any(|one| one.as_str() == Some(path)));
        let found = left.filter_map(|path| Some((roots.iter().find_map(|root| root.fifo(&path))?, path)));
        let seen = |(file, path): (FileId, String)| Fact::FifoHeld { path: path.as_str().into(), file };
        found.map(|one| Observation::of(now, Source::Snapshot, shim, seen(one))).collect()
    }
}
