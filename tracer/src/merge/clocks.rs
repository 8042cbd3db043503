//! Differences between the clocks of kernels, derived from both ends of shared connections. An accept follows its
//! connect, and on a healthy network it follows soon. Connections in both directions bound the difference from both
//! sides.
//!
//! A stopped server accepts all waiting connections late and at once. UTC is therefore used unless independent
//! connections agree on another difference, or contradict UTC.

use std::collections::BTreeMap;

use crate::model::{BootTime, Span};

/// A connection between two kernels, given by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crossing {
    /// Connecting kernel, and the time of connect(2) by its clock.
    pub from: (usize, BootTime),
    /// Accepting kernel, and the time of accept(2) by its clock.
    pub to: (usize, BootTime),
}

/// Offset of a clock from the clock of the first recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Lead of the clock, in nanoseconds of boot time.
    pub ahead: i128,
    /// Basis of the offset.
    pub by: By,
}

/// Basis of a clock's offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The clock belongs to the first recording, or to the same kernel.
    Itself,
    /// UTC, or the common clock of one kernel, confirmed by connections.
    Agreed {
        /// Number of confirming connections.
        connections: usize,
    },
    /// Offset measured from connections. UTC is wrong.
    Measured {
        /// Number of connections.
        connections: usize,
        /// Half the distance of both bounds; `None` for connections in one direction, the fastest of which counts as
        /// instantaneous.
        within: Option<Span>,
        /// Lead of its UTC over the UTC of the first recording, in nanoseconds.
        off: i128,
    },
    /// UTC, because the connections do not suffice for a measurement.
    Believed {
        /// Number of connections.
        connections: usize,
    },
    /// UTC, without any connection to the other kernels.
    Unproved,
}

/// Longest duration of a connection that confirms UTC, and largest distance of two connections that agree on an offset,
/// in nanoseconds.
const FAST: i128 = 5_000_000;

/// Connections accepted within this time of each other, in nanoseconds, may have waited for the same event and count as
/// one.
const WAITED_TOGETHER: i128 = 100_000_000;

/// Offsets of all clocks. `by_utc` holds the offsets from the first clock according to UTC.
#[must_use]
pub(super) fn compare(by_utc: &[i128], crossings: &[Crossing]) -> Vec<Clock> {
    let bounds = bounds(crossings);
    let mut clocks: Vec<Option<Clock>> = vec![None; by_utc.len()];
    if let Some(first) = clocks.first_mut() {
        *first = Some(Clock { ahead: 0, by: By::Itself });
    }
    let mut to_visit = vec![0];
    while let Some(known) = to_visit.pop() {
        let Some(base) = clocks.get(known).copied().flatten() else { continue };
        for (other, by_utc) in by_utc.iter().enumerate() {
            let Some(bound) = bounds.get(&(known, other)) else { continue };
            let Some(clock @ None) = clocks.get_mut(other) else { continue };
            *clock = Some(bound.clock(base.ahead, *by_utc));
            to_visit.push(other);
        }
    }
    let unproved =
        |(clock, by_utc): (Option<Clock>, &i128)| clock.unwrap_or(Clock { ahead: *by_utc, by: By::Unproved });
    clocks.into_iter().zip(by_utc).map(unproved).collect()
}

/// Connections in one direction, fastest first: apparent lead of the accepting clock, and time of the accept.
type OneWay = Vec<(i128, i128)>;

/// Bounds of the lead of one kernel's clock over another's.
#[derive(Clone, Debug, Default)]
struct Bound {
    /// Upper bounds: connections from the base kernel to this one.
    there: OneWay,
    /// Lower bounds: connections from this kernel to the base one, with the sign of the difference reversed.
    back: OneWay,
}

/// Bounds by pair of kernels: lead of the second over the first.
fn bounds(crossings: &[Crossing]) -> BTreeMap<(usize, usize), Bound> {
    let mut bounds: BTreeMap<(usize, usize), Bound> = BTreeMap::new();
    for Crossing { from, to } in crossings.iter().filter(|one| one.from.0 != one.to.0) {
        // An accept is later than its connect, so this difference is too large by the duration of the connection.
        let accepted = i128::from(to.1.0);
        let difference = accepted - i128::from(from.1.0);
        bounds.entry((from.0, to.0)).or_default().there.push((difference, accepted));
        bounds.entry((to.0, from.0)).or_default().back.push((-difference, accepted));
    }
    for bound in bounds.values_mut() {
        bound.there.sort_unstable();
        bound.back.sort_unstable_by(|a, b| b.cmp(a));
    }
    bounds
}

/// True if a second connection, accepted at another time, was as fast as the fastest one.
fn is_confirmed(connections: &OneWay) -> bool {
    connections.first().is_some_and(|(fastest, at)| {
        let as_fast = |(difference, _): &&(i128, i128)| (difference - fastest).abs() <= FAST;
        connections.iter().take_while(as_fast).any(|(_, other)| (other - at).abs() > WAITED_TOGETHER)
    })
}

impl Bound {
    /// Clock of a kernel with these bounds, relative to a kernel with offset `base`. `by_utc` is the offset according to
    /// UTC.
    fn clock(&self, base: i128, by_utc: i128) -> Clock {
        let fastest = |connections: &OneWay| connections.first().map(|(difference, _)| base + difference);
        let (least, most) = (fastest(&self.back), fastest(&self.there));
        let connections = self.there.len() + self.back.len();
        let is_possible = least.is_none_or(|least| least <= by_utc) && most.is_none_or(|most| by_utc <= most);
        let is_near =
            least.is_some_and(|least| by_utc - least <= FAST) || most.is_some_and(|most| most - by_utc <= FAST);
        // UTC lies inside the bounds and close to one of them: a fast connection confirms it.
        if is_possible && is_near {
            return Clock { ahead: by_utc, by: By::Agreed { connections } };
        }
        // A late accept cannot contradict UTC. A single connection may still be two that were mistaken for one.
        let suffices = |bound: &OneWay| is_confirmed(bound) || (!is_possible && connections > 1);
        // Measure by the bounds that can be trusted: the middle of both, or the only one.
        let least = least.filter(|_| suffices(&self.back));
        let most = most.filter(|_| suffices(&self.there));
        let (ahead, within) = match (least, most) {
            (Some(least), Some(most)) => {
                (i128::midpoint(least, most), Some(Span(u64::try_from((most - least).abs() / 2).unwrap_or(u64::MAX))))
            }
            (Some(one), None) | (None, Some(one)) => (one, None),
            (None, None) => return Clock { ahead: by_utc, by: By::Believed { connections } },
        };
        Clock { ahead, by: By::Measured { connections, within, off: ahead - by_utc } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTES: u64 = 180_000_000_000;

    /// `from` connects at `at` of the true time, and `to` accepts `took` later; clocks are `ahead` of true time.
    fn crossing(ahead: &[u64], from: usize, to: usize, at: u64, took: u64) -> Crossing {
        let clock = |host: usize, at: u64| (host, BootTime(at + ahead.get(host).copied().unwrap_or_default()));
        Crossing { from: clock(from, at), to: clock(to, at + took) }
    }

    #[test]
    fn utc_is_kept_when_connections_agree() {
        let ahead = [0, 1_000_000, MINUTES];
        let crossings =
            [crossing(&ahead, 0, 1, 5_000, 400), crossing(&ahead, 0, 1, 9_000, 90), crossing(&ahead, 2, 1, 9_000, 70)];
        let by_utc = [0, 1_000_000, i128::from(MINUTES), 77];
        let clocks = compare(&by_utc, &crossings);
        assert_eq!(clocks[0], Clock { ahead: 0, by: By::Itself });
        assert_eq!(clocks[1], Clock { ahead: 1_000_000, by: By::Agreed { connections: 2 } });
        assert_eq!(clocks[2], Clock { ahead: i128::from(MINUTES), by: By::Agreed { connections: 1 } });
        assert_eq!(clocks[3], Clock { ahead: 77, by: By::Unproved }, "nothing joins it to the others");
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn fastest_connection_sets_clock_that_is_minutes_off() {
        let ahead = [0, MINUTES, 2 * MINUTES];
        let crossings = [
            crossing(&ahead, 0, 1, SECOND, 400),
            crossing(&ahead, 0, 1, 2 * SECOND, 90),
            crossing(&ahead, 1, 2, SECOND, 70),
            crossing(&ahead, 1, 2, 2 * SECOND, 90),
        ];
        let clocks = compare(&[0, 0, 0], &crossings);
        let by = |connections, ahead: i128| By::Measured { connections, within: None, off: ahead };
        let first = i128::from(MINUTES) + 90;
        assert_eq!(clocks[1], Clock { ahead: first, by: by(2, first) });
        let second = 2 * i128::from(MINUTES) + 160;
        assert_eq!(clocks[2], Clock { ahead: second, by: by(2, second) });
    }

    #[test]
    fn single_connection_sets_no_clock() {
        for ahead in [[0, MINUTES], [MINUTES, 0]] {
            let clocks = compare(&[0, 0], &[crossing(&ahead, 0, 1, SECOND, 90)]);
            assert_eq!(clocks[1], Clock { ahead: 0, by: By::Believed { connections: 1 } }, "{ahead:?}");
        }
    }

    #[test]
    fn accepts_after_a_stop_set_no_clock() {
        // The server accepts at 15 s the connections that arrived at 1 s (two of them) and at 5 s.
        let late = |at: u64| crossing(&[0, 0], 0, 1, at * SECOND, (15 - at) * SECOND);
        let clocks = compare(&[0, 0], &[late(1), late(1), late(5)]);
        assert_eq!(clocks[1], Clock { ahead: 0, by: By::Believed { connections: 3 } });
        // Before the stop, the server accepted at once.
        let clocks = compare(&[0, 0], &[late(1), late(1), late(5), crossing(&[0, 0], 0, 1, 9, 300)]);
        assert_eq!(clocks[1], Clock { ahead: 0, by: By::Agreed { connections: 4 } });
    }

    #[test]
    fn late_accepts_both_ways_leave_utc_unchanged() {
        let crossings = [crossing(&[0, 0], 0, 1, SECOND, 3 * SECOND), crossing(&[0, 0], 1, 0, SECOND, 9 * SECOND)];
        assert_eq!(compare(&[0, 0], &crossings)[1], Clock { ahead: 0, by: By::Believed { connections: 2 } });
    }

    #[test]
    fn connections_both_ways_cancel_the_network_delay() {
        let ahead = [0, MINUTES];
        let crossings = [crossing(&ahead, 0, 1, 5_000, 100), crossing(&ahead, 1, 0, 7_000, 100)];
        let by = By::Measured { connections: 2, within: Some(Span(100)), off: i128::from(MINUTES) };
        assert_eq!(compare(&[0, 0], &crossings)[1], Clock { ahead: i128::from(MINUTES), by });
    }
}
