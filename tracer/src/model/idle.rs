//! Time of the last payload on a connection. Heartbeats do not count as payload: clients and proxies of the path send
//! pings every five seconds, and their peers answer.

use super::{BootTime, Span, TcpInfo};

/// Interval between pings (client-go and the kubelet: spdystream and WebSocket pings; Go's HTTP/2 sends them less
/// often).
const PING_EVERY: Span = Span::from_secs(5);
/// Tolerated delay of a ping and of its answer.
const LATE: Span = Span::from_secs(1);

/// Bytes of a ping and of its answer, as sent and received by one end, or the other way round. A TLS 1.3 record adds 22
/// bytes (RFC 8446, 5.2: header, type, tag), a TLS 1.2 record with AES-GCM adds 29 (RFC 5288).
const PINGS: [(u64, u64); 9] = [
    // WebSocket: 6 bytes from the client, whose frames are masked, 2 from the server (RFC 6455, 5.2).
    (28, 24),
    (35, 31),
    (6, 2),
    // SPDY/3.1, 2.6.5: 12 bytes either way.
    (34, 34),
    (41, 41),
    (12, 12),
    // HTTP/2: 17 bytes either way (RFC 9113, 6.7).
    (39, 39),
    (46, 46),
    (17, 17),
];

/// Payload activity of one end, derived from its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// Time of the first sample.
    first: BootTime,
    /// Last sample: time, bytes sent, bytes received.
    last: (BootTime, u64, u64),
    /// Time of the last payload, if known.
    payload: Option<BootTime>,
}

impl Activity {
    /// Adds the next sample.
    #[must_use]
    pub fn take(known: Option<Self>, at: BootTime, info: &TcpInfo) -> Self {
        let ago = Span::from_millis(info.last_sent_ms.min(info.last_received_ms).into());
        let (used, counted) = (at.minus(ago), (at, info.bytes_acked, info.bytes_received));
        // Silent for longer than a ping interval: the connection has no heartbeats, or they ended.
        let silent = (ago > Span(PING_EVERY.0 + LATE.0)).then_some(used);
        let Some(known) = known.filter(|known| known.last.0 <= at) else {
            return Self { first: at, last: counted, payload: silent };
        };
        let (before, sent, received) = known.last;
        let moved = (info.bytes_acked.wrapping_sub(sent), info.bytes_received.wrapping_sub(received));
        let is_payload = moved != (0, 0) && !are_pings(moved, at.since(before));
        let payload = if is_payload { Some(used) } else { known.payload.or(silent) };
        Self { first: known.first, last: counted, payload }
    }

    /// Time of the last payload; `None` if no payload was seen and heartbeats hide earlier payload.
    #[must_use]
    pub const fn payload(&self) -> Option<BootTime> {
        self.payload
    }

    /// Earliest known start of the present idle time; `None` if a single sample cannot show it.
    #[must_use]
    pub fn idle_since(&self) -> Option<BootTime> {
        let watched = self.last.0.since(self.first) >= PING_EVERY;
        self.payload.or(Some(self.first).filter(|_| watched))
    }
}

/// True if these byte counts are pings and answers, no more of them than the time allows.
fn are_pings(moved: (u64, u64), within: Span) -> bool {
    let most = within.0 / PING_EVERY.0 + 2;
    PINGS.iter().flat_map(|(ping, answer)| [(*ping, *answer), (*answer, *ping)]).any(|(sent, received)| {
        let (sent_times, received_times) = (moved.0 / sent, moved.1 / received);
        // The last answer may still be on its way.
        moved.0.is_multiple_of(sent)
            && moved.1.is_multiple_of(received)
            && sent_times <= most
            && received_times <= most
            && sent_times.abs_diff(received_times) <= 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> BootTime {
        BootTime::default().plus(Span::from_secs(count))
    }

    /// Samples: second, bytes sent, bytes received, seconds since the last byte.
    fn after(samples: &[(u64, u64, u64, u32)]) -> Activity {
        let take = |known, (at, sent, received, ago): &(u64, u64, u64, u32)| {
            let (last_sent_ms, last_received_ms) = (ago * 1_000, ago * 1_000);
            let (bytes_acked, bytes_received) = (*sent, *received);
            let info = TcpInfo { last_sent_ms, last_received_ms, bytes_acked, bytes_received, ..TcpInfo::default() };
            Some(Activity::take(known, seconds(*at), &info))
        };
        samples.iter().fold(None, take).unwrap()
    }

    #[test]
    fn heartbeats_of_each_protocol_are_not_payload() {
        for (ping, answer) in [(28, 24), (24, 28), (34, 34), (12, 12), (6, 2), (41, 41)] {
            let seen = after(&[
                (100, 1_000, 500, 2),
                (110, 1_000 + 2 * ping, 500 + 2 * answer, 1),
                (112, 1_000 + 3 * ping, 500 + 2 * answer, 0),
            ]);
            assert_eq!((seen.payload(), seen.idle_since()), (None, Some(seconds(100))), "{ping} {answer}");
        }
    }

    #[test]
    fn key_press_is_payload() {
        // WebSocket in TLS 1.3: a byte of a channel and its echo, beside two pings.
        let seen = after(&[
            (100, 1_000, 500, 2),
            (110, 1_000 + 56 + 30, 500 + 48 + 26, 4),
            (120, 1_000 + 112 + 30, 500 + 96 + 26, 1),
        ]);
        assert_eq!(seen.payload(), Some(seconds(106)));
    }

    #[test]
    fn too_many_pings_for_the_interval_are_payload() {
        let seen = after(&[(100, 0, 0, 0), (101, 28 * 10, 24 * 10, 0)]);
        assert_eq!(seen.payload(), Some(seconds(101)));
    }

    #[test]
    fn one_sample_shows_only_silence_longer_than_a_ping() {
        assert_eq!(after(&[(100, 1, 1, 4)]).idle_since(), None);
        assert_eq!(after(&[(100, 1, 1, 60)]).idle_since(), Some(seconds(40)));
        assert_eq!(after(&[(100, 1, 1, 3), (101, 1, 1, 4)]).idle_since(), None, "not from ping to ping");
    }
}
