//! Polls the audit log at an interval.

use std::{io, time::Duration};

use tokio::time::Instant;

use crate::{
    clock,
    model::{Fact, Observation, Source},
    source::audit::AuditLog,
};

/// Interval of polling. The correlator distinguishes sessions only by lines read within 250 ms after they were written
/// (`AUDIT_SKEW`); a busy machine uses up most of that time.
pub(super) const AUDIT_EVERY: Duration = Duration::from_millis(50);
/// Time after the first read of the audit log within which its lines about older sessions are matched.
pub(crate) const AUDIT_TAKEN_IN: Duration = Duration::from_millis(110);

/// An audit log, and when it was read last.
pub(super) struct AuditFeed {
    log: AuditLog,
    read: Instant,
}

impl AuditFeed {
    /// Follows a log from now on.
    pub(super) fn new(log: AuditLog) -> Self {
        Self { log, read: Instant::now() }
    }

    /// Requests that were under way before the trace.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(super) fn begin(&mut self) -> io::Result<Vec<Observation>> {
        Ok(observed(self.log.begin(clock::now(), clock::anchor())?))
    }

    /// Requests that were logged since the last poll. Empty if [`AUDIT_EVERY`] has not passed.
    pub(super) fn poll(&mut self) -> Vec<Observation> {
        if self.read.elapsed() < AUDIT_EVERY {
            return Vec::new();
        }
        self.read = Instant::now();
        observed(self.log.poll(clock::anchor()))
    }
}

/// Observations of facts from the log. The clock is read after the log: each line was written before.
fn observed(facts: Vec<Fact>) -> Vec<Observation> {
    facts.into_iter().map(|fact| Observation::new(clock::now(), Source::Snapshot, fact)).collect()
}
