//! How the clocks of kernels differ, by the two ends of the same connections: nobody accepts before somebody connects, and on a network
//! that is not broken somebody accepts soon. Connections both ways bound the difference on both sides.
//!
//! A server that was stopped accepts late, and all that waited at once. So UTC is believed unless connections that are
//! independent of each other agree on another difference, or contradict UTC.

use std::collections::BTreeMap;

use crate::model::{BootTime, Span};

/// A connection whose ends two kernels saw. A kernel is named by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crossing {
    /// Who connected, and when, by its own clock.
    pub from: (usize, BootTime),
    /// Who accepted, and when, by its own clock.
    pub to: (usize, BootTime),
}

/// How a clock stands against that of the first recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// It is so much ahead, in nanoseconds of boot time.
    pub ahead: i128,
    /// How that is known.
    pub by: By,
}

/// How the difference of two clocks is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// It is the first one's, or that of the same kernel.
    Itself,
    /// UTC, or one kernel's clock; that many connections agree with it.
    Agreed {
        /// How many.
        connections: usize,
    },
    /// That many connections, and UTC is wrong by so much.
    Measured {
        /// How many.
        connections: usize,
        /// Half of what is between the bounds; `None` where connections went one way: then the fastest is taken to have taken no time.
        within: Option<Span>,
        /// How much further ahead its UTC is than the first one's, in nanoseconds.
        off: i128,
    },
    /// UTC: that many connections do not suffice to set the clock.
    Believed {
        /// How many.
        connections: usize,
    },
    /// UTC, and nothing else: no connection joins it to the others.
    Unproved,
}

/// What a connection takes at most where UTC is believed, and how closely two connections agree on a difference.
const FAST: i128 = 5_000_000;

/// Connections that are accepted within so long of each other may have waited for the same thing: they count as one.
const WAITED_TOGETHER: i128 = 100_000_000;

/// How the clocks stand. `told` is how much each is ahead of the first by UTC, as it was set there.
#[must_use]
pub(super) fn compare(told: &[i128], crossings: &[Crossing]) -> Vec<Clock> {
    let bounds = bounds(crossings);
    let mut clocks: Vec<Option<Clock>> = vec![None; told.len()];
    if let Some(first) = clocks.first_mut() {
        *first = Some(Clock { ahead: 0, by: By::Itself });
    }
    let mut to_visit = vec![0];
    while let Some(known) = to_visit.pop() {
        let Some(base) = clocks.get(known).copied().flatten() else { continue };
        for (other, told) in told.iter().enumerate() {
            let Some(bound) = bounds.get(&(known, other)) else { continue };
            let Some(clock @ None) = clocks.get_mut(other) else { continue };
            *clock = Some(bound.clock(base.ahead, *told));
            to_visit.push(other);
        }
    }
    let unproved = |(clock, told): (Option<Clock>, &i128)| clock.unwrap_or(Clock { ahead: *told, by: By::Unproved });
    clocks.into_iter().zip(told).map(unproved).collect()
}

/// Connections one way, the fastest first: by how much the accepting clock seems to be ahead, and when it accepted.
type OneWay = Vec<(i128, i128)>;

/// What connections between two kernels say of how much the clock of one is ahead of the other's.
#[derive(Clone, Debug, Default)]
struct Bound {
    /// From the one to the other: no less than the difference.
    there: OneWay,
    /// From the other to the one, as differences of the other clock: no more than the difference.
    back: OneWay,
}

/// By pair: how much the second is ahead of the first.
fn bounds(crossings: &[Crossing]) -> BTreeMap<(usize, usize), Bound> {
    let mut bounds: BTreeMap<(usize, usize), Bound> = BTreeMap::new();
    for Crossing { from, to } in crossings.iter().filter(|one| one.from.0 != one.to.0) {
        // Later than it was, by what the connection took.
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

/// Whether the fastest connection is confirmed: another one, accepted at another time, took as long.
fn is_confirmed(connections: &OneWay) -> bool {
    connections.first().is_some_and(|(fastest, at)| {
        let as_fast = |(difference, _): &&(i128, i128)| (difference - fastest).abs() <= FAST;
        connections.iter().take_while(as_fast).any(|(_, other)| (other - at).abs() > WAITED_TOGETHER)
    })
}

impl Bound {
    /// The clock of one that is between so much ahead of another, which is `base` ahead of the first; UTC says `told`.
    fn clock(&self, base: i128, told: i128) -> Clock {
        let fastest = |connections: &OneWay| connections.first().map(|(difference, _)| base + difference);
        let (least, most) = (fastest(&self.back), fastest(&self.there));
        let connections = self.there.len() + self.back.len();
        let is_possible = least.is_none_or(|least| least <= told) && most.is_none_or(|most| told <= most);
        let is_near = least.is_some_and(|least| told - least <= FAST) || most.is_some_and(|most| most - told <= FAST);
        if is_possible && is_near {
            return Clock { ahead: told, by: By::Agreed { connections } };
        }
        // What contradicts UTC is no late accept; one connection may still be two that were taken for one.
        let suffices = |bound: &OneWay| is_confirmed(bound) || (!is_possible && connections > 1);
        let least = least.filter(|_| suffices(&self.back));
        let most = most.filter(|_| suffices(&self.there));
        let (ahead, within) = match (least, most) {
            (Some(least), Some(most)) => {
                (i128::midpoint(least, most), Some(Span(u64::try_from((most - least).abs() / 2).unwrap_or(u64::MAX))))
            }
            (Some(one), None) | (None, Some(one)) => (one, None),
            (None, None) => return Clock { ahead: told, by: By::Believed { connections } },
        };
        Clock { ahead, by: By::Measured { connections, within, off: ahead - told } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTES: u64 = 180_000_000_000;

    /// `from` connects at `at` of the true time, and `to` accepts so much later; clocks are `ahead` of it.
    fn crossing(ahead: &[u64], from: usize, to: usize, at: u64, took: u64) -> Crossing {
        let clock = |host: usize, at: u64| (host, BootTime(at + ahead.get(host).copied().unwrap_or_default()));
        Crossing { from: clock(from, at), to: clock(to, at + took) }
    }

    #[test]
    fn what_utc_says_is_believed_where_connections_agree() {
        let ahead = [0, 1_000_000, MINUTES];
        let crossings =
            [crossing(&ahead, 0, 1, 5_000, 400), crossing(&ahead, 0, 1, 9_000, 90), crossing(&ahead, 2, 1, 9_000, 70)];
        let told = [0, 1_000_000, i128::from(MINUTES), 77];
        let clocks = compare(&told, &crossings);
        assert_eq!(clocks[0], Clock { ahead: 0, by: By::Itself });
        assert_eq!(clocks[1], Clock { ahead: 1_000_000, by: By::Agreed { connections: 2 } });
        assert_eq!(clocks[2], Clock { ahead: i128::from(MINUTES), by: By::Agreed { connections: 1 } });
        assert_eq!(clocks[3], Clock { ahead: 77, by: By::Unproved }, "nothing joins it to the others");
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn clocks_that_are_minutes_apart_are_set_by_the_fastest_connection() {
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
    fn one_connection_alone_sets_no_clock() {
        for ahead in [[0, MINUTES], [MINUTES, 0]] {
            let clocks = compare(&[0, 0], &[crossing(&ahead, 0, 1, SECOND, 90)]);
            assert_eq!(clocks[1], Clock { ahead: 0, by: By::Believed { connections: 1 } }, "{ahead:?}");
        }
    }

    #[test]
    fn accepts_after_a_stop_set_no_clock() {
        // The server accepts at 15 s what came in at 1 s, twice, and at 5 s.
        let late = |at: u64| crossing(&[0, 0], 0, 1, at * SECOND, (15 - at) * SECOND);
        let clocks = compare(&[0, 0], &[late(1), late(1), late(5)]);
        assert_eq!(clocks[1], Clock { ahead: 0, by: By::Believed { connections: 3 } });
        // Before the stop it accepted at once.
        let clocks = compare(&[0, 0], &[late(1), late(1), late(5), crossing(&[0, 0], 0, 1, 9, 300)]);
        assert_eq!(clocks[1], Clock { ahead: 0, by: By::Agreed { connections: 4 } });
    }

    #[test]
    fn late_accepts_both_ways_leave_utc_as_it_is() {
        let crossings = [crossing(&[0, 0], 0, 1, SECOND, 3 * SECOND), crossing(&[0, 0], 1, 0, SECOND, 9 * SECOND)];
        assert_eq!(compare(&[0, 0], &crossings)[1], Clock { ahead: 0, by: By::Believed { connections: 2 } });
    }

    #[test]
    fn connections_both_ways_take_the_way_out_of_it() {
        let ahead = [0, MINUTES];
        let crossings = [crossing(&ahead, 0, 1, 5_000, 100), crossing(&ahead, 1, 0, 7_000, 100)];
        let by = By::Measured { connections: 2, within: Some(Span(100)), off: i128::from(MINUTES) };
        assert_eq!(compare(&[0, 0], &crossings)[1], Clock { ahead: i128::from(MINUTES), by });
    }
}
