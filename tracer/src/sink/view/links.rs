//! Links of a session: addresses, measurements of both ends, and bytes waiting in buffers.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::{self, LinkKind, Measures, RawText, SocketId, TcpMeasure};

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Link<'a> {
    from: usize,
    to: usize,
    kind: &'static str,
    confidence: &'static str,
    evidence: Vec<&'static str>,
    persistent: bool,
    tcp: Option<Tcp>,
    unix: Option<Unix<'a>>,
    relay: Option<Relay>,
}

impl<'a> Link<'a> {
    pub(super) fn new(link: &'a model::Link, measures: &Measures) -> Self {
        let kind = link.kind;
        Self {
            from: link.from,
            to: link.to,
            kind: kind.token(),
            confidence: link.confidence.token(),
            evidence: link.evidence.iter().map(|evidence| evidence.token()).collect(),
            persistent: link.persistent,
            tcp: link.tcp.filter(|_| kind == LinkKind::Tcp).map(|ends| Tcp::new(&ends, measures)),
            unix: link.unix.as_ref().filter(|_| kind == LinkKind::Unix).map(|(path, near, far)| {
                let measured = |socket: &SocketId| measures.unix(*socket).map(|series| series.last);
                Unix {
                    path,
                    inode: near.inode,
                    peer_inode: far.inode,
                    queues: Queues::new(
                        measured(near).map(|end| (end.recv_q, end.send_q)),
                        measured(far).map(|end| (end.recv_q, end.send_q)),
                    ),
                }
            }),
            relay: link
                .relay
                .filter(|_| kind == LinkKind::Relay)
                .map(|(inbound, outbound)| Relay::new(inbound, outbound, measures)),
        }
    }
}

/// Bytes waiting in the buffers of both ends.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct Queues {
    recv_q: Option<u32>,
    send_q: Option<u32>,
    peer_recv_q: Option<u32>,
    peer_send_q: Option<u32>,
}

impl Queues {
    /// Each end is a pair: bytes not read, bytes not sent.
    fn new(near: Option<(u32, u32)>, far: Option<(u32, u32)>) -> Self {
        let ((recv_q, send_q), (peer_recv_q, peer_send_q)) = (near.unzip(), far.unzip());
        Self { recv_q, send_q, peer_recv_q, peer_send_q }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct Tcp {
    #[schemars(with = "String")]
    local: SocketAddr,
    #[schemars(with = "String")]
    remote: SocketAddr,
    inode: Option<u64>,
    peer_inode: Option<u64>,
    #[serde(flatten)]
    queues: Queues,
    #[serde(flatten)]
    end: TcpEnd,
    bytes_sent: Option<u64>,
    bytes_received: Option<u64>,
    /// Measurements of the other end, if it is on this host.
    peer: Option<TcpEnd>,
}

impl Tcp {
    fn new(ends: &model::TcpEnds, measures: &Measures) -> Self {
        let measured =
            |socket: Option<SocketId>| socket.and_then(|socket| measures.tcp(socket)).map(|series| series.last);
        let (near, far) = (measured(ends.near), measured(ends.far));
        let info = near.and_then(|near| near.info);
        Self {
            local: ends.tuple.local,
            remote: ends.tuple.remote,
            inode: ends.near.and_then(|socket| socket.inode),
            peer_inode: ends.far.and_then(|socket| socket.inode),
            queues: Queues::new(near.map(|end| (end.recv_q, end.send_q)), far.map(|end| (end.recv_q, end.send_q))),
            end: TcpEnd::new(near),
            bytes_sent: ends.sent.or(info.map(|info| info.bytes_acked)),
            bytes_received: ends.received.or(info.map(|info| info.bytes_received)),
            peer: far.map(|far| TcpEnd::new(Some(far))),
        }
    }
}

/// One end of a connection.
#[derive(Debug, Serialize, JsonSchema)]
struct TcpEnd {
    state: Option<&'static str>,
    rtt_us: Option<u64>,
    rto_us: Option<u64>,
    backoff: Option<u8>,
    retransmits: Option<u32>,
    unacked: Option<u32>,
    not_sent: Option<u32>,
    send_window: Option<u32>,
    last_sent_ms: Option<u32>,
    last_received_ms: Option<u32>,
    timer: Option<Timer>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Timer {
    kind: &'static str,
    expires_ms: u64,
    retries: u8,
}

impl TcpEnd {
    fn new(end: Option<TcpMeasure>) -> Self {
        let info = end.and_then(|end| end.info);
        Self {
            state: end.map(|end| end.state.token()),
            rtt_us: info.map(|info| info.rtt_us),
            rto_us: info.map(|info| info.rto_us),
            backoff: info.map(|info| info.backoff),
            retransmits: info.map(|info| info.total_retransmits),
            unacked: info.map(|info| info.unacked),
            not_sent: info.map(|info| info.not_sent),
            send_window: info.and_then(|info| info.send_window),
            last_sent_ms: info.map(|info| info.last_sent_ms),
            last_received_ms: info.map(|info| info.last_received_ms),
            timer: end.and_then(|end| end.timer).map(|timer| Timer {
                kind: timer.kind.token(),
                expires_ms: timer.expires_ms,
                retries: timer.retries,
            }),
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct Unix<'a> {
    path: &'a RawText,
    inode: Option<u64>,
    peer_inode: Option<u64>,
    #[serde(flatten)]
    queues: Queues,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Relay {
    inbound_inode: Option<u64>,
    outbound_inode: Option<u64>,
    bytes_forward: Option<u64>,
    bytes_back: Option<u64>,
    last_ms: Option<u32>,
}

impl Relay {
    /// Bytes in one direction are those received by the connection that they come from. Sent bytes are not used: inside
    /// TLS, each connection has its own record overhead.
    fn new(inbound: SocketId, outbound: SocketId, measures: &Measures) -> Self {
        let info = |socket: SocketId| measures.tcp(socket).and_then(|series| series.last.info);
        let (near, far) = (info(inbound), info(outbound));
        let last = [near, far].into_iter().flatten().map(|info| info.last_sent_ms.min(info.last_received_ms)).min();
        Self {
            inbound_inode: inbound.inode,
            outbound_inode: outbound.inode,
            bytes_forward: near.map(|info| info.bytes_received),
            bytes_back: far.map(|info| info.bytes_received),
            last_ms: last,
        }
    }
}
