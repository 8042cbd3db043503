//! Who is who: from listening sockets and acts, not from names.

use std::collections::BTreeSet;

use crate::model::{Places, Role};

/// What was seen of a process on the way to a runtime.
pub(super) struct Seen<'a> {
    /// Local port of the connection that it passes on; `None` where it began the outbound one, or that is not known.
    pub(super) inbound_port: Option<u16>,
    /// It connected to itself there.
    pub(super) from_itself: bool,
    /// Ports on which it listens.
    pub(super) ports: &'a BTreeSet<u16>,
    /// It listens on a runtime's socket.
    pub(super) is_runtime: bool,
    /// Its outbound connection goes to a kubelet's port.
    pub(super) dials_kubelet: bool,
}

/// What that process is.
pub(super) fn role_of(places: &Places, seen: &Seen<'_>) -> Role {
    let by_port = |port: u16| {
        if places.is_kubelet_port(port) {
            Some(Role::Kubelet)
        } else if places.is_apiserver_port(port) {
            Some(Role::ApiServer)
        } else {
            None
        }
    };
    let listens = || seen.ports.iter().find_map(|port| by_port(*port));
    match seen.inbound_port {
        // A role belongs to the socket: in k3s one process is both.
        Some(port) => match by_port(port) {
            Some(role) => role,
            // cri-dockerd, between kubelet and dockerd.
            None if seen.is_runtime => Role::Runtime,
            // dockershim: the kubelet streams to a server of its own.
            None if seen.from_itself && listens() == Some(Role::Kubelet) => Role::Kubelet,
            None => Role::Proxy,
        },
        None => match listens() {
            Some(role) => role,
            None if seen.is_runtime => Role::Runtime,
            // Clients talk to API servers: what comes to a kubelet comes from one, or through a tunnel.
            None if seen.dials_kubelet => Role::Proxy,
            None => Role::Client,
        },
    }
}
