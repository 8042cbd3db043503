//! Who stopped reading: queues from the client inwards for what is printed, from the process outwards for what is typed.
//!
//! A full queue alone says nothing: a busy session has one in every sample. What counts is that nobody took anything out of it
//! between two samples, which the counters of TCP tell.

use super::case::{Case, End, Leg, both};
use crate::model::{FileMeasure, TcpMeasure, TimerKind};

/// Bytes that the process has taken out of the socket.
fn taken(tcp: &TcpMeasure) -> Option<u64> {
    tcp.info?.bytes_received.checked_sub(tcp.recv_q.into())
}

/// Bytes that wait at this end and of which nothing was taken between the samples.
pub(super) fn unread_at(end: Option<End<'_>>) -> Option<u32> {
    let (last, before) = both(end?.series?)?;
    let stands = last.recv_q > 0 && before.recv_q > 0 && taken(last)? == taken(before)?;
    stands.then_some(last.recv_q)
}

/// Bytes that this end could not get rid of between the samples because the other end takes no more: its window is shut.
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

/// A leg on which nothing moves because its reader does not read.
pub(super) struct Stuck<'a> {
    pub(super) leg: Leg<'a>,
    /// Bytes that wait at the reader; `None` where that is on another host.
    pub(super) unread: Option<u32>,
    /// Bytes that wait at the writer.
    pub(super) refused: Option<u32>,
}

/// The first leg from the client whose output nobody takes.
pub(super) fn output<'a>(case: &Case<'a>) -> Option<Stuck<'a>> {
    case.legs().into_iter().find_map(|leg| stuck(leg, leg.near, leg.far))
}

/// The leg nearest to the process whose input nobody takes.
pub(super) fn input<'a>(case: &Case<'a>) -> Option<Stuck<'a>> {
    case.legs().into_iter().rev().find_map(|leg| stuck(leg, leg.far, leg.near))
}

fn stuck<'a>(leg: Leg<'a>, reader: Option<End<'a>>, writer: Option<End<'a>>) -> Option<Stuck<'a>> {
    let (unread, refused) = (unread_at(reader), refused_at(writer));
    // Where the reader's end is here, its own queue decides.
    let sure = if reader.is_some_and(|end| end.series.is_some()) { unread.is_some() } else { refused.is_some() };
    sure.then_some(Stuck { leg, unread, refused })
}

/// Whether a pipe or FIFO has no room for another page: what remains below that is too little for a writer to be woken
/// (fs/pipe.c: pipe_write wakes and writes by pages).
pub(super) fn is_full(file: &FileMeasure) -> bool {
    const PAGE: u32 = 4_096;
    file.capacity.is_some_and(|capacity| file.queued.saturating_add(PAGE) > capacity)
}
