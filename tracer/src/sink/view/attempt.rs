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
    /// Last connection to a pod's port that failed; absent if none did, or a later one to this port was established.
    #[serde(skip_serializing_if = "Option::is_none")]
    forward_failed: Option<ForwardFailed>,
    /// Rungs, in the order of the path.
    rungs: Vec<Rung>,
    /// Where the start took its time; absent if fewer than two rungs have a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Start>,
}

/// The start of a session, in parts that follow each other.
#[derive(Debug, Serialize, JsonSchema)]
struct Start {
    /// Nanoseconds from the first to the last rung with a usable time: the sum of `lasted_ns` of all parts.
    wall_ns: u64,
    parts: Vec<Part>,
}

/// The time between two rungs.
#[derive(Debug, Serialize, JsonSchema)]
struct Part {
    /// Rung at which the part begins.
    from: &'static str,
    /// Rung at which it ends.
    to: &'static str,
    /// Time of `from`.
    at: String,
    /// Nanoseconds from `from` to `to`.
    lasted_ns: u64,
    /// Rungs between the two whose times are not known: the part is divided among them and `to` in unknown shares.
    unseen: Vec<&'static str>,
}

impl Start {
    fn new(start: &model::Waterfall, when: impl Fn(BootTime) -> String) -> Self {
        let part = |part: &model::Part| Part {
            from: part.from.token(),
            to: part.to.token(),
            at: when(part.begun),
            lasted_ns: part.lasted.0,
            unseen: part.unseen.iter().map(|rung| rung.token()).collect(),
        };
        Self { wall_ns: start.wall().0, parts: start.parts.iter().map(part).collect() }
    }
}

/// A connection to a pod's port that the runtime could not establish.
#[derive(Debug, Serialize, JsonSchema)]
struct ForwardFailed {
    /// Time of the error.
    at: String,
    /// Address in the pod's network namespace.
    #[schemars(with = "String")]
    address: SocketAddr,
    /// Error number of connect(2).
    errno: Option<u32>,
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
    /// Builds the view; `None` for a session without an attempt. `when` formats a time.
    pub(super) fn new(session: &model::Session, when: impl Fn(BootTime) -> String) -> Option<Self> {
        let attempt = session.attempt.as_ref()?;
        let failed = attempt.failed();
        let rung = |one: &model::RungSeen| Rung {
            rung: one.rung.token(),
            state: one.state.token(),
            at: one.at.map(&when),
            address: one.address,
            errno: one.errno,
        };
        Some(Self {
            reached: attempt.reached().map(|one| one.rung.token()),
            failed_at: failed.map(|one| one.rung.token()),
            errno: failed.and_then(|one| one.errno),
            forward_failed: attempt.forward_failed.map(|one| ForwardFailed {
                at: when(one.at),
                address: one.address,
                errno: one.errno,
            }),
            rungs: attempt.rungs.iter().map(rung).collect(),
            start: session.waterfall().map(|start| Start::new(&start, &when)),
        })
    }
}
