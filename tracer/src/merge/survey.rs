//! Properties of recordings that are needed before they can be merged.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::clocks::Crossing;
use crate::model::{BootTime, Fact, Isn, Observation, SocketInfo, Tuple};

/// Maximum of connections per recording for comparing clocks: a few would do.
const MAX_ENDS: usize = 100_000;
/// Maximum of addresses per host.
const MAX_ADDRESSES: usize = 10_000;

/// Key shared by both ends of a connection, from the view of the accepting end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Common {
    /// Initial sequence numbers: address translation between hosts does not change them.
    Isn(Isn),
    /// Addresses, in recordings without sequence numbers.
    Tuple(Tuple),
}

impl Common {
    /// Key of a socket; `None` for connections that do not leave the host.
    fn of(socket: &SocketInfo, connected: bool) -> Option<Self> {
        let tuple = socket.tuple.filter(|tuple| !tuple.is_loopback())?;
        Some(match (socket.isn, connected) {
            (Some(isn), true) => Self::Isn(isn.others()[0]),
            (Some(isn), false) => Self::Isn(isn),
            (None, true) => Self::Tuple(tuple.mirrored()),
            (None, false) => Self::Tuple(tuple),
        })
    }
}

/// Connections of one recording's host.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Times of connect(2) by key; `None` for a key of several ends.
    connected: BTreeMap<Common, Option<BootTime>>,
    accepted: BTreeMap<Common, Option<BootTime>>,
    addresses: BTreeSet<IpAddr>,
}

impl Survey {
    pub(super) fn take(&mut self, seen: &Observation) {
        if let Fact::Connected { socket, .. } = &seen.fact {
            note(&mut self.connected, Common::of(socket, true), seen.at);
        }
        if let Fact::Accepted { socket } = &seen.fact {
            note(&mut self.accepted, Common::of(socket, false), seen.at);
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

    /// True if a connection of this host uses that local address.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
    }
}

fn note(ends: &mut BTreeMap<Common, Option<BootTime>>, common: Option<Common>, at: BootTime) {
    let Some(common) = common else { return };
    if let Some(end) = ends.get_mut(&common) {
        *end = None;
    } else if ends.len() < MAX_ENDS {
        ends.insert(common, Some(at));
    }
}

/// Connections between different kernels. `kernels` gives the kernel of each recording.
pub(super) fn crossings(surveys: &[Survey], kernels: &[usize]) -> Vec<Crossing> {
    let mut found = Vec::new();
    let recordings = || surveys.iter().zip(kernels.iter().copied());
    for (one, from) in recordings() {
        for (common, connected) in &one.connected {
            let Some(connected) = connected else { continue };
            let accepted = |(other, to): (&Survey, usize)| Some((to, (*other.accepted.get(common)?)?));
            let mut all = recordings().filter_map(accepted);
            if let (Some(to), None) = (all.next(), all.next())
                && to.0 != from
            {
                found.push(Crossing { from: (from, *connected), to });
            }
        }
    }
    found
}
