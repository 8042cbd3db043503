//! Everything the correlator knows, before it is put together into sessions.

use std::collections::BTreeMap;

use super::{
    execs::{ExecId, Execs},
    joins::Joins,
    processes::Processes,
    roles::Roles,
    sockets::{SocketNo, Sockets},
};
use crate::model::{BootTime, ContainerInfo, TaskKey};

pub(super) struct World {
    pub(super) boot_id: String,
    pub(super) roles: Roles,
    pub(super) processes: Processes,
    pub(super) sockets: Sockets,
    pub(super) joins: Joins,
    pub(super) execs: Execs,
    /// `None`: asked for, and not known.
    pub(super) containers: BTreeMap<String, Option<ContainerInfo>>,
    /// When records were lost last.
    pub(super) last_loss: Option<BootTime>,
}

/// Something that a session was put together from: when it changes, the session is put together again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Task(TaskKey),
    Socket(SocketNo),
    Exec(ExecId),
    Container(String),
}
