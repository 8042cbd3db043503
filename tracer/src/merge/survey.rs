//! What has to be known of recordings before they can be put together.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::clocks::Crossing;
use crate::model::{BootTime, Fact, Observation, SocketInfo, Tuple};

/// Connections of one recording by which clocks are compared: a few would do.
const MAX_ENDS: usize = 100_000;
/// Addresses of a host.
const MAX_ADDRESSES: usize = 10_000;

/// What one recording tells of its host's connections.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// When that end came up; `None` where its addresses were used more than once.
    connected: BTreeMap<Tuple, Option<BootTime>>,
    accepted: BTreeMap<Tuple, Option<BootTime>>,
    addresses: BTreeSet<IpAddr>,
}

impl Survey {
    pub(super) fn take(&mut self, seen: &Observation) {
        if let Fact::Connected { socket, .. } = &seen.fact {
            note(&mut self.connected, socket, seen.at);
        }
        if let Fact::Accepted { socket } = &seen.fact {
            note(&mut self.accepted, socket, seen.at);
        }
        let (Fact::Connected { socket, .. } | Fact::Accepted { socket } | Fact::SocketSeen { socket }) = &seen.fact
        else {
            return;
        };
        let own = socket.tuple.map(|tuple| tuple.local.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
        if self.addresses.len() < MAX_ADDRESSES {
            self.addresses.extend(own);
        }
    }

    /// Whether that is an address of this host, as far as its connections tell.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }
}

fn note(ends: &mut BTreeMap<Tuple, Option<BootTime>>, socket: &SocketInfo, at: BootTime) {
    let Some(tuple) = socket.tuple.filter(|tuple| !tuple.is_loopback()) else { return };
    if let Some(end) = ends.get_mut(&tuple) {
        *end = None;
    } else if ends.len() < MAX_ENDS {
        ends.insert(tuple, Some(at));
    }
}

/// Connections that lead from one recording to another.
pub(super) fn crossings(surveys: &[Survey]) -> Vec<Crossing> {
    let mut found = Vec::new();
    for (from, one) in surveys.iter().enumerate() {
        for (tuple, connected) in &one.connected {
            let (Some(connected), false) = (connected, one.accepted.contains_key(&tuple.mirrored())) else { continue };
            let accepted = |(to, other): (usize, &Survey)| Some((to, (*other.accepted.get(&tuple.mirrored())?)?));
            let mut others = surveys.iter().enumerate().filter(|(to, _)| *to != from).filter_map(accepted);
            if let (Some(to), None) = (others.next(), others.next()) {
                found.push(Crossing { from: (from, *connected), to });
            }
        }
    }
    found
}
