//! Options that change findings.

use crate::model::{Endpoints, Pairing};

/// User options that change findings; part of a replay's input.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Options {
    /// TCP port of the API server, in addition to 6443.
    pub apiserver_port: Option<u16>,
    /// TCP port of the kubelet, in addition to 10250.
    pub kubelet_port: Option<u16>,
    /// Path of the runtime's socket, in addition to the well-known ones.
    pub runtime_socket: Option<String>,
    /// Rule that pairs the ends of connections. Recordings up to format 3 have a rule of their own.
    pub pairing: Pairing,
}

impl Options {
    /// Ports and socket paths of the path.
    #[must_use]
    pub fn endpoints(&self) -> Endpoints {
        Endpoints::new(self.apiserver_port, self.kubelet_port, self.runtime_socket.as_deref())
    }
}
