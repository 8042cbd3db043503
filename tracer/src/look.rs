//! A look at what is there now, for `ls`, `show` and `diagnose`: a snapshot without probes, put together by the same
//! correlator, and measured. Nothing is waited for but the audit log: no records of the kernel are read, which come out of
//! order.
#![expect(clippy::disallowed_methods, reason = "edge: what the audit log has is known a moment after it was asked")]

use std::thread;

use crate::{
    correlate::{self, Correlator},
    engine::{Filter, Seen, to_measure},
    live::{self, LiveError, NetNs},
    model::{Degraded, Depth, Observation, Source},
    probe_host,
    redact::Redactor,
    sink,
    source::{
        audit::AuditLog,
        snapshot::{self, Snapshot},
    },
};

/// An answer raises the next question: who has the other end, what that process is. A path has some ten hops.
const MAX_ROUNDS: usize = 16;

/// CAP_SYS_PTRACE (include/uapi/linux/capability.h): to read the descriptors of others' processes.
const SEE_OTHERS: u64 = 1 << 19;

/// What to look at.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Which sessions.
    pub filter: Filter,
    /// What to take out of arguments.
    pub redactor: Redactor,
    /// What changes what is found.
    pub options: correlate::Options,
    /// Which network namespace.
    pub netns: Option<NetNs>,
    /// Leave the memory of daemons alone.
    pub no_memory: bool,
}

/// Looks, and goes on looking at the same.
pub struct Looker {
    header: sink::Header,
    correlator: Correlator,
    snapshot: Snapshot,
    filter: Filter,
    redactor: Redactor,
}

impl Looker {
    /// Looks at what is there.
    ///
    /// # Errors
    /// When other users' processes cannot be looked at, when the network namespace is not there, or when the audit log cannot be read.
    pub fn begin(look: Look, audit_log: Option<AuditLog>) -> Result<Self, LiveError> {
        let netns = match &look.netns {
            Some(netns) => Some(netns.inode().map_err(|error| LiveError::NetNs(netns.clone(), error))?),
            None => None,
        };
        let anchor = live::anchor();
        let host = probe_host::names();
        // The daemons of the path are other users' processes: without them every answer would be an empty one.
        if host.capabilities & SEE_OTHERS == 0 {
            return Err(LiveError::Host(blind()));
        }
        let correlator = Correlator::new(&host, &look.options);
        let snapshot = Snapshot::new(snapshot::Options {
            netns,
            places: look.options.places(),
            no_memory: look.no_memory,
            of_one_moment: true,
            ..snapshot::Options::default()
        });
        let header = sink::Header { anchor, host, ..sink::Header::default() };
        let mut looker = Self { header, correlator, snapshot, filter: look.filter, redactor: look.redactor };
        let facts = looker.snapshot.take(live::now());
        looker.take(facts);
        if let Some(mut log) = audit_log {
            // What sessions were asked for is compared when they are known.
            let told = log.begin(live::now(), anchor)?;
            let at = live::now();
            looker.take(told.into_iter().map(|fact| Observation::new(at, Source::Snapshot, fact)).collect());
            looker.settle();
            thread::sleep(live::AUDIT_TAKEN_IN);
        }
        looker.settle();
        looker.header.degraded = looker.snapshot.degraded();
        Ok(looker)
    }

    /// Measures what was found: for a list briefly, for a diagnosis whole, and then all that belongs to no session, too.
    pub fn measure(&mut self, depth: Depth) {
        let scope = to_measure(&self.correlator.report(), depth, &self.filter);
        let facts = self.snapshot.measure(&scope, live::now());
        self.take(facts);
        self.settle();
    }

    /// What is known now.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen::of(self.header.clone(), self.correlator.report(), &self.filter)
    }

    fn take(&mut self, facts: Vec<Observation>) {
        for mut seen in facts {
            self.redactor.redact(&mut seen);
            self.correlator.ingest(seen);
        }
    }

    /// Has the correlator take in what it was told, and answers its questions.
    fn settle(&mut self) {
        for _ in 0..MAX_ROUNDS {
            self.correlator.settle(live::now());
            let wants = self.correlator.wants();
            if wants.is_empty() {
                break;
            }
            let facts = self.snapshot.answers(&wants, live::now());
            self.take(facts);
        }
        // Findings are for those who watch.
        drop(self.correlator.drain());
    }
}

/// What is said where other users' processes cannot be looked at.
fn blind() -> Degraded {
    Degraded {
        code: Degraded::NO_PRIVILEGE.to_owned(),
        text: "CAP_SYS_PTRACE is missing: the daemons on the path cannot be looked at".to_owned(),
        hint: "run it with sudo; `--from FILE` reads a recording without it".to_owned(),
        fatal: true,
    }
}
