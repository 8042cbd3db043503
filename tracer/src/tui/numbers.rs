//! Bytes that move: how many a second, by the last two measures.

use crate::model::{BootTime, Link, Measures, Series, SocketId, Span, TcpInfo, TcpMeasure};

/// An older measure says nothing of now: twice the longest time between two of them.
const FRESH: Span = Span::from_secs(60);

/// What moves on a leg, in bytes a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate {
    /// Towards the process.
    pub(super) down: u64,
    /// Back to the client.
    pub(super) up: u64,
}

/// Of a TCP leg; `None` where it was not measured twice of late.
pub(super) fn rate(link: &Link, measures: &Measures, now: BootTime) -> Option<Rate> {
    let ends = link.tcp?;
    let of = |end: Option<SocketId>| measures.tcp(end?).filter(|series| now.since(series.at) <= FRESH);
    let (near, far) = (of(ends.near), of(ends.far));
    // Each end counts what it received; where one end is not here, what the other one sent and saw acknowledged.
    let received = |info: &TcpInfo| info.bytes_received;
    let acked = |info: &TcpInfo| info.bytes_acked;
    let down = far.and_then(|far| per_second(far, received)).or_else(|| per_second(near?, acked))?;
    let up = near.and_then(|near| per_second(near, received)).or_else(|| per_second(far?, acked))?;
    Some(Rate { down, up })
}

fn per_second(series: &Series<TcpMeasure>, count: fn(&TcpInfo) -> u64) -> Option<u64> {
    let (before, span) = series.earlier()?;
    let moved = count(&series.last.info?).saturating_sub(count(&before.info?));
    let rate = u128::from(moved) * 1_000_000_000 / u128::from(span.0.max(1));
    // What moved at all is not nothing.
    Some(u64::try_from(rate).unwrap_or(u64::MAX).max(u64::from(moved > 0)))
}

/// A number of bytes in at most six columns.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if count < 1_000 {
        return format!("{count} B");
    }
    let mut tenths = u128::from(count) / 100;
    for unit in UNITS {
        match tenths {
            0..100 => return format!("{}.{} {unit}", tenths / 10, tenths % 10),
            100..10_000 => return format!("{} {unit}", tenths / 10),
            _ => tenths /= 1_000,
        }
    }
    "∞".to_owned()
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn bytes_are_short() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (9_999, "9.9 kB"),
            (10_000, "10 kB"),
            (999_999, "999 kB"),
            (1_000_000, "1.0 MB"),
            (u64::MAX, "18 EB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
