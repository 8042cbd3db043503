//! Everything the correlator knows, before it is put together into sessions.

use std::collections::BTreeMap;

use super::{
    execs::{ExecId, Execs},
    joins::{Joins, Verdict},
    processes::Processes,
    sockets::{SocketNo, Sockets},
};
use crate::model::{BootTime, ContainerInfo, Places, RawText, SocketId, TaskKey};

pub(super) struct World {
    pub(super) boot_id: String,
    pub(super) places: Places,
    pub(super) processes: Processes,
    pub(super) sockets: Sockets,
    pub(super) joins: Joins,
    pub(super) execs: Execs,
    /// Standing unix connections (CRI, ttrpc) by connecting and accepting process. Sessions share them.
    pub(super) standing: BTreeMap<(TaskKey, TaskKey), Standing>,
    /// `None`: asked for, and not known.
    pub(super) containers: BTreeMap<String, Option<ContainerInfo>>,
    /// When records were lost last.
    pub(super) last_loss: Option<BootTime>,
}

impl World {
    /// Whether who listens there starts containers: what it forks is then followed.
    pub(super) fn is_daemon_socket(&self, path: &RawText) -> bool {
        self.places.is_runtime_socket(path) || self.places.is_shim_socket(path)
    }

    /// The inbound connection that belongs to an outbound one of the same process.
    pub(super) fn inbound_of(&self, outbound: SocketNo) -> Verdict {
        let owner = self.sockets.get(outbound).and_then(|socket| socket.owner);
        self.joins.inbound_of(outbound, &self.sockets, owner.is_some_and(|owner| self.processes.is_go(owner)))
    }
}

/// A unix connection between two daemons.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) path: RawText,
    pub(super) near: SocketId,
    pub(super) far: SocketId,
}

/// Something that a session was put together from: when it changes, the session is put together again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Task(TaskKey),
    Socket(SocketNo),
    Exec(ExecId),
    Container(String),
}
