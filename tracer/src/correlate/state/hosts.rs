//! Whose ids are whose: of one host, or of those of a merged recording.

use sha2::{Digest, Sha256};

use crate::model::{HostFacts, HostNo, SessionId, TaskKey};

/// What names are made of: hosts by their numbers.
pub(in crate::correlate) struct Hosts(Vec<Host>);

struct Host {
    boot_id: String,
    /// Of [`HostFacts::ticks_added`].
    ticks: u64,
}

impl Hosts {
    pub(in crate::correlate) fn new(first: &HostFacts) -> Self {
        let mut hosts = Self(Vec::new());
        hosts.add(std::slice::from_ref(first));
        hosts
    }

    pub(in crate::correlate) fn add(&mut self, others: &[HostFacts]) {
        self.0.extend(others.iter().map(|one| Host { boot_id: one.boot_id.clone(), ticks: one.ticks_added }));
    }

    fn get(&self, host: HostNo) -> Option<&Host> {
        self.0.get(usize::from(host.0))
    }

    /// What the session of an exec is called: the same in every command and on every run. Boot id and exec id, hashed and cut to ten
    /// digits (2^40: among a million sessions of one boot, two share an id with a chance of a third; a prefix is enough to name one).
    pub(in crate::correlate) fn session(&self, host: HostNo, exec: &str) -> SessionId {
        let (host, identity) = HostNo::of_name(exec).unwrap_or((host, exec));
        let boot_id = self.get(host).map_or("", |host| &host.boot_id);
        let digest = Sha256::digest(format!("{boot_id}/{identity}"));
        let hex: String = digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect();
        SessionId(format!("s-{hex}").into())
    }

    /// A name that is made of a process's: that which its own host alone would give, but for the number of the host.
    pub(in crate::correlate) fn name(&self, what: &str, task: TaskKey) -> String {
        let ticks = task.start_ticks.wrapping_sub(self.get(task.host).map_or(0, |host| host.ticks));
        task.host.name(format!("{what}-{}-{ticks}", task.tgid))
    }
}
