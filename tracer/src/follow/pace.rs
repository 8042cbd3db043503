//! How far a merge of live hosts may go, and which hosts are late. Knows no clock: the server's times of storing are data.
//!
//! A host that has nothing to report publishes rarely. A live host publishes a fact within 50 ms, so a host
//! without a newer message has seen nothing until shortly before now. A host that breaks this rule is late: it delays nobody, and
//! its facts are merged anew, at their time.

use crate::model::{BootTime, Span};

/// Longest time that a fact of a living host takes to the reader: a batch leaves every 50 ms.
const GRACE: Span = Span::from_millis(150);

/// Longest time for which a slow clock delays the other hosts. Clocks that UTC keeps together differ by milliseconds; of others,
/// connections tell the difference.
const MOST_WAITED: Span = Span::from_secs(1);

/// Time without a message after which a host counts as silent: three times the longest pause of a living one.
pub(super) const SILENT_AFTER: Span = Span::from_secs(15);

/// Time by which the facts of a host are older than their message, beyond which the host counts as behind. An idle host
/// publishes every five seconds.
const BEHIND_AFTER: Span = Span::from_secs(6);

/// Time for which the fastest message of a host tells the difference of its clock and the server's. Clocks drift.
const MEASURED_FOR: u64 = 60_000_000_000;

/// Progress of one host.
#[derive(Clone, Copy, Debug)]
struct Host {
    /// Merged time that its records have reached.
    reached: BootTime,
    /// UTC of the server at which its last message was stored, in nanoseconds.
    stored_ns: u64,
    /// Largest lead of merged time over the server's, in the present and in the last time of measuring.
    lead: i128,
    lead_before: i128,
    /// Begin of the present time of measuring.
    since_ns: u64,
}

impl Host {
    /// Merged time of this host's now.
    fn now(&self, now_ns: u64) -> BootTime {
        let now = i128::from(now_ns) + self.lead.max(self.lead_before);
        BootTime(u64::try_from(now.max(0)).unwrap_or(u64::MAX))
    }

    fn is_silent(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.stored_ns) > SILENT_AFTER.0
    }
}

/// Whether a host keeps up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// Its facts arrive in time.
    None,
    /// Messages arrive, but their facts are older by this time than those of other hosts.
    Behind(Span),
    /// No message has arrived for this time.
    Silent(Span),
}

/// Progress of all hosts, by their number.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace {
    hosts: Vec<Option<Host>>,
}

impl Pace {
    /// Notes that a message, stored at `stored_ns`, has brought the records of a host to `reached`.
    pub(super) fn heard(&mut self, host: usize, reached: BootTime, stored_ns: u64) {
        if self.hosts.len() <= host {
            self.hosts.resize(host + 1, None);
        }
        let Some(place) = self.hosts.get_mut(host) else { return };
        let lead = i128::from(reached.0) - i128::from(stored_ns);
        let known = place.get_or_insert(Host { reached, stored_ns, lead, lead_before: lead, since_ns: stored_ns });
        if stored_ns.saturating_sub(known.since_ns) > MEASURED_FOR {
            (known.lead_before, known.lead, known.since_ns) = (known.lead, lead, stored_ns);
        }
        known.lead = known.lead.max(lead);
        known.reached = known.reached.max(reached);
        known.stored_ns = known.stored_ns.max(stored_ns);
    }

    /// Merged time up to which facts may be taken: that of the slowest living host, but never long before the time of most
    /// hosts.
    pub(super) fn watermark(&self, now_ns: u64) -> BootTime {
        let living = || self.hosts.iter().flatten().filter(|host| !host.is_silent(now_ns));
        let Some(middle) = self.middle(now_ns) else {
            return self.hosts.iter().flatten().map(|host| host.reached).max().unwrap_or_default();
        };
        let has_told = |host: &Host| host.reached.max(host.now(now_ns).minus(GRACE));
        living().map(has_told).min().unwrap_or_default().max(middle.minus(MOST_WAITED))
    }

    /// Merged time of now, by the clock of the host in the middle of all living ones.
    fn middle(&self, now_ns: u64) -> Option<BootTime> {
        let living = self.hosts.iter().flatten().filter(|host| !host.is_silent(now_ns));
        let mut times: Vec<BootTime> = living.map(|host| host.now(now_ns)).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    /// Whether a host keeps up.
    pub(super) fn lag(&self, host: usize, now_ns: u64) -> Lag {
        let Some(host) = self.hosts.get(host).copied().flatten() else { return Lag::None };
        if host.is_silent(now_ns) {
            return Lag::Silent(Span(now_ns.saturating_sub(host.stored_ns)));
        }
        let behind = self.middle(now_ns).map_or(Span(0), |middle| middle.since(host.reached));
        if behind > BEHIND_AFTER { Lag::Behind(behind) } else { Lag::None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    /// UTC of the server at the zero of merged time.
    const ZERO: u64 = 1_000 * S;

    fn at(ms: u64) -> BootTime {
        BootTime(ms * 1_000_000)
    }

    /// Hosts that reached these times, with messages that were stored 10 ms later.
    fn pace(reached: &[u64]) -> Pace {
        let mut pace = Pace::default();
        for (host, ms) in reached.iter().enumerate() {
            pace.heard(host, at(*ms), ZERO + (ms + 10) * 1_000_000);
        }
        pace
    }

    #[test]
    fn idle_host_is_waited_for_shortly() {
        // At 5 s, one host has spoken just now, and another one 4 s ago.
        let pace = pace(&[1_000, 4_990]);
        assert_eq!(pace.watermark(ZERO + 5 * S), at(4_990 - GRACE.as_millis()));
        assert_eq!(pace.lag(0, ZERO + 5 * S), Lag::None);
        // Nobody has spoken since.
        assert_eq!(pace.watermark(ZERO + 7 * S), at(6_990 - GRACE.as_millis()));
    }

    #[test]
    fn slowest_host_within_the_grace_is_waited_for() {
        let pace = pace(&[4_900, 4_990]);
        assert_eq!(pace.watermark(ZERO + 5 * S), at(4_900));
    }

    #[test]
    fn silent_host_delays_nobody() {
        let pace = pace(&[1_000, 19_990, 19_980]);
        assert_eq!(pace.lag(0, ZERO + 20 * S), Lag::Silent(Span(20 * S - 1_010_000_000)));
        assert_eq!(pace.watermark(ZERO + 20 * S), at(19_980));
        // Of hosts that are all silent, everything is known.
        assert_eq!(pace.watermark(ZERO + 90 * S), at(19_990));
    }

    #[test]
    fn host_with_old_facts_is_behind_and_delays_nobody() {
        let mut pace = pace(&[1_000, 19_990, 19_980]);
        // Its queue arrives at last, from 12 s ago.
        pace.heard(0, at(8_000), ZERO + 20 * S);
        assert_eq!(pace.watermark(ZERO + 20 * S), at(19_990 - GRACE.as_millis()));
        assert_eq!(pace.lag(0, ZERO + 20 * S), Lag::Behind(Span(11_990_000_000)));
    }

    #[test]
    fn one_wrong_clock_moves_no_watermark() {
        let minutes = 180 * S;
        for wrong in [ZERO + minutes, ZERO - minutes] {
            let mut pace = pace(&[9_990, 9_990]);
            pace.heard(2, BootTime(minutes + 9_990_000_000), wrong + 2 * minutes - minutes + 10 * S);
            let now = ZERO + 10 * S;
            let watermark = pace.watermark(now);
            assert!(watermark >= at(9_990 - 1_000) && watermark <= at(9_990), "{watermark:?}");
        }
    }

    #[test]
    fn drift_is_followed() {
        let mut pace = Pace::default();
        // A clock that loses 100 ms in an hour.
        for second in 0..3_600 {
            pace.heard(0, BootTime(second * S - second * 27_777), ZERO + second * S);
        }
        let now = ZERO + 3_599 * S;
        let true_now = BootTime(3_599 * S - 3_599 * 27_777);
        assert!(pace.watermark(now).0.abs_diff(true_now.0) < 10_000_000);
    }
}
