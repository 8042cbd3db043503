//! Identity of an anchor, the object that a session is built from.

use std::{cmp::Ordering, fmt, hash, sync::Arc};

use super::{hosts::Hosts, sockets::SocketIdx};
use crate::model::{HostNo, SessionId, TaskKey};

/// Identity of an anchor. Clones share one allocation.
///
/// Keys of different kinds are never equal, even with equal names: a user may call an exec `stream-31266`. The
/// order is that of the names, so that sessions with changes in the same millisecond are reported in a stable
/// order.
#[derive(Clone, Debug)]
pub(in crate::correlate) struct AnchorId(Arc<Named>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    name: Box<str>,
    key: AnchorKey,
}

/// Unique part of an anchor's identity, beside its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::correlate) enum AnchorKey {
    /// An exec with the exec id that the runtime's client chose. The exec id is the name. It is unique within a
    /// container while the exec lasts (containerd: `task.Exec`).
    Exec {
        /// Host of the container.
        host: HostNo,
        /// Id of the container.
        container: Arc<str>,
        /// Running number of the exec: an exec id may be reused.
        number: u64,
        /// Set when an earlier exec had this id in this container.
        again: bool,
    },
    /// The `runc exec` process of a runtime that gives no exec id.
    Runc(TaskKey),
    /// A connection to a streaming server.
    Stream(SocketIdx),
    /// A connection to the kubelet of another host.
    Leg(SocketIdx),
    /// A kubectl process.
    Kubectl(TaskKey),
    /// A container with an observed start, on this host.
    Container(HostNo),
}

impl AnchorId {
    fn new(name: String, key: AnchorKey) -> Self {
        Self(Arc::new(Named { name: name.into(), key }))
    }

    /// Id of an exec. `key` is an [`AnchorKey::Exec`].
    pub(in crate::correlate) fn exec(exec: &str, key: AnchorKey) -> Self {
        Self::new(exec.to_owned(), key)
    }

    /// Id of a `runc exec` without an exec id.
    pub(in crate::correlate) fn runc(hosts: &Hosts, task: TaskKey) -> Self {
        Self::new(hosts.name("runc", task), AnchorKey::Runc(task))
    }

    /// Id of a connection to a streaming server. `number` is the cookie or inode of the socket.
    pub(in crate::correlate) fn stream(host: HostNo, number: u64, idx: SocketIdx) -> Self {
        Self::new(host.name(format!("stream-{number}")), AnchorKey::Stream(idx))
    }

    /// Id of a connection to another host's kubelet.
    pub(in crate::correlate) fn leg(host: HostNo, cookie: u64, idx: SocketIdx) -> Self {
        Self::new(host.name(format!("leg-{cookie}")), AnchorKey::Leg(idx))
    }

    /// Id of a kubectl process.
    pub(in crate::correlate) fn kubectl(hosts: &Hosts, task: TaskKey) -> Self {
        Self::new(hosts.name("kubectl", task), AnchorKey::Kubectl(task))
    }

    /// Id of a container's start.
    pub(in crate::correlate) fn container(host: HostNo, container: &str) -> Self {
        Self::new(format!("container:{container}"), AnchorKey::Container(host))
    }

    pub(in crate::correlate) fn key(&self) -> &AnchorKey {
        &self.0.key
    }

    /// Name of the anchor. Several anchors may have the same name.
    pub(in crate::correlate) fn name(&self) -> &str {
        &self.0.name
    }

    /// True if the exec id consists of random digits, as containerd's CRI plug-in, dockerd and nerdctl choose it
    /// (32 random bytes). No other exec of any container has the same id.
    pub(in crate::correlate) fn is_random(&self) -> bool {
        let name = self.name();
        name.len() == RANDOM_DIGITS && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// Id of the session. If a user chose the exec id, the container and the start of the process are part of
    /// the session id: another exec may have the same exec id. Both facts are known to a tracer that saw the
    /// exec begin, and to one that came later.
    pub(in crate::correlate) fn session(&self, hosts: &Hosts, host: HostNo, start: Option<TaskKey>) -> SessionId {
        let AnchorKey::Exec { container, .. } = self.key() else { return hosts.session(host, self.name()) };
        let Some(start) = start else { return hosts.session(host, &format!("{container}/{}", self.name())) };
        hosts.session(host, &format!("{container}/{}", hosts.name(self.name(), start)))
    }

    /// Id of the session of an exec with a random id, which is unique by itself.
    pub(in crate::correlate) fn session_of_random(&self, hosts: &Hosts, host: HostNo) -> SessionId {
        hosts.session(host, self.name())
    }
}

/// Digits of an id of 32 random bytes.
const RANDOM_DIGITS: usize = 64;

impl PartialEq for AnchorId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for AnchorId {}

impl PartialOrd for AnchorId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for AnchorId {
    fn cmp(&self, other: &Self) -> Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl hash::Hash for AnchorId {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl fmt::Display for AnchorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
