//! Role of a process, derived from listening sockets and acts, never from names.

use std::collections::BTreeSet;

use crate::model::{Endpoints, Role};

/// Facts about a process on the path to a runtime.
pub(in crate::correlate) struct RoleFacts<'a> {
    /// Local port of the connection that it passes on; `None` if it began the outbound connection, or the
    /// inbound one is unknown.
    pub(in crate::correlate) inbound_port: Option<u16>,
    /// Set when the process is its own peer on the inbound connection.
    pub(in crate::correlate) from_itself: bool,
    /// Its listening ports.
    pub(in crate::correlate) ports: &'a BTreeSet<u16>,
    /// Set when its user and user namespace allow it to be an API server.
    pub(in crate::correlate) may_be_apiserver: bool,
    /// Set when its user and user namespace allow it to be a kubelet.
    pub(in crate::correlate) may_be_kubelet: bool,
    /// Set when it listens on a runtime's socket, or serves a kubelet with a connection of its own to a runtime.
    pub(in crate::correlate) is_runtime: bool,
    /// Remote port of its outbound connection.
    pub(in crate::correlate) dialled_port: Option<u16>,
}

/// Role of a process with these facts.
pub(in crate::correlate) fn role_of(endpoints: &Endpoints, facts: &RoleFacts<'_>) -> Role {
    let by_port = |port: u16| {
        if endpoints.is_kubelet_port(port) {
            Some(Role::Kubelet)
        } else if endpoints.is_apiserver_port(port) {
            Some(Role::ApiServer)
        } else {
            None
        }
    };
    // Role by a port of its own.
    let own = |port: u16| {
        by_port(port).filter(|role| if *role == Role::Kubelet { facts.may_be_kubelet } else { facts.may_be_apiserver })
    };
    let listens_as = |role: Role| facts.ports.iter().any(|port| own(*port) == Some(role));
    let dials = facts.dialled_port.and_then(by_port);
    // One process may be both kubelet and API server (k3s, MicroShift). Kubelets dial runtimes. API servers dial
    // kubelets, and through a tunnel themselves.
    let listens = || {
        let likely = if dials.is_some() { [Role::ApiServer, Role::Kubelet] } else { [Role::Kubelet, Role::ApiServer] };
        likely.into_iter().find(|role| listens_as(*role))
    };
    match facts.inbound_port {
        // The role belongs to the socket: in k3s one process is both.
        Some(port) => match own(port) {
            Some(role) => role,
            // cri-dockerd, between kubelet and dockerd.
            None if facts.is_runtime => Role::Runtime,
            // dockershim: the kubelet streams to a server of its own.
            None if facts.from_itself && listens_as(Role::Kubelet) => Role::Kubelet,
            None => Role::Proxy,
        },
        None => match listens() {
            // Clients connect to API servers. A connection to a kubelet comes from an API server, or through a
            // tunnel (k3s: to its own kubelet).
            Some(Role::Kubelet) if dials == Some(Role::Kubelet) => Role::Proxy,
            Some(role) => role,
            None if facts.is_runtime => Role::Runtime,
            None if dials == Some(Role::Kubelet) => Role::Proxy,
            None => Role::Client,
        },
    }
}
