//! Every cap and time limit of the correlator, with its reason. Core time only: replay reaches them at the same record.

use crate::model::Span;

/// How far apart in time two records may arrive in the wrong order. The ring buffer is one for all CPUs and a record's time
/// is taken right before its place is reserved, so only an interrupt in between can swap two; snapshot answers come from
/// another clock reading. Measured on the lab's recordings: no record of the kernel came more than 0.1 ms late.
pub const REORDER_WITHIN: Span = Span::from_millis(5);

/// Memory for observations that wait in the reordering window, in bytes: a snapshot of four hosts, with the most facts that one has
/// (200,000 sockets of 300 bytes each), fits. Beyond, the earliest are let through.
pub(super) const MAX_WAITING: usize = 256 << 20;

/// Names of losses that are counted one by one. The tracer has about twenty; the others of a recording count as `other`.
pub(super) const MAX_LOSS_NAMES: usize = 64;

/// Ends of connections with the same addresses that are compared to find the other end of one. In one network namespace such ends are
/// two; behind equal addresses of other namespaces a few more. Beyond, no pair is unambiguous.
pub(super) const MAX_CANDIDATES: usize = 64;

/// What happens within so long is taken in together, and sessions are put together once for all of it: much of what happens to one
/// does so within milliseconds. Counted from boot, so that it depends on times alone what that is.
pub(super) const TOGETHER: Span = Span::from_millis(1);

/// How long after a runtime accepted a stream its exec's FIFOs are made, at most: it gives up on a client that opens no
/// streams within 30 s (k8s.io/streaming: DefaultStreamCreationTimeout). What claims a stream later has it from a `g` that
/// served another goroutine.
pub(super) const STREAM_WITHIN: Span = Span::from_secs(31);

/// After the first leg of a session closed, how long its process may take to follow before the session is said to be over
/// with its process left running. A process that ends because its stdin ended does so within milliseconds.
pub(super) const CLOSE_GRACE: Span = Span::from_secs(1);

/// How long a leg to a kubelet may be without its other end before that is asked for: where the kubelet is on this host, it
/// accepts within microseconds.
pub(super) const PEER_WITHIN: Span = Span::from_millis(200);

/// How long after a runtime was asked for an exec it makes the FIFOs for that, where nothing keeps it: a few milliseconds, and the
/// client's way there and back, for its streams.
pub(super) const ASKED_WITHIN: Span = Span::from_millis(100);

/// How far apart both ends of a connection are first seen, at most, for their addresses alone to join them: a server accepts within
/// microseconds. Where it took longer, the connection before may have had the same port, and its end may have been lost.
pub(super) const ENDS_WITHIN: Span = Span::from_secs(1);

/// How soon who has the other end of a connection may be asked again: it is asked where the answer would help, at most so
/// often, because to answer takes a look at every process.
pub(super) const PEER_AGAIN: Span = Span::from_secs(1);

/// How long after records were lost that is told, at most: the counters are read with each tick, five a second when idle.
pub(super) const LOSS_TOLD_WITHIN: Span = Span::from_millis(300);

/// How long what has ended is remembered, for records that come late and for `show` right after the end.
pub(super) const REMEMBER: Span = Span::from_secs(30);

/// How long `runc exec` may be ahead of the FIFOs that make it a session's: they are made before it, so this is for records
/// that come late, and generous.
pub(super) const BEGUN: Span = Span::from_secs(60);

/// All facts of a snapshot have one time: after it, the whole of it is known.
pub(super) const SNAPSHOT_WITHIN: Span = Span::from_millis(1);

/// After that what follows from it, too.
pub(super) const SNAPSHOT_TAKEN_IN: Span = Span::from_millis(2);

/// How long a new streaming connection may be without an exec before it stands for itself. An exec's FIFOs are made within
/// milliseconds of it, once the client has opened its streams.
pub(super) const STREAM_ALONE: Span = Span::from_secs(2);

/// How long `runc exec` may be without the runtime's FIFOs before it is somebody else's than the kubelet's: those are made
/// before it starts, so this is for records that come late.
pub(super) const LOCAL_AFTER: Span = Span::from_millis(300);

/// How long the process of an exec with an id that a user chose is awaited, at most, before the session is reported: its start is a
/// part of the session's id. `runc exec` takes some tens of milliseconds.
pub(super) const IDENTIFIED_WITHIN: Span = Span::from_secs(2);

/// How long a unix connection is remembered that became no session's leg: no record tells its end.
pub(super) const UNIX_KEPT: Span = Span::from_secs(60);

/// How long an exec through dockershim that may be a probe is waited for: a probe's default limit (core/v1: timeoutSeconds).
pub(super) const PROBE_WITHIN: Span = Span::from_secs(1);

/// How long a command runs that is hardly a probe: the default limit of a probe is one second (core/v1: timeoutSeconds).
pub(super) const LONG_PROBE: Span = Span::from_secs(10);

/// How often the tables are swept: each time goes through some of them whole, and nothing is kept for so short a time that it
/// would matter.
pub(super) const SWEEP_EVERY: Span = Span::from_secs(5);

/// Closed sessions kept for the report; older ones were told when they closed.
pub(super) const CLOSED_SESSIONS: usize = 1_000;

/// Processes and sockets known at once. A node with a thousand sessions needs about ten thousand of each.
pub(super) const MAX_PROCESSES: usize = 200_000;
/// See [`MAX_PROCESSES`].
pub(super) const MAX_SOCKETS: usize = 400_000;

/// Forks between a process and the `runc exec` above it: runc makes three stages, crun and youki fewer.
pub(super) const MAX_LINEAGE: usize = 12;

/// Containers of a pod that are told of with it: the kubelet's own limit is that of the API's object, a few hundred.
pub(super) const MAX_BESIDE: usize = 256;

/// Connections of an API server to etcd that are looked at: it has one for each kind of object, about a hundred.
pub(super) const MAX_STORES: usize = 512;

/// Proxies between client and runtime: API server, kubelet, and a few tunnels.
pub(super) const MAX_HOPS: usize = 16;

/// Addresses of this host that are remembered: some a network namespace.
pub(super) const MAX_ADDRESSES: usize = 10_000;

/// Times of losses kept one by one. Before the oldest of them, every interval counts as one with a loss.
pub(super) const MAX_LOSSES: usize = 10_000;

/// Questions remembered so that none is asked twice; beyond that all are forgotten, and may be asked once more.
pub(super) const MAX_ASKED: usize = 20_000;

/// Containers whose names are remembered: a node runs some hundred, new ones come with every job. Beyond that, only those
/// with an open session are kept.
pub(super) const MAX_CONTAINERS: usize = 10_000;

/// FIFOs known by file: three an exec and three a container.
pub(super) const MAX_FIFOS: usize = 50_000;

/// Forks for a stream whose execve was not seen yet: each takes a millisecond.
pub(super) const MAX_FORKED: usize = 1_000;

/// Forwarded connections shown of one port-forward.
pub(super) const MAX_FORWARDED: usize = 32;

/// Unix connections to dockerd's API that are older than the tracer: nothing tells their end, and any may be a session's.
pub(super) const MAX_OLDER_UNIX: usize = 10_000;

/// How long numbers are kept that are not taken again: those of what has ended.
pub(super) const MEASURES_KEPT: Span = Span::from_secs(60);

/// How long a kubectl of this host may run before it is told of by itself. With a kubelet that answers, an exec's path is whole
/// within tens of milliseconds.
pub(super) const ASKED_AFTER: Span = Span::from_secs(2);

/// How soon it is looked at again, where a session without a client may be its own.
pub(super) const ASKED_AGAIN: Span = Span::from_secs(1);

/// Connections to API servers of one process that are kept: kubectl makes two or three.
pub(super) const MAX_CALLS: usize = 16;

/// How far the API server's clock may be off, before and after: both are one host's, so that it is steps alone, and how far
/// requests of two sessions must be apart to be told apart by time.
pub(super) const AUDIT_SKEW: Span = Span::from_millis(250);

/// Two clocks are not read at one instant: what is newer than now by so little is not of another clock.
pub(super) const CLOCK_JITTER: Span = Span::from_millis(2);

/// How long after a session began its requests, and all that may be taken for them, are read: the log is written at once, and
/// read five times a second when idle.
pub(super) const AUDIT_SETTLED: Span = Span::from_millis(750);

/// The same of sessions older than the tracer: the log was read up to its end, what is asked about them is answered.
pub(super) const AUDIT_OLDER: Span = Span::from_millis(100);

/// How long an end waits for a request that is written when it is over.
pub(super) const AUDIT_CLOSED: Span = Span::from_millis(300);

/// How long before the first that is seen of a session its request may have been received, at most: admission has 30 s, a
/// client that opens its streams another 30 s ([`STREAM_WITHIN`]).
pub(super) const REQUEST_WITHIN: Span = Span::from_secs(61);

/// Times of processes are as coarse as that.
pub(super) const TICK: Span = Span::from_millis(10);

/// Requests of the audit log known at once: those of open sessions, and some seconds more.
pub(super) const MAX_AUDIT_EVENTS: usize = 5_000;

/// Sessions that one request may fit before it says nothing of any of them.
pub(super) const MAX_AUDIT_RIVALS: usize = 16;

/// Pairs of request and session that fit, in all; beyond, no user is named.
pub(super) const MAX_AUDIT_FITS: usize = 100_000;

/// Observations that a new file of a recording begins with: of 1,000 sessions some 100,000. Beyond, the oldest are left out.
pub(super) const MAX_TOLD_AGAIN: usize = 500_000;

/// Sockets of the path on which one process listens, as far as they are remembered. dockerd has two, containerd has three.
pub(super) const MAX_LISTENERS: usize = 16;

/// Time from the first observation to the first tick that counts as a normal start. A longer start is reported as the loss
/// `late-start`: daemons may have been at work before they were watched.
pub(super) const START_WITHIN: Span = Span::from_secs(2);

/// Full tables are reported at most this often, as the sum since the last report.
pub(super) const REFUSED_EVERY: Span = Span::from_secs(1);

/// A full socket table is searched for entries to drop at most this often: a search visits every entry.
pub(super) const ROOM_EVERY: Span = Span::from_secs(1);

/// Capacities of the tables whose refusals are reported as losses. Unit tests set small ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    /// See [`MAX_PROCESSES`].
    pub(super) processes: usize,
    /// See [`MAX_SOCKETS`].
    pub(super) sockets: usize,
    /// See [`MAX_ADDRESSES`].
    pub(super) addresses: usize,
    /// See [`MAX_FIFOS`].
    pub(super) fifos: usize,
    /// See [`MAX_FORKED`].
    pub(super) forks: usize,
    /// See [`MAX_STORES`].
    pub(super) stores: usize,
    /// See [`MAX_CALLS`].
    pub(super) calls: usize,
    /// See [`MAX_OLDER_UNIX`].
    pub(super) older_unix: usize,
    /// See [`MAX_BESIDE`].
    pub(super) beside: usize,
    /// See [`MAX_AUDIT_EVENTS`].
    pub(super) requests: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            processes: MAX_PROCESSES,
            sockets: MAX_SOCKETS,
            addresses: MAX_ADDRESSES,
            fifos: MAX_FIFOS,
            forks: MAX_FORKED,
            stores: MAX_STORES,
            calls: MAX_CALLS,
            older_unix: MAX_OLDER_UNIX,
            beside: MAX_BESIDE,
            requests: MAX_AUDIT_EVENTS,
        }
    }
}
