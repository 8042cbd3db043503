//! Finds the reader that stopped: from the client inwards for output, from the process outwards for input.
//!
//! A full queue alone is no evidence: a busy session has one in every sample. Evidence is that nothing left the queue
//! between two samples, by the counters of TCP.

use super::case::{Case, End, Leg, both};
use crate::model::{FileMeasure, TcpMeasure, TimerKind};

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

/// A leg without progress because its reader does not read.
pub(super) struct Stuck<'a> {
    pub(super) leg: Leg<'a>,
    /// Unread bytes at the reader; `None` if the reader is on another host.
    pub(super) unread: Option<u32>,
    /// Unsent bytes at the writer.
    pub(super) refused: Option<u32>,
}

/// The first leg from the client with unread output.
pub(super) fn output<'a>(case: &Case<'a>) -> Option<Stuck<'a>> {
    case.legs().into_iter().find_map(|leg| stuck(leg, leg.near, leg.far))
}

/// The leg nearest to the process with unread input.
pub(super) fn input<'a>(case: &Case<'a>) -> Option<Stuck<'a>> {
    case.legs().into_iter().rev().find_map(|leg| stuck(leg, leg.far, leg.near))
}

fn stuck<'a>(leg: Leg<'a>, reader: Option<End<'a>>, writer: Option<End<'a>>) -> Option<Stuck<'a>> {
    let (unread, refused) = (unread_at(reader), refused_at(writer));
    // If the reader's end was measured, its own queue decides.
    let sure = if reader.is_some_and(|end| end.series.is_some()) { unread.is_some() } else { refused.is_some() };
    sure.then_some(Stuck { leg, unread, refused })
}

/// True if a pipe or FIFO has no room for another page. Less free room does not wake a writer (fs/pipe.c: pipe_write
/// wakes and writes by pages).
pub(super) fn is_full(file: &FileMeasure) -> bool {
    const PAGE: u32 = 4_096;
    file.capacity.is_some_and(|capacity| file.queued.saturating_add(PAGE) > capacity)
}
