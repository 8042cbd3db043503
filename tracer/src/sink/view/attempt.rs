//! Attempts in JSON.

use std::{io, net::SocketAddr, sync::Arc};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    piece::{Piece, renew},
    time::moment,
};
use crate::{
    model::{self, BootTime, ProcessInfo, RungSeen, Waterfall},
    sink::{Header, json},
};

/// How far a client's request came.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Attempt<'a> {
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
    #[schemars(with = "Vec<Rung>")]
    rungs: Vec<Piece<'a, Rung>>,
    /// Where the start took its time; absent if fewer than two rungs have a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    start: Option<Start<'a>>,
}

/// The start of a session, in parts that follow each other.
#[derive(Debug, Serialize, JsonSchema)]
struct Start<'a> {
    /// Nanoseconds from the first to the last rung with a usable time: the sum of `lasted_ns` of all parts.
    wall_ns: u64,
    #[schemars(with = "Vec<Part>")]
    parts: Vec<Piece<'a, Part>>,
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

impl Part {
    fn new(part: &model::Part, when: impl Fn(BootTime) -> String) -> Self {
        Self {
            from: part.from.token(),
            to: part.to.token(),
            at: when(part.begun),
            lasted_ns: part.lasted.0,
            unseen: part.unseen.iter().map(|rung| rung.token()).collect(),
        }
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

impl Rung {
    fn new(one: &RungSeen, when: impl Fn(BootTime) -> String) -> Self {
        Self {
            rung: one.rung.token(),
            state: one.state.token(),
            at: one.at.map(when),
            address: one.address,
            errno: one.errno,
        }
    }
}

impl<'a> Attempt<'a> {
    /// Builds the view; `None` for a session without an attempt. `when` formats a time.
    pub(super) fn new(session: &model::Session, when: impl Fn(BootTime) -> String) -> Option<Self> {
        let attempt = session.attempt.as_ref()?;
        let rungs = attempt.rungs.iter().map(|one| Piece::New(Rung::new(one, &when))).collect();
        let part = |part: &model::Part| Piece::New(Part::new(part, &when));
        let start = session.waterfall().map(|start| (start.wall(), start.parts.iter().map(part).collect()));
        Some(Self::of(attempt, when, rungs, start))
    }

    /// `start` is the time from the first to the last rung, and its parts.
    fn of(
        attempt: &model::Attempt,
        when: impl Fn(BootTime) -> String,
        rungs: Vec<Piece<'a, Rung>>,
        start: Option<(model::Span, Vec<Piece<'a, Part>>)>,
    ) -> Self {
        let failed = attempt.failed();
        Self {
            reached: attempt.reached().map(|one| one.rung.token()),
            failed_at: failed.map(|one| one.rung.token()),
            errno: failed.and_then(|one| one.errno),
            forward_failed: attempt.forward_failed.map(|one| ForwardFailed {
                at: when(one.at),
                address: one.address,
                errno: one.errno,
            }),
            rungs,
            start: start.map(|(wall, parts)| Start { wall_ns: wall.0, parts }),
        }
    }
}

/// The JSON of a session's attempt. It grows rung by rung while the session starts, and then stays the same.
#[derive(Default)]
pub(super) struct AttemptPieces {
    json: Option<Box<RawValue>>,
    /// The attempt in `json`.
    attempt: Box<model::Attempt>,
    rungs: Vec<(RungSeen, Box<RawValue>)>,
    parts: Vec<(model::Part, Box<RawValue>)>,
    /// Properties of the session, beside the attempt, on which the start depends: its first hop, and whether it has an exec id.
    first: Option<(Arc<ProcessInfo>, model::Role)>,
    has_exec_id: bool,
}

impl AttemptPieces {
    /// Updates the JSON.
    ///
    /// # Errors
    /// The attempt cannot be serialised.
    pub(super) fn update(&mut self, session: &model::Session, header: &Header) -> io::Result<()> {
        let Some(attempt) = &session.attempt else {
            *self = Self::default();
            return Ok(());
        };
        let first = session.hops.first().map(|hop| (&hop.process, hop.role));
        let has_same_first = match (&self.first, first) {
            (Some((old, old_role)), Some((new, role))) => Arc::ptr_eq(old, new) && *old_role == role,
            (old, new) => old.is_none() && new.is_none(),
        };
        let has_exec_id = session.exec_id.is_some();
        if self.json.is_some() && has_same_first && self.attempt == *attempt && self.has_exec_id == has_exec_id {
            return Ok(());
        }
        let when = |at| moment(header.anchor, at);
        let start = session.waterfall();
        renew(&mut self.rungs, &attempt.rungs, |one| Rung::new(one, when))?;
        let parts = start.as_ref().map_or(&[][..], |start| &start.parts);
        renew(&mut self.parts, parts, |part| Part::new(part, when))?;
        self.json = Some(self.join(attempt, when, start.as_ref())?);
        self.attempt.clone_from(attempt);
        self.first = first.map(|(process, role)| (Arc::clone(process), role));
        self.has_exec_id = has_exec_id;
        Ok(())
    }

    fn join(
        &self,
        attempt: &model::Attempt,
        when: impl Fn(BootTime) -> String,
        start: Option<&Waterfall>,
    ) -> io::Result<Box<RawValue>> {
        let rungs = self.rungs.iter().map(|(_, json)| Piece::Same(json)).collect();
        let parts = || self.parts.iter().map(|(_, json)| Piece::Same(json)).collect();
        json::part(&Attempt::of(attempt, when, rungs, start.map(|start| (start.wall(), parts()))))
    }

    /// The JSON; `None` for a session without an attempt.
    pub(super) fn json(&self) -> Option<&RawValue> {
        self.json.as_deref()
    }
}
