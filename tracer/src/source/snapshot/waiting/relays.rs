//! Which connections of a process a goroutine copies between.

use std::collections::{BTreeMap, BTreeSet};

use super::walk::{Polled, Side, Walk};

/// How often files are looked at of which nobody waits: who copies is at work now and then, for microseconds.
const ROUNDS: usize = 3;

/// What the goroutines that wait for files do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Copies {
    /// From file to file, each by the arguments of a copy that goes on.
    pub(super) copied: BTreeSet<(u32, u32)>,
    /// Who started the goroutines that wait for a file. 0: not known.
    pub(super) creators: BTreeMap<u32, BTreeSet<u64>>,
}

/// Words of earlier calls take no part: a copy is known by arguments in use (`frames`), a creator by a field of the goroutine.
///
/// Looks at who waits for these connections, and what `files`, in order of their numbers and with connections among them, they copy.
pub(super) fn copies(walk: &Walk<'_>, connections: &[Polled], files: &[Polled]) -> Copies {
    let mut found = Copies::default();
    let mut left = connections.to_vec();
    for _ in 0..ROUNDS {
        left.retain(|file| !look(walk, *file, files, &mut found));
    }
    found
}

/// Whether somebody waits for that file, and kept still.
fn look(walk: &Walk<'_>, file: Polled, files: &[Polled], found: &mut Copies) -> bool {
    let mut seen = false;
    for side in [Side::Reads, Side::Writes] {
        let Some(waiter) = walk.waiter(file, side) else { continue };
        let Some(copies) = walk.copies(file, side, waiter, files) else { continue };
        found.creators.entry(file.fd).or_default().insert(waiter.parent_goid.unwrap_or_default());
        // A goroutine is in one copy. Which of two reads or writes the file, arguments do not say.
        found.copied.extend(copies.first().filter(|_| copies.len() == 1));
        seen = true;
    }
    seen
}

/// Pairs of an accepted connection and one that the process made, for which goroutines of one creator wait, and of no other, and
/// this creator's for no third.
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
    fn one_creator_of_who_waits_for_two_connections_serves_both() {
        assert_eq!(pairs(&[(1, &[5]), (11, &[5]), (2, &[6]), (12, &[6])]), [(1, 11), (2, 12)]);
    }

    #[test]
    fn creators_of_others_name_nobody() {
        assert_eq!(pairs(&[(1, &[5]), (2, &[5])]), [], "two requests of one server");
        assert_eq!(pairs(&[(1, &[5]), (11, &[5]), (12, &[5])]), [], "a third");
        assert_eq!(pairs(&[(1, &[5]), (11, &[5, 6])]), [], "another one serves it, too");
        assert_eq!(pairs(&[(1, &[0]), (11, &[0])]), [], "before Go 1.21 nobody says");
    }
}
