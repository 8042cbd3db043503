//! Exit statuses of the JSON contract.

use schemars::JsonSchema;
use serde::Serialize;

use crate::model;

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Exit {
    code: Option<u8>,
    signal: Option<u8>,
    reason: &'static str,
}

impl Exit {
    pub(super) fn new(exit: model::SessionExit) -> Self {
        Self { code: exit.code, signal: exit.signal, reason: exit.reason.token() }
    }
}
