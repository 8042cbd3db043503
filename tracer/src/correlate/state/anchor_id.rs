//! Identity of an anchor: the thing that a session is put together from.

use std::{cmp::Ordering, fmt, hash, sync::Arc};

use super::{hosts::Hosts, sockets::SocketIdx};
use crate::model::{HostNo, SessionId, TaskKey};

/// Identity of an anchor. Clones share one allocation. Keys of different kinds are never equal, also where their names are: a user may
/// call an exec `stream-31266`.
///
/// The order is that of the names, so that sessions which change in the same millisecond are reported in a stable order.
#[derive(Clone, Debug)]
pub(in crate::correlate) struct AnchorId(Arc<Named>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Named {
    name: Box<str>,
    key: AnchorKey,
}

/// What makes an anchor unique, beside its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::correlate) enum AnchorKey {
    /// An exec, by the exec id that the runtime's client chose; that id is the name. It is unique within a container while the exec
    /// lasts (containerd: `task.Exec`).
    Exec {
        /// Host of the container.
        host: HostNo,
        /// Container id.
        container: Arc<str>,
        /// Number of the exec among those that were seen: the id may be used again.
        number: u64,
        /// An earlier exec had this id in this container.
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
    /// A container whose start was seen.
    Container(HostNo),
}

impl AnchorId {
    fn new(name: String, key: AnchorKey) -> Self {
        Self(Arc::new(Named { name: name.into(), key }))
    }

    pub(in crate::correlate) fn exec(exec: &str, key: AnchorKey) -> Self {
        Self::new(exec.to_owned(), key)
    }

    pub(in crate::correlate) fn runc(hosts: &Hosts, task: TaskKey) -> Self {
        Self::new(hosts.name("runc", task), AnchorKey::Runc(task))
    }

    /// `number`: cookie or inode of the socket.
    pub(in crate::correlate) fn stream(host: HostNo, number: u64, idx: SocketIdx) -> Self {
        Self::new(host.name(format!("stream-{number}")), AnchorKey::Stream(idx))
    }

    pub(in crate::correlate) fn leg(host: HostNo, cookie: u64, idx: SocketIdx) -> Self {
        Self::new(host.name(format!("leg-{cookie}")), AnchorKey::Leg(idx))
    }

    pub(in crate::correlate) fn kubectl(hosts: &Hosts, task: TaskKey) -> Self {
        Self::new(hosts.name("kubectl", task), AnchorKey::Kubectl(task))
    }

    pub(in crate::correlate) fn container(host: HostNo, container: &str) -> Self {
        Self::new(format!("container:{container}"), AnchorKey::Container(host))
    }

    pub(in crate::correlate) fn key(&self) -> &AnchorKey {
        &self.0.key
    }

    /// The id as text. Several anchors may share it.
    pub(in crate::correlate) fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether the runtime's client made the id of random digits, as containerd's CRI plug-in, dockerd and nerdctl do (32 bytes of
    /// a random source): no other exec of any container has it.
    pub(in crate::correlate) fn is_random(&self) -> bool {
        let name = self.name();
        name.len() == RANDOM_DIGITS && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// Id of the session. Of an exec whose id a user chose, container and start of its process are a part of it: another exec may
    /// have the same id. Both are known to a tracer that saw the exec begin and to one that came later.
    pub(in crate::correlate) fn session(&self, hosts: &Hosts, host: HostNo, start: Option<TaskKey>) -> SessionId {
        let AnchorKey::Exec { container, .. } = self.key() else { return hosts.session(host, self.name()) };
        let Some(start) = start else { return hosts.session(host, &format!("{container}/{}", self.name())) };
        hosts.session(host, &format!("{container}/{}", hosts.name(self.name(), start)))
    }

    /// The same of an exec with a random id, which alone says which exec it is.
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
