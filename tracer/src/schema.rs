//! JSON Schema (draft 2020-12) of everything that `-o json` and `-o jsonl` print.

use schemars::{JsonSchema, Schema, generate::SchemaSettings};

use crate::{
    doctor,
    sink::{diagnosis, view},
};

/// JSON output of execpath, version 1. Fields may be added; readers should ignore unknown fields.
#[derive(JsonSchema)]
#[schemars(title = "execpath", untagged)]
#[expect(dead_code, clippy::large_enum_variant, reason = "a description: nothing is made of it")]
enum Printed<'a> {
    /// `trace`, `replay` and `demo` with `-o json`; `ls` and `show` with `-o json`: sessions.
    Sessions(Vec<view::Session<'a>>),
    /// `diagnose -o json`: verdicts.
    Verdicts(Vec<diagnosis::View<'a>>),
    /// `doctor -o json`: abilities of this host.
    Host(doctor::View<'a>),
    /// A line of `-o jsonl`.
    Line(Line<'a>),
}

/// A line of `-o jsonl`.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "a description: nothing is made of it")]
struct Line<'a> {
    /// Version of the output. Grows when a field changes its meaning or disappears.
    v: u32,
    #[schemars(flatten)]
    what: What<'a>,
}

/// Content of a line.
#[derive(JsonSchema)]
#[schemars(tag = "type")]
#[expect(dead_code, reason = "a description: nothing is made of it")]
enum What<'a> {
    /// First line: the traced host.
    #[schemars(rename = "host")]
    Host(view::Host<'a>),
    #[schemars(rename = "session.opened")]
    Opened(view::Change<'a>),
    #[schemars(rename = "session.changed")]
    Changed(view::Change<'a>),
    #[schemars(rename = "session.closed")]
    Closed(view::Change<'a>),
    /// A client's attempt that failed before it became a session; followed by `attempt.failed`.
    #[schemars(rename = "attempt.started")]
    AttemptStarted(view::Change<'a>),
    /// The end of that attempt, with the rung at which it failed.
    #[schemars(rename = "attempt.failed")]
    AttemptFailed(view::Change<'a>),
    /// One session, of `ls` and `show`.
    #[schemars(rename = "session")]
    Session(view::Change<'a>),
    #[schemars(rename = "loss")]
    Loss(view::Loss<'a>),
    /// The last line.
    #[schemars(rename = "end")]
    End(view::End<'a>),
}

/// The schema.
#[must_use]
pub fn schema() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<Printed<'_>>()
}
