//! Execs that are older than the tracer: the FIFOs that runtime and shim have open name them, the shim's pid files their
//! processes.

use super::{Snapshot, process_seen};
use crate::model::{BootTime, Fact, Observation, RawText, Source, TaskKey, parse_fifo_path};

impl Snapshot {
    /// FIFOs of execs and containers that this very process has open.
    pub(super) fn fifos_of(&self, key: TaskKey, budget: &mut usize, now: BootTime) -> Vec<Observation> {
        let held = self.proc.fifos(key.tgid, budget);
        // Asked after: a pid that changed hands in between is noticed.
        if self.proc.key(key.tgid) != Some(key) {
            return Vec::new();
        }
        let of_exec = |path: &RawText| path.as_str().and_then(parse_fifo_path).is_some();
        let seen = |(path, file)| Observation::of(now, Source::Snapshot, key, Fact::FifoHeld { path, file });
        held.into_iter().filter(|(path, _)| of_exec(path)).map(seen).collect()
    }

    /// Pid files of the execs whose FIFOs this shim has open, and who has those pids. The files lie in the containers' folders
    /// beside the shim's own, which is its working directory (containerd: pkg/process, `<exec>.pid`).
    pub(super) fn execs_of(&mut self, shim: TaskKey, budget: &mut usize, now: BootTime) -> Vec<Observation> {
        let Some(folder) = self.proc.folder(shim.tgid) else { return Vec::new() };
        let Some(state) = folder.parent().and_then(|state| state.to_str()).map(str::to_owned) else {
            return Vec::new();
        };
        let mut execs: Vec<(String, String)> = self
            .proc
            .fifos(shim.tgid, budget)
            .into_iter()
            .filter_map(|(path, _)| parse_fifo_path(path.as_str()?))
            .filter(|fifo| fifo.exec != fifo.container)
            .map(|fifo| (fifo.container, fifo.exec))
            .collect();
        execs.sort_unstable();
        execs.dedup();
        if self.proc.key(shim.tgid) != Some(shim) {
            return Vec::new();
        }
        let mut facts = Vec::new();
        for (container, exec) in execs {
            let path = format!("{state}/{container}/{exec}.pid");
            let Some(pid) = self.in_roots(|root| root.pid_file(&path)) else { continue };
            if let Some((key, info)) = self.proc.describe(pid) {
                facts.push(process_seen(now, key, info));
            }
            let fact = Fact::PidFile { path: path.as_str().into(), pid: Some(pid) };
            facts.push(Observation::of(now, Source::Snapshot, shim, fact));
        }
        facts
    }
}
