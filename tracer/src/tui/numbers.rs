//! Byte rates of connections, from the last two measurements.

use crate::model::{BootTime, Link, Measures, Series, SocketId, Span, TcpInfo, TcpMeasure};

/// Age limit of a measurement: twice the longest interval between two measurements.
const FRESH: Span = Span::from_secs(60);

/// Byte rate of a leg, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate {
    /// Towards the process.
    pub(super) down: u64,
    /// Towards the client.
    pub(super) up: u64,
}

/// Byte rate of a TCP leg; `None` without two recent measurements.
pub(super) fn rate(link: &Link, measures: &Measures, now: BootTime) -> Option<Rate> {
    let ends = link.tcp?;
    let of = |end: Option<SocketId>| measures.tcp(end?).filter(|series| now.since(series.at) <= FRESH);
    let (near, far) = (of(ends.near), of(ends.far));
    // Bytes received are most exact. If one end is on another host, use the bytes that the other end sent and saw
    // acknowledged.
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
    // Round up to 1: a rate of 0 means no traffic.
    Some(u64::try_from(rate).unwrap_or(u64::MAX).max(u64::from(moved > 0)))
}

/// Formats a number of bytes in at most six columns.
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
