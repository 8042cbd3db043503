//! Finds the reader that stopped: from the client inwards for output, from the process outwards for input.
//!
//! A full queue alone is no evidence: a busy session has one in every sample. Evidence is that nothing left the queue
//! between two samples, by the counters of TCP.

use super::{
    ctx::SessionCtx,
    legs::{End, Leg, refused_at, unread_at},
};
use crate::model::FileMeasure;

/// A leg without progress because its reader does not read.
pub(super) struct Stuck<'a> {
    pub(super) leg: Leg<'a>,
    /// Unread bytes at the reader; `None` if the reader is on another host.
    pub(super) unread: Option<u32>,
    /// Unsent bytes at the writer.
    pub(super) refused: Option<u32>,
}

/// The first leg from the client with unread output.
pub(super) fn output<'a>(ctx: &SessionCtx<'a>) -> Option<Stuck<'a>> {
    ctx.legs().into_iter().find_map(|leg| stuck(leg, leg.near, leg.far))
}

/// The leg nearest to the process with unread input.
pub(super) fn input<'a>(ctx: &SessionCtx<'a>) -> Option<Stuck<'a>> {
    ctx.legs().into_iter().rev().find_map(|leg| stuck(leg, leg.far, leg.near))
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
