//! Hosts of a recording, and the ids that are derived from their boot ids. A merged recording has several hosts.

use sha2::{Digest, Sha256};

use crate::model::{HostFacts, HostNo, SessionId, TaskKey};

/// Hosts by number.
pub(in crate::correlate) struct Hosts(Vec<Host>);

struct Host {
    boot_id: String,
    /// See [`HostFacts::ticks_added`].
    ticks: u64,
}

impl Hosts {
    pub(in crate::correlate) fn new(first: &HostFacts) -> Self {
        let mut hosts = Self(Vec::new());
        hosts.add(std::slice::from_ref(first));
        hosts
    }

    /// Appends hosts; their numbers follow those of the known ones.
    pub(in crate::correlate) fn add(&mut self, others: &[HostFacts]) {
        self.0.extend(others.iter().map(|one| Host { boot_id: one.boot_id.clone(), ticks: one.ticks_added }));
    }

    fn get(&self, host: HostNo) -> Option<&Host> {
        self.0.get(usize::from(host.0))
    }

    /// Id of an exec's session: the same in every command and on every run.
    ///
    /// The id is a hash of boot id and exec id, cut to ten hex digits (2^40). Among a million sessions of one
    /// boot, two have equal ids with a probability of one third. A unique prefix is enough to name a session.
    pub(in crate::correlate) fn session(&self, host: HostNo, exec: &str) -> SessionId {
        let (host, identity) = HostNo::of_name(exec).unwrap_or((host, exec));
        let boot_id = self.get(host).map_or("", |host| &host.boot_id);
        let digest = Sha256::digest(format!("{boot_id}/{identity}"));
        let hex: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
        SessionId(format!("s-{hex}").into())
    }

    /// Name derived from a process: the name that its own host alone would give, plus the host's number.
    pub(in crate::correlate) fn name(&self, what: &str, task: TaskKey) -> String {
        let ticks = task.start_ticks.wrapping_sub(self.get(task.host).map_or(0, |host| host.ticks));
        task.host.name(format!("{what}-{}-{ticks}", task.tgid))
    }
}
