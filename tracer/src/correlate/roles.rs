//! Who is who: from listening sockets and acts, not from names.

use std::collections::BTreeSet;

use crate::model::{Places, Role};

/// What a process is that passes on what came in at `inbound_port`, or listens on `ports`.
pub(super) fn role_of(places: &Places, inbound_port: Option<u16>, ports: &BTreeSet<u16>) -> Role {
    let by_port = |port: u16| {
        if places.is_kubelet_port(port) {
            Some(Role::Kubelet)
        } else if places.is_apiserver_port(port) {
            Some(Role::ApiServer)
        } else {
            None
        }
    };
    match inbound_port {
        // A role belongs to the socket: in k3s one process is both.
        Some(port) => by_port(port).unwrap_or(Role::Proxy),
        None => ports.iter().find_map(|port| by_port(*port)).unwrap_or(Role::Client),
    }
}
