//! Connections of a process between which one goroutine copies.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    poller::{Polled, Side},
    walk::Walk,
};

/// Scans of a file for which no goroutine waits: its goroutine may be running, which takes microseconds.
const ROUNDS: usize = 3;

/// Copies between files, and creators of the goroutines that wait for them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Copies {
    /// Copies from file to file, each by the live arguments of a copy in progress.
    pub(super) copied: BTreeSet<(u32, u32)>,
    /// Ids of the goroutines that started the waiters of each file. 0: unknown.
    pub(super) creators: BTreeMap<u32, BTreeSet<u64>>,
}

/// Finds copies by the goroutines that wait for these connections. `files` must hold the connections, in order of descriptors.
///
/// Dead words take no part: a copy is proved by live arguments (`frames`), a creator by a field of the goroutine.
pub(super) fn copies(walk: &Walk<'_>, connections: &[Polled], files: &[Polled]) -> Copies {
    let mut found = Copies::default();
    let mut left = connections.to_vec();
    for _ in 0..ROUNDS {
        left.retain(|file| !scan(walk, *file, files, &mut found));
    }
    found
}

/// Adds the copies of a file's waiters. False if no waiter was parked long enough to be read.
fn scan(walk: &Walk<'_>, file: Polled, files: &[Polled], found: &mut Copies) -> bool {
    let mut seen = false;
    for side in [Side::Reads, Side::Writes] {
        let Some(waiter) = walk.waiter(file, side) else { continue };
        let Some(copies) = walk.copies(file, side, waiter, files) else { continue };
        found.creators.entry(file.fd).or_default().insert(waiter.parent_goid.unwrap_or_default());
        // A goroutine is in one copy. If several fit, its arguments do not decide which one is right.
        found.copied.extend(copies.first().filter(|_| copies.len() == 1));
        seen = true;
    }
    seen
}

/// Pairs of an accepted connection and a connection that the process made, whose waiters have one creator in common. Neither
/// connection has a waiter of another creator, and the creator has no waiter at a third connection.
pub(super) fn created_together(
    creators: &BTreeMap<u32, BTreeSet<u64>>,
    is_accepted: impl Fn(u32) -> bool,
) -> Vec<(u32, u32)> {
    let mut by_creator: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for (fd, creators) in creators {
        for creator in creators {
            by_creator.entry(*creator).or_default().push(*fd);
        }
    }
    let only = |fd: &u32| creators.get(fd).is_some_and(|creators| creators.len() == 1);
    let pair = |(creator, fds): (u64, Vec<u32>)| match fds[..] {
        [a, b] if creator != 0 && only(&a) && only(&b) => match (is_accepted(a), is_accepted(b)) {
            (true, false) => Some((a, b)),
            (false, true) => Some((b, a)),
            _ => None,
        },
        _ => None,
    };
    by_creator.into_iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(creators: &[(u32, &[u64])]) -> Vec<(u32, u32)> {
        let creators = creators.iter().map(|(fd, creators)| (*fd, creators.iter().copied().collect())).collect();
        created_together(&creators, |fd| fd < 10)
    }

    #[test]
    fn common_creator_of_two_waiters_pairs_connections() {
        assert_eq!(pairs(&[(1, &[5]), (11, &[5]), (2, &[6]), (12, &[6])]), [(1, 11), (2, 12)]);
    }

    #[test]
    fn creators_of_other_waiters_pair_nothing() {
        assert_eq!(pairs(&[(1, &[5]), (2, &[5])]), [], "two requests of one server");
        assert_eq!(pairs(&[(1, &[5]), (11, &[5]), (12, &[5])]), [], "a third");
        assert_eq!(pairs(&[(1, &[5]), (11, &[5, 6])]), [], "another one serves it, too");
        assert_eq!(pairs(&[(1, &[0]), (11, &[0])]), [], "before Go 1.21 nobody says");
    }
}
