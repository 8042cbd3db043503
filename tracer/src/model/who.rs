//! Who is behind a session, as its own host knows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{RawText, TaskKey};

/// A process above another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Which process.
    pub task: TaskKey,
    /// `comm`
    pub comm: RawText,
    /// User id in the initial user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
}

/// Where a process comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestry {
    /// Its parent first, up to where somebody logged in or a service began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<Ancestor>,
    /// Names of its user, its login user, and its parents' users, where this host has them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub names: BTreeMap<u32, String>,
}
