//! Inspects the current state of the host for `ls`, `show` and `diagnose`: a snapshot without probes, correlated and measured.
//!
//! Nothing waits for a reordering window, because no records of the kernel are read. Only the audit log needs a short wait.
#![expect(clippy::disallowed_methods, reason = "edge: lines of the audit log are matched a moment after they are read")]

use std::thread;

use crate::{
    clock,
    correlate::{self, Correlator},
    engine::{Filter, Status, to_measure},
    live::{self, LiveError},
    model::{Degraded, Depth, Observation, Source},
    netns::NetNs,
    probe_host,
    redact::Redactor,
    sink,
    source::{
        audit::AuditLog,
        snapshot::{self, Snapshot},
    },
};

/// Rounds of questions and answers. An answer raises the next question, and a path has about ten hops.
const MAX_ROUNDS: usize = 16;

/// CAP_SYS_PTRACE (include/uapi/linux/capability.h): needed to read the descriptors of other users' processes.
const SYS_PTRACE: u64 = 1 << 19;

/// Options of an inspection.
#[derive(Clone, Debug, Default)]
pub struct InspectOptions {
    /// Sessions to show.
    pub filter: Filter,
    /// Secrets to take out of arguments.
    pub redactor: Redactor,
    /// Ports, sockets and pairing rules of the correlator.
    pub options: correlate::Options,
    /// Inspect one network namespace only; `None`: all.
    pub netns: Option<NetNs>,
    /// Do not read the memory of daemons.
    pub no_memory: bool,
    /// Inspect without privileges, for what this user's own processes show.
    pub own_only: bool,
}

/// An inspected host, whose sessions can be measured again and again.
pub struct Inspector {
    header: sink::Header,
    correlator: Correlator,
    snapshot: Snapshot,
    filter: Filter,
    redactor: Redactor,
}

impl Inspector {
    /// Takes a snapshot, and correlates it.
    ///
    /// # Errors
    /// When other users' processes may not be inspected, the network namespace does not exist, or the audit log cannot be read.
    pub fn begin(options: InspectOptions, audit_log: Option<AuditLog>) -> Result<Self, LiveError> {
        let netns = match &options.netns {
            Some(netns) => Some(netns.inode().map_err(|error| LiveError::NetNs(netns.clone(), error))?),
            None => None,
        };
        let anchor = clock::anchor();
        let host = probe_host::names();
        // The daemons of the path are other users' processes: without them every answer would be an empty one.
        if host.capabilities & SYS_PTRACE == 0 && !options.own_only {
            return Err(LiveError::Host(no_ptrace()));
        }
        let correlator = Correlator::new(&host, &options.options);
        let snapshot = Snapshot::new(snapshot::Options {
            netns,
            endpoints: options.options.endpoints(),
            no_memory: options.no_memory,
            of_one_moment: true,
            ..snapshot::Options::default()
        });
        let header = sink::Header { anchor, host, ..sink::Header::default() };
        let mut inspector = Self { header, correlator, snapshot, filter: options.filter, redactor: options.redactor };
        let facts = inspector.snapshot.take(clock::now());
        inspector.take(facts);
        if let Some(mut log) = audit_log {
            // The correlator compares requests with sessions after both are known.
            let logged = log.begin(clock::now(), anchor)?;
            let at = clock::now();
            inspector.take(logged.into_iter().map(|fact| Observation::new(at, Source::Snapshot, fact)).collect());
            inspector.settle();
            thread::sleep(live::AUDIT_TAKEN_IN);
        }
        inspector.settle();
        inspector.header.degraded = inspector.snapshot.degraded();
        Ok(inspector)
    }

    /// Measures the sessions found: briefly for a list; completely for a diagnosis, with everything that belongs to no session.
    pub fn measure(&mut self, depth: Depth) {
        let scope = to_measure(&self.correlator.report(), depth, &self.filter);
        let facts = self.snapshot.measure(&scope, clock::now());
        self.take(facts);
        self.settle();
    }

    /// Current state, as far as it was taken in and measured.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(self.header.clone(), self.correlator.report(), &self.filter)
    }

    fn take(&mut self, facts: Vec<Observation>) {
        for mut seen in facts {
            self.redactor.redact(&mut seen);
            self.correlator.ingest(seen);
        }
    }

    /// Takes in pending observations, and answers the questions that they raise.
    fn settle(&mut self) {
        for _ in 0..MAX_ROUNDS {
            self.correlator.settle(clock::now());
            let wants = self.correlator.wants();
            if wants.is_empty() {
                break;
            }
            let facts = self.snapshot.answers(&wants, clock::now());
            self.take(facts);
        }
        // An inspection shows the state, not the findings that led to it.
        drop(self.correlator.drain());
    }
}

/// Degradation that keeps an inspection from starting.
fn no_ptrace() -> Degraded {
    Degraded {
        code: Degraded::NO_PRIVILEGE.to_owned(),
        text: "CAP_SYS_PTRACE is missing: the daemons on the path cannot be inspected".to_owned(),
        hint: "run with sudo, or use `--from FILE` to read a recording without root".to_owned(),
        fatal: true,
    }
}
