//! Observation without privileges: repeated looks at the processes of this user, which include the command.
#![expect(clippy::disallowed_methods, reason = "edge: looks again after a pause")]

use std::{sync::PoisonError, thread, time::Duration};

use super::message::Shared;
use crate::{
    escape,
    inspect::{InspectOptions, Inspector},
    model::{Depth, Role, Session},
    sink::phrases::{NAME, TEXT},
};

/// Time between two looks. A look reads the descriptors of this user's processes.
const EVERY: Duration = Duration::from_secs(1);
/// Time between two checks for the end of the command.
const CHECK_EVERY: Duration = Duration::from_millis(20);

/// What was seen.
pub(super) struct Glimpses {
    /// What can be reported about the cause, in one line, escaped for a terminal.
    pub(super) cause: String,
}

/// Looks until the command has ended. `why` is the reason for which nothing can be traced.
pub(super) fn look(options: &InspectOptions, received: &Shared, why: &str) -> Glimpses {
    let mut last = None;
    let mut pause = Duration::ZERO;
    loop {
        let now = *received.lock().unwrap_or_else(PoisonError::into_inner);
        if now.ended.is_some() || std::sync::Arc::strong_count(received) == 1 {
            break;
        }
        if let (Some((pid, _)), true) = (now.started, pause.is_zero()) {
            last = session(options, pid).or(last);
            pause = EVERY;
        }
        thread::sleep(CHECK_EVERY);
        pause = pause.saturating_sub(CHECK_EVERY);
    }
    let seen = last.map_or_else(|| "no connection of the client was seen".to_owned(), |session| connection(&session));
    Glimpses { cause: format!("no cause found: {}; {seen}", escape::str(why, TEXT)) }
}

/// The session of the client with this pid, if there is one now.
fn session(options: &InspectOptions, pid: u32) -> Option<Session> {
    let mut looker = Inspector::begin(InspectOptions { own_only: true, ..options.clone() }, None).ok()?;
    looker.measure(Depth::Brief);
    let sessions = looker.status().report.sessions;
    sessions
        .into_iter()
        .find(|session| session.hops.first().is_some_and(|hop| hop.role == Role::Client && hop.task.tgid == pid))
}

fn connection(session: &Session) -> String {
    let to = session.links.iter().find_map(|link| link.tcp).map(|ends| ends.tuple.remote);
    let to = to.or_else(|| session.beyond.first().map(|(_, address)| *address));
    match to {
        Some(address) => format!("the client was connected to {address}"),
        None => format!("the client was seen as {}", escape::str(&session.id.0, NAME)),
    }
}
