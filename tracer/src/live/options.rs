//! What a caller asks of a live trace.

use std::{os::fd::OwnedFd, time::Duration};

use crate::{
    confine::Net,
    correlate,
    engine::{Flow, Setup, Status},
    netns::NetNs,
    plan::Road,
    record::RecordTarget,
    source::audit::AuditLog,
};

/// A caller that wants the current state again and again, such as the live screen.
pub struct Watcher {
    /// Longest time between two calls of `report` while nothing changes. A change is reported at once, at most ten times a second.
    pub every: Duration,
    /// Receives the current state; returns whether the trace goes on. No record is read during the call, so it should hand the
    /// state on and return.
    pub report: Box<dyn FnMut(Status) -> Flow + Send>,
}

/// Options of a live trace. The default shows nothing, records nothing, and ends at a signal.
#[derive(Default)]
pub struct Live {
    /// What to show, and where.
    pub setup: Setup,
    /// Ports, sockets and pairing rules of the correlator.
    pub options: correlate::Options,
    /// Trace one network namespace only; `None`: all.
    pub netns: Option<NetNs>,
    /// End the trace after this time; `None`: at a signal.
    pub duration: Option<Duration>,
    /// Interval at which open sessions are measured; `None`: never. The correlator forgets numbers older than a minute.
    pub measure: Option<Duration>,
    /// Receives the current state, besides the sinks.
    pub watcher: Option<Watcher>,
    /// Connections to other programs that the exporters need.
    pub net: Net,
    /// Where to record.
    pub record: Option<RecordTarget>,
    /// The command line, for the recording's header.
    pub command: String,
    /// Size of the kernel's ring buffer in bytes; `None`: the object's own.
    pub ring_bytes: Option<u32>,
    /// The only road to take for sends and receives; `None`: the first one that the kernel accepts.
    pub road: Option<Road>,
    /// Folder with the bundles of containers, instead of the well-known ones: `FOLDER/<namespace>/<id>/config.json`.
    pub bundles: Option<String>,
    /// Do not read the memory of daemons.
    pub no_memory: bool,
    /// The API server's audit log, opened; `None`: users stay unknown.
    pub audit_log: Option<AuditLog>,
    /// Ends the trace when it becomes readable or is closed at its other end; `None`: signals alone end it.
    pub end: Option<OwnedFd>,
    /// Called once, when every probe is attached and the snapshot was taken in.
    pub ready: Option<Box<dyn FnOnce() + Send>>,
}
