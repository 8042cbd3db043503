//! Hops of the JSON contract.

use schemars::JsonSchema;
use serde::Serialize;

use super::time::moment;
use crate::{
    model::{self, BootTime, Measures, RawText},
    sink::Header,
};

/// Missing arguments are unknown: every process has at least one.
pub(super) fn known(words: &[RawText]) -> Option<&[RawText]> {
    Some(words).filter(|words| !words.is_empty())
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Hop<'a> {
    role: &'static str,
    pid: u32,
    started_at: String,
    comm: Option<&'a RawText>,
    exe: Option<&'a RawText>,
    argv: Option<&'a [RawText]>,
    argv_truncated: bool,
    uid: Option<u32>,
    netns: Option<u32>,
    host: Option<&'a str>,
    state: Option<char>,
}

impl<'a> Hop<'a> {
    pub(super) fn new(hop: &'a model::Hop, header: &'a Header, measures: &Measures) -> Self {
        Self {
            role: hop.role.token(),
            pid: hop.task.tgid,
            started_at: moment(header.anchor, BootTime(hop.task.start_ns())),
            comm: Some(&hop.process.comm).filter(|comm| !comm.is_empty()),
            exe: hop.process.exe.as_ref(),
            argv: known(&hop.process.argv),
            argv_truncated: hop.process.argv_truncated,
            uid: hop.process.uid,
            netns: hop.process.netns,
            host: header.name(hop.task.host),
            state: measures.process(hop.task).map(|series| series.last.state),
        }
    }
}
