//! TCP connections of a session, their ends, and whether bytes move there.

use super::samples::both;
use crate::model::{Series, SocketId, TcpMeasure, TimerKind, Tuple};

/// One end of a TCP connection.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) socket: SocketId,
    pub(super) series: Option<&'a Series<TcpMeasure>>,
}

/// A TCP connection that belongs to this session alone. `near` is the end nearer to the client.
#[derive(Clone, Copy)]
pub(super) struct Leg<'a> {
    /// Index of its link; `None` where the connection leaves this host.
    pub(super) link: Option<usize>,
    pub(super) near_hop: Option<usize>,
    pub(super) far_hop: Option<usize>,
    /// Addresses as the near end has them.
    pub(super) tuple: Option<Tuple>,
    pub(super) near: Option<End<'a>>,
    pub(super) far: Option<End<'a>>,
}

/// A leg as one of its ends has it.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) link: Option<usize>,
    pub(super) hop: Option<usize>,
    pub(super) other_hop: Option<usize>,
    pub(super) end: Option<End<'a>>,
    pub(super) other: Option<End<'a>>,
    pub(super) tuple: Option<Tuple>,
}

impl<'a> Leg<'a> {
    /// The leg from its end nearer to the client.
    pub(super) fn near_side(&self) -> Side<'a> {
        let Self { link, near_hop, far_hop, tuple, near, far } = *self;
        Side { link, hop: near_hop, other_hop: far_hop, end: near, other: far, tuple }
    }

    /// The leg from its end nearer to the process.
    pub(super) fn far_side(&self) -> Side<'a> {
        let Self { link, near_hop, far_hop, tuple, near, far } = *self;
        Side { link, hop: far_hop, other_hop: near_hop, end: far, other: near, tuple: tuple.map(Tuple::mirrored) }
    }

    /// Both sides of the leg, the client's first.
    pub(super) fn sides(self) -> [Side<'a>; 2] {
        [self.near_side(), self.far_side()]
    }
}

/// True if the leg leaves this host and the remote end has been silent for longer than any ping interval of kubectl.
pub(super) fn is_silent_beyond(leg: &Leg<'_>) -> bool {
    // kubectl pings every 5 s and waits for an answer for 61 s (client-go, tools/remotecommand/websocket.go).
    const PONG: u32 = 61_000;
    let here = match (leg.near, leg.far) {
        (Some(end), None) | (None, Some(end)) => end,
        (None, None) | (Some(_), Some(_)) => return false,
    };
    here.series.and_then(|series| series.last.info).is_some_and(|info| info.last_received_ms > PONG)
}

/// True if the socket retransmits repeatedly without an acknowledgement.
pub(super) fn retransmits(tcp: &TcpMeasure) -> bool {
    // One or two retransmissions happen on any lossy network.
    const OFTEN: u8 = 3;
    let by_timer = tcp.timer.is_some_and(|timer| timer.kind == TimerKind::Retransmit && timer.retries >= OFTEN);
    by_timer || tcp.info.is_some_and(|info| info.backoff >= OFTEN && info.unacked > 0 && info.retransmits > 0)
}

/// Bytes that the process has read from the socket.
fn taken(tcp: &TcpMeasure) -> Option<u64> {
    tcp.info?.bytes_received.checked_sub(tcp.recv_q.into())
}

/// Unread bytes at this end, if the process read nothing between the samples.
pub(super) fn unread_at(end: Option<End<'_>>) -> Option<u32> {
    let (last, before) = both(end?.series?)?;
    let stands = last.recv_q > 0 && before.recv_q > 0 && taken(last)? == taken(before)?;
    stands.then_some(last.recv_q)
}

/// Unsent bytes at this end, if nothing was acknowledged between the samples and the peer's window is zero.
pub(super) fn refused_at(end: Option<End<'_>>) -> Option<u32> {
    let (last, before) = both(end?.series?)?;
    let acked = |tcp: &TcpMeasure| tcp.info.map(|info| info.bytes_acked);
    let shut = |tcp: &TcpMeasure| {
        tcp.timer.is_some_and(|timer| timer.kind == TimerKind::Probe)
            || tcp.info.is_some_and(|info| info.send_window == Some(0))
    };
    let stands = last.send_q > 0 && before.send_q > 0 && acked(last)? == acked(before)? && shut(last) && shut(before);
    stands.then_some(last.send_q)
}
