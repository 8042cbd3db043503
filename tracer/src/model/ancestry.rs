//! Origin of a client's process, as known by its own host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RawText, TaskKey};

/// An ancestor of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Identity of the ancestor.
    pub task: TaskKey,
    /// `comm`
    pub comm: RawText,
    /// User id in the initial user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// Origin of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestry {
    /// Ancestors, parent first, up to a login or the start of a service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Ancestor>,
    /// Names of the process's user, its login user and its ancestors' users, as far as this host knows them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<u32, String>,
}
