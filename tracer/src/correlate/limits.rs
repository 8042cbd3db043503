//! Caps and time limits of the correlator, each with its reason. Times are those of observations, so that a replay
//! reaches each limit at the same record.

use crate::model::Span;

/// Time for which an observation waits for earlier ones. All CPUs share one ring buffer, and a record's time is taken
/// right before its place is reserved: only an interrupt in between can swap two records. Snapshot answers carry the
/// time of another clock reading. Measured on the lab's recordings: no kernel record came more than 0.1 ms late.
pub const REORDER_WITHIN: Span = Span::from_millis(5);

/// Memory of the reorder buffer, in bytes. The largest snapshots of four hosts fit (200,000 sockets of 300 bytes
/// each). Beyond, the earliest observations are applied early.
pub(super) const MAX_WAITING: usize = 256 << 20;

/// Names of losses that are counted one by one. The tracer has about twenty; further names count as `other`.
pub(super) const MAX_LOSS_NAMES: usize = 64;

/// Ends of connections with equal addresses that are compared to find a peer. One network namespace has two such
/// ends; equal addresses in other namespaces add a few. Beyond, no pair is unambiguous.
pub(super) const MAX_CANDIDATES: usize = 64;

/// Length of a step: sessions are rebuilt once for all observations of a step. Many changes of one session lie within
/// milliseconds. Steps are counted from boot, so that they depend on times alone.
pub(super) const STEP: Span = Span::from_millis(1);

/// Longest time from the accept of a stream to the creation of its exec's FIFOs. A runtime gives up on a client that
/// opens no streams within 30 s (k8s.io/streaming: DefaultStreamCreationTimeout). A later claim comes from a `g`
/// that belonged to another goroutine then.
pub(super) const STREAM_WITHIN: Span = Span::from_secs(31);

/// Time for the process to end after the first leg of its session closed. Then the session is closed, with its
/// process left running. A process that ends because its stdin ended takes milliseconds.
pub(super) const CLOSE_GRACE: Span = Span::from_secs(1);

/// Longest time from the end of a session to its report, while kubectl still runs. kubectl ends within milliseconds of
/// the last byte, on a busy machine within some hundred. A kubectl that stays is stopped, or has more to do (`cp`).
pub(super) const CLIENT_ENDS_WITHIN: Span = Span::from_millis(500);

/// Time after which the missing end of a leg to a kubelet is asked for. A kubelet on this host accepts within
/// microseconds.
pub(super) const PEER_WITHIN: Span = Span::from_millis(200);

/// Longest time from a request for an exec to its FIFOs, unless a client delays them: a few milliseconds, and a round
/// trip to the client for its streams.
pub(super) const FIFOS_WITHIN: Span = Span::from_millis(100);

/// Longest time between the first records of both ends of a connection, if their addresses alone pair them. A server
/// accepts within microseconds. After a longer time the port may have been reused, and the record of the earlier end
/// may be lost.
pub(super) const ENDS_WITHIN: Span = Span::from_secs(1);

/// Shortest time between two queries for the same peer or listener. An answer costs a look at every process.
pub(super) const PEER_AGAIN: Span = Span::from_secs(1);

/// Longest time from a loss to its report. The counters are read with each tick, five times a second when idle.
pub(super) const LOSS_REPORTED_WITHIN: Span = Span::from_millis(300);

/// Time for which ended processes, sockets and execs are kept, for late records and for `show` right after the end.
pub(super) const REMEMBER: Span = Span::from_secs(30);

/// Time after which a `runc exec` without FIFOs is discarded. The runtime creates FIFOs before it, so this is a
/// generous limit for late records.
pub(super) const EXEC_UNUSED_AFTER: Span = Span::from_secs(60);

/// All facts of a snapshot have one time. After this span the whole snapshot has been applied.
pub(super) const SNAPSHOT_WITHIN: Span = Span::from_millis(1);

/// After this span, the effects of the snapshot have been applied, too.
pub(super) const SNAPSHOT_TAKEN_IN: Span = Span::from_millis(2);

/// Time after which no goroutine of a runtime acts for a stream that has closed.
pub(super) const STREAM_GONE_AFTER: Span = Span::from_secs(5);

/// Time after which a new streaming connection without an exec becomes a session. An exec's FIFOs follow within
/// milliseconds, once the client has opened its streams.
pub(super) const STREAM_UNCLAIMED_AFTER: Span = Span::from_secs(2);

/// Time after which a `runc exec` without the runtime's FIFOs is attributed to another client than the kubelet. The
/// runtime creates FIFOs before it, so this is for late records.
pub(super) const EXEC_UNCLAIMED_AFTER: Span = Span::from_millis(300);

/// Longest wait for the process of an exec with a user-chosen id. The process's start is a part of the session's id.
/// `runc exec` takes some tens of milliseconds.
pub(super) const IDENTIFIED_WITHIN: Span = Span::from_secs(2);

/// Time for which a unix connection without a session is kept. No record reports its end.
pub(super) const UNIX_KEPT: Span = Span::from_secs(60);

/// Time for which an exec through dockershim may still be a probe: the default limit of a probe (core/v1:
/// timeoutSeconds).
pub(super) const PROBE_WITHIN: Span = Span::from_secs(1);

/// Run time beyond which a command is hardly a probe: ten times the default limit of a probe (core/v1:
/// timeoutSeconds), because users raise the limit of slow probes.
pub(super) const LONG_PROBE: Span = Span::from_secs(10);

/// Longest time from the request to stop a container to the end of its processes: a pod's grace period, of 30 seconds by
/// default (core/v1: terminationGracePeriodSeconds), and some time for SIGKILL.
pub(super) const STOPPED_WITHIN: Span = Span::from_secs(40);

/// Interval of sweeps. A sweep visits some tables as a whole, and every limit on kept entries is longer.
pub(super) const SWEEP_EVERY: Span = Span::from_secs(5);

/// Closed sessions that are kept for the report.
pub(super) const CLOSED_SESSIONS: usize = 1_000;

/// Processes in the table. A node with a thousand sessions needs about ten thousand processes, and as many sockets.
pub(super) const MAX_PROCESSES: usize = 200_000;
/// See [`MAX_PROCESSES`].
pub(super) const MAX_SOCKETS: usize = 400_000;

/// Forks between a process and the `runc exec` above it. runc makes three, crun and youki fewer.
pub(super) const MAX_LINEAGE: usize = 12;

/// Containers of one pod that are shown with its start. The size of the API's object limits them to a few hundred.
pub(super) const MAX_BESIDE: usize = 256;

/// Connections that a process began for one inbound connection, or for itself: an exec takes one or two.
pub(super) const MAX_DIALS: usize = 16;

/// Time from the end of a kubectl without a session to the report of its attempt: late records, such as those of closed
/// connections, have arrived by then.
pub(super) const ATTEMPT_SETTLED: Span = Span::from_millis(300);

/// Connections of an API server to etcd that are kept. It has one for each kind of object, about a hundred.
pub(super) const MAX_STORES: usize = 512;

/// Hops between client and runtime: API server, kubelet, and a few tunnels.
pub(super) const MAX_HOPS: usize = 16;

/// Addresses of this host that are kept: some for each network namespace.
pub(super) const MAX_ADDRESSES: usize = 10_000;

/// Times of losses that are kept one by one. Any interval before the oldest of them counts as one with a loss.
pub(super) const MAX_LOSSES: usize = 10_000;

/// Sent queries that are remembered, so that none is sent twice. Beyond, all are forgotten and may be sent once more.
pub(super) const MAX_QUERIES: usize = 20_000;

/// Containers with remembered names. A node runs some hundred, and new ones come with every job. Beyond, only
/// containers with an open session are kept.
pub(super) const MAX_CONTAINERS: usize = 10_000;

/// FIFOs known by file: three for each exec and each container.
pub(super) const MAX_FIFOS: usize = 50_000;

/// Forks for a stream whose execve is outstanding. Each takes a millisecond.
pub(super) const MAX_FORKED: usize = 1_000;

/// Forwarded connections that are shown for one port-forward.
pub(super) const MAX_FORWARDED: usize = 32;

/// Unix connections to dockerd's API from before the tracer's start. No record reports their end, and any may be a
/// session's.
pub(super) const MAX_OLDER_UNIX: usize = 10_000;

/// Time for which the last measurement of an ended object is kept.
pub(super) const MEASURES_KEPT: Span = Span::from_secs(60);

/// Run time after which a kubectl without a session becomes a provisional session. With a responsive kubelet, an
/// exec's path is complete within tens of milliseconds.
pub(super) const REQUEST_SHOWN_AFTER: Span = Span::from_secs(2);

/// Interval of further looks at a kubectl, while an open session without a client may be its own.
pub(super) const REQUEST_AGAIN: Span = Span::from_secs(1);

/// Connections of one process to API servers that are kept. kubectl makes two or three. If its cached list of API groups is
/// newer than its cached resources, it first requests the resources of all groups at once, and dials for each request
/// until one TLS handshake is done: 38 connections for the 37 group versions of Kubernetes 1.20. Each group of custom
/// resources adds one or more.
pub(super) const MAX_CALLS: usize = 512;

/// Tolerance for the API server's clock, before and after. Both clocks are of one host, so only clock steps matter.
/// Requests of two sessions must be this far apart to be distinguished by time.
pub(super) const AUDIT_SKEW: Span = Span::from_millis(250);

/// Two clocks cannot be read at one instant. A time this far in the future is not of another clock.
pub(super) const CLOCK_JITTER: Span = Span::from_millis(2);

/// Time after which all requests for a new session have been read. The API server writes its log at once; the tracer
/// reads it five times a second when idle.
pub(super) const AUDIT_SETTLED: Span = Span::from_millis(750);

/// Like [`AUDIT_SETTLED`], for sessions from before the tracer's start. Their requests are in the log already.
pub(super) const AUDIT_OLDER: Span = Span::from_millis(100);

/// Time for which the end of a session waits for a request that the API server logs when it is over.
pub(super) const AUDIT_CLOSED: Span = Span::from_millis(300);

/// Longest time from a request to the first record of its session. Admission may take 30 s, and a client may take
/// another 30 s to open its streams ([`STREAM_WITHIN`]).
pub(super) const REQUEST_WITHIN: Span = Span::from_secs(61);

/// Resolution of process start times.
pub(super) const TICK: Span = Span::from_millis(10);

/// Requests of the audit log that are kept: those of open sessions, and some seconds more.
pub(super) const MAX_AUDIT_EVENTS: usize = 5_000;

/// Sessions that one request may fit. Beyond, it says nothing about any of them.
pub(super) const MAX_AUDIT_RIVALS: usize = 16;

/// Pairs of request and session that fit, in total. Beyond, no user is named.
pub(super) const MAX_AUDIT_FITS: usize = 100_000;

/// Observations at the beginning of a new file of a recording. A thousand sessions need some 100,000. Beyond, the
/// oldest are left out.
pub(super) const MAX_CARRIED_OVER: usize = 500_000;

/// Sockets on which one process listens, as far as they belong to the path. dockerd has two, containerd has three.
pub(super) const MAX_LISTENERS: usize = 16;

/// Longest normal start, from the first observation to the newest record before the first tick. A longer start is reported as the
/// loss `late-start`, because daemons may have worked before the tracer attached to them.
pub(super) const START_WITHIN: Span = Span::from_secs(2);

/// Shortest time between two reports of full tables. Each gives the sum since the last report.
pub(super) const REFUSED_EVERY: Span = Span::from_secs(1);

/// Shortest time between two searches of a full socket table. Each visits every entry.
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
