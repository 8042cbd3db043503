//! What may be said of what was found: nothing, where anything speaks against it.

use std::collections::{BTreeMap, BTreeSet};

/// What the goroutine that waits for a FIFO leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found<E> {
    /// Whose FIFO.
    pub(super) exec: E,
    /// Connections to which the words in use of its stack lead, by number.
    pub(super) reached: BTreeSet<u32>,
    /// Those that the copy's own arguments name.
    pub(super) copied: BTreeSet<u32>,
    /// Who started it.
    pub(super) parent: Option<u64>,
}

/// Whether the copies of that exec say so themselves: each that names a connection names this one alone, and one does. The
/// arguments of a copy are in use while it goes on, and words of earlier calls are none.
pub(super) fn is_copied<E: PartialEq>(found: &[Found<E>], exec: &E, connection: u32) -> bool {
    let mut copies = found.iter().filter(|one| one.exec == *exec && !one.copied.is_empty()).peekable();
    copies.peek().is_some() && copies.all(|one| one.copied == BTreeSet::from([connection]))
}

/// Which connection each exec's FIFOs are read for. `readers`: the goroutine that started the one that reads that connection.
///
/// * The stack: every goroutine of the exec leads to that connection, and to no other that all of them lead to. Only words in use
///   count (`frames`), so that words of earlier calls cannot agree on a connection.
/// * The parent (Go ≥ 1.21, which never uses an id twice): a goroutine that started readers of one connection and of one
///   exec's FIFOs served that exec on that connection. The exec's stacks, if they lead anywhere, have to lead there too. Ids
///   are fields of parked goroutines: stacks take no part in this rule.
///
/// Where two execs may claim a connection neither does.
pub(super) fn connections<E: Clone + Ord>(found: &[Found<E>], readers: &BTreeMap<u32, u64>) -> BTreeMap<E, u32> {
    let mut by_stack: BTreeMap<&E, BTreeSet<u32>> = BTreeMap::new();
    let mut by_parent: BTreeMap<u64, Sides<E>> = BTreeMap::new();
    let mut read: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    for (connection, parent) in readers {
        read.entry(*parent).or_default().push(*connection);
    }
    for Found { exec, reached, parent, copied: _ } in found {
        by_stack.entry(exec).and_modify(|common| common.retain(|one| reached.contains(one))).or_insert(reached.clone());
        for connection in parent.and_then(|parent| read.get(&parent)).into_iter().flatten() {
            by_parent.entry(parent.unwrap_or_default()).or_default().meet(exec, *connection);
        }
    }
    let mut parents = Sides::default();
    // One that serves many says nothing; that is no objection to what stacks say.
    for (exec, connection) in by_parent.values().flat_map(Sides::pairs) {
        parents.meet(&exec, connection);
    }
    let mut all = Sides::default();
    for (exec, common) in by_stack {
        match parents.connections.get(exec) {
            Some(named) if common.is_empty() || !named.is_disjoint(&common) => {
                named.iter().for_each(|connection| all.meet(exec, *connection));
            }
            named => {
                common.iter().chain(named.into_iter().flatten()).for_each(|connection| all.meet(exec, *connection))
            }
        }
    }
    all.pairs().into_iter().collect()
}

/// Who met whom.
struct Sides<E> {
    connections: BTreeMap<E, BTreeSet<u32>>,
    execs: BTreeMap<u32, BTreeSet<E>>,
}

impl<E> Default for Sides<E> {
    fn default() -> Self {
        Self { connections: BTreeMap::new(), execs: BTreeMap::new() }
    }
}

impl<E: Clone + Ord> Sides<E> {
    fn meet(&mut self, exec: &E, connection: u32) {
        self.connections.entry(exec.clone()).or_default().insert(connection);
        self.execs.entry(connection).or_default().insert(exec.clone());
    }

    /// Who met nobody else.
    fn pairs(&self) -> Vec<(E, u32)> {
        let only = |(exec, connections): (&E, &BTreeSet<u32>)| {
            let connection = connections.first().filter(|_| connections.len() == 1)?;
            (self.execs.get(connection)?.len() == 1).then(|| (exec.clone(), *connection))
        };
        self.connections.iter().filter_map(only).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(exec: &'static str, reached: &[u32], parent: u64) -> Found<&'static str> {
        let reached = reached.iter().copied().collect();
        Found { exec, reached, copied: BTreeSet::new(), parent: (parent != 0).then_some(parent) }
    }

    fn say(found: &[Found<&'static str>], readers: &[(u32, u64)]) -> Vec<(&'static str, u32)> {
        connections(found, &readers.iter().copied().collect()).into_iter().collect()
    }

    #[test]
    fn a_stack_that_leads_to_one_connection_names_it() {
        assert_eq!(say(&[found("a", &[7], 0), found("a", &[7], 0), found("b", &[8], 0)], &[]), [("a", 7), ("b", 8)]);
        assert_eq!(say(&[found("a", &[], 0)], &[]), []);
    }

    #[test]
    fn the_copy_itself_says_so_where_none_says_otherwise() {
        let copy = |exec, copied: &[u32]| Found { copied: copied.iter().copied().collect(), ..found(exec, copied, 0) };
        assert!(is_copied(&[copy("a", &[7]), found("a", &[7], 0), copy("b", &[8])], &"a", 7));
        assert!(!is_copied(&[found("a", &[7], 0)], &"a", 7));
        assert!(!is_copied(&[copy("a", &[7]), copy("a", &[8])], &"a", 7));
        assert!(!is_copied(&[copy("a", &[7, 8])], &"a", 7));
    }

    #[test]
    fn several_connections_name_nobody() {
        assert_eq!(say(&[found("a", &[7, 8], 0)], &[]), [], "two on one stack, and nothing else to go by");
        assert_eq!(say(&[found("a", &[7], 0), found("a", &[8], 0)], &[]), [], "stdout and stderr disagree");
        assert_eq!(say(&[found("a", &[7], 0), found("a", &[], 0)], &[]), [], "one writes to something else");
        let others = [found("a", &[7], 0), found("b", &[7], 0), found("c", &[9], 0)];
        assert_eq!(say(&others, &[]), [("c", 9)], "two execs claim it");
        let left = [found("a", &[7, 8], 0), found("b", &[8], 0)];
        assert_eq!(say(&left, &[]), [], "with a terminal there is one goroutine: b's may be a's");
        let left = [found("a", &[7, 8], 0), found("a", &[7], 0), found("b", &[8], 0)];
        assert_eq!(say(&left, &[]), [("a", 7), ("b", 8)], "both of a's lead to its own");
    }

    #[test]
    fn a_parent_that_started_both_readers_names_it_too() {
        assert_eq!(say(&[found("a", &[], 5), found("b", &[], 6)], &[(7, 5), (8, 6), (9, 4)]), [("a", 7), ("b", 8)]);
        assert_eq!(say(&[found("a", &[7], 5)], &[(7, 5)]), [("a", 7)]);
        assert_eq!(say(&[found("a", &[8], 5)], &[(7, 5)]), [], "they disagree");
        assert_eq!(say(&[found("a", &[], 5), found("b", &[7], 6)], &[(7, 5)]), [], "about whose it is");
        assert_eq!(say(&[found("a", &[], 5)], &[(7, 5), (8, 5)]), [], "it reads two connections");
        assert_eq!(say(&[found("a", &[], 5), found("b", &[], 5)], &[(7, 5)]), [], "it serves two execs");
        let left = [found("a", &[7, 8], 5), found("a", &[7, 8], 5), found("b", &[8], 6)];
        assert_eq!(say(&left, &[(7, 5), (8, 6)]), [("a", 7), ("b", 8)], "b's on a's stacks, too");
        assert_eq!(say(&[found("a", &[7], 5), found("b", &[8], 5)], &[(7, 5), (8, 5)]), [("a", 7), ("b", 8)]);
    }
}
