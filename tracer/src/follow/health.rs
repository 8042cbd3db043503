//! State of the hosts that are followed.

use std::collections::{BTreeMap, BTreeSet};

use super::pace::Lag;

/// State of all hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Hosts that are merged, by name.
    pub hosts: BTreeMap<String, Lag>,
    /// Hosts of which nothing can be read now.
    pub unreadable: BTreeSet<String>,
    /// Messages of each host that memory did not allow for. The merge that goes on has had them; the next one begins without.
    pub discarded: BTreeMap<String, u64>,
    /// Why the stream cannot be read now.
    pub trouble: Option<String>,
}
