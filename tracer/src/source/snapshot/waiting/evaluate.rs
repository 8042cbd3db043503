//! Decides which connection serves which exec. Any contradiction leads to no answer.

use std::collections::{BTreeMap, BTreeSet};

/// Evidence from one goroutine that waits for a FIFO of an exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FifoReader<E> {
    /// The exec of the FIFO.
    pub(super) exec: E,
    /// Connections to which the live words of the goroutine's stack lead, by descriptor.
    pub(super) reached: BTreeSet<u32>,
    /// Connections that the arguments of its copy name.
    pub(super) copied: BTreeSet<u32>,
    /// Id of the goroutine that started it.
    pub(super) parent: Option<u64>,
}

/// True if copies of the exec name this connection by their arguments: at least one does, and none names another connection. Arguments
/// of a copy in progress are live, and dead words are no arguments.
pub(super) fn is_copied<E: PartialEq>(found: &[FifoReader<E>], exec: &E, connection: u32) -> bool {
    let mut copies = found.iter().filter(|one| one.exec == *exec && !one.copied.is_empty()).peekable();
    copies.peek().is_some() && copies.all(|one| one.copied == BTreeSet::from([connection]))
}

/// Connection of each exec. `readers` has, for each connection, the id of the goroutine that started its reader.
///
/// * By stack: every goroutine of the exec leads to this connection, and they have no other connection in common. Only live words
///   count (`frames`), so dead words cannot agree on a connection.
/// * By parent (Go 1.21 and later, which never reuses an id): one goroutine started readers of this connection and of this exec's
///   FIFOs, and of no other connection or exec. The exec's stacks, if they lead anywhere, must lead there, too. Ids are fields
///   of parked goroutines, so stacks take no part in this rule.
///
/// If two execs may claim a connection, neither gets it.
pub(super) fn connections<E: Clone + Ord>(found: &[FifoReader<E>], readers: &BTreeMap<u32, u64>) -> BTreeMap<E, u32> {
    let mut by_stack: BTreeMap<&E, BTreeSet<u32>> = BTreeMap::new();
    let mut by_parent: BTreeMap<u64, Sides<E>> = BTreeMap::new();
    let mut read: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
    // Connections by the parent of their readers.
    for (connection, parent) in readers {
        read.entry(*parent).or_default().push(*connection);
    }
    // The connections that all stacks of an exec have in common, and the meetings of each parent.
    for FifoReader { exec, reached, parent, copied: _ } in found {
        by_stack.entry(exec).and_modify(|common| common.retain(|one| reached.contains(one))).or_insert(reached.clone());
        for connection in parent.and_then(|parent| read.get(&parent)).into_iter().flatten() {
            by_parent.entry(parent.unwrap_or_default()).or_default().meet(exec, *connection);
        }
    }
    let mut parents = Sides::default();
    // A parent that serves several execs proves nothing, and contradicts no stack.
    for (exec, connection) in by_parent.values().flat_map(Sides::pairs) {
        parents.meet(&exec, connection);
    }
    // Combine both rules: a parent decides among a stack's connections; if they disagree, both stay and exclude each other.
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

/// Execs and connections that may belong together.
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

    /// Pairs in which neither side has another candidate.
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

    fn found(exec: &'static str, reached: &[u32], parent: u64) -> FifoReader<&'static str> {
        let reached = reached.iter().copied().collect();
        FifoReader { exec, reached, copied: BTreeSet::new(), parent: (parent != 0).then_some(parent) }
    }

    fn decide(found: &[FifoReader<&'static str>], readers: &[(u32, u64)]) -> Vec<(&'static str, u32)> {
        connections(found, &readers.iter().copied().collect()).into_iter().collect()
    }

    #[test]
    fn stack_that_leads_to_one_connection_names_it() {
        assert_eq!(decide(&[found("a", &[7], 0), found("a", &[7], 0), found("b", &[8], 0)], &[]), [("a", 7), ("b", 8)]);
        assert_eq!(decide(&[found("a", &[], 0)], &[]), []);
    }

    #[test]
    fn copies_name_a_connection_if_all_agree() {
        let copy =
            |exec, copied: &[u32]| FifoReader { copied: copied.iter().copied().collect(), ..found(exec, copied, 0) };
        assert!(is_copied(&[copy("a", &[7]), found("a", &[7], 0), copy("b", &[8])], &"a", 7));
        assert!(!is_copied(&[found("a", &[7], 0)], &"a", 7));
        assert!(!is_copied(&[copy("a", &[7]), copy("a", &[8])], &"a", 7));
        assert!(!is_copied(&[copy("a", &[7, 8])], &"a", 7));
    }

    #[test]
    fn several_connections_name_none() {
        assert_eq!(decide(&[found("a", &[7, 8], 0)], &[]), [], "two connections on one stack");
        assert_eq!(decide(&[found("a", &[7], 0), found("a", &[8], 0)], &[]), [], "stdout and stderr disagree");
        assert_eq!(decide(&[found("a", &[7], 0), found("a", &[], 0)], &[]), [], "one writes elsewhere");
        let others = [found("a", &[7], 0), found("b", &[7], 0), found("c", &[9], 0)];
        assert_eq!(decide(&others, &[]), [("c", 9)], "two execs claim it");
        let left = [found("a", &[7, 8], 0), found("b", &[8], 0)];
        assert_eq!(decide(&left, &[]), [], "with a terminal there is one goroutine: the other stack may be stale");
        let left = [found("a", &[7, 8], 0), found("a", &[7], 0), found("b", &[8], 0)];
        assert_eq!(decide(&left, &[]), [("a", 7), ("b", 8)], "both stacks of a lead to its connection");
    }

    #[test]
    fn common_parent_of_readers_names_a_connection() {
        assert_eq!(decide(&[found("a", &[], 5), found("b", &[], 6)], &[(7, 5), (8, 6), (9, 4)]), [("a", 7), ("b", 8)]);
        assert_eq!(decide(&[found("a", &[7], 5)], &[(7, 5)]), [("a", 7)]);
        assert_eq!(decide(&[found("a", &[8], 5)], &[(7, 5)]), [], "they disagree");
        assert_eq!(decide(&[found("a", &[], 5), found("b", &[7], 6)], &[(7, 5)]), [], "two execs claim it");
        assert_eq!(decide(&[found("a", &[], 5)], &[(7, 5), (8, 5)]), [], "it reads two connections");
        assert_eq!(decide(&[found("a", &[], 5), found("b", &[], 5)], &[(7, 5)]), [], "it serves two execs");
        let left = [found("a", &[7, 8], 5), found("a", &[7, 8], 5), found("b", &[8], 6)];
        assert_eq!(decide(&left, &[(7, 5), (8, 6)]), [("a", 7), ("b", 8)], "b's connection is on a's stacks, too");
        assert_eq!(decide(&[found("a", &[7], 5), found("b", &[8], 5)], &[(7, 5), (8, 5)]), [("a", 7), ("b", 8)]);
    }
}
