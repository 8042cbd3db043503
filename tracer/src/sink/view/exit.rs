//! Exit statuses of the JSON contract.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{self, BootTime, RawText};

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Exit {
    code: Option<u8>,
    signal: Option<u8>,
    reason: &'static str,
    /// Sender of the signal that ended the process; absent if unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    killed_by: Option<KilledBy>,
}

/// Sender of a signal.
#[derive(Debug, Serialize, JsonSchema)]
struct KilledBy {
    /// `process`, `kernel` (the first process of the container ended) or `out-of-memory`.
    origin: &'static str,
    /// Process that ran when the signal was sent.
    pid: Option<u32>,
    /// Its name.
    comm: RawText,
    /// Its user.
    uid: Option<u32>,
    at: String,
    /// Time at which the runtime was asked to kill the container; null if it was not.
    container_stopped_at: Option<String>,
}

impl Exit {
    pub(super) fn new(exit: model::SessionExit) -> Self {
        Self { code: exit.code, signal: exit.signal, reason: exit.reason.token(), killed_by: None }
    }

    /// Exit of the command of a session. `when` formats a time.
    pub(super) fn of(session: &model::Session, when: impl Fn(BootTime) -> String) -> Option<Self> {
        let killed_by = session.killed.as_ref().map(|killed| KilledBy {
            origin: killed.signal.by.token(),
            pid: killed.signal.sender.map(|sender| sender.tgid),
            comm: killed.signal.comm.clone(),
            uid: killed.signal.uid,
            at: when(killed.at),
            container_stopped_at: killed.stopped.map(&when),
        });
        session.exit.map(|exit| Self { killed_by, ..Self::new(exit) })
    }
}
