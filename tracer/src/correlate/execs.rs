//! From the exec id to shim, runc and process.

use std::collections::{BTreeMap, BTreeSet};

use super::sockets::SocketNo;
use crate::model::{BootTime, ExitStatus, RawText, TaskKey};

/// The runtime's id of an exec, within its container.
pub(super) type ExecId = String;

/// What is known of one exec.
#[derive(Clone, Debug, Default)]
pub(super) struct Exec {
    pub(super) container: String,
    /// When its first FIFO was made.
    pub(super) since: BootTime,
    /// Who made the FIFOs.
    pub(super) runtime: Option<TaskKey>,
    /// The accepted connection that the FIFOs were made for; `None` for CRI ExecSync.
    pub(super) stream: Option<SocketNo>,
    pub(super) stream_ambiguous: bool,
    pub(super) stream_by_goroutine: bool,
    /// `stdin`, `stdout`, `stderr`.
    pub(super) streams: BTreeSet<&'static str>,
    pub(super) runc: Option<TaskKey>,
    pub(super) tty: Option<bool>,
    pub(super) pid_file: Option<RawText>,
    pub(super) pid_file_says: Option<u32>,
    pub(super) shim: Option<TaskKey>,
    /// The shim was seen to fork runc; else it is runc's parent, which after a reparenting may be another.
    pub(super) shim_forked: bool,
    pub(super) process: Option<TaskKey>,
    pub(super) command: Vec<RawText>,
    pub(super) command_truncated: bool,
    pub(super) exit: Option<(BootTime, ExitStatus)>,
    /// runc ended, and had not started anything.
    pub(super) start_failed: Option<BootTime>,
    /// The leg to another host's kubelet, where that is all this host sees of it; then there is no exec id either.
    pub(super) leaves_by: Option<SocketNo>,
    /// Its session was told to be closed: what comes later does not open it again.
    pub(super) over: bool,
}

#[derive(Default)]
pub(super) struct Execs {
    all: BTreeMap<ExecId, Exec>,
    by_runc: BTreeMap<TaskKey, ExecId>,
    by_process: BTreeMap<TaskKey, ExecId>,
    by_pid_file: BTreeMap<RawText, ExecId>,
    /// Who claimed a stream first.
    by_stream: BTreeMap<SocketNo, ExecId>,
}

impl Execs {
    pub(super) fn get(&self, id: &str) -> Option<&Exec> {
        self.all.get(id)
    }

    /// The exec, made where it is new. `None` where the id is already that of another container.
    pub(super) fn entry(&mut self, id: &str, container: &str, at: BootTime) -> Option<&mut Exec> {
        let exec = self.all.entry(id.to_owned()).or_insert_with(|| Exec {
            container: container.to_owned(),
            since: at,
            ..Exec::default()
        });
        (exec.container == container).then_some(exec)
    }

    pub(super) fn by_runc(&self, runc: TaskKey) -> Option<&ExecId> {
        self.by_runc.get(&runc)
    }

    pub(super) fn by_process(&self, process: TaskKey) -> Option<&ExecId> {
        self.by_process.get(&process)
    }

    pub(super) fn by_pid_file(&self, path: &RawText) -> Option<&ExecId> {
        self.by_pid_file.get(path)
    }

    pub(super) fn set_runc(&mut self, id: &str, runc: TaskKey, shim: Option<TaskKey>, pid_file: Option<&RawText>) {
        let Some(exec) = self.all.get_mut(id) else { return };
        exec.runc = Some(runc);
        exec.shim = shim;
        exec.pid_file = pid_file.cloned();
        self.by_runc.insert(runc, id.to_owned());
        if let Some(path) = pid_file {
            self.by_pid_file.insert(path.clone(), id.to_owned());
        }
    }

    /// Whether that connection is this exec's: a runtime's streaming connection carries one exec, that which made its FIFOs
    /// first. A goroutine that ended leaves its `g` to others, and with it the memory of a connection that is still open.
    pub(super) fn claim_stream(&mut self, id: &str, stream: SocketNo) -> bool {
        self.by_stream.entry(stream).or_insert_with(|| id.to_owned()) == id
    }

    pub(super) fn set_process(&mut self, id: &str, process: TaskKey) -> Option<&mut Exec> {
        let exec = self.all.get_mut(id)?;
        // `exec` within the shell is the same process; a second process below the same runc is none of ours.
        if exec.process.is_some() {
            return None;
        }
        exec.process = Some(process);
        self.by_process.insert(process, id.to_owned());
        Some(exec)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Exec> {
        self.all.get_mut(id)
    }

    /// That connection is gone. It outlives its exec's session where a process was left running.
    pub(super) fn forget_stream(&mut self, stream: SocketNo) {
        self.by_stream.remove(&stream);
    }

    pub(super) fn forget(&mut self, id: &str) {
        let Some(exec) = self.all.remove(id) else { return };
        if let Some(runc) = exec.runc {
            self.by_runc.remove(&runc);
        }
        if let Some(process) = exec.process {
            self.by_process.remove(&process);
        }
        if let Some(path) = exec.pid_file {
            self.by_pid_file.remove(&path);
        }
        self.by_stream.retain(|_, claimed| claimed != id);
    }
}
