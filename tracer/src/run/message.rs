//! Messages between front and observer: one JSON value a line, on the observer's stdin and stdout.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};

use super::child::Status;
use crate::model::BootTime;

/// Environment variable that makes `execpath run` the observer of a front. The value is not used.
pub const OBSERVER: &str = "EXECPATH_RUN_OBSERVER";

/// From the front to the observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ToObserver {
    /// The command has started with this pid.
    Started(u32),
    /// The command has ended, and the front waits for an [`Answer`].
    Ended(Status),
}

/// From the observer to the front.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ToFront {
    /// Events of the command are observed from now on, or cannot be observed.
    Ready,
    /// The reply to [`ToObserver::Ended`].
    Answer(Answer),
}

/// The cause of a failure, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// The cause in one line, escaped for a terminal.
    pub(super) cause: String,
    /// Set if the command of the session had not ended when the client reported success.
    pub(super) lie: bool,
    /// Reason for a missing recording.
    pub(super) not_recorded: Option<String>,
    /// Set if the recording was written.
    pub(super) recorded: bool,
}

/// Writes one message.
pub(super) fn send(out: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    out.write_all(&line)?;
    out.flush()
}

/// The messages of the front so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// Pid of the command, and the time at which the observer received it.
    pub(super) started: Option<(u32, BootTime)>,
    /// End of the command.
    pub(super) ended: Option<Status>,
}

/// The messages of the front, shared with the thread that reads them.
pub(super) type Shared = Arc<Mutex<Told>>;
