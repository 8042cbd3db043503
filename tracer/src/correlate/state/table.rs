//! What is looked up by key far more often than it is gone through.

use foldhash::fast::FixedState;
use indexmap::IndexMap;

/// A hash table whose order depends on nothing but what was put in and taken out: a run's findings must not depend on where its keys
/// happen to lie. Take out by `swap_remove`, which does not move the rest.
pub(in crate::correlate) type Table<K, V> = IndexMap<K, V, FixedState>;
