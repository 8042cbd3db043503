//! Attempts in JSON.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{self, BootTime};

/// How far a client's request came.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Attempt {
    /// Last rung that was reached.
    reached: Option<&'static str>,
    /// First rung beyond it that failed, or is known not to have been begun; null if none is.
    failed_at: Option<&'static str>,
    /// Error number of connect(2) or execve(2) at that rung.
    errno: Option<u32>,
    /// Rungs, in the order of the path.
    rungs: Vec<Rung>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Rung {
    rung: &'static str,
    /// `reached`, `waiting`, `failed`, `absent` (known not to have been begun) or `unseen` (not to be seen here).
    state: &'static str,
    /// Time of the result; null if unknown.
    at: Option<String>,
    /// Address that was dialled.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    address: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<u32>,
}

impl Attempt {
    /// Builds the view. `when` formats a time.
    pub(super) fn new(attempt: &model::Attempt, when: impl Fn(BootTime) -> String) -> Self {
        let failed = attempt.failed();
        let rung = |one: &model::RungSeen| Rung {
            rung: one.rung.token(),
            state: one.state.token(),
            at: one.at.map(&when),
            address: one.address,
            errno: one.errno,
        };
        Self {
            reached: attempt.reached().map(|one| one.rung.token()),
            failed_at: failed.map(|one| one.rung.token()),
            errno: failed.and_then(|one| one.errno),
            rungs: attempt.rungs.iter().map(rung).collect(),
        }
    }
}
