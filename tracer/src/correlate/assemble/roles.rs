//! Who is who: from listening sockets and acts, not from names.

use std::collections::BTreeSet;

use crate::model::{Places, Role};

/// What was seen of a process on the way to a runtime.
pub(in crate::correlate) struct Seen<'a> {
    /// Local port of the connection that it passes on; `None` where it began the outbound one, or that is not known.
    pub(in crate::correlate) inbound_port: Option<u16>,
    /// It connected to itself there.
    pub(in crate::correlate) from_itself: bool,
    /// Ports on which it listens.
    pub(in crate::correlate) ports: &'a BTreeSet<u16>,
    /// It may be the API server, or a kubelet, by whose process it is.
    pub(in crate::correlate) may_be_apiserver: bool,
    pub(in crate::correlate) may_be_kubelet: bool,
    /// It listens on a runtime's socket, or serves a kubelet's connection by one of its own to a runtime.
    pub(in crate::correlate) is_runtime: bool,
    /// Where its outbound connection goes.
    pub(in crate::correlate) dialled_port: Option<u16>,
}

/// What that process is.
pub(in crate::correlate) fn role_of(places: &Places, seen: &Seen<'_>) -> Role {
    let by_port = |port: u16| {
        if places.is_kubelet_port(port) {
            Some(Role::Kubelet)
        } else if places.is_apiserver_port(port) {
            Some(Role::ApiServer)
        } else {
            None
        }
    };
    // Where it listens itself.
    let own = |port: u16| {
        by_port(port).filter(|role| if *role == Role::Kubelet { seen.may_be_kubelet } else { seen.may_be_apiserver })
    };
    let listens_as = |role: Role| seen.ports.iter().any(|port| own(*port) == Some(role));
    let dials = seen.dialled_port.and_then(by_port);
    // One process may be both (k3s, MicroShift): kubelets dial runtimes, API servers dial kubelets and, by way of a tunnel,
    // themselves.
    let listens = || {
        let likely = if dials.is_some() { [Role::ApiServer, Role::Kubelet] } else { [Role::Kubelet, Role::ApiServer] };
        likely.into_iter().find(|role| listens_as(*role))
    };
    match seen.inbound_port {
        // A role belongs to the socket: in k3s one process is both.
        Some(port) => match own(port) {
            Some(role) => role,
            // cri-dockerd, between kubelet and dockerd.
            None if seen.is_runtime => Role::Runtime,
            // dockershim: the kubelet streams to a server of its own.
            None if seen.from_itself && listens_as(Role::Kubelet) => Role::Kubelet,
            None => Role::Proxy,
        },
        None => match listens() {
            // Clients talk to API servers: what comes to a kubelet comes from one, or through a tunnel (k3s: to its own).
            Some(Role::Kubelet) if dials == Some(Role::Kubelet) => Role::Proxy,
            Some(role) => role,
            None if seen.is_runtime => Role::Runtime,
            None if dials == Some(Role::Kubelet) => Role::Proxy,
            None => Role::Client,
        },
    }
}
